//! The methods, by name.

use alloy_consensus::Transaction as _;
use alloy_eips::eip4895::Withdrawals;
use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_primitives::{Address, B256, Bytes, TxKind, U64, keccak256};
use alloy_rpc_types_eth::{
    Block as RpcBlock, BlockTransactions, FeeHistory, Filter, Header as RpcHeader, Transaction,
    TransactionReceipt, TransactionRequest,
};
use revm::context::result::ExecutionResult;
use serde_json::{Value, json};

use super::filter::{self, logs, logs_of};
use super::node::Node;
use super::params::Params;
use crate::chain::{BASE_FEE, Block, Call, Chain, Mined, TRANSACTION_GAS_MAX};
use crate::error::RpcError;

/// The priority fee that clients are told to pay, in wei.
const PRIORITY_FEE: u64 = 1_000_000_000;

/// Blocks in one fee history at most.
const FEE_BLOCKS_MAX: u64 = 1_024;

/// Runs one method.
pub(super) fn call(node: &mut Node, method: &str, params: Vec<Value>) -> Result<Value, RpcError> {
    let mut params = Params::new(params);
    let chain = &node.chain;
    match method {
        "web3_clientVersion" => Ok(json!(concat!("convoke-devnet/", env!("CARGO_PKG_VERSION")))),
        "web3_sha3" => Ok(json!(keccak256(params.next::<Bytes>()?))),
        "net_version" => Ok(json!(chain.chain_id().to_string())),
        "net_listening" => Ok(json!(true)),
        "eth_chainId" => Ok(json!(U64::from(chain.chain_id()))),
        "eth_blockNumber" => Ok(json!(U64::from(chain.height()))),
        "eth_syncing" => Ok(json!(false)),
        "eth_accounts" => Ok(json!([])),
        "eth_gasPrice" => Ok(json!(U64::from(BASE_FEE + PRIORITY_FEE))),
        "eth_maxPriorityFeePerGas" => Ok(json!(U64::from(PRIORITY_FEE))),
        "eth_feeHistory" => fee_history(chain, &mut params),
        "eth_getBalance" => Ok(json!(chain.account(latest(chain, &mut params)?).balance)),
        "eth_getCode" => Ok(json!(chain.code(latest(chain, &mut params)?))),
        "eth_getTransactionCount" => Ok(json!(U64::from(
            chain.account(latest(chain, &mut params)?).nonce
        ))),
        "eth_getStorageAt" => {
            let (address, slot) = (params.next()?, params.next()?);
            at_latest(chain, params.optional()?)?;
            Ok(json!(B256::from(chain.storage(address, slot))))
        }
        "eth_getBlockByNumber" => {
            let number = filter::number(chain, Some(params.next::<BlockNumberOrTag>()?));
            block(chain.block(number), params.optional()?)
        }
        "eth_getBlockByHash" => block(chain.block_by_hash(&params.next()?), params.optional()?),
        "eth_getBlockReceipts" => block_receipts(chain, &mut params),
        "eth_getTransactionByHash" => {
            let mined = chain.mined(&params.next()?);
            Ok(json!(mined.map(|(block, mined)| transaction(block, mined))))
        }
        "eth_getTransactionReceipt" => {
            let mined = chain.mined(&params.next()?);
            Ok(json!(mined.map(|(block, mined)| receipt(block, mined))))
        }
        "eth_getLogs" => Ok(json!(logs(chain, &params.next::<Filter>()?)?)),
        "eth_call" => {
            let call = call_of(chain, &mut params)?;
            output(chain.call(&call, node.now())?).map(|output| json!(output))
        }
        "eth_estimateGas" => {
            let call = call_of(chain, &mut params)?;
            Ok(json!(U64::from(estimate(chain, &call, node.now())?)))
        }
        "eth_sendRawTransaction" => Ok(json!(node.send(params.next()?)?)),
        _ => administer(node, method, params),
    }
}

