//! What is offered for gas.

use alloy::network::TransactionBuilder;
use alloy::providers::Provider;
use alloy::rpc::types::TransactionRequest;

use crate::ChainError;
use crate::connection::Link;

/// Tip where the chain suggests none, in wei.
const TIP_DEFAULT: u128 = 1_000_000_000;

/// Wei for one gas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fees {
    /// On a chain whose blocks have no base fee.
    Legacy { price: u128 },
    /// EIP-1559.
    Dynamic { max: u128, tip: u128 },
}

impl Fees {
    pub(crate) fn applied(self, request: TransactionRequest) -> TransactionRequest {
        match self {
            Self::Legacy { price } => request.with_gas_price(price),
            Self::Dynamic { max, tip } => request
                .with_max_priority_fee_per_gas(tip)
                .with_max_fee_per_gas(max),
        }
    }

    /// The most that one gas can cost.
    pub(crate) fn most(self) -> u128 {
        match self {
            Self::Legacy { price } => price,
            Self::Dynamic { max, .. } => max,
        }
    }

    /// An eighth more, which nodes ask of a replacement, and not less than what is usual now.
    pub(crate) fn bumped(self, now: Self) -> Self {
        match (self, now) {
            (
                Self::Dynamic { max, tip },
                Self::Dynamic {
                    max: usual,
                    tip: usual_tip,
                },
            ) => {
                let tip = raised(tip).max(usual_tip);
                Self::Dynamic {
                    max: raised(max).max(usual).max(tip),
                    tip,
                }
            }
            (old, now) => Self::Legacy {
                price: raised(old.most()).max(now.most()),
            },
        }
    }
}

/// An eighth more, rounded up.
fn raised(fee: u128) -> u128 {
    fee.saturating_add(fee.div_ceil(8)).max(1)
}

impl Link {
    /// Room for the base fee to double, or a plain gas price where blocks have no base fee.
    pub(crate) async fn fees(&self, what: &'static str) -> Result<Fees, ChainError> {
        let latest = alloy::eips::BlockId::latest();
        let block = self
            .read(what, || async { self.provider.get_block(latest).await })
            .await?;
        let Some(base_fee) = block.and_then(|block| block.header.base_fee_per_gas) else {
            let price = self
                .read(what, || async { self.provider.get_gas_price().await })
                .await?;
            return Ok(Fees::Legacy { price });
        };
        let tip = self
            .read(what, || async {
                self.provider.get_max_priority_fee_per_gas().await
            })
            .await;
        let tip = match tip {
            Ok(tip) => tip,
            // An endpoint without the method; anything else is an error.
            Err(ChainError::Refused { .. }) => TIP_DEFAULT,
            Err(error) => return Err(error),
        };
        let max = u128::from(base_fee).saturating_mul(2).saturating_add(tip);
        Ok(Fees::Dynamic { max, tip })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replacement_pays_an_eighth_more_at_least() {
        let old = Fees::Dynamic { max: 81, tip: 8 };
        let cheaper = Fees::Dynamic { max: 1, tip: 1 };
        assert_eq!(old.bumped(cheaper), Fees::Dynamic { max: 92, tip: 9 });
        let dearer = Fees::Dynamic { max: 200, tip: 10 };
        assert_eq!(old.bumped(dearer), dearer);
        let free = Fees::Legacy { price: 0 };
        assert_eq!(free.bumped(free), Fees::Legacy { price: 1 });
        let most = Fees::Legacy { price: u128::MAX };
        assert_eq!(most.bumped(most), most);
    }
}
