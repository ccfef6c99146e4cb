//! Tasks, stakes and pay as the contracts hold them, in our types.

use std::fmt;
use std::str::FromStr;

use alloy::primitives::U256;
use convoke_protocol::ids::{Address, Amount, BlobHash, Digest, Role, RoundId};
use convoke_protocol::task::{ProofMode, RewardShares, SplitKind};
use serde::{Deserialize, Serialize};

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
    /// Of the aggregator; checked whenever it opens a round.
    pub aggregator: Amount,
}

/// What a creator asks for; it never changes. The contract checks the ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskTerms {
    /// Who holds the rounds together.
    pub aggregator: Address,
    /// Goes into escrow; each round may share out `reward / rounds`, rounded down.
    pub reward: Amount,
    /// 1 to 10,000.
    pub rounds: u32,
    /// Least size of a cohort, at least 1.
    pub trainers_min: u16,
    /// Greatest size of a cohort, at most 256.
    pub trainers_max: u16,
    /// 0 to 64. With 0 held-out loss plays no part.
    pub validators_min: u16,
    /// A failed round is tried again until it was tried so often; 1 to 100.
    pub attempts_max: u16,
    /// The initial checkpoint.
    pub model_hash: BlobHash,
    /// keccak-256 of the description of the data.
    pub data_hash: Digest,
    /// Least stakes.
    pub stakes_min: StakeMinimums,
    /// Who gets which part of a round's pool, in basis points; the three come to 10,000.
    pub shares: RewardShares,
    /// Share of each payout that vests, 0 to 9,000 basis points.
    pub vesting_bps: u16,
    /// How the trainers share.
    pub split: SplitKind,
    /// q of the rank split, 1 to 10,000 basis points; without meaning for the other.
    pub rank_decay_bps: u16,
    /// Slice of a stake that a hard penalty takes, 0 to 5,000 basis points.
    pub slash_bps: u16,
    /// Part of that slice that goes to the reporter, 0 to 5,000 basis points.
    pub reporter_bps: u16,
    /// When proofs are checked.
    pub proof_mode: ProofMode,
    /// From the opening of a round to the commitment of its updates, in seconds.
    pub train_window_seconds: u32,
    /// For commitments to scores, and again for reveals, in seconds.
    pub score_window_seconds: u32,
    /// How long validators that were missing last time are waited for, in seconds; at most the
    /// score window.
    pub grace_window_seconds: u32,
    /// For the drawing of the seed, and again for the result, in seconds.
    pub settle_window_seconds: u32,
    /// From a result to its first claim, in seconds; at most the unbonding time of stake.
    pub dispute_window_seconds: u32,
    /// Without a result for so long, in seconds, anyone may end the task.
    pub round_timeout_seconds: u32,
}

/// Where a task stands. Everything after `Closing` is an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Rounds go on.
    Active,
    /// All rounds are settled; validators say how much of what vests is released.
    Closing,
    /// All rounds are settled and the closing evaluation, if there was one, is over.
    Finished,
    /// It timed out, or its attempts were used up.
    Aborted,
    /// The creator took it back before anything had happened.
    Cancelled,
}

impl TaskState {
    /// Of the contract's number; 0 is a task that is not there.
    pub(crate) fn of_chain(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Active),
            2 => Some(Self::Closing),
            3 => Some(Self::Finished),
            4 => Some(Self::Aborted),
            5 => Some(Self::Cancelled),
            _ => None,
        }
    }

    /// Whether nothing of the task changes any more but payouts and withdrawals.
    #[must_use]
    pub fn has_ended(self) -> bool {
        !matches!(self, Self::Active | Self::Closing)
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Active => "active",
            Self::Closing => "closing",
            Self::Finished => "finished",
            Self::Aborted => "aborted",
            Self::Cancelled => "cancelled",
        })
    }
}

/// Where a task's escrow is: `escrowed == paid + refunded + vesting + held`, to the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Balances {
    /// All that ever went in: reward, top-ups, penalties.
    pub escrowed: Amount,
    /// Paid by claims and releases, the parts of delegators included.
    pub paid: Amount,
    /// Paid back to the creator.
    pub refunded: Amount,
    /// Claimed and waiting for its release.
    pub vesting: Amount,
    /// Payouts nobody has claimed yet, and what no round was allotted.
    pub held: Amount,
}

/// A task as it goes along; [`TaskTerms`] holds what never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRecord {
    /// Who posted it and is refunded.
    pub creator: Address,
    /// Where it stands.
    pub state: TaskState,
    /// Rounds that have a result; they are settled in order.
    pub rounds_settled: u32,
    /// Rounds that were ever opened.
    pub rounds_opened: u32,
    /// Creation or newest result, in Unix seconds.
    pub last_progress_at: u64,
    /// Unix seconds, once it has ended.
    pub ended_at: Option<u64>,
    /// What one further round may pay.
    pub round_pool: Amount,
    /// Sum of what settled rounds allot.
    pub allotted: Amount,
    /// Vesting that the closing evaluation took away.
    pub forfeited: Amount,
    /// Part of what vests that is released, in basis points; 10,000 unless the closing evaluation
    /// says less.
    pub release_bps: u16,
    /// keccak-256 of the task file.
    pub task_file_hash: Digest,
    /// The block whose log carries the task file.
    pub created_block: u64,
    /// Where the escrow is.
    pub balances: Balances,
}

