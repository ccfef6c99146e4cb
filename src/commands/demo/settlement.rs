//! The end of the money: the rest is refunded, and what everybody got is read from the chain.

use anyhow::{Context as _, ensure};
use convoke_protocol::ids::{Address, Amount};

use super::setup::Stage;
use crate::commands::task;

/// Where the escrow went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Money {
    /// What the creator put in.
    pub(crate) escrow_in: Amount,
    /// Paid out to accounts.
    pub(crate) paid_out: Amount,
    /// Paid back to the creator.
    pub(crate) refunded: Amount,
    /// Claimed, and waiting for its release.
    pub(crate) vesting: Amount,
    /// What each account got.
    pub(crate) accounts: Vec<Account>,
}

/// One account's pay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    /// Whose.
    pub(crate) address: Address,
    /// Tokens that it holds: it came with its stake alone, so all of them are pay.
    pub(crate) paid: Amount,
    /// Still vesting.
    pub(crate) vesting: Amount,
}

/// Refunds the rest and reads all balances.
///
/// # Errors
/// If the money does not add up to the unit.
pub(crate) async fn settle(stage: &Stage) -> anyhow::Result<Money> {
    task::refund(&stage.chain, stage.task).await?;
    let balances = stage.chain.balances(stage.task).await?;
    let mut accounts = Vec::new();
    for player in stage.cast.players() {
        let address = player.address();
        accounts.push(Account {
            address,
            paid: stage.chain.token_balance(address).await?,
            vesting: stage.chain.vesting_of(stage.task, address).await?,
        });
    }
    ensure!(
        balances.held == Amount::ZERO,
        "the money does not add up: {} base units were never claimed",
        balances.held
    );
    let money = Money {
        escrow_in: balances.escrowed,
        paid_out: balances.paid,
        refunded: balances.refunded,
        vesting: balances.vesting,
        accounts,
    };
    money.check()?;
    Ok(money)
}

impl Money {
    /// Checks that nothing was lost and nothing made: in the whole, and account by account.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let out = self
            .paid_out
            .checked_add(self.refunded)
            .and_then(|sum| sum.checked_add(self.vesting))
            .context("the money does not add up: the sum is too large")?;
        ensure!(
            out == self.escrow_in,
            "the money does not add up: {} base units went in, {out} came out",
            self.escrow_in
        );
        let paid: Amount = self.accounts.iter().map(|account| account.paid).sum();
        let vesting: Amount = self.accounts.iter().map(|account| account.vesting).sum();
        ensure!(
            paid == self.paid_out && vesting == self.vesting,
            "the money does not add up: the accounts have {paid} and {vesting} vesting, \
             the task paid {} and has {} vesting",
            self.paid_out,
            self.vesting
        );
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn money(addresses: &[Address]) -> Money {
        let account = |address: &Address| Account {
            address: *address,
            paid: Amount(80),
            vesting: Amount(20),
        };
        let count = addresses.len() as u128;
        Money {
            escrow_in: Amount(count * 100 + 7),
            paid_out: Amount(count * 80),
            refunded: Amount(7),
            vesting: Amount(count * 20),
            accounts: addresses.iter().map(account).collect(),
        }
    }

    #[test]
    fn money_that_adds_up_passes() {
        money(&[Address([1; 20]), Address([2; 20])])
            .check()
            .unwrap();
        money(&[]).check().unwrap();
    }

    #[test]
    fn one_unit_too_many_or_too_few_is_noticed() {
        let good = money(&[Address([1; 20])]);
        let spoil: [fn(&mut Money); 4] = [
            |m| m.escrow_in.0 += 1,
            |m| m.refunded.0 -= 1,
            |m| m.accounts[0].paid.0 += 1,
            |m| m.accounts[0].vesting.0 -= 1,
        ];
        for spoil in spoil {
            let mut bad = good.clone();
            spoil(&mut bad);
            assert!(bad.check().unwrap_err().to_string().contains("add up"));
        }
    }
}
