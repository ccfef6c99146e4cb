//! What checks the proofs of a new deployment, and what is said of the one that is there.

use anyhow::anyhow;
use clap::Args;
use convoke_client::{KEY_WORDS, ProofCheck, ProofCircuits, VerifierKey};
use convoke_proofs::keys::Origin;
use convoke_proofs::size::Size;
use convoke_protocol::ids::Digest;

use crate::address::checksummed;
use crate::failure::{HintExt as _, usage};
use crate::presets::Named;
use crate::proof_keys::{self, ProofKeyArgs};

/// What is said of a deployment that takes every result.
const UNCHECKED: &str = "NOT CHECKED: for development only, a dishonest aggregator goes unnoticed";
/// What is said of one that checks nothing yet.
const NO_VERIFIER: &str = "no verifier yet: no result counts until the governor has named one";

/// How the proofs of results are checked.
#[derive(Debug, Args)]
pub(super) struct VerifierArgs {
    /// UNSAFE, for development: results count without a valid proof
    #[arg(long)]
    unchecked_proofs: bool,
    /// Sizes of rounds that can be proven, in trainers: 16, 64 and 256
    #[arg(
        long,
        value_name = "N",
        value_delimiter = ',',
        default_value = "16,64",
        value_parser = proof_keys::parse_size,
        conflicts_with = "unchecked_proofs"
    )]
    proof_sizes: Vec<Size>,
    /// UNSAFE: keys that this or another single machine made, where tokens are worth something
    #[arg(long, conflicts_with = "unchecked_proofs")]
    insecure_development_keys: bool,
    #[command(flatten)]
    keys: ProofKeyArgs,
}

impl VerifierArgs {
    /// # Errors
    /// Wrong usage, if nothing would be checked where tokens are worth something.
    pub(super) fn check(&self, preset: Option<Named>) -> anyhow::Result<()> {
        match preset {
            Some(Named(preset)) if self.unchecked_proofs && !preset.is_test => Err(usage(format!(
                "--unchecked-proofs on {}, where tokens are worth something",
                preset.title
            )))
            .hint("deploy without it, with the keys of a ceremony: `convoke proofs import`"),
            _ => Ok(()),
        }
    }

    /// The verifiers, with keys that are made if there are none. `is_live`: tokens may be worth
    /// something.
    pub(super) fn load(&self, is_live: bool) -> anyhow::Result<ProofCheck> {
        if self.unchecked_proofs {
            return Ok(ProofCheck::Unchecked);
        }
        let folder = self.keys.folder()?;
        let mut keys = Vec::new();
        for size in self.sizes() {
            if is_live && !self.insecure_development_keys && !has_ceremony_keys(&folder, size)? {
                return Err(anyhow!(
                    "there are no keys of a ceremony for {} trainers in {}, and others can forge proofs",
                    size.slots(),
                    folder.display()
                ))
                .hint("`convoke proofs import` takes them in; --insecure-development-keys if the tokens are worth nothing");
            }
            let opened = proof_keys::open_or_make(&folder, size)?;
            keys.push(proof_keys::verifier_key(&opened)?);
        }
        Ok(ProofCheck::Keys(keys))
    }

    /// Verifiers that cost what the true ones do, whose keys need not be there yet.
    pub(super) fn rehearsed(&self) -> ProofCheck {
        if self.unchecked_proofs {
            return ProofCheck::Unchecked;
        }
        let key = |size: Size| VerifierKey {
            slots: u16::try_from(size.slots()).unwrap_or(u16::MAX),
            circuit: Digest([0xff; 32]),
            words: [[0xff; 32]; KEY_WORDS],
        };
        ProofCheck::Keys(self.sizes().into_iter().map(key).collect())
    }

    fn sizes(&self) -> Vec<Size> {
        let mut sizes = self.proof_sizes.clone();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }
}

fn has_ceremony_keys(folder: &std::path::Path, size: Size) -> anyhow::Result<bool> {
    let files = convoke_proofs::keys::list(folder)?;
    let is_one =
        |file: &convoke_proofs::keys::KeyFile| (file.size, file.origin) == (size, Origin::Ceremony);
    Ok(files.iter().any(is_one))
}

/// What a deployment checks, for people.
pub(super) fn words_of_check(proofs: &ProofCheck) -> String {
    match proofs {
        ProofCheck::Unverified => NO_VERIFIER.into(),
        ProofCheck::Unchecked => UNCHECKED.into(),
        ProofCheck::Keys(keys) => zero_knowledge(keys.iter().map(|key| key.slots)),
    }
}

/// What the present verifier takes, for people.
pub(super) fn words_of_circuits(circuits: &ProofCircuits) -> String {
    match circuits {
        ProofCircuits::None => NO_VERIFIER.into(),
        ProofCircuits::Unchecked { .. } => UNCHECKED.into(),
        ProofCircuits::Circuits { circuits, .. } => {
            zero_knowledge(circuits.iter().map(|circuit| circuit.slots))
        }
        ProofCircuits::Unknown { verifier } => format!("checked by {}", checksummed(*verifier)),
    }
}

fn zero_knowledge(slots: impl Iterator<Item = u16>) -> String {
    let sizes: Vec<_> = slots.map(|slots| slots.to_string()).collect();
    format!(
        "zero-knowledge proofs of up to {} updates",
        sizes.join(" and ")
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Typed {
        #[command(flatten)]
        verifiers: VerifierArgs,
    }

    fn typed(arguments: &[&str]) -> VerifierArgs {
        let line = ["deploy"].iter().chain(arguments);
        Typed::try_parse_from(line).unwrap().verifiers
    }

    #[test]
    fn unchecked_proofs_are_refused_where_tokens_are_worth_something() {
        let on = |arguments: &[&str], preset: &str| {
            typed(arguments).check(Some(preset.parse().unwrap()))
        };
        let error = on(&["--unchecked-proofs"], "theta").unwrap_err();
        assert!(error.to_string().contains("worth something"), "{error}");
        on(&["--unchecked-proofs"], "devnet").unwrap();
        on(&[], "theta").unwrap();
    }

    #[test]
    fn keys_of_one_machine_are_refused_where_tokens_are_worth_something() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let error = typed(&["--proof-keys", path]).load(true).unwrap_err();
        assert!(error.to_string().contains("ceremony"), "{error}");
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            0,
            "none made"
        );
    }

    #[test]
    fn sizes_come_sorted_and_once() {
        let ProofCheck::Keys(keys) = typed(&["--proof-sizes", "64,16,64"]).rehearsed() else {
            panic!("keys are the default");
        };
        let slots: Vec<_> = keys.iter().map(|key| key.slots).collect();
        assert_eq!(slots, [16, 64]);
        assert!(Typed::try_parse_from(["deploy", "--proof-sizes", "17"]).is_err());
        let both = ["deploy", "--unchecked-proofs", "--proof-sizes", "16"];
        assert!(Typed::try_parse_from(both).is_err());
        assert_eq!(
            typed(&["--unchecked-proofs"]).rehearsed(),
            ProofCheck::Unchecked
        );
    }
}
