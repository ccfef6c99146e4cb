//! The checked arguments of a demo.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use convoke_aggregator::rules;
use convoke_models::{ModelConfig, ModelKind};
use convoke_protocol::ids::Amount;
use convoke_protocol::task::{
    AggregationSpec, CohortSpec, CompressionSpec, ContributionSpec, ProofMode, RewardSpec,
    StakeSpec, TaskSpec, TimingSpec, TrainingSpec,
};

use super::DemoArgs;
use super::cast::Adversaries;
use super::rehearsal::Rehearsal;
use crate::commands::data::{self, Source};
use crate::failure::{HintExt as _, usage};
use crate::money::tokens;

/// What trainers share for a demo, in tokens; the pool of all rounds.
const POOL: Amount = tokens(10_000);

/// Rounds, if nothing is said.
const ROUNDS: u32 = 10;

/// Adversaries, if nothing is said.
const ADVERSARIES: &str = "sign_flipper=1,noise=1";

/// What each role stakes, and what fraud would cost of it.
const STAKES: StakeSpec = StakeSpec {
    trainer: tokens(100),
    validator: tokens(200),
    aggregator: tokens(500),
    slash_bps: 1_000,
    reporter_bps: 1_000,
};

/// A demo that can be played.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The task's name.
    pub(crate) name: String,
    /// Trainers, adversaries included.
    pub(crate) trainers: u32,
    /// Validators.
    pub(crate) validators: u32,
    /// Rounds.
    pub(crate) rounds: u32,
    /// Adversaries among the trainers.
    pub(crate) adversaries: Adversaries,
    /// Dirichlet concentration of the labels.
    pub(crate) alpha: f64,
    /// Seed of everything.
    pub(crate) seed: u64,
    /// Name of the aggregation rule.
    pub(crate) rule: String,
    /// How updates travel.
    pub(crate) compression: CompressionSpec,
    /// A folder of idx files; the embedded set if there is none.
    pub(crate) data: Option<PathBuf>,
    /// Another task than the demonstration's own, and its parties' data.
    pub(crate) rehearsal: Option<Rehearsal>,
    /// Where everything is written; absolute, and there.
    pub(crate) out: PathBuf,
}

impl Plan {
    /// Checks the arguments and makes the folder.
    pub(crate) fn check(args: DemoArgs) -> anyhow::Result<Self> {
        let rehearsal = args
            .task
            .as_deref()
            .map(|task| Rehearsal::open(task, args.data.as_deref()))
            .transpose()?;
        let (trainers, validators) = match &rehearsal {
            Some(rehearsal) => (
                u32::try_from(rehearsal.trainers.len())?,
                u32::try_from(rehearsal.validators.len())?,
            ),
            None => (args.trainers, args.validators),
        };
        let of_task = rehearsal.as_ref().map(|rehearsal| &rehearsal.spec);
        let rounds = args
            .rounds
            .unwrap_or_else(|| of_task.map_or(ROUNDS, |spec| spec.rounds));
        check_number("--trainers", trainers, 1, 256)?;
        check_number("--validators", validators, 1, 64)?;
        check_number("--rounds", rounds, 1, 10_000)?;
        if args.alpha.is_nan() || args.alpha <= 0.0 {
            return Err(usage(format!("--alpha {}: it must be above 0", args.alpha)));
        }
        let adversaries = match (&args.adversaries, of_task) {
            (Some(typed), _) => Adversaries::parse(typed)?,
            (None, Some(_)) => Adversaries::parse("none")?,
            (None, None) => Adversaries::parse(ADVERSARIES)?,
        };
        if adversaries.count() >= trainers as usize {
            return Err(usage(format!(
                "{} adversaries among {} trainers leave no honest one",
                adversaries.count(),
                trainers
            )))
            .hint("give more --trainers or fewer --adversaries (`none` for none)");
        }
        rules::by_name(&args.rule).map_err(|error| usage(format!("--rule: {error}")))?;
        if let Some(folder) = args.data.as_deref().filter(|folder| !folder.is_dir()) {
            return Err(usage(format!(
                "--data {}: no such folder",
                folder.display()
            )));
        }
        let name = match (of_task, &args.data) {
            (Some(spec), _) => spec.name.clone(),
            (None, None) => "fashion-mnist".into(),
            (None, Some(folder)) => folder_name(folder),
        };
        Ok(Self {
            name,
            trainers,
            validators,
            rounds,
            adversaries,
            alpha: args.alpha,
            seed: args.seed,
            rule: args.rule,
            compression: CompressionSpec {
                update: args.compress,
                keep_ppm: args.keep_ppm,
                checkpoint: args.compress_checkpoints,
                ..CompressionSpec::default()
            },
            data: args.data,
            rehearsal,
            out: make_folder(args.out)?,
        })
    }

