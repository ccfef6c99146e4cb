//! The seed of a round, from the hash of a block that did not exist when the updates were
//! committed to.

use std::time::Duration;

use alloy::providers::Provider;
use convoke_protocol::ids::{Digest, RoundId, TaskId};
use tokio::time::Instant;

use crate::abi::round_manager::RoundManager;
use crate::connection::Link;
use crate::{Chain, ChainError, Stage};

/// First wait between two looks for the block; doubled up to the longest.
const POLL_MIN: Duration = Duration::from_millis(20);
const POLL_MAX: Duration = Duration::from_secs(1);
/// Without a block for so long, one is asked for by a transaction.
const QUIET_MAX: Duration = Duration::from_secs(30);
/// Longest wait for the seed's block.
const BLOCK_TIMEOUT: Duration = Duration::from_secs(300);
/// How often another block may be named because the first one's hash is gone.
const POSTPONED_MAX: u32 = 3;
/// Chains that mine a block for each transaction and none without.
const QUIET_CHAINS: [&str; 3] = ["convoke-devnet", "anvil", "hardhat"];

impl Chain {
    /// Draws the seed of a round, or reads the one that was drawn. Anyone. Waits for the seed's
    /// block; where no blocks come by themselves, the wallet makes one by a transfer of nothing
    /// to itself.
    ///
    /// # Errors
    /// [`ChainError::NoBlock`] after five minutes; [`ChainError::Reverted`] with `WrongStage`,
    /// `StageOver`; errors of any transaction.
    pub async fn draw_seed(&self, task: TaskId, round: RoundId) -> Result<Digest, ChainError> {
        let mut last = None;
        for _ in 0..=POSTPONED_MAX {
            let state = self.round(task, round).await?;
            match (state.stage, state.seed, state.seed_block) {
                (stage, Some(seed), _) if stage > Stage::Sealed => return Ok(seed),
                (Stage::Sealed, _, Some(block)) => self.wait_past(task, round, block).await?,
                _ => {}
            }
            let call = RoundManager::drawSeedCall {
                task: task.0,
                round: round.0,
            };
            if let Err(error) = self.link().send(self.book().round_manager, &call).await {
                // Somebody else may have drawn it.
                let seed = self.round(task, round).await?.seed;
                match (seed, error.revert_name()) {
                    (Some(seed), _) => return Ok(seed),
                    // A reorganization took the block back.
                    (None, Some("SeedTooEarly")) => {}
                    (None, _) => return Err(error),
                }
                last = Some(error);
            }
        }
        match self.round(task, round).await?.seed {
            Some(seed) => Ok(seed),
            None => Err(last.unwrap_or_else(|| {
                ChainError::Unexpected(format!(
                    "the seed of round {round} of task {task} was put off again and again"
                ))
            })),
        }
    }

    /// Waits until a transaction would be mined after block `block`.
    async fn wait_past(&self, task: TaskId, round: RoundId, block: u64) -> Result<(), ChainError> {
        let start = Instant::now();
        let (mut wait, mut moved_at) = (POLL_MIN, start);
        let mut head = self.latest_block().await?.number;
        let quiet_max = match self.link().mines_by_itself().await {
            true => QUIET_MAX,
            false => Duration::ZERO,
        };
        while head < block {
            if start.elapsed() >= BLOCK_TIMEOUT {
                return Err(ChainError::NoBlock {
                    task,
                    round,
                    block,
                    head,
                });
            }
            let may_ask = self.link().rehearsal.is_none();
            if moved_at.elapsed() >= quiet_max && may_ask {
                let me = self.wallet("drawSeed")?;
                self.link().send_native(me, 0).await?;
                moved_at = Instant::now();
            } else {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(POLL_MAX);
            }
            let now = self.latest_block().await?.number;
            if now > head {
                moved_at = Instant::now();
            }
            head = now;
        }
        Ok(())
    }
}

impl Link {
    /// Development chains make no blocks of their own; it shows in what they call themselves.
    async fn mines_by_itself(&self) -> bool {
        let version = self
            .read("web3_clientVersion", || async {
                self.provider.get_client_version().await
            })
            .await;
        let version = version.unwrap_or_default().to_lowercase();
        !QUIET_CHAINS.iter().any(|name| version.contains(name))
    }
}
