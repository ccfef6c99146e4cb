//! What a trainer says of its delta: its measures before the seed is known, its sketch afterwards.

use convoke_compress::{Codec, Delta};
use convoke_proofs::public_data::{Commitment, RoundContext};
use convoke_protocol::ids::{BlobHash, Digest, RoundId};
use convoke_protocol::payout::PayoutDomain;
use convoke_protocol::sketch::{Norm, SketchClaim};
use convoke_protocol::update::SignedUpdate;
use convoke_sketch::{DeltaStats, measure, quantize, sketch};
use convoke_transport::BlobStore;

use crate::error::TrainerError;

/// What the aggregator asks about once the seed is drawn.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    /// The round.
    pub round: RoundId,
    /// The attempt on chain.
    pub attempt: u16,
    /// The seed, as the chain has it.
    pub seed: Digest,
    /// The round's clipping norm.
    pub clip_norm: Norm,
}

/// What is said of a delta with values that are not finite: the aggregator refuses it whatever its
/// header says.
pub const UNMEASURED: DeltaStats = DeltaStats {
    norm: Norm::ZERO,
    root: Digest::ZERO,
};

/// Norm and root of a delta among the blobs, which was encoded by `codec` if there is one; or
/// [`UNMEASURED`].
///
/// # Errors
/// [`TrainerError::Compress`] or [`TrainerError::Sketch`] if it cannot be read.
pub fn stats(
    blobs: &BlobStore,
    delta: &BlobHash,
    codec: Option<Codec>,
) -> Result<DeltaStats, TrainerError> {
    let file = Delta::open(&blobs.path(delta), codec)?;
    Ok(measure(&file)?.unwrap_or(UNMEASURED))
}

/// The claim about the sketch of an update, whose delta is among the blobs, encoded by `codec` if
/// there is one. One pass over it.
///
/// # Errors
/// [`TrainerError::Compress`] or [`TrainerError::Sketch`] if it cannot be read.
pub fn claim(
    blobs: &BlobStore,
    codec: Option<Codec>,
    domain: &PayoutDomain,
    update: &SignedUpdate,
    question: &Question,
) -> Result<SketchClaim, TrainerError> {
    let header = &update.header;
    let file = Delta::open(&blobs.path(&header.delta), codec)?;
    let projected = sketch(&file, &question.seed, question.clip_norm)?;
    let values = quantize(&projected.sums, header.delta_norm, question.clip_norm);
    let context = RoundContext {
        chain_id: domain.chain_id,
        contract: domain.contract,
        task: header.task,
        round: question.round,
        attempt: question.attempt,
        seed: question.seed,
    };
    Ok(SketchClaim {
        task: header.task,
        round: question.round,
        attempt: question.attempt,
        update: header.struct_hash(),
        seed: question.seed,
        clip_norm: question.clip_norm,
        commitment: Digest(Commitment::of(&values.0, update.trainer, &context).0),
        sums_root: projected.sums_root,
    })
}
