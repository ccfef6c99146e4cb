//! Roots of [`MerkleTree`](convoke_protocol::payout::MerkleTree)s whose leaves come batch by
//! batch.

use convoke_protocol::abi;
use convoke_protocol::identity::keccak;
use convoke_protocol::ids::Digest;

use crate::keccak::{LANES, keccak4};

/// The root over batches' roots, in memory that grows with their logarithm. All batches but the
/// last must have the same number of leaves, a power of two: then each is a subtree of its own.
#[derive(Debug, Default)]
pub(crate) struct RootStream {
    /// Roots of whole subtrees, highest first, each with the number of batches under it.
    stack: Vec<(u64, Digest)>,
}

impl RootStream {
    pub(crate) fn push(&mut self, root: Digest) {
        let (mut batches, mut node) = (1, root);
        while let Some((_, left)) = self.stack.pop_if(|(size, _)| *size == batches) {
            node = pair(&left, &node);
            batches *= 2;
        }
        self.stack.push((batches, node));
    }

    /// The root, all zeros of nothing. What is left over moves up unchanged until it meets a
    /// whole subtree on its left.
    pub(crate) fn root(&self) -> Digest {
        let nodes = self.stack.iter().rev().map(|(_, node)| *node);
        nodes
            .reduce(|right, left| pair(&left, &right))
            .unwrap_or(Digest::ZERO)
    }
}

/// The root over leaves in memory; all zeros of none.
pub(crate) fn root(mut nodes: Vec<Digest>) -> Digest {
    while nodes.len() > 1 {
        let (pairs, odd) = nodes.as_chunks::<2>();
        let pairs: Vec<_> = pairs.iter().map(|[a, b]| ordered(a, b)).collect();
        let mut next = hash_all(&pairs);
        next.extend(odd);
        nodes = next;
    }
    nodes.first().copied().unwrap_or(Digest::ZERO)
}

/// Leaves of a tree of `count`, from number `first` on: as
/// [`chunk_leaf`](convoke_protocol::sketch::chunk_leaf) or
/// [`sums_leaf`](convoke_protocol::sketch::sums_leaf) for each, with the tag that they have.
pub(crate) fn leaves(
    tag: &str,
    first: u64,
    count: u64,
    contents: &[impl AsRef<[u8]>],
) -> Vec<Digest> {
    let (tag, count) = (abi::tag(tag), abi::number(count));
    let encode = |(index, hash): (u64, Digest)| [tag, abi::number(index), count, hash.0];
    let encoded: Vec<_> = (first..).zip(hash_all(contents)).map(encode).collect();
    let encoded: Vec<_> = encoded.iter().map(|words| words.as_flattened()).collect();
    let hashed = hash_all(&encoded);
    hash_all(&hashed.iter().map(|digest| digest.0).collect::<Vec<_>>())
}

pub(crate) const CHUNK_TAG: &str = "convoke.delta-chunk.v1";
pub(crate) const SUMS_TAG: &str = "convoke.sketch-sum.v1";

/// keccak256 of each message.
pub(crate) fn hash_all(messages: &[impl AsRef<[u8]>]) -> Vec<Digest> {
    let mut hashes = Vec::with_capacity(messages.len());
    for group in messages.chunks(LANES) {
        let message = |lane: usize| group[lane.min(group.len() - 1)].as_ref();
        let four = [0, 1, 2, 3].map(message);
        if four.iter().all(|message| message.len() == four[0].len()) {
            hashes.extend(&keccak4(four)[..group.len()]);
        } else {
            hashes.extend(group.iter().map(|message| keccak(&[message.as_ref()])));
        }
    }
    hashes
}

fn pair(a: &Digest, b: &Digest) -> Digest {
    keccak(&[&ordered(a, b)])
}

fn ordered(a: &Digest, b: &Digest) -> [u8; 64] {
    let (low, high) = if a <= b { (a, b) } else { (b, a) };
    let mut both = [0; 64];
    both[..32].copy_from_slice(&low.0);
    both[32..].copy_from_slice(&high.0);
    both
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use convoke_protocol::payout::MerkleTree;
    use convoke_protocol::sketch::{chunk_leaf, sums_leaf};

    use super::*;

    #[test]
    fn the_same_roots_as_of_a_tree_in_memory() {
        for count in (0..70).chain([127, 128, 129, 1_000]) {
            let leaves: Vec<_> = (0..count)
                .map(|i: u32| keccak(&[&i.to_le_bytes()]))
                .collect();
            let expected = MerkleTree::new(leaves.clone()).root();
            assert_eq!(root(leaves.clone()), expected, "{count}");
            for batch in [1, 2, 8, 64] {
                let mut stream = RootStream::default();
                for leaves in leaves.chunks(batch) {
                    stream.push(root(leaves.to_vec()));
                }
                assert_eq!(stream.root(), expected, "{count} leaves, {batch} a batch");
            }
        }
    }

    #[test]
    fn the_same_leaves_as_one_by_one() {
        for lengths in [
            vec![],
            vec![9],
            vec![8; 6],
            vec![300, 300, 300, 300, 300, 7],
        ] {
            let contents: Vec<_> = (1..).zip(lengths).map(|(i, n)| vec![i; n]).collect();
            for (tag, leaf) in [
                (CHUNK_TAG, chunk_leaf as fn(u64, u64, &[u8]) -> Digest),
                (SUMS_TAG, sums_leaf),
            ] {
                let one_by_one = (5..).zip(&contents).map(|(i, bytes)| leaf(i, 99, bytes));
                let expected: Vec<_> = one_by_one.collect();
                assert_eq!(leaves(tag, 5, 99, &contents), expected);
            }
        }
    }
}
