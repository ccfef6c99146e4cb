//! Openings of one chunk: the evidence by which a contract sees that sums or a sketch are false.
//!
//! Two trees are committed to: over the delta's chunks (before the seed is drawn) and over the
//! sums of chunks 0 to c for every c (after it). Whoever has the delta can show chunk c with the
//! sums before and after it. If the sums after are not those before plus the projection of the
//! chunk, or if the last sums do not give the sketch that was committed to, whoever signed the
//! trees lied. If any of the sums is false there is a first false one, and its opening shows it.

use convoke_protocol::ids::Digest;
use convoke_protocol::payout::verify_proof;
use convoke_protocol::sketch::{CHUNK_VALUES, Norm, chunk_leaf, sums_leaf};
use ruint::aliases::U256;

use crate::fixed_point::Scale;
use crate::kernel::{ChunkSums, ChunkTask, SKETCH_LEN};
pub use crate::opener::{Opener, SumsTree};
use crate::signs::ChunkSigns;
use crate::sketch::{Sketch, energy_exceeds, quantize};
use crate::sums::{SUMS_BYTES, Sums};

/// One chunk with the sums before and after it, each with its Merkle proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// The chunk's index, from 0.
    pub index: u64,
    /// Number of chunks.
    pub count: u64,
    /// The chunk, against the delta's root.
    pub chunk: OpenedChunk,
    /// The sums after chunk `index` − 1, against the sums' root; none of chunk 0.
    pub before: Option<OpenedSums>,
    /// The sums after this chunk, against the sums' root.
    pub after: OpenedSums,
}

/// A chunk's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedChunk {
    /// As in the file: f32, little endian.
    pub bytes: Vec<u8>,
    /// Siblings of its leaf, lowest first.
    pub proof: Vec<Digest>,
}

/// Sums as somebody claims them, which may be those of no delta.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedSums {
    /// As [`Sums::to_bytes`] writes them.
    pub bytes: Box<[u8; SUMS_BYTES]>,
    /// Siblings of their leaf, lowest first.
    pub proof: Vec<Digest>,
}

/// What an opening is held against: fields of a signed header and of a signed claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claimed {
    /// Root over the delta's chunks, from the header.
    pub delta_root: Digest,
    /// The delta's norm, from the header.
    pub norm: Norm,
    /// The round's seed.
    pub seed: Digest,
    /// The round's clipping norm.
    pub clip: Norm,
    /// Root over the sums.
    pub sums_root: Digest,
    /// Commitment to the sketch.
    pub commitment: Digest,
}

/// What an opening shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing false in this place.
    Honest,
    /// Whoever signed the claim lied.
    Fault(Fault),
}

/// What was false.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The sums after are not those before plus the chunk's projection.
    Step,
    /// The commitment is not to the sketch that the last sums give.
    Sketch,
    /// The delta is larger than its header says.
    Norm,
}

/// Why an opening says nothing: a contract refuses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadOpening {
    /// There is no such chunk, or a first one with sums before it, or a later one without.
    #[error("the opening is not of one chunk among those of a delta")]
    Place,
    /// The chunk is longer or shorter than one in this place can be.
    #[error("a chunk of {0} bytes cannot be in this place")]
    Length(usize),
    /// The chunk is not in the delta's tree.
    #[error("the chunk is not in the tree of the header")]
    Chunk,
    /// The sums are not in the claim's tree.
    #[error("the sums are not in the tree of the claim")]
    Sums,
}

