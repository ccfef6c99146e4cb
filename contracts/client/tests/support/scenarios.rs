//! What must go the same way on every chain. Each scenario gives a record of all logs and of the
//! balances in the end, which must be the same on all of them.

mod audit;
mod ends;
mod penalties;
mod proofs;
mod sending;
mod whole;

pub(crate) use audit::audit;
pub(crate) use ends::{cancelled_and_funded, time_outs};
pub(crate) use penalties::{contradiction, delegation_and_slash, voided_result};
pub(crate) use proofs::proven_round;
pub(crate) use sending::{at_once, lost_answers, previews};
pub(crate) use whole::{administration, whole_task};