    /// The task that is posted, without its initial checkpoint: the demonstration's own on these
    /// images, or the one that is rehearsed.
    pub(crate) fn task(&self, source: Option<&Source>) -> anyhow::Result<TaskSpec> {
        let own = match (&self.rehearsal, source) {
            (Some(rehearsal), _) => rehearsal.spec.clone(),
            (None, Some(source)) => self.own_task(source)?,
            (None, None) => bail!("a demonstration of its own needs images"),
        };
        let spec = TaskSpec {
            rounds: self.rounds,
            cohort: CohortSpec {
                trainers_min: self.trainers,
                trainers_max: self.trainers,
                validators_min: self.validators,
                // Everybody is on this machine: nobody is left behind for being slow.
                quorum_bps: 10_000,
                updates_min: 1,
            },
            reward: RewardSpec {
                pool: POOL,
                vesting_bps: 2_000,
                proof: ProofMode::OnSubmission,
                dispute_window_s: 0,
                ..own.reward
            },
            stake: STAKES,
            ..own
        };
        spec.check()?;
        Ok(spec)
    }

    /// A classifier of the images.
    fn own_task(&self, source: &Source) -> anyhow::Result<TaskSpec> {
        let model = ModelConfig::images(
            ModelKind::Cnn,
            source.train.height(),
            source.train.width(),
            source.train.classes().max(source.test.classes()),
        );
        Ok(TaskSpec {
            name: self.name.clone(),
            description: format!(
                "Classify {} images, {} trainers, labels split by Dirichlet({})",
                self.name, self.trainers, self.alpha
            ),
            rounds: self.rounds,
            seed: self.seed,
            initial: None,
            model: model
                .context("the demo's model is one of images")?
                .to_spec(),
            base: None,
            adapter: None,
            training: TrainingSpec {
                client_lr: 0.02,
                client_lr_decay: lr_decay(self.rounds),
                ..TrainingSpec::default()
            },
            aggregation: AggregationSpec {
                rule: self.rule.clone(),
                ..AggregationSpec::default()
            },
            compression: self.compression.clone(),
            contribution: ContributionSpec::default(),
            cohort: CohortSpec::default(),
            timing: TimingSpec {
                progress_timeout_s: 30,
                train_max_s: 600,
                grace_s: 5,
                score_timeout_s: 60,
                settle_timeout_s: 60,
                open_timeout_s: 120,
                attempts_max: 3,
            },
            reward: RewardSpec {
                round_timeout_s: 3_600,
                ..RewardSpec::default()
            },
            stake: StakeSpec::default(),
        })
    }

    /// Reads the data set that is to be divided; nothing if each party has its own.
    pub(crate) fn source(&self) -> anyhow::Result<Option<Source>> {
        if self.rehearsal.is_some() {
            return Ok(None);
        }
        let source = match &self.data {
            Some(folder) => Source::open(folder)
                .with_context(|| format!("--data {}", folder.display()))
                .hint("a folder in MNIST layout has train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, each with or without .gz"),
            None => data::embedded(),
        };
        source.map(Some)
    }