/// Checks an opening as the contract does. `commit` gives the commitment to a sketch by the
/// trainer in question. Of several faults the first in the order of [`Fault`] is named.
///
/// # Errors
/// [`BadOpening`] if it is not an opening of what was signed.
pub fn check(
    opening: &Opening,
    claimed: &Claimed,
    commit: impl FnOnce(&Sketch) -> Digest,
) -> Result<Verdict, BadOpening> {
    let Opening { index, count, .. } = *opening;
    if index >= count || opening.before.is_some() != (index > 0) {
        return Err(BadOpening::Place);
    }
    let values = chunk_values(&opening.chunk.bytes, index + 1 == count)?;
    let leaf = chunk_leaf(index, count, &opening.chunk.bytes);
    if !verify_proof(&claimed.delta_root, &leaf, &opening.chunk.proof) {
        return Err(BadOpening::Chunk);
    }
    let open = |index: u64, sums: &OpenedSums| {
        let leaf = sums_leaf(index, count, &*sums.bytes);
        verify_proof(&claimed.sums_root, &leaf, &sums.proof)
            .then(|| WideSums::of(&sums.bytes))
            .ok_or(BadOpening::Sums)
    };
    let mut expected = match &opening.before {
        Some(before) => open(index - 1, before)?,
        None => WideSums::of(&Sums::ZERO.to_bytes()),
    };
    let after = open(index, &opening.after)?;
    for signs in ChunkSigns::of_chunks(&claimed.seed, index..index + 1) {
        let scale = Scale::of(claimed.clip);
        expected.add(
            &ChunkTask {
                values: &values,
                signs,
                scale,
            }
            .run(),
        );
    }
    if expected != after {
        return Ok(Verdict::Fault(Fault::Step));
    }
    if index + 1 < count {
        return Ok(Verdict::Honest);
    }
    let lanes = after.lanes.map(|lane| lane as i64);
    let sketch = quantize(&Sums { lanes, energy: 0 }, claimed.norm, claimed.clip);
    Ok(if commit(&sketch) != claimed.commitment {
        Verdict::Fault(Fault::Sketch)
    } else if energy_exceeds(after.energy, claimed.norm, claimed.clip) {
        Verdict::Fault(Fault::Norm)
    } else {
        Verdict::Honest
    })
}

/// The values of a chunk's bytes, if there may be so many in this place.
fn chunk_values(bytes: &[u8], is_last: bool) -> Result<Vec<f32>, BadOpening> {
    let (words, rest) = bytes.as_chunks::<4>();
    let right = rest.is_empty()
        && match is_last {
            true => (1..=CHUNK_VALUES).contains(&words.len()),
            false => words.len() == CHUNK_VALUES,
        };
    if !right {
        return Err(BadOpening::Length(bytes.len()));
    }
    Ok(words.iter().map(|word| f32::from_le_bytes(*word)).collect())
}

/// Any sums that can be claimed, with room for one more chunk.
#[derive(PartialEq, Eq)]
struct WideSums {
    lanes: [i128; SKETCH_LEN],
    energy: U256,
}

impl WideSums {
    fn of(bytes: &[u8; SUMS_BYTES]) -> Self {
        let (lanes, energy) = bytes.split_at(8 * SKETCH_LEN);
        let mut wide = Self {
            lanes: [0; SKETCH_LEN],
            energy: U256::from_be_slice(energy),
        };
        for (lane, bytes) in wide.lanes.iter_mut().zip(lanes.as_chunks::<8>().0) {
            *lane = i64::from_be_bytes(*bytes).into();
        }
        wide
    }

    fn add(&mut self, chunk: &ChunkSums) {
        for (sum, lane) in self.lanes.iter_mut().zip(&chunk.lanes) {
            *sum += i128::from(*lane);
        }
        // Beyond 2²⁵⁶ it is a fault with or without the carry: before that there was a first
        // false one.
        self.energy = self.energy.wrapping_add(U256::from(chunk.energy));
    }
}

/// The first place where two lists of sums differ; the shorter one's end if one goes on.
#[must_use]
pub fn first_fault(own: &[Sums], claimed: &[Sums]) -> Option<u64> {
    let differs = own
        .iter()
        .zip(claimed)
        .position(|(own, claimed)| own != claimed);
    let ends = (own.len() != claimed.len()).then(|| own.len().min(claimed.len()));
    differs.or(ends).map(|index| index as u64)
}

/// Finds a false sum that follows a true one (or is the first), from one that is known to be
/// false, with ⌈log₂⌉ questions: `is_false(c)` is asked of sums that only the other side has.
///
/// # Errors
/// Those of `is_false`.
pub fn bisect<E>(
    known_false: u64,
    mut is_false: impl FnMut(u64) -> Result<bool, E>,
) -> Result<u64, E> {
    // All sums are true before chunk `low`, in that the one just before it is.
    let (mut low, mut high) = (0, known_false);
    while low < high {
        let middle = low + (high - low) / 2;
        if is_false(middle)? {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Ok(low)
}
