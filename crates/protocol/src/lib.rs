//! What the roles of Convoke agree on: ids, signed messages, the bounded codec, the payout
//! arithmetic, and the round state machine.
//!
//! Nothing here reads a clock, draws randomness, or does input and output: time and bytes come
//! in as arguments, and what has to be done goes out as values. The same code therefore runs
//! under real QUIC and under a virtual clock, and anyone can recompute what an aggregator did.

pub mod abi;
pub mod assignment;
pub mod codec;
pub mod cohort;
pub mod control;
pub mod factors;
pub mod held_out;
pub mod identity;
pub mod ids;
pub mod message;
pub mod payout;
pub mod record;
pub mod refusal;
pub mod round;
pub mod scores;
pub mod sketch;
pub mod split;
pub mod task;
pub mod update;
