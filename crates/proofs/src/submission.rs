//! The bytes `proof` that a round is settled with.
//!
//! | bytes | are |
//! |---|---|
//! | 0 to 288 | points and h: [`Proof::to_bytes`] |
//! | 288 to 292 | bits of the clipping norm, big endian |
//! | 292 to 294 | how many of the updates trainers committed to themselves, big endian |
//! | then, for each update | trainer 20, hash of the update's header 32, commitment to its sketch 32, root of its sums 32 |
//!
//! Updates are in the order in which they were committed to: the aggregator's, then the trainers'
//! own. A commitment of zero says that the update was refused before its sketch counted: its slot
//! is not active, and nothing is paid to it.

use convoke_protocol::ids::{Address, Digest};
use convoke_protocol::sketch::Norm;

use crate::error::ProofError;
use crate::proof::{PROOF_BYTES, Proof};
use crate::public_data::Commitment;
use crate::size::Size;

/// Bytes of one update in a submission.
pub const ENTRY_BYTES: usize = 116;

/// Bytes before the updates.
pub const HEAD_BYTES: usize = PROOF_BYTES + 6;

/// No submission is longer.
pub const SUBMISSION_BYTES_MAX: usize = HEAD_BYTES + Size::SLOTS_MAX * ENTRY_BYTES;

/// A proof with what it is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Submission {
    /// Points and h.
    pub proof: Proof,
    /// What the proof is about, apart from the chain's own statement.
    pub claim: RoundClaim,
}

/// What an aggregator says of a round's updates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundClaim {
    /// Bits of the norm that sketches were clipped to. Taken as they come, as the contract does;
    /// [`Norm::from_bits`] says whether they are of a norm.
    pub clip_norm_bits: u32,
    /// How many of the updates, the last ones, trainers committed to themselves.
    pub own: u16,
    /// In the order of commitment.
    pub updates: Vec<ClaimedUpdate>,
}

/// One update of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimedUpdate {
    /// Whose it is.
    pub trainer: Address,
    /// Hash of its header, which was committed to before the seed.
    pub update: Digest,
    /// Commitment to its sketch; [`Commitment::NONE`] if the slot is not active.
    pub commitment: Commitment,
    /// Root of the tree over the sketch's sums; zero if the slot is not active.
    pub sums_root: Digest,
}

impl ClaimedUpdate {
    /// Whether it takes part.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.commitment != Commitment::NONE
    }
}

impl RoundClaim {
    /// The norm that sketches were clipped to; `None` if the bits are of none.
    #[must_use]
    pub fn clip_norm(&self) -> Option<Norm> {
        Norm::from_bits(self.clip_norm_bits)
    }

    /// The updates that the aggregator committed to, and those that trainers did themselves.
    ///
    /// # Errors
    /// [`ProofError::TooManyOwn`].
    pub fn split(&self) -> Result<[Vec<(Address, Digest)>; 2], ProofError> {
        let count = self.updates.len();
        let at = count.checked_sub(usize::from(self.own));
        let at = at.ok_or(ProofError::TooManyOwn {
            own: self.own,
            updates: count,
        })?;
        let (first, own) = self.updates.split_at(at);
        let pair = |u: &ClaimedUpdate| (u.trainer, u.update);
        Ok([first, own].map(|updates| updates.iter().map(pair).collect()))
    }

    /// All of a submission but the points and h.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(6 + self.updates.len() * ENTRY_BYTES);
        bytes.extend(self.clip_norm_bits.to_be_bytes());
        bytes.extend(self.own.to_be_bytes());
        for update in &self.updates {
            bytes.extend(update.trainer.0);
            bytes.extend(update.update.0);
            bytes.extend(update.commitment.0);
            bytes.extend(update.sums_root.0);
        }
        bytes
    }

    /// Reads what [`Self::encode`] wrote, and nothing else.
    fn decode(tail: &[u8]) -> Option<Self> {
        let (clip_norm, tail) = tail.split_first_chunk::<4>()?;
        let (own, tail) = tail.split_first_chunk::<2>()?;
        let (entries, rest) = tail.as_chunks::<ENTRY_BYTES>();
        (rest.is_empty() && entries.len() <= Size::SLOTS_MAX).then_some(Self {
            clip_norm_bits: u32::from_be_bytes(*clip_norm),
            own: u16::from_be_bytes(*own),
            updates: entries.iter().filter_map(decode_entry).collect(),
        })
    }
}

impl Submission {
    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [&self.proof.to_bytes()[..], &self.claim.encode()].concat()
    }

    /// Reads untrusted bytes. The points are found to be on their curves and every number to be in
    /// its range; nothing is said of whether the proof holds. There is one encoding of each
    /// submission.
    ///
    /// # Errors
    /// [`ProofError::SubmissionLength`], or what is wrong with the points.
    pub fn decode(bytes: &[u8]) -> Result<Self, ProofError> {
        let length = ProofError::SubmissionLength { got: bytes.len() };
        let Some((points, tail)) = bytes.split_first_chunk::<PROOF_BYTES>() else {
            return Err(length);
        };
        let claim = RoundClaim::decode(tail).ok_or(length)?;
        Ok(Self {
            proof: Proof::from_bytes(points)?,
            claim,
        })
    }
}

/// `None` never: the parts add up to the whole.
fn decode_entry(entry: &[u8; ENTRY_BYTES]) -> Option<ClaimedUpdate> {
    let (trainer, rest) = entry.split_first_chunk::<20>()?;
    let ([update, commitment, sums_root], []) = rest.as_chunks::<32>() else {
        return None;
    };
    Some(ClaimedUpdate {
        trainer: Address(*trainer),
        update: Digest(*update),
        commitment: Commitment(*commitment),
        sums_root: Digest(*sums_root),
    })
}