/// Methods that no real chain has.
fn administer(node: &mut Node, method: &str, mut params: Params) -> Result<Value, RpcError> {
    match method {
        "evm_mine" => node.mine().map(|()| json!("0x0")),
        "evm_increaseTime" => Ok(json!(node.increase_time(seconds(&mut params)?)?)),
        "evm_setNextBlockTimestamp" => node
            .set_next_timestamp(seconds(&mut params)?)
            .map(|()| Value::Null),
        "evm_snapshot" => Ok(json!(U64::from(node.snapshot()))),
        "evm_revert" => Ok(json!(node.revert(params.next::<U64>()?.to())?)),
        "anvil_setBalance" | "hardhat_setBalance" => node
            .set_balance(params.next()?, params.next()?)
            .map(|()| Value::Null),
        _ => Err(RpcError::new(
            -32601,
            format!("the method {method} does not exist"),
        )),
    }
}

/// Seconds as a number or in hex.
fn seconds(params: &mut Params) -> Result<u64, RpcError> {
    match params.next::<Value>()? {
        Value::Number(number) => number
            .as_u64()
            .ok_or_else(|| RpcError::params("no seconds")),
        other => serde_json::from_value::<U64>(other)
            .map(|s| s.to())
            .map_err(RpcError::params),
    }
}

/// An address, and a block that must be the newest.
fn latest(chain: &Chain, params: &mut Params) -> Result<Address, RpcError> {
    let address = params.next()?;
    at_latest(chain, params.optional()?)?;
    Ok(address)
}

/// Only the newest state is kept.
fn at_latest(chain: &Chain, block: Option<BlockId>) -> Result<(), RpcError> {
    let wanted = match block {
        None => return Ok(()),
        Some(BlockId::Number(number)) => Some(filter::number(chain, Some(number))),
        Some(BlockId::Hash(hash)) => chain
            .block_by_hash(&hash.block_hash)
            .map(|block| block.header.number),
    };
    if wanted == Some(chain.height()) {
        return Ok(());
    }
    Err(RpcError::new(
        -32000,
        "only the newest block's state is kept by this devnet",
    ))
}

/// A request, a block that must be the newest, and accounts as the call is to find them.
fn call_of(chain: &Chain, params: &mut Params) -> Result<Call, RpcError> {
    let request: TransactionRequest = params.next()?;
    at_latest(chain, params.optional()?)?;
    let overrides = params.optional()?.unwrap_or_default();
    let data = request
        .input
        .clone()
        .try_into_unique_input()
        .map_err(RpcError::params)?;
    Ok(Call {
        from: request.from.unwrap_or_default(),
        to: request.to.unwrap_or(TxKind::Create),
        value: request.value.unwrap_or_default(),
        data: data.unwrap_or_default(),
        gas: request
            .gas
            .map_or(TRANSACTION_GAS_MAX, |gas| gas.min(TRANSACTION_GAS_MAX)),
        overrides,
    })
}

fn output(result: ExecutionResult) -> Result<Bytes, RpcError> {
    match result {
        ExecutionResult::Success { output, .. } => Ok(output.into_data()),
        ExecutionResult::Revert { output, .. } => Err(RpcError::reverted(output)),
        ExecutionResult::Halt { reason, .. } => {
            Err(RpcError::rejected(format!("execution halted: {reason:?}")))
        }
    }
}

