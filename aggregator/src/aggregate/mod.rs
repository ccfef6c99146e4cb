//! One step of the model: base and kept deltas in, new checkpoint out, chunk by chunk.
//!
//! Deltas are read once or twice: once to find out what the rule must know of them (`survey`), if it
//! must know anything, and once to combine them ([`Mixer`]). Chunks are computed in parallel,
//! while those before them are hashed and written in their order (`stream`). No sum that a rule
//! goes by depends on the number of threads.

pub mod history;
mod mixer;
mod noise;
mod output;
mod states;
mod stream;
pub(crate) mod survey;
mod updates;
mod walk;

use std::path::{Path, PathBuf};

use convoke_protocol::ids::BlobHash;
use convoke_protocol::message::Candidate;
use convoke_protocol::record::Share;
use convoke_protocol::sketch::Norm;
use convoke_protocol::task::AggregationSpec;
use convoke_sketch::{Source, TensorFile};

use self::history::Histories;
pub use self::mixer::{Mixer, MixerBuffers};
pub use self::noise::Noise;
pub(crate) use self::output::Output;
pub(crate) use self::states::Belonging;
pub use self::states::states_of;
pub use self::updates::Updates;
pub use self::walk::Walk;
use crate::error::AggregatorError;
use crate::rules::{AggregationRule, Cohort, Combination, Needs};
use crate::server_optimizer;

/// What a step is made of.
pub struct Step<'a> {
    /// The checkpoint to step from.
    pub base: BlobHash,
    /// Where it is.
    pub base_path: &'a Path,
    /// What goes into the step, with the paths of the deltas.
    pub kept: &'a [(Candidate, PathBuf)],
    /// Makes one delta of them.
    pub rule: &'a dyn AggregationRule,
    /// The task's settings of rule and server optimizer.
    pub settings: &'a AggregationSpec,
    /// Where moments of the base are, and where the new checkpoint and its moments go, each under its
    /// hash in hex.
    pub dir: &'a Path,
}

/// What a step led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stepped {
    /// The new checkpoint.
    pub checkpoint: BlobHash,
    /// Where it is.
    pub path: PathBuf,
    /// The server optimizer's moments that belong to it, if it has any.
    pub states: Vec<BlobHash>,
    /// What the aggregated delta has of each kept one, in their order; nothing if the rule takes
    /// values apart.
    pub shares: Vec<Share>,
    /// See [`convoke_protocol::record::Dossier::noise`].
    pub noise: Norm,
}

/// Takes the step; its files are on disk when this returns.
///
/// Taking the same step again gives the same bytes, whatever the number of threads: which moments
/// and histories belong to a checkpoint is kept by the checkpoint's hash. Without updates the base is
/// the result. Memory is about 1 MiB a thread for the deltas, eight chunks of at most 256 KiB a thread
/// for each file that is written, and O(N²) for what the rule goes by, whatever the model.
///
/// # Errors
/// If a file cannot be read or written, has another layout than the base, or the new
/// checkpoint would not be finite.
pub fn aggregate_step(step: &Step<'_>) -> Result<Stepped, AggregatorError> {
    let mut stepped = Stepped {
        checkpoint: step.base,
        path: step.base_path.to_owned(),
        states: states_of(step.dir, &step.base)?,
        shares: Vec::new(),
        noise: Norm::ZERO,
    };
    if step.kept.is_empty() {
        return Ok(stepped);
    }
    output::remove_leftovers(step.dir)?;
    let base = TensorFile::open(step.base_path)?;
    let open = |path: &Path| TensorFile::open_like(path, base.layout());
    let deltas = step.kept.iter().map(|(_, path)| open(path));
    let deltas: Vec<TensorFile> = deltas.collect::<Result<_, _>>()?;
    let candidates = step.kept.iter().map(|(candidate, _)| candidate);
    let updates = Updates::new(candidates.zip(deltas.iter().map(|delta| delta as &dyn Source)));
    let mut histories = match step.rule.needs() {
        Needs::Histories => Some(Histories::open(step.dir, &step.base)?),
        _ => None,
    };
    let combination = decide(&updates, step.rule, step.settings, histories.as_mut())?;
    let moments = stepped.states.iter();
    let moments = moments.map(|name| open(&step.dir.join(name.to_file_name())));
    let walk = Walk {
        base: &base,
        moments: &moments.collect::<Result<Vec<_>, _>>()?,
        mixer: &Mixer::new(&updates, &combination, Noise::seed(&step.base)),
        optimizer: &*server_optimizer::of(step.settings),
    };
    let outputs = walk.write(step.dir)?;
    if let Combination::Sum { shares, noise } = combination {
        (stepped.shares, stepped.noise) = (shares, noise);
    }
    persist(step, outputs, histories.as_ref(), &mut stepped)?;
    Ok(stepped)
}

/// What the rule makes of these updates: the first pass, if it needs one. `histories` take part in
/// it if the rule goes by them, and learn of the updates.
///
/// # Errors
/// If a delta cannot be read.
pub fn decide(
    updates: &Updates<'_>,
    rule: &dyn AggregationRule,
    settings: &AggregationSpec,
    histories: Option<&mut Histories>,
) -> Result<Combination, AggregatorError> {
    let mut evidence = survey::survey(updates, rule.needs())?;
    if let Some(histories) = histories {
        let projected = survey::project(updates, histories.projection())?;
        evidence.histories = histories.add(updates.trainers(), &projected);
    }
    Ok(rule.combine(&Cohort {
        trainers: updates.trainers(),
        weights: updates.weights(),
        settings,
        evidence: &evidence,
    }))
}

/// Names what was written, the checkpoint last: whoever sees that finds all that belongs to it.
fn persist(
    step: &Step<'_>,
    mut outputs: Vec<Output>,
    histories: Option<&Histories>,
    stepped: &mut Stepped,
) -> Result<(), AggregatorError> {
    let checkpoint = outputs.remove(0);
    stepped.checkpoint = checkpoint.hash();
    stepped.path = step.dir.join(stepped.checkpoint.to_file_name());
    // What belongs to the base stays, if nothing has moved.
    if stepped.checkpoint == step.base {
        return Ok(());
    }
    if let Some(histories) = histories {
        histories.save(step.dir, &stepped.checkpoint)?;
    }
    if !outputs.is_empty() {
        stepped.states = outputs.iter().map(Output::hash).collect();
        for moment in outputs {
            moment.persist(step.dir)?;
        }
        Belonging::STATES.name(step.dir, &stepped.checkpoint, &stepped.states)?;
    }
    checkpoint.persist(step.dir)
}

#[cfg(test)]
mod tests;
