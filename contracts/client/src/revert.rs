//! Custom errors in words. The ABI gives names and values, a table gives the sentences.

use std::collections::HashMap;
use std::sync::LazyLock;

use alloy::dyn_abi::{DynSolValue, ErrorExt};
use alloy::json_abi::{Error as AbiError, InternalType, JsonAbi};
use alloy::primitives::Selector;
use alloy::sol_types::{Panic, Revert, SolError};

use crate::types::TaskState;

/// A refusal of a contract.
pub(crate) struct Described {
    /// The custom error's name; empty if there is none.
    pub(crate) name: String,
    /// For people.
    pub(crate) words: String,
}

/// Describes the data of a revert.
pub(crate) fn describe(data: &[u8]) -> Described {
    let plain = |words: String| Described {
        name: String::new(),
        words,
    };
    if data.is_empty() {
        return plain("without a reason".to_owned());
    }
    if let Ok(revert) = Revert::abi_decode(data) {
        return plain(revert.reason);
    }
    if let Ok(panic) = Panic::abi_decode(data) {
        return plain(panic.to_string());
    }
    let selector = data.get(..4).and_then(|head| Selector::try_from(head).ok());
    let known = selector.and_then(|selector| ERRORS.get(&selector));
    match known.and_then(|error| Some((error, error.decode_error(data).ok()?.body))) {
        Some((error, values)) => Described {
            name: error.name.clone(),
            words: sentence(error, &values),
        },
        None => plain(format!(
            "unknown error {}",
            alloy::hex::encode_prefixed(data)
        )),
    }
}

fn sentence(error: &AbiError, values: &[DynSolValue]) -> String {
    let named: Vec<(&str, String)> = error
        .inputs
        .iter()
        .zip(values)
        .map(|(input, value)| {
            let is_state = matches!(input.internal_type, Some(InternalType::Enum { .. }));
            (
                input.name.as_str(),
                if is_state { state(value) } else { text(value) },
            )
        })
        .collect();
    let Some((_, template)) = SENTENCES.iter().find(|(name, _)| *name == error.name) else {
        let list: Vec<_> = named
            .iter()
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        return format!("{} ({})", error.name, list.join(", "));
    };
    let filled = named
        .iter()
        .fold((*template).to_owned(), |text, (name, value)| {
            text.replace(&format!("{{{name}}}"), value)
        });
    format!("{} ({filled})", error.name)
}

fn text(value: &DynSolValue) -> String {
    match value {
        DynSolValue::Address(address) => alloy::hex::encode_prefixed(address),
        DynSolValue::Uint(value, _) => value.to_string(),
        DynSolValue::Int(value, _) => value.to_string(),
        DynSolValue::Bool(value) => value.to_string(),
        DynSolValue::FixedBytes(word, size) => alloy::hex::encode_prefixed(&word[..*size]),
        other => format!("{other:?}"),
    }
}

fn state(value: &DynSolValue) -> String {
    let number = value
        .as_uint()
        .and_then(|(value, _)| u8::try_from(value).ok());
    number
        .and_then(TaskState::of_chain)
        .map_or_else(|| text(value), |state| state.to_string())
}

static ERRORS: LazyLock<HashMap<Selector, AbiError>> = LazyLock::new(|| {
    ARTIFACTS
        .iter()
        .filter_map(|artifact| {
            let value: serde_json::Value = serde_json::from_str(artifact).ok()?;
            serde_json::from_value::<JsonAbi>(value.get("abi")?.clone()).ok()
        })
        .flat_map(|abi| abi.errors.into_values().flatten())
        .map(|error| (error.selector(), error))
        .collect()
});

/// All of them: a refusal of the token or of the other manager comes through unchanged.
const ARTIFACTS: [&str; 3] = [
    include_str!("../../artifacts/ConvokeToken.json"),
    include_str!("../../artifacts/StakeManager.json"),
    include_str!("../../artifacts/TaskManager.json"),
];

