//! Tasks, stakes and results as the contracts hold them, in our types.

use std::fmt;

use convoke_protocol::ids::{Address, Amount, BlobHash, Digest, Role, RoundId};

/// The newest block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockHead {
    /// Height.
    pub number: u64,
    /// Block hash.
    pub hash: Digest,
    /// Unix seconds.
    pub timestamp: u64,
}

/// Least stake by role, in base units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StakeMinimums {
    /// Of a trainer.
    pub trainer: Amount,
    /// Of a validator.
    pub validator: Amount,
    /// Of the aggregator; checked when it submits the first result.
    pub aggregator: Amount,
}

/// What a creator asks for. The contract checks the ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask {
    /// Who submits results.
    pub aggregator: Address,
    /// Goes into escrow; each round may share out `reward / rounds`, rounded down.
    pub reward: Amount,
    /// 1 to 10,000.
    pub rounds: u32,
    /// Least stakes.
    pub stakes_min: StakeMinimums,
    /// Share of each payout that vests, 0 to 9,000 basis points.
    pub vesting_bps: u16,
    /// From a result to its first claim, in seconds; at most the unbonding time of stake.
    pub dispute_window_seconds: u32,
    /// Without progress for so long, in seconds, anyone may abort the task; at least 1.
    pub round_timeout_seconds: u32,
    /// From the task's end to the release of what vests, in seconds.
    pub vesting_seconds: u32,
}

/// Where a task stands. Everything but `Active` is an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskState {
    /// Rounds go on.
    Active,
    /// All rounds are settled and the aggregator closed the task.
    Finished,
    /// It timed out.
    Aborted,
    /// The creator took it back before anything had happened.
    Cancelled,
}

impl TaskState {
    /// Of the contract's number; 0 is a task that is not there.
    pub(crate) fn of_chain(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Active),
            2 => Some(Self::Finished),
            3 => Some(Self::Aborted),
            4 => Some(Self::Cancelled),
            _ => None,
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Active => "active",
            Self::Finished => "finished",
            Self::Aborted => "aborted",
            Self::Cancelled => "cancelled",
        })
    }
}

/// Where a task's reward is: `reward == paid + refunded + vesting + unclaimed`, to the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Balances {
    /// Put into escrow by the creator.
    pub reward: Amount,
    /// Paid to accounts, released vesting included.
    pub paid: Amount,
    /// Paid back to the creator.
    pub refunded: Amount,
    /// Claimed and waiting for its release.
    pub vesting: Amount,
    /// In escrow: payouts nobody has claimed yet, and what no round was allotted.
    pub unclaimed: Amount,
}

/// A task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRecord {
    /// Who posted it and is refunded.
    pub creator: Address,
    /// Who submits results.
    pub aggregator: Address,
    /// Where it stands.
    pub state: TaskState,
    /// Put into escrow.
    pub reward: Amount,
    /// Rounds asked for.
    pub rounds: u32,
    /// Rounds that have a result; they are settled in order.
    pub rounds_settled: u32,
    /// Least stakes.
    pub stakes_min: StakeMinimums,
    /// Share of each payout that vests, in basis points.
    pub vesting_bps: u16,
    /// From a result to its first claim, in seconds.
    pub dispute_window_seconds: u32,
    /// Without progress for so long, in seconds, anyone may abort the task.
    pub round_timeout_seconds: u32,
    /// From the task's end to the release of what vests, in seconds.
    pub vesting_seconds: u32,
    /// Creation or newest result, in Unix seconds.
    pub last_progress_at: u64,
    /// Unix seconds, once it has ended.
    pub ended_at: Option<u64>,
    /// Whether the refund has been paid.
    pub is_refunded: bool,
    /// keccak-256 of the task file.
    pub task_file_hash: Digest,
    /// The block whose log carries the task file.
    pub created_block: u64,
    /// Where the reward is.
    pub balances: Balances,
}

impl TaskRecord {
    /// The most that one round may share out, rounded down.
    #[must_use]
    pub fn round_pool_down(&self) -> Amount {
        Amount(
            self.reward
                .0
                .checked_div(u128::from(self.rounds))
                .unwrap_or(0),
        )
    }
}

/// What an aggregator submits for a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResultSubmission {
    /// Root of the Merkle tree of payouts.
    pub payouts_root: Digest,
    /// Sum of the payouts.
    pub total: Amount,
    /// The checkpoint after the round.
    pub checkpoint: BlobHash,
    /// Hash of the aggregator's full account of the round.
    pub result_hash: Digest,
}

/// What the chain holds of a settled round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundResult {
    /// As the aggregator submitted it.
    pub submission: ResultSubmission,
    /// What the claims have come to.
    pub claimed: Amount,
    /// Unix seconds.
    pub settled_at: u64,
}

/// One payout with the proof that it is under the round's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The round it is for.
    pub round: RoundId,
    /// Who is paid.
    pub account: Address,
    /// The whole payout, the vesting part included.
    pub amount: Amount,
    /// Siblings from the leaf up.
    pub proof: Vec<Digest>,
}

/// All that is known of a stake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StakeRecord {
    /// The role it was staked for.
    pub role: Role,
    /// Backs the task.
    pub amount: Amount,
    /// Requested back and waiting.
    pub unbonding: Amount,
    /// When `unbonding` may be withdrawn, in Unix seconds.
    pub available_at: Option<u64>,
}

pub(crate) fn role_of_chain(number: u8) -> Option<Role> {
    [Role::Trainer, Role::Validator, Role::Aggregator]
        .into_iter()
        .find(|role| role.on_chain() == Some(number))
}
