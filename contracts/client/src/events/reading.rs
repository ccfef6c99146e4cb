//! From logs to events: the macro that makes them, and values in our types.

use alloy::primitives::{Address as EthAddress, B256, Bytes, Log, U256};
use alloy::sol_types::SolEvent;
use convoke_protocol::factors;
use convoke_protocol::ids::{Address, Amount, BlobHash, Digest, Role, RoundId, TaskId};

use super::kinds::{Contract, Event, decode_of};
use crate::abi::administration::{Paused, RoleGranted, RoleRevoked, Unpaused};
use crate::abi::{digest, ours};
use crate::round_types::payouts_of;
use crate::types::role_of_chain;
use crate::{AddressBook, AuditPart, ChainError, Shares, SketchFault, Stage};

/// Makes the enum, and the reading of each variant from the log that its contract emits. Events
/// `at round` have a task and a round before the fields that are written down.
macro_rules! events {
    ($(
        $contract:ident: $(
            $(#[$doc:meta])*
            $name:ident($event:path) $(at $round:ident)? {
                $( $(#[$field_doc:meta])* $field:ident: $type:ty = $source:ident, )*
            }
        )*
    ;)*) => {
        /// Something that happened on the contracts.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        #[serde(tag = "event", rename_all = "snake_case")]
        pub enum Event {
            $($( $(#[$doc])* $name {
                $(
                    /// The task.
                    task: TaskId,
                    /// The round.
                    $round: RoundId,
                )?
                $( $(#[$field_doc])* $field: $type, )*
            }, )*)*
            /// Entry was stopped.
            Paused {
                /// By whom.
                account: Address,
            },
            /// Entry is possible again.
            Unpaused {
                /// By whom.
                account: Address,
            },
            /// An account was given a role.
            RoleGranted {
                /// keccak-256 of the role's name; zero for the administrators'.
                role: Digest,
                /// To whom.
                account: Address,
                /// By whom.
                sender: Address,
            },
            /// An account lost a role.
            RoleRevoked {
                /// keccak-256 of the role's name; zero for the administrators'.
                role: Digest,
                /// Whose.
                account: Address,
                /// By whom; itself if it gave it up.
                sender: Address,
            },
        }

        pub(super) fn decode_of(contract: Contract, log: &Log) -> Result<Option<Event>, ChainError> {
            let Some(signature) = log.topics().first() else {
                return Ok(None);
            };
            match contract {
                $( Contract::$contract => {
                    $( if *signature == <$event as SolEvent>::SIGNATURE_HASH {
                        let event = <$event as SolEvent>::decode_log_data(&log.data)
                            .map_err(|error| unreadable(stringify!($name), &error))?;
                        let decoded = || Some(Event::$name {
                            $(
                                task: <TaskId as Read<_>>::read(event.task)?,
                                $round: <RoundId as Read<_>>::read(event.$round)?,
                            )?
                            $( $field: <$type as Read<_>>::read(event.$source)?, )*
                        });
                        return decoded()
                            .map(Some)
                            .ok_or_else(|| unreadable(stringify!($name), &"value out of range"));
                    } )*
                } )*
            }
            administration(log)
        }

        /// Contract and signature of every event that is read.
        #[cfg(test)]
        fn signatures() -> Vec<(Contract, alloy::primitives::B256)> {
            vec![$($( (Contract::$contract, <$event as SolEvent>::SIGNATURE_HASH), )*)*]
        }
    };
}
pub(super) use events;

/// Reads a log of one of the contracts. `None` for one that says nothing to us, such as a change
/// of who administers a role.
pub(super) fn decode(
    book: &AddressBook,
    log: &Log,
) -> Result<Option<(Contract, Event)>, ChainError> {
    let emitters = [
        (book.stake_manager, Contract::StakeManager),
        (book.task_manager, Contract::TaskManager),
        (book.round_manager, Contract::RoundManager),
        (book.penalty_manager, Contract::PenaltyManager),
    ];
    let audit = book
        .sketch_audit
        .map(|audit| (audit, Contract::SketchAudit));
    let emitter = emitters
        .into_iter()
        .chain(audit)
        .find(|(address, _)| *address == ours(log.address));
    let Some((_, contract)) = emitter else {
        return Ok(None);
    };
    Ok(decode_of(contract, log)?.map(|event| (contract, event)))
}

/// What the managers have of OpenZeppelin.
pub(super) fn administration(log: &Log) -> Result<Option<Event>, ChainError> {
    let Some(signature) = log.topics().first() else {
        return Ok(None);
    };
    let wrong = |error: alloy::sol_types::Error| unreadable("of the administration", &error);
    Ok(Some(match *signature {
        Paused::SIGNATURE_HASH => Event::Paused {
            account: ours(Paused::decode_log_data(&log.data).map_err(wrong)?.account),
        },
        Unpaused::SIGNATURE_HASH => Event::Unpaused {
            account: ours(Unpaused::decode_log_data(&log.data).map_err(wrong)?.account),
        },
        RoleGranted::SIGNATURE_HASH => {
            let event = RoleGranted::decode_log_data(&log.data).map_err(wrong)?;
            Event::RoleGranted {
                role: digest(event.role),
                account: ours(event.account),
                sender: ours(event.sender),
            }
        }
        RoleRevoked::SIGNATURE_HASH => {
            let event = RoleRevoked::decode_log_data(&log.data).map_err(wrong)?;
            Event::RoleRevoked {
                role: digest(event.role),
                account: ours(event.account),
                sender: ours(event.sender),
            }
        }
        _ => return Ok(None),
    }))
}

pub(super) fn unreadable(event: &str, reason: &dyn std::fmt::Display) -> ChainError {
    ChainError::Unexpected(format!("log {event}: {reason}"))
}

/// A value of a log in our types; `None` if it is out of range.
pub(super) trait Read<T>: Sized {
    fn read(value: T) -> Option<Self>;
}

macro_rules! reads {
    ($($from:ty => $to:ty: $read:expr;)*) => {
        $( impl Read<$from> for $to {
            fn read(value: $from) -> Option<Self> {
                let read: fn($from) -> Option<$to> = $read;
                read(value)
            }
        } )*
    };
}

reads! {
    u64 => TaskId: |id| Some(TaskId(id));
    u32 => RoundId: |id| Some(RoundId(id));
    u16 => u16: Some;
    u32 => u32: Some;
    u64 => u64: Some;
    u8 => Role: role_of_chain;
    u8 => Stage: Stage::of_chain;
    u8 => SketchFault: SketchFault::of_chain;
    u8 => AuditPart: AuditPart::of_chain;
    U256 => u64: |number| u64::try_from(number).ok();
    u128 => Amount: |amount| Some(Amount(amount));
    U256 => Shares: |shares| Some(Shares(shares));
    EthAddress => Address: |address| Some(ours(address));
    B256 => Digest: |hash| Some(digest(hash));
    B256 => BlobHash: |hash| Some(BlobHash(hash.0));
    Bytes => Vec<u16>: |bytes| factors::decode(&bytes);
    Bytes => Vec<(Address, Amount)>: |bytes| payouts_of(&bytes);
}
