//! Chains by name: what a deployment on them needs to know, as their projects document it.

use std::fmt;
use std::str::FromStr;

use convoke_devnet::DEFAULT_CHAIN_ID;
use serde::Serialize;

use crate::money::Unit;

/// A chain that is known by name.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Preset {
    /// As typed: `base-sepolia`.
    pub(crate) name: &'static str,
    /// As its project writes it.
    pub(crate) title: &'static str,
    /// EIP-155 chain id.
    pub(crate) chain_id: u64,
    /// Public JSON-RPC endpoint. Those of live chains are rate-limited: for more than a look, run
    /// a node or rent one, and name it with `--rpc`.
    pub(crate) rpc: &'static str,
    /// Where transactions can be looked at.
    pub(crate) explorer: Option<&'static str>,
    /// The coin that pays for gas; 18 decimal places.
    pub(crate) coin: &'static str,
    /// Blocks on top of one before what it says counts as certain.
    pub(crate) confirmations: u32,
    /// Whether its coins are worth nothing.
    pub(crate) is_test: bool,
}

/// All of them.
pub(crate) const PRESETS: [Preset; 6] = [
    Preset {
        name: "devnet",
        title: "the chain of `convoke devnet`",
        chain_id: DEFAULT_CHAIN_ID,
        rpc: "http://127.0.0.1:8545",
        explorer: None,
        coin: "ETH",
        confirmations: 0,
        is_test: true,
    },
    Preset {
        name: "anvil",
        title: "Foundry's anvil",
        chain_id: 31_337,
        rpc: "http://127.0.0.1:8545",
        explorer: None,
        coin: "ETH",
        confirmations: 0,
        is_test: true,
    },
    // docs.base.org, "Connect to Base". Blocks come every two seconds, from one sequencer.
    Preset {
        name: "base",
        title: "Base",
        chain_id: 8_453,
        rpc: "https://mainnet.base.org",
        explorer: Some("https://basescan.org"),
        coin: "ETH",
        confirmations: 5,
        is_test: false,
    },
    Preset {
        name: "base-sepolia",
        title: "Base Sepolia",
        chain_id: 84_532,
        rpc: "https://sepolia.base.org",
        explorer: Some("https://sepolia.basescan.org"),
        coin: "ETH",
        confirmations: 5,
        is_test: true,
    },
    // docs.thetatoken.org, "TNT20 Token Integration Guide". A block is final with the next one.
    Preset {
        name: "theta",
        title: "Theta",
        chain_id: 361,
        rpc: "https://eth-rpc-api.thetatoken.org/rpc",
        explorer: Some("https://explorer.thetatoken.org"),
        coin: "TFUEL",
        confirmations: 2,
        is_test: false,
    },
    Preset {
        name: "theta-testnet",
        title: "Theta testnet",
        chain_id: 365,
        rpc: "https://eth-rpc-api-testnet.thetatoken.org/rpc",
        explorer: Some("https://testnet-explorer.thetatoken.org"),
        coin: "TFUEL",
        confirmations: 2,
        is_test: true,
    },
];

/// The coin of a chain; of an unknown one only that it is one.
pub(crate) fn coin_of(chain_id: u64) -> Unit {
    let preset = PRESETS.iter().find(|preset| preset.chain_id == chain_id);
    Unit::coin(preset.map_or("coin", |preset| preset.coin))
}

/// A preset by its name, as an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Named(pub(crate) &'static Preset);

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let names: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
        PRESETS
            .iter()
            .find(|preset| preset.name == text)
            .map(Named)
            .ok_or_else(|| format!("there are {}", names.join(", ")))
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_chains_asked_for_are_there() {
        let id = |name: &str| name.parse::<Named>().unwrap().0.chain_id;
        assert_eq!(
            [
                "devnet",
                "anvil",
                "base",
                "base-sepolia",
                "theta",
                "theta-testnet"
            ]
            .map(id),
            [31_337, 31_337, 8_453, 84_532, 361, 365]
        );
        let error = "ethereum".parse::<Named>().unwrap_err();
        assert!(error.contains("theta-testnet"), "{error}");
    }

    #[test]
    fn live_chains_are_reached_by_https_and_can_be_looked_at() {
        for preset in PRESETS.iter().filter(|preset| preset.explorer.is_some()) {
            assert!(preset.rpc.starts_with("https://"), "{preset:?}");
            assert!(preset.confirmations > 0, "{preset:?}");
        }
    }

    #[test]
    fn an_unknown_chain_has_a_coin_without_a_name() {
        assert_eq!(coin_of(361).symbol, "TFUEL");
        assert_eq!(coin_of(1).symbol, "coin");
    }
}
