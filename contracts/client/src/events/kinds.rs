//! Every event of the contracts, in our types.

use alloy::primitives::Log;
use alloy::sol_types::SolEvent;
use convoke_protocol::ids::{Address, Amount, BlobHash, Digest, Role, RoundId, TaskId};
use serde::Serialize;

use super::reading::{Read, administration, events, unreadable};
use crate::abi::penalty_manager::PenaltyManager;
use crate::abi::round_manager::RoundManager;
use crate::abi::sketch_audit::SketchAudit;
use crate::abi::stake_manager::StakeManager;
use crate::abi::task_manager::TaskManager;
use crate::{AuditPart, ChainError, Shares, SketchFault, Stage};

/// Who emitted an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Contract {
    /// Holds the stakes.
    StakeManager,
    /// Holds tasks and their escrow.
    TaskManager,
    /// Holds rounds and results.
    RoundManager,
    /// Checks evidence of faults.
    PenaltyManager,
    /// Checks evidence of false sketches.
    SketchAudit,
}

events! {
    StakeManager:
        /// The stake manager got to know the others.
        StakesLinked(StakeManager::Linked) {
            /// The task manager.
            task_manager: Address = taskManager,
            /// The round manager.
            round_manager: Address = roundManager,
        }
        /// `account` staked `amount` more; `stake` is the sum.
        StakeDeposited(StakeManager::StakeDeposited) {
            /// The task.
            task: TaskId = task,
            /// Whose.
            account: Address = account,
            /// For which role.
            role: Role = role,
            /// Base units.
            amount: Amount = amount,
            /// All that it has staked itself.
            stake: Amount = stake,
        }
        /// A part of the own stake began to unbond.
        WithdrawalRequested(StakeManager::WithdrawalRequested) {
            /// The task.
            task: TaskId = task,
            /// Whose.
            account: Address = account,
            /// Base units.
            amount: Amount = amount,
            /// When it can be withdrawn, in Unix seconds.
            available_at: u64 = availableAt,
        }
        /// What had unbonded went back.
        StakeWithdrawn(StakeManager::StakeWithdrawn) {
            /// The task.
            task: TaskId = task,
            /// Whose.
            account: Address = account,
            /// Base units.
            amount: Amount = amount,
        }
        /// A commission was announced.
        CommissionChanged(StakeManager::CommissionChanged) {
            /// The task.
            task: TaskId = task,
            /// The operator.
            operator: Address = operator,
            /// Basis points.
            commission_bps: u16 = commissionBps,
            /// From when it holds, in Unix seconds.
            from: u64 = from,
        }
        /// Something was delegated and waits to join the pool.
        Delegated(StakeManager::Delegated) {
            /// The task.
            task: TaskId = task,
            /// The operator.
            operator: Address = operator,
            /// The delegator.
            delegator: Address = delegator,
            /// Base units.
            amount: Amount = amount,
            /// When it may join, in Unix seconds.
            active_at: u64 = activeAt,
        }
        /// A delegation joined its pool.
        DelegationActivated(StakeManager::DelegationActivated) {
            /// The task.
            task: TaskId = task,
            /// The operator.
            operator: Address = operator,
            /// The delegator.
            delegator: Address = delegator,
            /// Base units.
            amount: Amount = amount,
            /// Claims on the pool.
            shares: Shares = shares,
        }
        /// What had not joined the pool went back.
        DelegationCancelled(StakeManager::DelegationCancelled) {
            /// The task.
            task: TaskId = task,
            /// The operator.
            operator: Address = operator,
            /// The delegator.
            delegator: Address = delegator,
            /// Base units.
            amount: Amount = amount,
        }
        /// Shares of a pool began to unbond.
        UndelegationRequested(StakeManager::UndelegationRequested) {
            /// The task.
            task: TaskId = task,
            /// The operator.
            operator: Address = operator,
            /// The delegator.
            delegator: Address = delegator,
            /// Claims on the pool.
            shares: Shares = shares,
            /// Base units.
            amount: Amount = amount,
            /// When it can be withdrawn, in Unix seconds.
            available_at: u64 = availableAt,
        }
        /// What had unbonded went back to the delegator.
        DelegationWithdrawn(StakeManager::DelegationWithdrawn) {
            /// The task.
            task: TaskId = task,
            /// The operator.
            operator: Address = operator,
            /// The delegator.
            delegator: Address = delegator,
            /// Base units.
            amount: Amount = amount,
        }
        /// The delegators of an operator share a reward.
        RewardBooked(StakeManager::RewardBooked) {
            /// The task.
            task: TaskId = task,
            /// The operator.
            operator: Address = operator,
            /// Base units.
            amount: Amount = amount,
        }
        /// A delegator took its rewards.
        RewardsClaimed(StakeManager::RewardsClaimed) {
            /// The task.
            task: TaskId = task,
            /// The operator.
            operator: Address = operator,
            /// The delegator.
            delegator: Address = delegator,
            /// Base units.
            amount: Amount = amount,
        }
        /// A hard penalty.
        Slashed(StakeManager::Slashed) {
            /// The task.
            task: TaskId = task,
            /// Whose.
            account: Address = account,
            /// Who brought the evidence.
            reporter: Address = reporter,
            /// Taken from the account's own stake.
            own: Amount = own,
            /// Taken from its delegators'.
            delegated: Amount = delegated,
            /// Part of both that went to the reporter.
            to_reporter: Amount = toReporter,
        }
    ;
    TaskManager:
        /// The task manager got to know the others.
        TasksLinked(TaskManager::Linked) {
            /// The round manager.
            round_manager: Address = roundManager,
        }
        /// A task was posted; [`crate::Chain::task_file`] has its file.
        TaskCreated(TaskManager::TaskCreated) {
            /// The task.
            task: TaskId = task,
            /// Who posted it.
            creator: Address = creator,
            /// Who holds its rounds together.
            aggregator: Address = aggregator,
            /// Put into escrow.
            reward: Amount = reward,
            /// keccak-256 of the task file.
            task_file_hash: Digest = taskFileHash,
        }
        /// Later rounds can pay more.
        TaskFunded(TaskManager::TaskFunded) {
            /// The task.
            task: TaskId = task,
            /// Who paid.
            from: Address = from,
            /// Base units.
            amount: Amount = amount,
            /// What one further round may pay.
            round_pool: Amount = roundPool,
        }
        /// A penalty's rest went into the escrow.
        PenaltyReceived(TaskManager::PenaltyReceived) {
            /// The task.
            task: TaskId = task,
            /// Base units.
            amount: Amount = amount,
        }
        /// A payout was claimed.
        PayoutClaimed(TaskManager::PayoutClaimed) at round {
            /// Whose.
            account: Address = account,
            /// Paid, the delegators' part included.
            paid_now: Amount = paidNow,
            /// Waits for its release.
            vesting: Amount = vesting,
        }
        /// What had vested was paid.
        VestingReleased(TaskManager::VestingReleased) {
            /// The task.
            task: TaskId = task,
            /// Whose.
            account: Address = account,
            /// Base units.
            amount: Amount = amount,
            /// Goes back to the creator.
            forfeited: Amount = forfeited,
        }
        /// All rounds are settled; the closing evaluation began.
        TaskClosing(TaskManager::TaskClosing) {
            /// The task.
            task: TaskId = task,
        }
        /// A task came to its end.
        TaskFinished(TaskManager::TaskFinished) {
            /// The task.
            task: TaskId = task,
            /// Part of what vests that is released, in basis points.
            release_bps: u16 = releaseBps,
        }
        /// A task ended because a time-out ran out or its attempts were used up.
        TaskAborted(TaskManager::TaskAborted) {
            /// The task.
            task: TaskId = task,
            /// Rounds that have a result.
            rounds_settled: u32 = roundsSettled,
        }
        /// The creator took a task back.
        TaskCancelled(TaskManager::TaskCancelled) {
            /// The task.
            task: TaskId = task,
        }
        /// What was due to the creator was paid.
        TaskRefunded(TaskManager::TaskRefunded) {
            /// The task.
            task: TaskId = task,
            /// Who posted it.
            creator: Address = creator,
            /// Base units.
            amount: Amount = amount,
        }
    ;
    RoundManager:
        /// Another contract checks proofs from now on.
        ProofVerifierChanged(RoundManager::ProofVerifierChanged) {
            /// The contract; zero for none.
            verifier: Address = verifier,
        }
        /// A round was opened, or opened again.
        RoundOpened(RoundManager::RoundOpened) at round {
            /// 1 for the first try.
            attempt: u16 = attempt,
            /// The checkpoint that the trainers start from.
            base: BlobHash = base,
            /// Root of the Merkle tree of the cohort.
            cohort_root: Digest = cohortRoot,
            /// Trainers drawn.
            cohort_size: u16 = cohortSize,
            /// What the round may pay.
            pool: Amount = pool,
        }
        /// The aggregator committed to the updates and closed training.
        UpdatesCommitted(RoundManager::UpdatesCommitted) at round {
            /// Root of the Merkle tree of the updates.
            updates_root: Digest = updatesRoot,
            /// How many.
            count: u16 = count,
            /// The block whose hash gives the seed.
            seed_block: u64 = seedBlock,
        }
        /// A trainer committed to its update without the aggregator.
        UpdateCommitted(RoundManager::UpdateCommitted) at round {
            /// The trainer.
            trainer: Address = trainer,
            /// EIP-712 struct hash of the update's header.
            update_hash: Digest = updateHash,
        }
        /// The seed was drawn; validators may commit.
        SeedDrawn(RoundManager::SeedDrawn) at round {
            /// The seed.
            seed: Digest = seed,
        }
        /// The hash of the seed's block was gone; another block gives it.
        SeedPostponed(RoundManager::SeedPostponed) at round {
            /// The block whose hash gives the seed.
            seed_block: u64 = seedBlock,
        }
        /// A validator committed to scores.
        ScoresCommitted(RoundManager::ScoresCommitted) at round {
            /// The validator.
            validator: Address = validator,
            /// Its effective stake.
            weight: Amount = weight,
        }
        /// There were as many commitments as there can be, and one with more weight took the place.
        ScoresDisplaced(RoundManager::ScoresDisplaced) at round {
            /// The validator that lost its place.
            validator: Address = validator,
        }
        /// Validators may reveal.
        RevealOpened(RoundManager::RevealOpened) at round {
            /// Until when, in Unix seconds.
            deadline: u64 = deadline,
        }
        /// A validator revealed its scores.
        ScoresRevealed(RoundManager::ScoresRevealed) at round {
            /// The validator.
            validator: Address = validator,
            /// One factor an update, own commitments last.
            factors: Vec<u16> = factors,
        }
        /// The aggregator owes the result.
        SettlingOpened(RoundManager::SettlingOpened) at round {
            /// Until when, in Unix seconds.
            deadline: u64 = deadline,
        }
        /// There is a result, final after the dispute window unless it is challenged.
        RoundSettled(RoundManager::RoundSettled) at round {
            /// Root of the Merkle tree of the payouts.
            payouts_root: Digest = payoutsRoot,
            /// Sum of the trainers' payouts.
            total: Amount = total,
            /// The checkpoint after the round.
            checkpoint: BlobHash = checkpoint,
            /// Hash of the aggregator's full account of the round.
            result_hash: Digest = resultHash,
            /// The trainers' payouts, in the order of the tree.
            payouts: Vec<(Address, Amount)> = payouts,
            /// One factor an update, own commitments last.
            factors: Vec<u16> = factors,
        }
        /// A validator's or the aggregator's pay was booked.
        DirectPayBooked(RoundManager::DirectPayBooked) at round {
            /// Whose.
            account: Address = account,
            /// Base units.
            amount: Amount = amount,
        }
        /// An attempt at a round failed.
        RoundFailed(RoundManager::RoundFailed) at round {
            /// 1 for the first try.
            attempt: u16 = attempt,
            /// Where it stood.
            stage: Stage = stage,
        }
        /// A challenge voided a result.
        ResultVoided(RoundManager::ResultVoided) at round {
            /// Who showed it.
            challenger: Address = challenger,
        }
    ;
    PenaltyManager:
        /// A trainer signed two different updates for one round.
        EquivocationPunished(PenaltyManager::EquivocationPunished) at round {
            /// The trainer.
            trainer: Address = trainer,
            /// What was taken in all.
            taken: Amount = taken,
        }
        /// A validator signed a reveal that contradicts its commitment.
        ContradictionPunished(PenaltyManager::ContradictionPunished) at round {
            /// The validator.
            validator: Address = validator,
            /// What was taken in all.
            taken: Amount = taken,
        }
    ;
    SketchAudit:
        /// A trainer signed a false claim of its sketch.
        ClaimPunished(SketchAudit::ClaimPunished) at round {
            /// The trainer.
            trainer: Address = trainer,
            /// What was found.
            fault: SketchFault = fault,
            /// What was taken in all.
            taken: Amount = taken,
        }
        /// An aggregator submitted a false entry, or did not show what is behind it.
        EntryPunished(SketchAudit::EntryPunished) at round {
            /// The aggregator.
            aggregator: Address = aggregator,
            /// Place of the update, from 0.
            slot: u64 = slot,
            /// What was found.
            fault: SketchFault = fault,
            /// What was taken in all.
            taken: Amount = taken,
        }
        /// An aggregator was asked to show something.
        Demanded(SketchAudit::Demanded) at round {
            /// Number of the demand.
            demand: u64 = demand,
            /// Place of the update, from 0.
            slot: u64 = slot,
            /// What is asked for.
            part: AuditPart = part,
            /// Of the chunk or sums, from 0.
            index: u64 = index,
            /// Until when it may answer, in Unix seconds.
            due: u64 = due,
        }
        /// What was asked for was shown; the bond went to the aggregator.
        Answered(SketchAudit::Answered) {
            /// Number of the demand.
            demand: u64 = demand,
        }
        /// A demand was not answered, or need not be any more; the bond went back.
        DemandClosed(SketchAudit::DemandClosed) {
            /// Number of the demand.
            demand: u64 = demand,
            /// What was taken from the aggregator in all.
            taken: Amount = taken,
        }
    ;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::ABIS;
    use crate::abi::administration::{Paused, RoleGranted, RoleRevoked, Unpaused};

    #[test]
    fn every_event_of_the_managers_is_read() {
        let contracts = [
            Contract::StakeManager,
            Contract::TaskManager,
            Contract::RoundManager,
            Contract::PenaltyManager,
            Contract::SketchAudit,
        ];
        let common = [
            Paused::SIGNATURE_HASH,
            Unpaused::SIGNATURE_HASH,
            RoleGranted::SIGNATURE_HASH,
            RoleRevoked::SIGNATURE_HASH,
        ];
        let read = signatures();
        // The token comes first among the ABIs.
        for (contract, abi) in contracts.into_iter().zip(&ABIS[1..]) {
            for event in abi.events() {
                let signature = event.selector();
                let is_read = read.contains(&(contract, signature)) || common.contains(&signature);
                // Never emitted: nothing of ours changes who administers a role.
                let is_left_out = event.name == "RoleAdminChanged";
                assert!(is_read || is_left_out, "{contract:?}: {}", event.name);
            }
        }
    }
}