/// One payout, and what shows that it is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The round it is for.
    pub round: RoundId,
    /// Who is paid.
    pub account: Address,
    /// The whole payout, the vesting part included; zero for direct pay.
    pub amount: Amount,
    /// Siblings from the leaf up; empty for direct pay, and for the only payout of a round.
    pub proof: Vec<Digest>,
}

impl Claim {
    /// A validator's or the aggregator's pay, which the contract knows by itself.
    #[must_use]
    pub fn direct(round: RoundId, account: Address) -> Self {
        Self {
            round,
            account,
            amount: Amount::ZERO,
            proof: Vec::new(),
        }
    }
}

/// All that is known of an operator's own stake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StakeRecord {
    /// The role it was staked for.
    pub role: Role,
    /// Backs the task.
    pub amount: Amount,
    /// Requested back and waiting; it can still be slashed.
    pub unbonding: Amount,
    /// When `unbonding` may be withdrawn, in Unix seconds.
    pub available_at: Option<u64>,
    /// The round that was open at the request: nothing is withdrawn while it still is.
    pub locked_by: Option<RoundKey>,
}

/// One attempt at a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RoundKey {
    /// The round.
    pub round: RoundId,
    /// 1 for the first try.
    pub attempt: u16,
}

impl RoundKey {
    /// Of the contract's `round << 16 | attempt`; `None` for 0.
    pub(crate) fn of_chain(key: u64) -> Option<Self> {
        let round = u32::try_from(key >> 16).ok()?;
        let attempt = u16::try_from(key & 0xffff).ok()?;
        (key != 0).then_some(Self {
            round: RoundId(round),
            attempt,
        })
    }
}

impl fmt::Display for RoundKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "round {}, attempt {}", self.round, self.attempt)
    }
}

/// Claims on a delegation pool; what they are worth changes with rewards and penalties.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Shares(pub(crate) U256);

impl Shares {
    /// Whether there are none.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    /// `self * part / whole`, rounded down; `whole` 0 gives none.
    #[must_use]
    pub fn share_down(self, part: u64, whole: u64) -> Self {
        Self(
            self.0
                .saturating_mul(U256::from(part))
                .checked_div(U256::from(whole))
                .unwrap_or_default(),
        )
    }
}

impl fmt::Debug for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shares({})", self.0)
    }
}

impl fmt::Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Why a text is no number of shares.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no whole number of shares")]
pub struct ParseSharesError {
    /// What was given, cut to 80 characters.
    pub text: String,
}

impl FromStr for Shares {
    type Err = ParseSharesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits
            .then(|| U256::from_str_radix(text, 10).ok())
            .flatten()
            .map(Self)
            .ok_or_else(|| ParseSharesError {
                text: text.chars().take(80).collect(),
            })
    }
}

impl Serialize for Shares {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Shares {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// What others have delegated to one operator in one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolRecord {
    /// Backs the operator.
    pub assets: Amount,
    /// Requested back by delegators; it can still be slashed.
    pub unbonding_assets: Amount,
    /// Claims on `assets`.
    pub shares: Shares,
    /// Claims on `unbonding_assets`.
    pub unbonding_shares: Shares,
    /// What the operator keeps of its delegators' rewards now, in basis points.
    pub commission_bps: u16,
    /// A higher commission that was announced.
    pub next_commission: Option<NextCommission>,
}

/// An announced commission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextCommission {
    /// Basis points.
    pub bps: u16,
    /// From when it holds, in Unix seconds.
    pub at: u64,
}

/// One delegator's part of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DelegationRecord {
    /// Claims on the pool.
    pub shares: Shares,
    /// What they are worth now, rounded down.
    pub active: Amount,
    /// What unbonds is worth now, rounded down.
    pub unbonding: Amount,
    /// Rewards that are due and not paid.
    pub rewards: Amount,
    /// Waits to join the pool.
    pub pending: Amount,
    /// When `pending` may join, in Unix seconds.
    pub active_at: Option<u64>,
    /// When `unbonding` may be withdrawn, in Unix seconds.
    pub available_at: Option<u64>,
    /// The round that was open at the request: nothing is withdrawn while it still is.
    pub locked_by: Option<RoundKey>,
}

pub(crate) fn role_of_chain(number: u8) -> Option<Role> {
    [Role::Trainer, Role::Validator, Role::Aggregator]
        .into_iter()
        .find(|role| role.on_chain() == Some(number))
}

/// Unix seconds; the contracts' 0 is "not set".
pub(crate) fn time(at: u64) -> Option<u64> {
    Some(at).filter(|at| *at != 0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_round_key_is_taken_apart() {
        assert_eq!(RoundKey::of_chain(0), None);
        let key = RoundKey::of_chain((7 << 16) | 3).unwrap();
        assert_eq!((key.round, key.attempt), (RoundId(7), 3));
        assert_eq!(RoundKey::of_chain(u64::MAX), None, "no such round");
    }

    #[test]
    fn shares_are_decimal_numbers_of_256_bits() {
        let most = Shares(U256::MAX);
        assert_eq!(most.to_string().parse(), Ok(most));
        for wrong in ["", "-1", "0x10", "1.5", &format!("{most}0")] {
            assert!(wrong.parse::<Shares>().is_err(), "{wrong}");
        }
        let seven: Shares = "7".parse().unwrap();
        assert_eq!(seven.share_down(1, 2).to_string(), "3");
        assert!(seven.share_down(1, 0).is_zero());
    }
}
