//! Custom errors in words. The ABI gives names and values, a table gives the sentences.

use std::collections::HashMap;
use std::sync::LazyLock;

use alloy::dyn_abi::{DynSolValue, ErrorExt};
use alloy::json_abi::{Error as AbiError, InternalType, JsonAbi, Param};
use alloy::primitives::{Selector, keccak256};
use alloy::sol_types::{Panic, Revert, SolError};

use crate::abi::ABIS;
use crate::types::{TaskState, role_of_chain};
use crate::{AuditPart, RoundKey, Stage};

mod sentences;

use sentences::SENTENCES;

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
        .map(|(input, value)| (input.name.as_str(), words(input, value)))
        .collect();
    let Some(template) = template_of(error) else {
        let list: Vec<_> = named
            .iter()
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        return format!("{} ({})", error.name, list.join(", "));
    };
    let filled = named
        .iter()
        .fold(template.to_owned(), |text, (name, value)| {
            text.replace(&format!("{{{name}}}"), value)
        });
    format!("{} ({filled})", error.name)
}

/// The first sentence of the error's name whose values the error has.
fn template_of(error: &AbiError) -> Option<&'static str> {
    let fits = |template: &str| {
        placeholders(template).all(|name| error.inputs.iter().any(|input| input.name == name))
    };
    SENTENCES
        .iter()
        .find(|(name, template)| *name == error.name && fits(template))
        .map(|(_, template)| *template)
}

fn placeholders(template: &str) -> impl Iterator<Item = &str> {
    let parts = template.split('{').skip(1);
    parts.filter_map(|rest| rest.split('}').next())
}

/// A value as people know it: numbers that stand for something are named.
fn words(input: &Param, value: &DynSolValue) -> String {
    let named = match (input.name.as_str(), &input.internal_type) {
        (_, Some(InternalType::Enum { ty, .. })) if ty == "TaskState" => small(value)
            .and_then(TaskState::of_chain)
            .map(|s| s.to_string()),
        (_, Some(InternalType::Enum { ty, .. })) if ty == "Stage" => small(value)
            .and_then(Stage::of_chain)
            .map(|s| s.to_string()),
        (_, Some(InternalType::Enum { ty, .. })) if ty == "Part" => small(value)
            .and_then(AuditPart::of_chain)
            .map(|s| s.to_string()),
        ("role" | "wanted", _) => small(value).and_then(role_of_chain).map(|r| r.to_string()),
        ("roundKey", _) => value
            .as_uint()
            .and_then(|(key, _)| u64::try_from(key).ok())
            .and_then(RoundKey::of_chain)
            .map(|key| key.to_string()),
        ("neededRole", _) => value
            .as_fixed_bytes()
            .and_then(|(word, _)| role_name(word))
            .map(str::to_owned),
        _ => None,
    };
    named.unwrap_or_else(|| text(value))
}

fn small(value: &DynSolValue) -> Option<u8> {
    let (number, _) = value.as_uint()?;
    u8::try_from(number).ok()
}

fn role_name(hash: &[u8]) -> Option<&'static str> {
    const ROLES: [&str; 7] = [
        "PAUSER_ROLE",
        "SLASHER_ROLE",
        "VERIFIER_ROLE",
        "PROPOSER_ROLE",
        "EXECUTOR_ROLE",
        "CANCELLER_ROLE",
        "TIMELOCK_ADMIN_ROLE",
    ];
    if hash.iter().all(|byte| *byte == 0) {
        return Some("DEFAULT_ADMIN_ROLE");
    }
    ROLES
        .into_iter()
        .find(|name| keccak256(name.as_bytes()).as_slice() == hash)
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

static ERRORS: LazyLock<HashMap<Selector, AbiError>> = LazyLock::new(|| {
    ABIS.iter()
        .flat_map(JsonAbi::errors)
        .map(|error| (error.selector(), error.clone()))
        .collect()
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{
        round_manager::RoundManager, stake_manager::StakeManager, task_manager::TaskManager,
        timelock::TimelockController,
    };

    #[test]
    fn custom_errors_come_with_their_values() {
        let data = RoundManager::WrongRound {
            expected: 3,
            round: 5,
        }
        .abi_encode();
        let described = describe(&data);
        assert_eq!(described.name, "WrongRound");
        assert_eq!(
            described.words,
            "WrongRound (round 5 asked for, round 3 is next)"
        );

        let data = StakeManager::StakeTooSmall {
            stake: 7,
            amount: 9,
        }
        .abi_encode();
        assert_eq!(
            describe(&data).words,
            "StakeTooSmall (9 asked for, 7 is staked)"
        );
    }

    #[test]
    fn numbers_that_stand_for_something_are_named() {
        let words = |data: Vec<u8>| describe(&data).words;
        let stage = RoundManager::WrongStage {
            expected: 1,
            stage: 6,
        };
        assert_eq!(
            words(stage.abi_encode()),
            "WrongStage (the round is settled, the call needs it to be training)"
        );
        let state = TaskManager::WrongState { task: 7, state: 4 };
        assert_eq!(
            words(state.abi_encode()),
            "WrongState (task 7 is aborted, and this cannot be done then)"
        );
        let role = StakeManager::RoleTaken { role: 0, wanted: 1 };
        assert_eq!(
            words(role.abi_encode()),
            "RoleTaken (the address is a trainer in this task and cannot be a validator)"
        );
        let lock = StakeManager::StakeLocked {
            task: 2,
            roundKey: (5 << 16) | 1,
        };
        assert_eq!(
            words(lock.abi_encode()),
            "StakeLocked (the stake backs round 5, attempt 1 of task 2, which is open)"
        );
        let denied = TimelockController::AccessControlUnauthorizedAccount {
            account: alloy::primitives::Address::ZERO,
            neededRole: keccak256("PAUSER_ROLE"),
        };
        assert!(
            words(denied.abi_encode()).ends_with("lacks PAUSER_ROLE)"),
            "{}",
            words(denied.abi_encode())
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
    fn every_error_of_the_contracts_has_a_sentence() {
        let mut missing: Vec<_> = ERRORS
            .values()
            .filter(|error| template_of(error).is_none())
            .map(AbiError::signature)
            .collect();
        missing.sort();
        assert!(missing.is_empty(), "{missing:#?}");
    }

    #[test]
    fn every_sentence_belongs_to_an_error() {
        let is_used = |template: &str| {
            let mut used = ERRORS.values().filter_map(template_of);
            used.any(|other| other == template)
        };
        let unused: Vec<_> = SENTENCES
            .iter()
            .filter(|(_, template)| !is_used(template))
            .collect();
        assert!(unused.is_empty(), "{unused:#?}");
    }
}