/// By name; two errors of one name get one sentence. A value that is not named is left out.
const SENTENCES: &[(&str, &str)] = &[
    ("AggregatorMissing", "the task names no aggregator"),
    (
        "AlreadyClaimed",
        "the payout of {account} for round {round} was claimed before",
    ),
    (
        "AlreadyLinked",
        "the task manager is {taskManager} for good",
    ),
    (
        "AlreadyRefunded",
        "the refund of task {task} was paid before",
    ),
    (
        "ClaimAboveRoundTotal",
        "{amount} claimed, the round has {remaining} left",
    ),
    ("DisputeWindowOpen", "claims open at Unix time {opensAt}"),
    (
        "ERC20InsufficientAllowance",
        "allowed to spend {allowance} of the {needed} needed",
    ),
    (
        "ERC20InsufficientBalance",
        "{sender} holds {balance} of the {needed} needed",
    ),
    (
        "InvalidProof",
        "{amount} for {account} is not under the root of round {round}",
    ),
    (
        "NotCancellable",
        "{roundsSettled} rounds are settled and {staked} is staked",
    ),
    (
        "NotTheAggregator",
        "only the aggregator {expected} may do this, not {caller}",
    ),
    (
        "NotTheCreator",
        "only the creator {expected} may do this, not {caller}",
    ),
    (
        "NotTheDeployer",
        "only the deployer {expected} may do this, not {caller}",
    ),
    (
        "NotTimedOut",
        "the round's time runs until Unix time {abortableAt}",
    ),
    ("NothingRequested", "no withdrawal was requested"),
    (
        "NothingVested",
        "{account} has nothing vesting in task {task}",
    ),
    (
        "RewardTooSmall",
        "the reward is {reward}, at least {minimum} is needed",
    ),
    (
        "RoleTaken",
        "the address has role {current} in this task, not {requested}",
    ),
    (
        "RoundNotSettled",
        "round {round} of task {task} has no result",
    ),
    (
        "RoundsOutOfRange",
        "{rounds} rounds asked for, 1 to {maximum} are allowed",
    ),
    (
        "RoundsRemaining",
        "{settled} of {rounds} rounds are settled",
    ),
    (
        "StakeBelowMinimum",
        "the stake is {stake}, the task asks for {minimum}",
    ),
    ("StakeTooSmall", "{requested} asked for, {staked} is staked"),
    (
        "StillUnbonding",
        "the stake is free at Unix time {availableAt}",
    ),
    ("StillVesting", "released at Unix time {releasableAt}"),
    (
        "TaskFileTooLong",
        "the task file has {length} bytes, at most {maximum} are allowed",
    ),
    ("TaskNotActive", "task {task} has ended or never was"),
    ("TaskStillActive", "task {task} has not ended"),
    (
        "TotalAboveRoundPool",
        "the payouts come to {total}, the round's pool is {pool}",
    ),
    ("UnknownRole", "there is no role {role}"),
    ("UnknownTask", "there is no task {task}"),
    (
        "VestingTooHigh",
        "{vestingBps} basis points vest, at most {maximum} are allowed",
    ),
    (
        "WindowOutOfRange",
        "{window} seconds, allowed are {minimum} to {maximum}",
    ),
    (
        "WrongAmountReceived",
        "{received} arrived of {expected}: the token takes a fee",
    ),
    (
        "WrongRound",
        "round {round} submitted, round {expected} is next",
    ),
    ("ZeroAmount", "the amount is zero"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{stake_manager::StakeManager, task_manager::TaskManager};

    #[test]
    fn custom_errors_come_with_their_values() {
        let data = TaskManager::WrongRound {
            expected: 3,
            round: 5,
        }
        .abi_encode();
        let described = describe(&data);
        assert_eq!(described.name, "WrongRound");
        assert_eq!(
            described.words,
            "WrongRound (round 5 submitted, round 3 is next)"
        );

        let data = StakeManager::StakeTooSmall {
            staked: 7,
            requested: 9,
        }
        .abi_encode();
        assert_eq!(
            describe(&data).words,
            "StakeTooSmall (9 asked for, 7 is staked)"
        );
    }

    #[test]
    fn plain_reverts_panics_and_noise_are_told_apart() {
        assert_eq!(
            describe(&Revert::from("because").abi_encode()).words,
            "because"
        );
        assert_eq!(describe(&[]).words, "without a reason");
        assert_eq!(describe(&[1, 2, 3]).words, "unknown error 0x010203");
        assert!(
            describe(&Panic::from(0x11u64).abi_encode())
                .words
                .contains("overflow")
        );
    }

    #[test]
    fn every_sentence_belongs_to_an_error_and_names_its_values() {
        for (name, template) in SENTENCES {
            let errors: Vec<_> = ERRORS
                .values()
                .filter(|error| error.name == *name)
                .collect();
            assert!(!errors.is_empty(), "{name} is no error of the contracts");
            for placeholder in template
                .split('{')
                .skip(1)
                .filter_map(|rest| rest.split('}').next())
            {
                assert!(
                    errors
                        .iter()
                        .all(|e| e.inputs.iter().any(|input| input.name == placeholder)),
                    "{name} has no {placeholder}"
                );
            }
        }
    }
}
