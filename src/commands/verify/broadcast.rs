//! The checkpoint that everybody has, against the exact model that the step led to.

use std::path::Path;

use convoke_compress::{Codec, CompressError, EncodedFile, patch};
use convoke_protocol::ids::{BlobHash, RoundId};
use convoke_protocol::record::{BroadcastRecord, RoundRecord};
use convoke_sketch::TensorFile;

use super::report::Check;

const NAME: &str = "patch";

/// The blobs that this check needs.
pub(crate) fn blobs_of(record: &RoundRecord) -> Vec<BlobHash> {
    let of = |b: BroadcastRecord| vec![record.base, b.sent.exact, b.sent.patch];
    record.broadcast.map(of).unwrap_or_default()
}

/// Checks that the checkpoint is the base and what the task's codec leaves of exact − base. None if
/// checkpoints of this task travel whole. `file` tells where blobs are that could be had.
pub(crate) fn check_broadcast<'a>(
    record: &RoundRecord,
    codec: Option<Codec>,
    file: impl Fn(&BlobHash) -> Option<&'a Path>,
) -> Option<Check> {
    let (codec, sent) = match (codec, record.broadcast) {
        (None, None) => return None,
        (Some(codec), Some(sent)) => (codec, sent),
        (Some(_), None) if record.checkpoint == record.base => {
            return Some(Check::holds(NAME, "nothing changed, so there is none"));
        }
        (Some(_), None) => {
            let why = "the task wants checkpoints encoded, this one is not";
            return Some(Check::fails(NAME, why));
        }
        (None, Some(_)) => {
            let why = "the task wants checkpoints whole, this one is encoded";
            return Some(Check::fails(NAME, why));
        }
    };
    if record.round == RoundId::FIRST && sent.exact_before != record.base {
        let why = "before the first step the exact model is the base";
        return Some(Check::fails(NAME, why));
    }
    let files = [record.base, sent.sent.exact, sent.sent.patch].map(|blob| file(&blob));
    let [Some(base), Some(exact), Some(patch)] = files else {
        let why = "base, exact model or patch are not to be had";
        return Some(Check::not_checkable(NAME, why));
    };
    let good = format!(
        "is what the codec makes of the difference; the round before must have led to {}",
        sent.exact_before
    );
    let found = compare(record, &sent, codec, base, exact, patch);
    Some(Check::of(
        NAME,
        good,
        found.unwrap_or_else(|error| Err(error.to_string())),
    ))
}

fn compare(
    record: &RoundRecord,
    sent: &BroadcastRecord,
    codec: Codec,
    base: &Path,
    exact: &Path,
    patch: &Path,
) -> Result<Result<(), String>, CompressError> {
    let base = TensorFile::open(base)?;
    let exact = TensorFile::open_like(exact, base.layout())?;
    let mut hasher = blake3::Hasher::new();
    patch::make(codec, &base, &exact, &mut hasher)?;
    if BlobHash(*hasher.finalize().as_bytes()) != sent.sent.patch {
        return Ok(Err("is not what the codec makes of the difference".into()));
    }
    let mut hasher = blake3::Hasher::new();
    patch::apply(&base, &EncodedFile::open(patch, codec)?, &mut hasher)?;
    let made = BlobHash(*hasher.finalize().as_bytes());
    Ok(match made == record.checkpoint {
        true => Ok(()),
        false => Err(format!(
            "makes {made}, the checkpoint is {}",
            record.checkpoint
        )),
    })
}
