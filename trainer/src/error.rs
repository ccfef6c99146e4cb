//! Errors of a trainer.

use convoke_compress::CompressError;
use convoke_models::ModelError;
use convoke_node::NodeError;
use convoke_sketch::SketchError;
use convoke_transport::TransportError;

/// What ends a trainer.
#[derive(Debug, thiserror::Error)]
pub enum TrainerError {
    /// Link, chain, stake or state folder.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The data, the device, or the training itself.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The blob store, or an address that cannot be dialled.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Our delta cannot be read again.
    #[error(transparent)]
    Sketch(#[from] SketchError),
    /// Our delta, encoded, cannot be read again.
    #[error(transparent)]
    Compress(#[from] CompressError),
    /// Our bug.
    #[error("the training thread died: {0}")]
    Thread(String),
}
