//! Logs of the contracts, looked for in bounded ranges.

use alloy::primitives::B256;
use alloy::providers::Provider;
use alloy::rpc::types::{Filter, Log};
use alloy::sol_types::SolEvent;
use convoke_protocol::ids::{Address, RoundId, TaskId};

use crate::abi::eth;
use crate::{Chain, ChainError};

/// Most blocks in one question to an endpoint.
pub(crate) const BLOCKS_PER_QUERY_MAX: u64 = 2_000;

impl Chain {
    pub(crate) fn filter_of(&self, contract: Address, signature: B256) -> Filter {
        Filter::new()
            .address(eth(contract))
            .event_signature(signature)
    }

    pub(crate) async fn logs(&self, filter: &Filter) -> Result<Vec<Log>, ChainError> {
        let link = self.link();
        link.read("eth_getLogs", || async {
            link.provider.get_logs(filter).await
        })
        .await
    }

    /// Shows `take` the events of one round, newest first, until it is content or the deployment
    /// is reached. Returns whether it was content.
    pub(crate) async fn round_events_back<E: SolEvent>(
        &self,
        task: TaskId,
        round: RoundId,
        mut take: impl FnMut(E) -> bool,
    ) -> Result<bool, ChainError> {
        self.round_logs_back(task, round, |event, _| take(event))
            .await
    }

    /// As [`Chain::round_events_back`], with the log that each event comes from.
    pub(crate) async fn round_logs_back<E: SolEvent>(
        &self,
        task: TaskId,
        round: RoundId,
        mut take: impl FnMut(E, &Log) -> bool,
    ) -> Result<bool, ChainError> {
        let filter = self
            .filter_of(self.book().round_manager, E::SIGNATURE_HASH)
            .topic1(topic(task.0))
            .topic2(topic(u64::from(round.0)));
        let mut to = self.latest_block().await?.number;
        loop {
            let from = to
                .saturating_sub(BLOCKS_PER_QUERY_MAX - 1)
                .max(self.book().deployed_block);
            let logs = self
                .logs(&filter.clone().from_block(from).to_block(to))
                .await?;
            for log in logs.iter().rev() {
                if let Ok(event) = E::decode_log(&log.inner)
                    && take(event.data, log)
                {
                    return Ok(true);
                }
            }
            if from <= self.book().deployed_block {
                return Ok(false);
            }
            to = from - 1;
        }
    }
}

/// A number as an indexed value.
pub(crate) fn topic(number: u64) -> B256 {
    B256::left_padding_from(&number.to_be_bytes())
}
