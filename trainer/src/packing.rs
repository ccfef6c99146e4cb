//! From a delta to the blob that is announced.

use convoke_compress::Codec;
use convoke_models::Parameters;
use convoke_node::StateDir;
use convoke_protocol::assignment::Start;
use convoke_protocol::ids::BlobHash;
use convoke_protocol::task::CompressionSpec;
use convoke_sketch::{DeltaStats, measure};
use convoke_transport::BlobStore;

use crate::error::TrainerError;
use crate::feedback;
use crate::sketching::{self, UNMEASURED};

/// How a task's deltas are sent, and its checkpoints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packing {
    /// None sends them as they are.
    pub(crate) codec: Option<Codec>,
    /// Of the patches that make checkpoints.
    pub(crate) checkpoint: Option<Codec>,
    error_feedback: bool,
}

/// A delta among the blobs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) delta: BlobHash,
    pub(crate) bytes: u64,
    /// Of what the aggregator will decode.
    pub(crate) stats: DeltaStats,
}

impl Packing {
    pub(crate) fn of(spec: &CompressionSpec) -> Self {
        Self {
            codec: Codec::of_updates(spec),
            checkpoint: Codec::of_checkpoints(spec),
            error_feedback: spec.error_feedback,
        }
    }

    /// Puts a delta, the work on which `began` there, among the blobs, durably.
    ///
    /// # Errors
    /// If our disk fails.
    pub(crate) fn pack(
        self,
        began: Start,
        mut delta: Parameters,
        state: &StateDir,
        blobs: &BlobStore,
    ) -> Result<Packed, TrainerError> {
        let Some(codec) = self.codec else {
            let bytes = delta.to_safetensors();
            let delta = blobs.insert_bytes(&bytes)?;
            return Ok(Packed {
                delta,
                bytes: bytes.len() as u64,
                stats: sketching::stats(blobs, &delta, None)?,
            });
        };
        let target = delta.values_mut();
        if self.error_feedback {
            feedback::add(state, began, target)?;
        }
        let bytes = codec.encode(target);
        let mut sent = vec![0.0; target.len()];
        let stats = match codec.decode(&bytes, &mut sent) {
            Ok(()) => {
                for (value, sent) in target.iter_mut().zip(&sent) {
                    *value -= sent;
                }
                if self.error_feedback {
                    feedback::keep(state, began, target)?;
                }
                measure(&sent[..])?.unwrap_or(UNMEASURED)
            }
            // Values are not finite. Nothing of them must be left for later rounds.
            Err(error) => {
                tracing::warn!(%error, "this delta will be refused");
                UNMEASURED
            }
        };
        Ok(Packed {
            delta: blobs.insert_bytes(&bytes)?,
            bytes: bytes.len() as u64,
            stats,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use convoke_protocol::ids::RoundId;

    use convoke_compress::Delta;
    use convoke_models::TensorSpec;
    use convoke_protocol::task::CodecKind;
    use convoke_sketch::{ChunkBuffer, Source};

    use super::*;

    const VALUES: usize = 5_000;
    const START: Start = Start {
        round: RoundId(1),
        base: BlobHash([1; 32]),
    };

    fn delta(values: Vec<f32>) -> Parameters {
        let layout = TensorSpec {
            name: "w".into(),
            shape: vec![VALUES],
        };
        Parameters::new(vec![layout], values).unwrap()
    }

    fn ramp() -> Vec<f32> {
        (0..VALUES).map(|i| (i as f32 - 2_500.0) / 1e4).collect()
    }

    fn spec(update: CodecKind) -> CompressionSpec {
        CompressionSpec {
            update,
            ..CompressionSpec::default()
        }
    }

    fn values(blobs: &BlobStore, packed: &Packed, packing: Packing) -> Vec<f32> {
        let file = Delta::open(&blobs.path(&packed.delta), packing.codec).unwrap();
        let mut buffer = ChunkBuffer::default();
        file.get(0..VALUES as u64, &mut buffer).unwrap().to_vec()
    }

    #[test]
    fn what_is_signed_is_what_will_be_decoded() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        let blobs = BlobStore::open(&folder.path().join("blobs")).unwrap();
        for (kind, bytes) in [
            (CodecKind::None, None),
            (CodecKind::Bf16, Some(24 + 2 * VALUES as u64)),
            (CodecKind::TopK, Some(24 + 4 * (41 + 10))),
        ] {
            let packing = Packing::of(&spec(kind));
            let packed = packing.pack(START, delta(ramp()), &state, &blobs);
            let packed = packed.unwrap();
            let decoded = values(&blobs, &packed, packing);
            assert_eq!(packed.stats, measure(&decoded[..]).unwrap().unwrap());
            assert_eq!(
                packed.stats,
                sketching::stats(&blobs, &packed.delta, packing.codec).unwrap()
            );
            assert_eq!(blobs.len(&packed.delta), Some(packed.bytes));
            assert!(bytes.is_none_or(|bytes| bytes == packed.bytes));
        }
    }

    #[test]
    fn a_delta_that_is_packed_again_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        let blobs = BlobStore::open(&folder.path().join("blobs")).unwrap();
        let packing = Packing::of(&spec(CodecKind::DctSign));
        let pack = || packing.pack(START, delta(ramp()), &state, &blobs);
        assert_eq!(pack().unwrap(), pack().unwrap());
    }

    #[test]
    fn values_that_are_not_finite_leave_no_residual() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        let blobs = BlobStore::open(&folder.path().join("blobs")).unwrap();
        let packing = Packing::of(&spec(CodecKind::TopK));
        let mut broken = delta(ramp());
        broken.values_mut()[7] = f32::NAN;
        let packed = packing.pack(START, broken, &state, &blobs);
        assert_eq!(packed.unwrap().stats, UNMEASURED);
        assert!(!state.path().join("feedback.json").exists());
    }
}
