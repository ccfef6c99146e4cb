//! Who plays what: names, personas, keys and folders.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use convoke_protocol::identity::{Wallet, keccak};
use convoke_protocol::ids::{Address, Role};
use convoke_sim::Persona;

use super::plan::Plan;
use crate::failure::usage;
use crate::keys;

/// Adversaries, each with its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Adversaries(Vec<(Persona, usize)>);

impl Adversaries {
    /// Reads `sign_flipper=1,noise=1` or `none`.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let list = if text.trim() == "none" { "" } else { text };
        Persona::parse_list(list)
            .map(Self)
            .map_err(|error| usage(format!("--adversaries: {error}")))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0
            .iter()
            .fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// The persona of each adversary, one after the other.
    fn personas(&self) -> impl Iterator<Item = Persona> {
        self.0
            .iter()
            .flat_map(|(persona, count)| std::iter::repeat_n(*persona, *count))
    }
}

/// A process that acts for an account.
#[derive(Debug, Clone)]
pub(crate) struct Player {
    /// `trainer-1`; also the name of its log and its folder.
    pub(crate) name: String,
    /// What it does in the task.
    pub(crate) role: Role,
    /// Honest, or the adversary that it plays.
    pub(crate) persona: Persona,
    /// Signs for it.
    pub(crate) wallet: Wallet,
    /// Key and state.
    pub(crate) dir: PathBuf,
    /// Its data.
    data: PathBuf,
}

impl Player {
    fn new(plan: &Plan, name: String, role: Role, persona: Persona) -> anyhow::Result<Self> {
        let wallet = wallet(plan.seed, &name)?;
        let dir = plan.out.join("nodes").join(&name);
        std::fs::create_dir_all(&dir)
            .with_context(|| format!("cannot create {}", dir.display()))?;
        let data = dir.join("data");
        let player = Self {
            name,
            role,
            persona,
            wallet,
            dir,
            data,
        };
        keys::store(&player.key(), &player.wallet)?;
        Ok(player)
    }

    /// Its account.
    pub(crate) fn address(&self) -> Address {
        self.wallet.address()
    }

    /// Its key file.
    pub(crate) fn key(&self) -> PathBuf {
        self.dir.join("key")
    }

    /// The folder of its data.
    pub(crate) fn data(&self) -> PathBuf {
        self.data.clone()
    }

    /// The folder of its state.
    pub(crate) fn state(&self) -> PathBuf {
        self.dir.join("state")
    }
}

/// Everybody.
#[derive(Debug)]
pub(crate) struct Cast {
    /// Deploys, funds, posts the task; runs no process.
    pub(crate) creator: Wallet,
    /// Holds rounds together.
    pub(crate) aggregator: Player,
    /// The honest ones first.
    pub(crate) trainers: Vec<Player>,
    /// All honest.
    pub(crate) validators: Vec<Player>,
}

impl Cast {
    /// Gives out the parts, and writes the key files.
    pub(crate) fn new(plan: &Plan) -> anyhow::Result<Self> {
        let honest = (plan.trainers as usize).saturating_sub(plan.adversaries.count());
        let personas =
            std::iter::repeat_n(Persona::Honest, honest).chain(plan.adversaries.personas());
        let trainers = personas
            .enumerate()
            .map(|(index, persona)| {
                Player::new(
                    plan,
                    format!("trainer-{}", index + 1),
                    Role::Trainer,
                    persona,
                )
            })
            .collect::<anyhow::Result<_>>()?;
        let validators = (1..=plan.validators)
            .map(|n| {
                Player::new(
                    plan,
                    format!("validator-{n}"),
                    Role::Validator,
                    Persona::Honest,
                )
            })
            .collect::<anyhow::Result<_>>()?;
        let mut cast = Self {
            creator: wallet(plan.seed, "creator")?,
            aggregator: Player::new(plan, "aggregator".into(), Role::Aggregator, Persona::Honest)?,
            trainers,
            validators,
        };
        if let Some(rehearsal) = &plan.rehearsal {
            let folders = rehearsal.trainers.iter().chain(&rehearsal.validators);
            let players = cast.trainers.iter_mut().chain(&mut cast.validators);
            for (player, folder) in players.zip(folders) {
                player.data.clone_from(folder);
            }
        }
        Ok(cast)
    }

    /// Everybody who stakes and is paid.
    pub(crate) fn players(&self) -> impl Iterator<Item = &Player> {
        self.trainers
            .iter()
            .chain(&self.validators)
            .chain([&self.aggregator])
    }
}

/// Keys follow from the seed, so that a demo can be repeated; they are good for nothing else.
fn wallet(seed: u64, name: &str) -> anyhow::Result<Wallet> {
    let secret = keccak(&[b"convoke.demo.key", &seed.to_be_bytes(), name.as_bytes()]);
    Wallet::from_bytes(&secret.0).context("this seed gives no key: take another")
}

/// Where a demo keeps the file that names the contracts.
pub(crate) fn book_file(out: &Path) -> PathBuf {
    out.join("chain.toml")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn adversaries_are_read_by_name_and_number() {
        let parse = |text: &str| Adversaries::parse(text).unwrap();
        let three = parse("sign_flipper=1, noise=2");
        assert_eq!(three.count(), 3);
        let personas: Vec<_> = three.personas().map(Persona::name).collect();
        assert_eq!(personas, ["sign_flipper", "noise", "noise"]);
        assert_eq!(parse("none").count(), 0);
        assert_eq!(parse("").count(), 0);
    }

    #[test]
    fn a_wrong_name_lists_the_right_ones() {
        let text = Adversaries::parse("noise=1,gremlin=1")
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("gremlin") && text.contains("sign_flipper"),
            "{text}"
        );
        assert!(
            Adversaries::parse("noise=many")
                .unwrap_err()
                .to_string()
                .contains("many")
        );
        assert!(Adversaries::parse("noise=-1").is_err());
    }

    #[test]
    fn the_cast_is_complete_and_the_same_for_a_seed() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let casts = folders
            .each_ref()
            .map(|folder| Cast::new(&super::super::plan::tests::plan(folder.path())).unwrap());
        let addresses = casts
            .each_ref()
            .map(|cast| cast.players().map(Player::address).collect::<Vec<_>>());
        assert_eq!(addresses[0], addresses[1]);
        let personas: Vec<_> = casts[0].trainers.iter().map(|p| p.persona.name()).collect();
        assert_eq!(personas, ["honest", "honest", "noise"]);
        let mut unique = addresses[0].clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), 3 + 3 + 1);
    }
}
