//! Errors of a validator.

use convoke_models::ModelError;
use convoke_node::NodeError;
use convoke_transport::TransportError;
use convoke_valuation::ValuationError;

/// What ends a validator, or makes it sit out a round.
#[derive(Debug, thiserror::Error)]
pub enum ValidatorError {
    /// Link, chain, stake or state folder.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The held-out data, the device, or the evaluation itself.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The updates could not be valued by the task's method.
    #[error("the updates could not be valued: {0}")]
    Valuation(#[from] ValuationError<ModelError>),
    /// The blob store, or a blob that did not arrive.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Our bug.
    #[error("the scoring thread died: {0}")]
    Thread(String),
}
