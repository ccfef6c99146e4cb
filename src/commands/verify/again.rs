//! The step taken again by whoever has the deltas: whether shares are those of the rule, and the
//! checkpoint what follows from them, bit by bit. Without the deltas, what the record alone shows.

use std::path::PathBuf;

use anyhow::Context as _;
use convoke_aggregator::aggregate::{Mixer, Noise, Updates, Walk, decide};
use convoke_aggregator::rules::{self, AggregationRule, Cohort, Combination, Evidence, Needs};
use convoke_aggregator::server_optimizer;
use convoke_compress::{Codec, Delta};
use convoke_protocol::ids::{Address, BlobHash};
use convoke_protocol::message::Candidate;
use convoke_protocol::record::{RoundRecord, Share};
use convoke_protocol::task::AggregationSpec;
use convoke_sketch::{Source, TensorFile, file_bytes};

use super::report::Check;
use super::step::{StepFiles, kept};

const NAME: &str = "rule";

/// Shares are found from sums of products of f32, in another order on other machines.
const TOLERANCE: f64 = 1e-4;

/// Checks a step that kept something. `deltas` are those of the kept updates, in their order; nothing
/// if one of them is not to be had. They were encoded by `codec`, if there is one.
///
/// # Errors
/// If a file cannot be read.
pub(crate) fn check_again(
    record: &RoundRecord,
    settings: &AggregationSpec,
    files: &StepFiles,
    deltas: Option<&[PathBuf]>,
    codec: Option<Codec>,
) -> anyhow::Result<Check> {
    let rule = rules::by_name(&settings.rule)?;
    let again = Again {
        record,
        settings,
        rule,
        codec,
    };
    if rule.needs() == Needs::Nothing && rule.is_linear() {
        let due = again.without_deltas();
        if let Some(wrong) = again.difference(&due, 0.0) {
            return Ok(Check::fails(NAME, wrong));
        }
    }
    let (Some(deltas), Some(base), Some(before)) = (deltas, &files.base, &files.before) else {
        return Ok(match rule.needs() == Needs::Nothing && rule.is_linear() {
            true => Check::holds(NAME, "the shares follow from the examples"),
            false => Check::not_checkable(
                NAME,
                "shares and choices can be found again by those who have all deltas alone",
            ),
        });
    };
    again.with_deltas(deltas, base, before)
}

struct Again<'a> {
    record: &'a RoundRecord,
    settings: &'a AggregationSpec,
    rule: &'a dyn AggregationRule,
    codec: Option<Codec>,
}

impl Again<'_> {
    /// What a rule does that needs to know nothing of the deltas.
    fn without_deltas(&self) -> Combination {
        let kept = kept(self.record);
        let trainers: Vec<Address> = kept.iter().map(|entry| entry.update.trainer).collect();
        let weights: Vec<f64> = kept.iter().map(|entry| entry.weight as f64).collect();
        self.rule.combine(&Cohort {
            trainers: &trainers,
            weights: &weights,
            settings: self.settings,
            evidence: &Evidence::default(),
        })
    }

    fn with_deltas(
        &self,
        deltas: &[PathBuf],
        base: &std::path::Path,
        before: &[PathBuf],
    ) -> anyhow::Result<Check> {
        let base = TensorFile::open(base)?;
        let open = |path: &PathBuf| TensorFile::open_like(path, base.layout());
        let deltas = deltas.iter().map(|path| Delta::open(path, self.codec));
        let deltas: Vec<Delta> = deltas.collect::<Result<_, _>>()?;
        let values = base.layout().values();
        if deltas.iter().any(|delta| delta.count() != values) {
            return Ok(Check::fails(
                NAME,
                "a delta has another length than the base",
            ));
        }
        let moments: Vec<TensorFile> = before.iter().map(open).collect::<Result<_, _>>()?;
        let candidates = self.candidates();
        let sources = deltas.iter().map(|delta| delta as &dyn Source);
        let updates = Updates::new(candidates.iter().zip(sources));
        let recorded = Combination::Sum {
            shares: self.shares(),
            noise: self.record.dossier.noise,
        };
        let combination = match self.rule.needs() {
            // The aggregator's alone.
            Needs::Histories => recorded,
            _ => {
                let due = decide(&updates, self.rule, self.settings, None)?;
                if let Some(wrong) = self.difference(&due, TOLERANCE) {
                    return Ok(Check::fails(NAME, wrong));
                }
                if self.rule.is_linear() { recorded } else { due }
            }
        };
        let mut hasher = blake3::Hasher::new();
        hasher.update(base.header());
        let walk = Walk {
            base: &base,
            moments: &moments,
            mixer: &Mixer::new(
                &updates,
                &combination,
                Noise::seed(&self.record.step_ends().0),
            ),
            optimizer: &*server_optimizer::of(self.settings),
        };
        walk.run(|chunk| {
            hasher.update(&file_bytes(&chunk[0]));
            Ok(())
        })
        .context("cannot take the step again")?;
        let got = BlobHash(*hasher.finalize().as_bytes());
        let checkpoint = self.record.step_ends().1;
        if got != checkpoint {
            let why = format!("the kept deltas lead to {got}, the record says {checkpoint}");
            return Ok(Check::fails(NAME, why));
        }
        Ok(Check::holds(
            NAME,
            match self.rule.needs() {
                Needs::Histories => {
                    "the deltas lead to the checkpoint by the recorded shares, which follow from histories that the aggregator has alone"
                }
                _ => "the deltas lead to the checkpoint, bit by bit",
            },
        ))
    }

    fn shares(&self) -> Vec<Share> {
        kept(self.record).iter().map(|entry| entry.share).collect()
    }

    /// How the recorded shares differ from those due, by more than `tolerance` of the largest.
    fn difference(&self, due: &Combination, tolerance: f64) -> Option<String> {
        let Combination::Sum { shares: due, noise } = due else {
            return None;
        };
        let tolerance = tolerance * due.iter().max()?.value();
        let told = self.record.dossier.noise;
        if (noise.value() - told.value()).abs() > tolerance * noise.value() {
            return Some(format!(
                "noise of {} instead of {}",
                told.value(),
                noise.value()
            ));
        }
        let shares = self.shares();
        let mut pairs = shares.iter().zip(due).enumerate();
        let wrong = pairs.find(|(_, (got, due))| (got.value() - due.value()).abs() > tolerance);
        wrong.map(|(index, (got, due))| {
            let (got, due) = (got.value(), due.value());
            format!("kept update {index} has a share of {got}, by the rule it is {due}")
        })
    }

    fn candidates(&self) -> Vec<Candidate> {
        let candidate = |entry: &&convoke_protocol::record::RecordedUpdate| Candidate {
            trainer: entry.update.trainer,
            delta: entry.update.header.delta,
            delta_bytes: entry.update.header.delta_bytes,
            num_examples: entry.weight,
            clip_ppm: entry.clip_ppm,
            alignment: entry.alignment,
            index: 0,
        };
        kept(self.record).iter().map(candidate).collect()
    }
}
