//! `convoke data`: prepare data sets. Splitting one set between many is for experiments; in a
//! real federation everybody brings data of their own.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use convoke_models::data::{split, split_even};
use convoke_models::{Images, Part, SplitConfig};
use serde_json::json;

use crate::failure::usage;
use crate::output::{self, Format};

/// Splits.
#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Split a data set between trainers and validators, with some test images held back
    #[command(
        after_help = "Example:\n  convoke data split --data ./fashion-mnist --trainers 6 --validators 3 --out parts\n\n\
                      The training set goes to the trainers, the first half of the shuffled test set to the\n\
                      validators, the other half to nobody: measure the model on it with `convoke evaluate`."
    )]
    Split(SplitArgs),
}

/// Arguments of `data split`.
#[derive(Debug, Args)]
pub(crate) struct SplitArgs {
    /// Folder with idx files in MNIST layout, .gz or not
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Number of trainers
    #[arg(long, value_name = "N")]
    trainers: usize,
    /// Number of validators
    #[arg(long, value_name = "N", default_value_t = 1)]
    validators: usize,
    /// Concentration of the labels: 0.1 gives each trainer few classes, `inf` all alike
    #[arg(long, default_value_t = 0.5)]
    alpha: f64,
    /// Seed of the split
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Folder to write into: trainer-1, …, validator-1, …, held-back
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// A set divided between the parties.
#[derive(Debug)]
pub(crate) struct Parts {
    /// One set for each trainer.
    pub(crate) trainers: Vec<Images>,
    /// One set for each validator.
    pub(crate) validators: Vec<Images>,
    /// What nobody has.
    pub(crate) held_back: Images,
}

/// A labelled set in two parts, as it comes.
#[derive(Debug)]
pub(crate) struct Source {
    /// For the trainers.
    pub(crate) train: Images,
    /// For validators, and to hold back.
    pub(crate) test: Images,
}

impl Source {
    /// Reads both parts of a folder.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Self> {
        let train = Images::open(folder, Part::Train)?;
        let test = Images::open(folder, Part::Test)?;
        Ok(Self { train, test })
    }
}

/// The share of Fashion-MNIST that is part of this program; see `data/fashion-mnist`.
pub(crate) fn embedded() -> anyhow::Result<Source> {
    const TRAIN_IMAGES: &[u8] =
        include_bytes!("../../data/fashion-mnist/train-images-idx3-ubyte.gz");
    const TRAIN_LABELS: &[u8] =
        include_bytes!("../../data/fashion-mnist/train-labels-idx1-ubyte.gz");
    const TEST_IMAGES: &[u8] = include_bytes!("../../data/fashion-mnist/t10k-images-idx3-ubyte.gz");
    const TEST_LABELS: &[u8] = include_bytes!("../../data/fashion-mnist/t10k-labels-idx1-ubyte.gz");
    let train = Images::from_idx(TRAIN_IMAGES, TRAIN_LABELS)?;
    let test = Images::from_idx(TEST_IMAGES, TEST_LABELS)?;
    Ok(Source { train, test })
}

/// Runs the command.
pub(crate) fn run(command: &DataCommand, format: Format) -> anyhow::Result<()> {
    match command {
        DataCommand::Split(args) => run_split(args, format),
    }
}

fn run_split(args: &SplitArgs, format: Format) -> anyhow::Result<()> {
    let source = Source::open(&args.data)?;
    let parts = divide(
        &source,
        args.trainers,
        args.validators,
        args.alpha,
        args.seed,
    )?;
    let out = &args.out;
    let mut rows = Vec::new();
    for (role, sets, part) in [
        ("trainer", &parts.trainers, Part::Train),
        ("validator", &parts.validators, Part::Test),
    ] {
        for (index, set) in sets.iter().enumerate() {
            let folder = out.join(format!("{role}-{}", index + 1));
            save(set, &folder, part)?;
            rows.push((folder, set));
        }
    }
    let folder = out.join("held-back");
    save(&parts.held_back, &folder, Part::Test)?;
    rows.push((folder, &parts.held_back));
    let values: Vec<_> = rows
        .iter()
        .map(|(folder, set)| json!({ "folder": folder, "examples": set.len(), "classes": set.class_counts() }))
        .collect();
    format.print(&values, || {
        let mut table = output::table(["folder", "examples", "of each class"]);
        for (folder, set) in &rows {
            let counts: Vec<String> = set.class_counts().iter().map(ToString::to_string).collect();
            table.add_row([
                folder.display().to_string(),
                set.len().to_string(),
                counts.join(" "),
            ]);
        }
        table.to_string()
    })
}

/// Splits a set: training images by Dirichlet(alpha) over the labels, test images evenly.
pub(crate) fn divide(
    source: &Source,
    trainers: usize,
    validators: usize,
    alpha: f64,
    seed: u64,
) -> anyhow::Result<Parts> {
    if trainers == 0 || validators == 0 {
        return Err(usage("at least one trainer and one validator are needed"));
    }
    let config = SplitConfig {
        parties: trainers,
        alpha,
        examples_min: EXAMPLES_MIN,
        seed,
    };
    let shares = split(source.train.labels(), &config)
        .context("cannot split the training images between the trainers")?;
    // Ignoring the labels: both halves of the test set look like the whole.
    let config = SplitConfig {
        parties: 2,
        alpha: f64::INFINITY,
        examples_min: validators,
        seed,
    };
    let halves = split(source.test.labels(), &config)
        .context("cannot split the test images between the validators")?;
    let of_validator = |run: Vec<usize>| {
        let indices: Vec<usize> = run
            .into_iter()
            .map(|position| halves[0][position])
            .collect();
        source.test.subset(&indices)
    };
    Ok(Parts {
        trainers: shares
            .iter()
            .map(|share| source.train.subset(share))
            .collect(),
        validators: split_even(halves[0].len(), validators)
            .into_iter()
            .map(of_validator)
            .collect(),
        held_back: source.test.subset(&halves[1]),
    })
}

/// Writes a set into a new folder.
pub(crate) fn save(set: &Images, folder: &Path, part: Part) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(set.save(folder, part)?)
}

/// No trainer gets fewer: a handful of batches.
const EXAMPLES_MIN: usize = 64;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn set(count: usize) -> Images {
        let labels = (0..count).map(|index| (index % 10) as u8).collect();
        let images = (0..count * 16)
            .map(|index| (index / 16 % 251) as u8)
            .collect();
        Images::new(images, 4, 4, labels, 10).unwrap()
    }

    #[test]
    fn every_image_goes_to_exactly_one_party() {
        let source = Source {
            train: set(1_000),
            test: set(200),
        };
        let parts = divide(&source, 4, 3, 0.5, 7).unwrap();
        let sum = |sets: &[Images]| sets.iter().map(Images::len).sum::<usize>();
        assert_eq!(sum(&parts.trainers), 1_000);
        assert_eq!((sum(&parts.validators), parts.held_back.len()), (100, 100));
        assert!(parts.validators.iter().all(|set| set.len() >= 33));
        assert!(parts.trainers.iter().all(|set| set.len() >= EXAMPLES_MIN));
    }

    #[test]
    fn too_few_images_are_an_error() {
        let source = Source {
            train: set(100),
            test: set(20),
        };
        assert!(divide(&source, 4, 3, 0.5, 7).is_err());
        assert!(divide(&source, 0, 3, 0.5, 7).is_err());
    }
}
