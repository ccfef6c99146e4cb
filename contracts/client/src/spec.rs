//! A task's terms as the contract takes them.

use convoke_protocol::ids::{Amount, BlobHash};
use convoke_protocol::task::{ProofMode, RewardShares, SplitKind};

use crate::abi::large::TaskSpec;
use crate::abi::{digest, eth, ours, word};
use crate::{ChainError, StakeMinimums, TaskTerms};

pub(crate) fn spec_of(terms: &TaskTerms) -> TaskSpec {
    TaskSpec {
        aggregator: eth(terms.aggregator),
        reward: terms.reward.0,
        rounds: terms.rounds,
        trainersMin: terms.trainers_min,
        trainersMax: terms.trainers_max,
        validatorsMin: terms.validators_min,
        attemptsMax: terms.attempts_max,
        modelHash: terms.model_hash.0.into(),
        dataHash: word(terms.data_hash),
        trainerStakeMin: terms.stakes_min.trainer.0,
        validatorStakeMin: terms.stakes_min.validator.0,
        aggregatorStakeMin: terms.stakes_min.aggregator.0,
        trainersBps: terms.shares.trainers_bps,
        validatorsBps: terms.shares.validators_bps,
        aggregatorBps: terms.shares.aggregator_bps,
        vestingBps: terms.vesting_bps,
        split: split_number(terms.split),
        rankDecayBps: terms.rank_decay_bps,
        slashBps: terms.slash_bps,
        reporterBps: terms.reporter_bps,
        proofMode: match terms.proof_mode {
            ProofMode::OnSubmission => 0,
            ProofMode::OnChallenge => 1,
        },
        trainWindow: terms.train_window_seconds,
        scoreWindow: terms.score_window_seconds,
        graceWindow: terms.grace_window_seconds,
        settleWindow: terms.settle_window_seconds,
        disputeWindow: terms.dispute_window_seconds,
        roundTimeout: terms.round_timeout_seconds,
    }
}

/// As the contracts number the splits.
pub(crate) fn split_number(split: SplitKind) -> u8 {
    match split {
        SplitKind::Score => 0,
        SplitKind::Rank => 1,
    }
}

pub(crate) fn terms_of(spec: &TaskSpec) -> Result<TaskTerms, ChainError> {
    let unexpected = |what, number| ChainError::Unexpected(format!("{what} {number}"));
    Ok(TaskTerms {
        aggregator: ours(spec.aggregator),
        reward: Amount(spec.reward),
        rounds: spec.rounds,
        trainers_min: spec.trainersMin,
        trainers_max: spec.trainersMax,
        validators_min: spec.validatorsMin,
        attempts_max: spec.attemptsMax,
        model_hash: BlobHash(spec.modelHash.0),
        data_hash: digest(spec.dataHash),
        stakes_min: StakeMinimums {
            trainer: Amount(spec.trainerStakeMin),
            validator: Amount(spec.validatorStakeMin),
            aggregator: Amount(spec.aggregatorStakeMin),
        },
        shares: RewardShares {
            trainers_bps: spec.trainersBps,
            validators_bps: spec.validatorsBps,
            aggregator_bps: spec.aggregatorBps,
        },
        vesting_bps: spec.vestingBps,
        split: number_of(&SPLITS, spec.split).ok_or_else(|| unexpected("split", spec.split))?,
        rank_decay_bps: spec.rankDecayBps,
        slash_bps: spec.slashBps,
        reporter_bps: spec.reporterBps,
        proof_mode: number_of(&PROOF_MODES, spec.proofMode)
            .ok_or_else(|| unexpected("proof mode", spec.proofMode))?,
        train_window_seconds: spec.trainWindow,
        score_window_seconds: spec.scoreWindow,
        grace_window_seconds: spec.graceWindow,
        settle_window_seconds: spec.settleWindow,
        dispute_window_seconds: spec.disputeWindow,
        round_timeout_seconds: spec.roundTimeout,
    })
}

const SPLITS: [SplitKind; 2] = [SplitKind::Score, SplitKind::Rank];
const PROOF_MODES: [ProofMode; 2] = [ProofMode::OnSubmission, ProofMode::OnChallenge];

fn number_of<T: Copy>(all: &[T], number: u8) -> Option<T> {
    all.get(usize::from(number)).copied()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use convoke_protocol::ids::{Address, Digest};

    use super::*;

    fn terms() -> TaskTerms {
        TaskTerms {
            aggregator: Address([1; 20]),
            reward: Amount(2),
            rounds: 3,
            trainers_min: 4,
            trainers_max: 5,
            validators_min: 6,
            attempts_max: 7,
            model_hash: BlobHash([8; 32]),
            data_hash: Digest([9; 32]),
            stakes_min: StakeMinimums {
                trainer: Amount(10),
                validator: Amount(11),
                aggregator: Amount(12),
            },
            shares: RewardShares {
                trainers_bps: 13,
                validators_bps: 14,
                aggregator_bps: 15,
            },
            vesting_bps: 16,
            split: SplitKind::Rank,
            rank_decay_bps: 18,
            slash_bps: 19,
            reporter_bps: 20,
            proof_mode: ProofMode::OnChallenge,
            train_window_seconds: 22,
            score_window_seconds: 23,
            grace_window_seconds: 24,
            settle_window_seconds: 25,
            dispute_window_seconds: 26,
            round_timeout_seconds: 27,
        }
    }

    #[test]
    fn terms_come_back_from_their_encoding() {
        let spec = spec_of(&terms());
        assert_eq!(terms_of(&spec).unwrap(), terms());
        let (head, tail) = spec.clone().split();
        assert_eq!(TaskSpec::join(head, tail), spec);
        let wrong = TaskSpec { split: 2, ..spec };
        assert!(terms_of(&wrong).is_err());
    }
}
