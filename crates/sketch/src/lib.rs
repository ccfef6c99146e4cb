//! Checkpoints and deltas on disk, and the seeded sketches that proofs and audits are about.
