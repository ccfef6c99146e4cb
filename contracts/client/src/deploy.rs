//! A new deployment: token, stake manager, task manager, and the link between the two.

use alloy::network::TransactionBuilder;
use alloy::primitives::U256;
use alloy::rpc::types::TransactionRequest;
use alloy::sol_types::SolValue;
use convoke_protocol::identity::Wallet;
use convoke_protocol::ids::{Address, Amount};

use crate::abi::stake_manager::StakeManager;
use crate::abi::task_manager::TaskManager;
use crate::abi::token::ConvokeToken;
use crate::abi::{eth, ours};
use crate::connection::Link;
use crate::{AddressBook, Chain, ChainError};

/// What is decided at deployment, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeployOptions {
    /// Tokens minted to the deployer, in base units. The token has 18 decimals.
    pub initial_supply: Amount,
    /// From the request to the withdrawal of stake, in seconds, at most 90 days. It also bounds
    /// the dispute windows of all tasks.
    pub unbonding_seconds: u32,
}

impl Chain {
    /// Deploys a devnet token and the contracts around it with four transactions.
    ///
    /// # Errors
    /// [`ChainError::Unreachable`], or [`ChainError::Refused`] when the wallet cannot pay the gas.
    pub async fn deploy(
        rpc: &str,
        wallet: &Wallet,
        options: DeployOptions,
    ) -> Result<AddressBook, ChainError> {
        let link = Link::open(rpc, Some(wallet)).await?;
        let supply = U256::from(options.initial_supply.0).abi_encode();
        let (token, deployed_block) = link
            .create("deployment of the token", &ConvokeToken::BYTECODE, supply)
            .await?;
        let (stake_manager, _) = link
            .create(
                "deployment of the stake manager",
                &StakeManager::BYTECODE,
                (eth(token), options.unbonding_seconds).abi_encode_params(),
            )
            .await?;
        let (task_manager, _) = link
            .create(
                "deployment of the task manager",
                &TaskManager::BYTECODE,
                (eth(token), eth(stake_manager)).abi_encode_params(),
            )
            .await?;
        let call = StakeManager::linkTaskManagerCall {
            taskManager_: eth(task_manager),
        };
        link.send(stake_manager, &call).await?;
        Ok(AddressBook {
            chain_id: link.chain_id,
            rpc: rpc.to_owned(),
            token,
            stake_manager,
            task_manager,
            deployed_block,
        })
    }
}

impl Link {
    async fn create(
        &self,
        what: &'static str,
        bytecode: &[u8],
        arguments: Vec<u8>,
    ) -> Result<(Address, u64), ChainError> {
        let code = [bytecode, &arguments].concat();
        let receipt = self
            .transact(what, TransactionRequest::default().with_deploy_code(code))
            .await?;
        let address = receipt
            .contract_address
            .ok_or_else(|| ChainError::Unexpected(format!("{what} made no contract")))?;
        Ok((ours(address), receipt.block_number.unwrap_or_default()))
    }
}
