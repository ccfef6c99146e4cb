//! How a node comes by a checkpoint: whole, or as a patch of the one before, which it has.

use convoke_compress::{Codec, CompressError, EncodedFile, patch};
use convoke_protocol::ids::BlobHash;
use convoke_protocol::message::RoundReport;
use convoke_sketch::TensorFile;
use convoke_transport::{BlobStore, Connection, TransportError};

use crate::link::LinkHandle;

/// Largest checkpoint that is fetched, in bytes.
const CHECKPOINT_BYTES_MAX: u64 = 64 << 30;

/// A checkpoint, and how to make it of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patch {
    /// What it makes.
    checkpoint: BlobHash,
    /// Of what.
    from: BlobHash,
    /// The encoded difference.
    blob: BlobHash,
}

/// The patch of the newest checkpoint, as the rounds' reports tell of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Patches {
    latest: Option<Patch>,
}

impl Patches {
    /// Learns of a round's checkpoint. Gives the one that no patch is made of any more.
    pub fn learn(&mut self, report: &RoundReport) -> Option<BlobHash> {
        let patch = report.broadcast.as_deref().map(|broadcast| Patch {
            checkpoint: report.checkpoint,
            from: report.base,
            blob: broadcast.patch,
        });
        let before = std::mem::replace(&mut self.latest, patch);
        match patch {
            None => Some(report.base),
            Some(patch) => before
                .map(|before| before.from)
                .filter(|from| *from != patch.from),
        }
    }

    /// How to make this checkpoint, if that is known.
    #[must_use]
    pub fn of(&self, checkpoint: &BlobHash) -> Option<Patch> {
        self.latest.filter(|patch| patch.checkpoint == *checkpoint)
    }
}

/// Brings a checkpoint among the blobs, unless it is there: by its patch if the node has what that
/// is made of, else whole.
///
/// # Errors
/// [`TransportError`] if it does not arrive, or our disk fails.
pub async fn fetch_checkpoint(
    handle: &LinkHandle,
    blobs: &BlobStore,
    checkpoint: &BlobHash,
    patch: Option<Patch>,
    codec: Option<Codec>,
) -> Result<(), TransportError> {
    if blobs.contains(checkpoint) {
        return Ok(());
    }
    let connection = handle.connection().await.ok_or(TransportError::Closed)?;
    if let (Some(patch), Some(codec)) = (patch, codec)
        && blobs.contains(&patch.from)
    {
        match by_patch(&connection, blobs, patch, codec).await {
            Ok(()) => return Ok(()),
            Err(error) => tracing::info!(%error, "the checkpoint is fetched whole"),
        }
    }
    connection
        .fetch_blob(checkpoint, CHECKPOINT_BYTES_MAX, blobs, |_| {})
        .await
}

/// Why a patch was of no use.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error(transparent)]
    Compress(#[from] CompressError),
    #[error("the patch makes {0}, another checkpoint")]
    Another(BlobHash),
    #[error("the patching thread died: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

async fn by_patch(
    connection: &Connection,
    blobs: &BlobStore,
    patch: Patch,
    codec: Codec,
) -> Result<(), Unusable> {
    let from = TensorFile::open(&blobs.path(&patch.from)).map_err(CompressError::from)?;
    let bytes = codec.encoded_bytes(from.layout().values());
    connection
        .fetch_blob(&patch.blob, bytes, blobs, |_| {})
        .await?;
    let blobs = blobs.clone();
    tokio::task::spawn_blocking(move || {
        let made = make(&blobs, &from, &patch, codec);
        blobs.remove(&patch.blob)?;
        made
    })
    .await?
}

/// Applies a patch that has arrived. What it makes stays only if it is the checkpoint.
fn make(blobs: &BlobStore, from: &TensorFile, patch: &Patch, codec: Codec) -> Result<(), Unusable> {
    let encoded = EncodedFile::open(&blobs.path(&patch.blob), codec)?;
    let made = blobs
        .insert_written(|file| patch::apply(from, &encoded, file).map_err(Unusable::Compress))?;
    if made != patch.checkpoint {
        blobs.remove(&made)?;
        return Err(Unusable::Another(made));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use convoke_protocol::ids::RoundId;
    use convoke_protocol::message::Broadcast;
    use convoke_protocol::task::CodecKind;

    use super::*;

    fn report(round: u8, patch: Option<u8>) -> RoundReport {
        RoundReport {
            round: RoundId(u32::from(round)),
            base: BlobHash([round; 32]),
            checkpoint: BlobHash([round + 1; 32]),
            states: Vec::new(),
            control: None,
            broadcast: patch.map(|patch| {
                Box::new(Broadcast {
                    patch: BlobHash([patch; 32]),
                    exact: BlobHash([0; 32]),
                })
            }),
            record: None,
            base_loss_micros: 0,
            base_accuracy_ppm: 0,
            kept: Vec::new(),
            refused: Vec::new(),
            absent: Vec::new(),
            validators: Vec::new(),
        }
    }

    #[test]
    fn a_base_stays_as_long_as_a_patch_is_made_of_it() {
        let mut patches = Patches::default();
        assert_eq!(patches.learn(&report(1, None)), Some(BlobHash([1; 32])));
        assert_eq!(patches.of(&BlobHash([2; 32])), None);
        assert_eq!(patches.learn(&report(2, Some(50))), None);
        assert!(patches.of(&BlobHash([3; 32])).is_some());
        // The same round again, after a retry.
        assert_eq!(patches.learn(&report(2, Some(51))), None);
        assert_eq!(patches.learn(&report(3, Some(60))), Some(BlobHash([2; 32])));
        assert_eq!(patches.of(&BlobHash([3; 32])), None);
    }

    #[test]
    fn what_a_patch_makes_is_kept_only_if_it_is_the_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(folder.path()).unwrap();
        let codec = Codec::new(CodecKind::Int8, 10_000).unwrap();
        let model = |values: &[f32]| {
            let json = br#"{"w":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}"#;
            let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
            bytes.extend(json);
            bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
            bytes
        };
        let from = blobs.insert_bytes(&model(&[1.0, 2.0, 3.0])).unwrap();
        let step = codec.encode(&[127.0, -127.0, 64.0]);
        let mut patch = Patch {
            checkpoint: BlobHash::of(&model(&[128.0, -125.0, 67.0])),
            from,
            blob: blobs.insert_bytes(&step).unwrap(),
        };
        let file = TensorFile::open(&blobs.path(&from)).unwrap();
        make(&blobs, &file, &patch, codec).unwrap();
        assert!(blobs.contains(&patch.checkpoint));
        let made = std::mem::replace(&mut patch.checkpoint, BlobHash([9; 32]));
        let error = make(&blobs, &file, &patch, codec).unwrap_err();
        assert!(matches!(error, Unusable::Another(got) if got == made));
        assert!(!blobs.contains(&made));
        patch.blob = blobs.insert_bytes(&step[1..]).unwrap();
        let error = make(&blobs, &file, &patch, codec).unwrap_err();
        assert!(matches!(error, Unusable::Compress(_)), "{error}");
    }
}
