//! Making openings: by whoever has the delta, or all of the sums.

use convoke_protocol::ids::Digest;
use convoke_protocol::payout::MerkleTree;
use convoke_protocol::sketch::{CHUNK_VALUES, Norm, chunk_leaf, sums_leaf};
use rayon::prelude::*;

use crate::error::SketchError;
use crate::opening::{OpenedChunk, OpenedSums, Opening};
use crate::projection::{GROUP_CHUNKS, chunk_count, for_each_group, project_range};
use crate::source::Source;
use crate::sums::Sums;
use crate::tensor_file::{ChunkBuffer, chunk_range, file_bytes};

/// A delta made ready for opening: both trees, 64 bytes a chunk and as much again for their inner
/// nodes, and the sums after every 1,024th chunk, from which those between are computed again.
#[derive(Debug)]
pub struct Opener<'a, S: ?Sized> {
    source: &'a S,
    seed: Digest,
    clip: Norm,
    count: u64,
    delta: MerkleTree,
    sums: MerkleTree,
    /// The sums before chunks 0, 1,024, 2,048 and so on.
    milestones: Vec<Sums>,
    total: Sums,
}

impl<'a, S: Source + ?Sized> Opener<'a, S> {
    /// Reads the delta twice, in parallel.
    ///
    /// # Errors
    /// If it cannot be read or is too long.
    pub fn new(source: &'a S, seed: &Digest, clip: Norm) -> Result<Self, SketchError> {
        let count = chunk_count(source.count());
        let (mut leaves, mut milestones) = (Vec::new(), vec![Sums::ZERO]);
        let total = for_each_group(
            source,
            seed,
            clip,
            |leaves, sums| (leaves, sums),
            |(group, sums)| {
                leaves.extend(group);
                if (leaves.len() as u64).is_multiple_of(MILESTONE_CHUNKS) {
                    milestones.push(sums);
                }
            },
        )?;
        let chunk_leaves =
            (0..count)
                .into_par_iter()
                .map_init(ChunkBuffer::default, |buffer, index| {
                    let range = chunk_range(index, CHUNK_VALUES, source.count());
                    let values = source.get(range, buffer)?;
                    Ok(chunk_leaf(index, count, &file_bytes(values)))
                });
        let delta = MerkleTree::new(chunk_leaves.collect::<Result<_, SketchError>>()?);
        let (seed, sums) = (*seed, MerkleTree::new(leaves));
        Ok(Self {
            source,
            seed,
            clip,
            count,
            delta,
            sums,
            milestones,
            total,
        })
    }

    /// Number of chunks.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Root over the delta's chunks.
    #[must_use]
    pub fn delta_root(&self) -> Digest {
        self.delta.root()
    }

    /// Root over the sums.
    #[must_use]
    pub fn sums_root(&self) -> Digest {
        self.sums.root()
    }

    /// The sums over all chunks.
    #[must_use]
    pub fn total(&self) -> &Sums {
        &self.total
    }

    /// Opens chunk `index` with the true sums.
    ///
    /// # Errors
    /// [`SketchError::NoChunk`], or if the delta cannot be read.
    pub fn open(&self, index: u64) -> Result<Opening, SketchError> {
        let before = match index {
            0 => None,
            _ => Some(self.sums(index - 1)?),
        };
        self.open_claimed(index, before, self.sums(index)?)
    }

    /// Opens chunk `index` with sums that somebody else claims, and their proofs against that
    /// claim's root.
    ///
    /// # Errors
    /// [`SketchError::NoChunk`], or if the delta cannot be read.
    pub fn open_claimed(
        &self,
        index: u64,
        before: Option<OpenedSums>,
        after: OpenedSums,
    ) -> Result<Opening, SketchError> {
        let proof = self.proof(&self.delta, index)?;
        let mut buffer = ChunkBuffer::default();
        let range = chunk_range(index, CHUNK_VALUES, self.source.count());
        let bytes = file_bytes(self.source.get(range, &mut buffer)?).into_owned();
        let (count, chunk) = (self.count, OpenedChunk { bytes, proof });
        Ok(Opening {
            index,
            count,
            chunk,
            before,
            after,
        })
    }

    /// The true sums of chunks 0 to `index`, with their proof. Projects at most 1,024 chunks.
    ///
    /// # Errors
    /// [`SketchError::NoChunk`], or if the delta cannot be read.
    pub fn sums(&self, index: u64) -> Result<OpenedSums, SketchError> {
        let proof = self.proof(&self.sums, index)?;
        let milestone = self.milestones[(index / MILESTONE_CHUNKS) as usize];
        let first = index - index % MILESTONE_CHUNKS;
        let rest = project_range(self.source, &self.seed, self.clip, first..index + 1)?;
        let sums = milestone.plus(&rest);
        let bytes = Box::new(sums.to_bytes());
        Ok(OpenedSums { bytes, proof })
    }

    fn proof(&self, tree: &MerkleTree, index: u64) -> Result<Vec<Digest>, SketchError> {
        let proof = usize::try_from(index)
            .ok()
            .and_then(|index| tree.proof(index));
        let count = self.count;
        proof.ok_or(SketchError::NoChunk { index, count })
    }
}

/// How many chunks are projected again at most.
const MILESTONE_CHUNKS: u64 = 1_024;

const _: () = assert!(MILESTONE_CHUNKS.is_multiple_of(GROUP_CHUNKS));

/// The tree of sums that are all at hand: those of somebody who lied, say.
#[derive(Debug)]
pub struct SumsTree<'a> {
    sums: &'a [Sums],
    tree: MerkleTree,
}

impl<'a> SumsTree<'a> {
    /// Of the sums after each chunk, in order.
    #[must_use]
    pub fn new(sums: &'a [Sums]) -> Self {
        let count = sums.len() as u64;
        let leaf = |(index, sums): (u64, &Sums)| sums_leaf(index, count, &sums.to_bytes());
        let tree = MerkleTree::new((0..).zip(sums).map(leaf).collect());
        Self { sums, tree }
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.tree.root()
    }

    /// The sums after chunk `index` with their proof; `None` if there is no such chunk.
    #[must_use]
    pub fn open(&self, index: usize) -> Option<OpenedSums> {
        let bytes = Box::new(self.sums.get(index)?.to_bytes());
        let proof = self.tree.proof(index)?;
        Some(OpenedSums { bytes, proof })
    }
}
