//! Tests of the circuit as a whole.
#![allow(clippy::unwrap_used)]

mod agreement;
mod keys;
mod properties;
mod reference;
mod rounds;
mod settlement;
mod shape;
mod soundness;
mod store;
