//! `eth_getLogs`.

use alloy_eips::BlockNumberOrTag;
use alloy_rpc_types_eth::{Filter, FilterBlockOption, Log};

use crate::chain::{Block, Chain};
use crate::error::RpcError;

/// Logs in one answer at most.
const LOGS_MAX: usize = 10_000;

/// The logs that a filter selects, in order.
pub(super) fn logs(chain: &Chain, filter: &Filter) -> Result<Vec<Log>, RpcError> {
    let (first, last) = match filter.block_option {
        FilterBlockOption::AtBlockHash(hash) => {
            let block = chain
                .block_by_hash(&hash)
                .ok_or_else(|| RpcError::new(-32001, "unknown block"))?;
            (block.header.number, block.header.number)
        }
        FilterBlockOption::Range {
            from_block,
            to_block,
        } => (number(chain, from_block), number(chain, to_block)),
    };
    if let FilterBlockOption::Range {
        from_block: Some(BlockNumberOrTag::Number(from)),
        to_block: Some(BlockNumberOrTag::Number(to)),
    } = filter.block_option
        && from > to
    {
        return Err(RpcError::params("the first block lies behind the last"));
    }
    // From a block that is still to come up to the newest: no logs yet.
    let mut found = Vec::new();
    for block in (first..=last.min(chain.height())).filter_map(|number| chain.block(number)) {
        found.extend(logs_of(block).filter(|log| filter.rpc_matches(log)));
        if found.len() > LOGS_MAX {
            return Err(RpcError::new(
                -32005,
                format!("query returned more than {LOGS_MAX} results"),
            ));
        }
    }
    Ok(found)
}

/// The logs of a block as clients see them.
pub(super) fn logs_of(block: &Block) -> impl Iterator<Item = Log> + '_ {
    let mined = block.transaction.iter();
    mined.flat_map(move |mined| {
        let hash = *mined.transaction.tx_hash();
        (0u64..)
            .zip(mined.receipt.logs())
            .map(move |(index, log)| Log {
                inner: log.clone(),
                block_hash: Some(block.header.hash()),
                block_number: Some(block.header.number),
                block_timestamp: Some(block.header.timestamp),
                transaction_hash: Some(hash),
                transaction_index: Some(0),
                log_index: Some(index),
                removed: false,
            })
    })
}

/// A block's number; without one, the newest.
pub(super) fn number(chain: &Chain, block: Option<BlockNumberOrTag>) -> u64 {
    match block.unwrap_or_default() {
        BlockNumberOrTag::Earliest => 0,
        BlockNumberOrTag::Number(number) => number,
        BlockNumberOrTag::Latest
        | BlockNumberOrTag::Finalized
        | BlockNumberOrTag::Safe
        | BlockNumberOrTag::Pending => chain.height(),
    }
}
