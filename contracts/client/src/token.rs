//! Balances and transfers: the token's, and the chain's own coin that pays for gas.

use alloy::primitives::U256;
use alloy::providers::Provider;
use convoke_protocol::ids::{Address, Amount};

use crate::abi::token::ConvokeToken;
use crate::abi::{amount, eth};
use crate::{Chain, ChainError};

impl Chain {
    /// Tokens of an account, in base units.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`], [`ChainError::AmountTooLarge`].
    pub async fn token_balance(&self, account: Address) -> Result<Amount, ChainError> {
        let call = ConvokeToken::balanceOfCall {
            account: eth(account),
        };
        amount(self.link().call(self.book().token, &call).await?)
    }

    /// The token's symbol and its number of decimals.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`].
    pub async fn token_symbol_decimals(&self) -> Result<(String, u8), ChainError> {
        let (link, token) = (self.link(), self.book().token);
        let symbol = link.call(token, &ConvokeToken::symbolCall {}).await?;
        let decimals = link.call(token, &ConvokeToken::decimalsCall {}).await?;
        Ok((symbol, decimals))
    }

    /// Sends tokens of the wallet, in base units.
    ///
    /// # Errors
    /// [`ChainError::Reverted`] when the wallet holds too few; errors of any transaction.
    pub async fn transfer_token(&self, to: Address, amount: Amount) -> Result<(), ChainError> {
        let call = ConvokeToken::transferCall {
            to: eth(to),
            value: U256::from(amount.0),
        };
        self.link().send(self.book().token, &call).await?;
        Ok(())
    }

    /// The chain's own coin of an account, in wei.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`], [`ChainError::AmountTooLarge`].
    pub async fn native_balance(&self, account: Address) -> Result<Amount, ChainError> {
        let link = self.link();
        let wei = link
            .read("eth_getBalance", || async {
                link.provider.get_balance(eth(account)).await
            })
            .await?;
        amount(wei)
    }

    /// Sends the chain's own coin, in wei, for others to pay gas with.
    ///
    /// # Errors
    /// Errors of any transaction.
    pub async fn transfer_native(&self, to: Address, wei: Amount) -> Result<(), ChainError> {
        self.link().send_native(to, wei.0).await?;
        Ok(())
    }

    /// Lets `spender` pull exactly `amount`, after a look at what the wallet holds: the error is
    /// clearer than a token's.
    pub(crate) async fn approve(&self, spender: Address, needed: Amount) -> Result<(), ChainError> {
        let owner = self
            .wallet_address()
            .ok_or(ChainError::NoWallet { call: "approve" })?;
        let balance = self.token_balance(owner).await?;
        if balance < needed {
            return Err(ChainError::NotEnoughTokens {
                account: owner,
                balance,
                needed,
            });
        }
        let (link, token) = (self.link(), self.book().token);
        let query = ConvokeToken::allowanceCall {
            owner: eth(owner),
            spender: eth(spender),
        };
        let allowed: U256 = link.call(token, &query).await?;
        if allowed >= U256::from(needed.0) {
            return Ok(());
        }
        // Some tokens refuse to change an allowance that is not zero.
        if !allowed.is_zero() {
            let call = ConvokeToken::approveCall {
                spender: eth(spender),
                value: U256::ZERO,
            };
            sent_or_previewed(link.send(token, &call).await)?;
        }
        let value = U256::from(needed.0);
        let call = ConvokeToken::approveCall {
            spender: eth(spender),
            value,
        };
        sent_or_previewed(link.send(token, &call).await)?;
        link.imitate_approval(token, owner, spender, value).await
    }
}

/// What needs the approval is tried after it.
fn sent_or_previewed<T>(outcome: Result<T, ChainError>) -> Result<(), ChainError> {
    match outcome {
        Ok(_) | Err(ChainError::Previewed) => Ok(()),
        Err(error) => Err(error),
    }
}
