//! Who takes part in the task.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Event, Fault};
use crate::ids::{Address, Amount, Role};
use crate::message::Notice;

/// Nodes that a task remembers at most, connected or not.
pub const MEMBERS_MAX: usize = 4_096;

/// Enrolled trainers and validators by address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Members {
    by_address: BTreeMap<Address, Member>,
}

/// One node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Member {
    /// What it joined as.
    pub role: Role,
    /// Its stake in the task.
    pub stake: Amount,
    /// Whether it is connected now.
    pub present: bool,
}

/// One entry as it was, to be put back if an event is refused.
#[derive(Clone, Copy)]
pub(super) struct Before(Option<(Address, Option<Member>)>);

impl Members {
    /// The node, if it has joined.
    #[must_use]
    pub fn find(&self, address: Address) -> Option<&Member> {
        self.by_address.get(&address)
    }

    /// All nodes that ever joined.
    pub fn addresses(&self) -> impl Iterator<Item = Address> + '_ {
        self.by_address.keys().copied()
    }

    /// Connected nodes of a role with their stakes, by address.
    pub fn present(&self, role: Role) -> impl Iterator<Item = (Address, Amount)> + '_ {
        self.by_address
            .iter()
            .filter(move |(_, member)| member.present && member.role == role)
            .map(|(address, member)| (*address, member.stake))
    }

    /// The stake of a node, 0 if it is unknown.
    #[must_use]
    pub fn stake(&self, address: Address) -> Amount {
        self.find(address)
            .map_or(Amount::ZERO, |member| member.stake)
    }

    /// Checks that `address` has joined in `role`.
    pub(super) fn expect(&self, address: Address, needed: Role) -> Result<(), Fault> {
        match self.find(address) {
            None => Err(Fault::NotAMember(address)),
            Some(member) if member.role != needed => Err(Fault::WrongRole {
                address,
                joined: member.role,
                needed,
            }),
            Some(_) => Ok(()),
        }
    }

    /// Checks a change of membership before it is made.
    pub(super) fn check(&self, event: &Event) -> Result<(), Fault> {
        match event {
            // Observers watch without being members; there is one aggregator, and it is us.
            Event::Joined {
                address,
                role: role @ (Role::Observer | Role::Aggregator),
                ..
            } => Err(Fault::WrongRole {
                address: *address,
                joined: *role,
                needed: Role::Trainer,
            }),
            Event::Joined { address, role, .. } => match self.find(*address) {
                Some(member) if member.role != *role => Err(Fault::WrongRole {
                    address: *address,
                    joined: member.role,
                    needed: *role,
                }),
                None if self.by_address.len() >= MEMBERS_MAX => Err(Fault::Full),
                _ => Ok(()),
            },
            Event::Left { address } => match self.find(*address) {
                Some(member) if member.present => Ok(()),
                _ => Err(Fault::NotAMember(*address)),
            },
            _ => Ok(()),
        }
    }

    pub(super) fn apply(&mut self, event: &Event) -> Before {
        let address = match event {
            Event::Joined { address, .. } | Event::Left { address } => *address,
            // A restarted driver has no connections.
            Event::Restarted => {
                self.by_address
                    .values_mut()
                    .for_each(|member| member.present = false);
                return Before(None);
            }
            _ => return Before(None),
        };
        let before = self.by_address.get(&address).copied();
        if let Event::Joined { role, stake, .. } = event {
            let member = Member {
                role: *role,
                stake: *stake,
                present: true,
            };
            self.by_address.insert(address, member);
        } else if let Some(member) = self.by_address.get_mut(&address) {
            member.present = false;
        }
        Before(Some((address, before)))
    }

    pub(super) fn restore(&mut self, before: Before) {
        match before.0 {
            Some((address, Some(member))) => {
                self.by_address.insert(address, member);
            }
            Some((address, None)) => {
                self.by_address.remove(&address);
            }
            None => {}
        }
    }

    pub(super) fn notice(&self, event: &Event) -> Option<Notice> {
        let count = |role| u32::try_from(self.present(role).count()).unwrap_or(u32::MAX);
        matches!(event, Event::Joined { .. } | Event::Left { .. }).then(|| Notice::Membership {
            trainers: count(Role::Trainer),
            validators: count(Role::Validator),
        })
    }
}