    /// Writes a file of the results.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> anyhow::Result<()> {
        let path = self.out.join(name);
        std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Ten rounds end with a fifth of the first round's learning rate; so do more of them, because
/// steps that are next to nothing cannot be told from noise.
fn lr_decay(rounds: u32) -> f64 {
    const TEN_ROUNDS: f64 = 0.85;
    TEN_ROUNDS.powf((10.0 / f64::from(rounds)).min(1.0))
}

fn check_number(option: &str, got: u32, least: u32, most: u32) -> anyhow::Result<()> {
    if (least..=most).contains(&got) {
        Ok(())
    } else {
        Err(usage(format!(
            "{option} {got}: {least} to {most} are possible"
        )))
    }
}

/// A folder's last name, as long as a task's name may be.
fn folder_name(folder: &Path) -> String {
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let name = whole
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let name: String = name.unwrap_or_default().chars().take(64).collect();
    if name.is_empty() {
        "images".into()
    } else {
        name
    }
}

/// The folder asked for, which must be new or empty; or the first free one.
fn make_folder(asked: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let folder = match asked {
        Some(folder) if is_free(&folder) => folder,
        Some(folder) => {
            return Err(usage(format!(
                "--out {}: there is something in it",
                folder.display()
            )))
            .hint("name a folder that is new or empty");
        }
        None => (1..)
            .map(|n: u32| {
                if n == 1 {
                    "convoke-demo".into()
                } else {
                    format!("convoke-demo-{n}")
                }
            })
            .map(PathBuf::from)
            .find(|folder| is_free(folder))
            .context("no free folder name is left")?,
    };
    let shown = folder.display();
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {shown}"))?;
    folder
        .canonicalize()
        .with_context(|| format!("cannot open {shown}"))
}

fn is_free(folder: &Path) -> bool {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        demo: DemoArgs,
    }

    fn check(arguments: &[&str], out: &Path) -> anyhow::Result<Plan> {
        let typed = ["demo", "--out", out.to_str().unwrap()];
        let typed = typed.iter().chain(arguments);
        Plan::check(Typed::try_parse_from(typed)?.demo)
    }

    pub(crate) fn plan(out: &Path) -> Plan {
        check(
            &[
                "--rounds",
                "2",
                "--trainers",
                "3",
                "--adversaries",
                "noise=1",
            ],
            out,
        )
        .unwrap()
    }

    #[test]
    fn the_defaults_are_those_of_the_manual() {
        let folder = tempfile::tempdir().unwrap();
        let plan = check(&[], folder.path()).unwrap();
        assert_eq!((plan.trainers, plan.validators, plan.rounds), (6, 3, 10));
        assert_eq!(
            (plan.alpha, plan.seed, plan.rule.as_str()),
            (0.5, 7, "fedavg")
        );
        assert_eq!(plan.adversaries.count(), 2);
        assert!(plan.out.is_absolute());
    }

    #[test]
    fn senseless_arguments_are_refused_with_what_is_possible() {
        let folder = tempfile::tempdir().unwrap();
        for (arguments, part) in [
            (vec!["--trainers", "0"], "--trainers 0"),
            (vec!["--validators", "0"], "--validators 0"),
            (vec!["--rounds", "0"], "--rounds 0"),
            (vec!["--alpha", "0"], "above 0"),
            (vec!["--alpha", "nan"], "above 0"),
            (vec!["--trainers", "2"], "leave no honest one"),
            (vec!["--rule", "vote"], "fedavg"),
            (vec!["--adversaries", "gremlin=1"], "gremlin"),
            (vec!["--data", "/nowhere/at/all"], "no such folder"),
        ] {
            let text = check(&arguments, folder.path()).unwrap_err().to_string();
            assert!(text.contains(part), "{arguments:?}: {text}");
        }
    }

    #[test]
    fn a_folder_with_something_in_it_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("mine"), "x").unwrap();
        assert!(
            check(&[], folder.path())
                .unwrap_err()
                .to_string()
                .contains("something in it")
        );
        assert!(check(&[], &folder.path().join("new")).is_ok());
    }

    #[test]
    fn the_task_keeps_its_own_ranges() {
        let folder = tempfile::tempdir().unwrap();
        let source = data::embedded().unwrap();
        for arguments in [vec![], vec!["--trainers", "256", "--rounds", "10000"]] {
            let out = folder.path().join(arguments.len().to_string());
            let spec = check(&arguments, &out)
                .unwrap()
                .task(Some(&source))
                .unwrap();
            let side = spec.model.config["height"].as_integer();
            assert_eq!(
                (side, spec.model.config["classes"].as_integer()),
                (Some(28), Some(10))
            );
            assert_eq!(spec.reward.pool, POOL);
        }
    }
}