/// The least gas with which the call succeeds, within one part in 64.
fn estimate(chain: &Chain, call: &Call, now: u64) -> Result<u64, RpcError> {
    let result = chain.call(call, now)?;
    let used = result.tx_gas_used();
    output(result)?;
    let succeeds = |gas: u64| {
        let attempt = chain.call(
            &Call {
                gas,
                ..call.clone()
            },
            now,
        );
        attempt.is_ok_and(|result| result.is_success())
    };
    // A plain transfer needs exactly what it uses.
    let plain = call.to.to().is_some_and(|to| chain.code(*to).is_empty());
    if plain && succeeds(used) {
        return Ok(used);
    }
    let (mut low, mut high) = (used.saturating_sub(1), call.gas);
    while high - low > high / 64 + 1 {
        let middle = low + (high - low) / 2;
        if succeeds(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    Ok(high)
}

fn fee_history(chain: &Chain, params: &mut Params) -> Result<Value, RpcError> {
    let asked = match params.next::<Value>()? {
        Value::Number(number) => number.as_u64().unwrap_or(1),
        other => serde_json::from_value::<U64>(other)
            .map_err(RpcError::params)?
            .to(),
    };
    let newest = filter::number(chain, params.optional()?).min(chain.height());
    let percentiles: Option<Vec<f64>> = params.optional()?;
    let count = asked.clamp(1, FEE_BLOCKS_MAX).min(newest + 1);
    let oldest = newest + 1 - count;
    let ratio = |number| {
        chain.block(number).map_or(0.0, |b| {
            b.header.gas_used as f64 / b.header.gas_limit as f64
        })
    };
    let blocks = usize::try_from(count).unwrap_or_default();
    let rewards =
        percentiles.map(|p| vec![vec![u128::from(PRIORITY_FEE); p.len().min(100)]; blocks]);
    Ok(json!(FeeHistory {
        base_fee_per_gas: vec![u128::from(BASE_FEE); blocks + 1],
        gas_used_ratio: (oldest..=newest).map(ratio).collect(),
        base_fee_per_blob_gas: vec![1; blocks + 1],
        blob_gas_used_ratio: vec![0.0; blocks],
        oldest_block: oldest,
        reward: rewards,
    }))
}

fn block(block: Option<&Block>, full: Option<bool>) -> Result<Value, RpcError> {
    Ok(json!(
        block.map(|block| rpc_block(block, full.unwrap_or(false)))
    ))
}

fn rpc_block(block: &Block, full: bool) -> RpcBlock {
    let mined = block.transaction.iter();
    let transactions = if full {
        BlockTransactions::Full(mined.map(|mined| transaction(block, mined)).collect())
    } else {
        BlockTransactions::Hashes(mined.map(|mined| *mined.transaction.tx_hash()).collect())
    };
    let header = RpcHeader::from_consensus(block.header.clone(), None, None);
    RpcBlock {
        header,
        uncles: Vec::new(),
        transactions,
        withdrawals: Some(Withdrawals::default()),
    }
}

fn transaction(block: &Block, mined: &Mined) -> Transaction {
    Transaction {
        inner: mined.transaction.clone(),
        block_hash: Some(block.header.hash()),
        block_number: Some(block.header.number),
        transaction_index: Some(0),
        effective_gas_price: Some(mined.effective_gas_price),
        block_timestamp: Some(block.header.timestamp),
    }
}

fn receipt(block: &Block, mined: &Mined) -> TransactionReceipt {
    let mut logs = logs_of(block);
    TransactionReceipt {
        inner: mined
            .receipt
            .clone()
            .map_logs(|_| logs.next().unwrap_or_default()),
        transaction_hash: *mined.transaction.tx_hash(),
        transaction_index: Some(0),
        block_hash: Some(block.header.hash()),
        block_number: Some(block.header.number),
        gas_used: mined.gas_used,
        effective_gas_price: mined.effective_gas_price,
        blob_gas_used: None,
        blob_gas_price: None,
        from: mined.transaction.signer(),
        to: mined.transaction.to(),
        contract_address: mined.contract_address,
    }
}

fn block_receipts(chain: &Chain, params: &mut Params) -> Result<Value, RpcError> {
    let block = match params.next::<BlockId>()? {
        BlockId::Number(number) => chain.block(filter::number(chain, Some(number))),
        BlockId::Hash(hash) => chain.block_by_hash(&hash.block_hash),
    };
    let receipts = block.map(|block| {
        block
            .transaction
            .iter()
            .map(|mined| receipt(block, mined))
            .collect::<Vec<_>>()
    });
    Ok(json!(receipts))
}
