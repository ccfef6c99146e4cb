//! Deltas against what was said of them: by their trainers before and after the seed, and by the
//! aggregator in its result.

use std::path::Path;

use convoke_compress::{Codec, Delta};
use convoke_proofs::public_data::{Commitment, RoundContext};
use convoke_protocol::ids::{Address, BlobHash, Digest};
use convoke_protocol::record::{RecordedUpdate, RoundRecord};
use convoke_protocol::sketch::Norm;
use convoke_sketch::{SketchError, is_under_declared, measure, quantize, sketch};
use serde::Serialize;

/// Norms are sums in another order on other machines: ten times what rounding makes of that.
const NORM_TOLERANCE: f64 = 1e-6;

/// What is false of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Lie {
    /// The header's root is not that of the delta's chunks.
    Root,
    /// The header's norm is not the delta's.
    Norm,
    /// The sums that the sketch is rounded from are others.
    Sums,
    /// The sketch is not that of the delta.
    Sketch,
}

impl Lie {
    /// For people.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Root => "the root over the delta's chunks is another",
            Self::Norm => "the delta's norm is another",
            Self::Sums => "the sums behind the sketch are others",
            Self::Sketch => "the sketch is another",
        }
    }
}

/// A lie, and whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Place of the update, from 0.
    pub(crate) slot: usize,
    /// Whose update it is.
    pub(crate) trainer: Address,
    /// What is false.
    pub(crate) lie: Lie,
    /// Whether its trainer signed it. The aggregator, in whose result it counts, always did.
    pub(crate) signed: bool,
    /// Whether the contract can be shown it with what is here: the sums are true, and what follows
    /// from them is not what was said.
    pub(crate) provable: bool,
}

/// Checks one update by its delta, which was encoded by `codec` if there is one. `Ok(None)` if all that was said is true.
///
/// # Errors
/// If the file cannot be read, is no delta, or is not the one that the header names.
pub(crate) fn check_delta(
    record: &RoundRecord,
    context: &RoundContext,
    slot: usize,
    path: &Path,
    codec: Option<Codec>,
) -> anyhow::Result<Option<Finding>> {
    let Some(entry) = record.dossier.updates.get(slot) else {
        anyhow::bail!("there is no update {slot}");
    };
    let header = &entry.update.header;
    if hash_of(path)? != header.delta {
        anyhow::bail!("{} is another file than its name says", path.display());
    }
    let file = Delta::open(path, codec)?;
    let lie = lie_of(
        entry,
        &file,
        &record.dossier.seed,
        record.dossier.clip_norm,
        context,
    )?;
    Ok(lie.map(|(lie, provable)| Finding {
        slot,
        trainer: entry.update.trainer,
        lie,
        signed: matches!(lie, Lie::Root | Lie::Norm) || entry.claim.is_some(),
        provable,
    }))
}

/// The first lie, and whether the contract can be shown it.
fn lie_of(
    entry: &RecordedUpdate,
    file: &Delta,
    seed: &Digest,
    clip: Norm,
    context: &RoundContext,
) -> Result<Option<(Lie, bool)>, SketchError> {
    let header = &entry.update.header;
    let Ok(stats) = measure(file)? else {
        return Ok(Some((Lie::Norm, false)));
    };
    if stats.root != header.delta_root {
        return Ok(Some((Lie::Root, false)));
    }
    let Some(said) = &entry.sketched else {
        return Ok(None);
    };
    let true_one = sketch(file, seed, clip)?;
    let has_true_sums = true_one.sums_root == said.sums_root;
    let (told, actual) = (header.delta_norm.value(), stats.norm.value());
    if (told - actual).abs() > NORM_TOLERANCE * actual {
        let under = is_under_declared(true_one.sums.energy, header.delta_norm, clip);
        return Ok(Some((Lie::Norm, under && has_true_sums)));
    }
    if !has_true_sums {
        return Ok(Some((Lie::Sums, false)));
    }
    let expected = quantize(&true_one.sums, header.delta_norm, clip);
    let commitment = Commitment::of(&expected.0, entry.update.trainer, context);
    let is_true = expected == said.sketch && commitment.0 == said.commitment.0;
    Ok((!is_true).then_some((Lie::Sketch, true)))
}

/// BLAKE3 of a file, read in pieces.
pub(crate) fn hash_of(path: &Path) -> std::io::Result<BlobHash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(std::fs::File::open(path)?)?;
    Ok(BlobHash(*hasher.finalize().as_bytes()))
}
