//! Roots of [`MerkleTree`](convoke_protocol::payout::MerkleTree)s whose leaves come batch by
//! batch.

use convoke_protocol::identity::keccak;
use convoke_protocol::ids::Digest;

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
        nodes = nodes
            .chunks(2)
            .map(|pair_or_odd| match pair_or_odd {
                [left, right] => pair(left, right),
                odd => odd[0],
            })
            .collect();
    }
    nodes.first().copied().unwrap_or(Digest::ZERO)
}

fn pair(a: &Digest, b: &Digest) -> Digest {
    let (low, high) = if a <= b { (a, b) } else { (b, a) };
    keccak(&[&low.0, &high.0])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use convoke_protocol::payout::MerkleTree;

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
}
