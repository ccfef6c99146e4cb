//! Keeps the round on chain in step with the machine. Everything here may be repeated after a kill:
//! each step looks first at what the chain has.

use std::sync::Arc;
use std::time::Duration;

use convoke_client::{
    Chain, ChainError, ResultSubmission, RoundState, Stage, TaskState, patiently,
};
use convoke_protocol::ids::{Address, Amount, BlobHash, Digest, RoundId};
use convoke_protocol::payout::MerkleTree;
use convoke_protocol::round::{Event, Setup};
use convoke_protocol::task::BPS;

/// First wait between two looks at a stage that others move on; doubled up to the longest.
const LOOK_MIN: Duration = Duration::from_millis(50);
const LOOK_MAX: Duration = Duration::from_secs(2);

/// The rounds of one task on chain.
#[derive(Clone)]
pub(super) struct Rounds {
    chain: Chain,
    setup: Arc<Setup>,
}

/// One attempt at a round.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt {
    pub(super) round: RoundId,
    pub(super) attempt: u16,
}

/// What a round gives at a stage, or the event that says why it does not.
pub(super) type Reached<T> = Result<Result<T, Event>, ChainError>;

impl Rounds {
    pub(super) fn new(chain: Chain, setup: Arc<Setup>) -> Self {
        Self { chain, setup }
    }

    pub(super) fn setup(&self) -> &Setup {
        &self.setup
    }

    /// A block's hash: nobody could choose it.
    pub(super) async fn block_hash(&self) -> Result<Digest, ChainError> {
        Ok(patiently(|| self.chain.latest_block()).await?.hash)
    }

    /// Opens a round; what is left of attempts up to `after` is ended first.
    pub(super) async fn open(
        &self,
        round: RoundId,
        after: u16,
        base: BlobHash,
        cohort: &[Address],
    ) -> Result<Event, ChainError> {
        match self.try_open(round, after, base, cohort).await {
            Ok(state) => Ok(Event::RoundOpened {
                attempt: state.attempt,
                pool: state.pool,
            }),
            Err(error) => self.task_lost(round, error).await,
        }
    }

    async fn try_open(
        &self,
        round: RoundId,
        after: u16,
        base: BlobHash,
        cohort: &[Address],
    ) -> Result<RoundState, ChainError> {
        let (chain, task) = (&self.chain, self.setup.task);
        patiently(|| chain.tick(task)).await?;
        let state = patiently(|| chain.round(task, round)).await?;
        let cohort_root = MerkleTree::of_cohort(&self.setup.domain, task, round, cohort).root();
        let is_ours = state.stage == Stage::Training
            && state.attempt > after
            && (state.base, state.cohort_root) == (base, cohort_root);
        if !is_ours && is_open(state.stage) {
            patiently(|| chain.fail_round(task, round)).await?;
        }
        // It waits where the last result can still be challenged.
        patiently(|| chain.open_round(task, round, base, cohort)).await?;
        patiently(|| chain.round(task, round)).await
    }

    /// A refusal to open a round is final if the task has ended, is to be aborted, or has lost
    /// the round before.
    async fn task_lost(&self, round: RoundId, error: ChainError) -> Result<Event, ChainError> {
        let (chain, task) = (&self.chain, self.setup.task);
        let record = patiently(|| chain.task(task)).await?;
        if record.state != TaskState::Active {
            let reason = format!("the task is {} on chain", record.state);
            return Ok(Event::TaskLost { reason });
        }
        let due = record.rounds_settled + 1;
        if due < round.0 {
            let reason = format!("the result of round {due} was voided");
            return Ok(Event::TaskLost { reason });
        }
        if error.revert_name() == Some("AttemptsExhausted") {
            let reason = format!("round {round} was tried as often as the chain allows");
            return Ok(Event::TaskLost { reason });
        }
        Err(error)
    }

    /// Commits to the updates and has the seed drawn.
    pub(super) async fn seal(
        &self,
        at: Attempt,
        committed: &[(Address, Digest)],
    ) -> Result<Event, ChainError> {
        match self.try_seal(at, committed).await {
            Ok(sealed) => Ok(sealed),
            Err(error) => self.round_lost(at, error).await,
        }
    }

    async fn try_seal(
        &self,
        at: Attempt,
        committed: &[(Address, Digest)],
    ) -> Result<Event, ChainError> {
        let (chain, task, round) = (&self.chain, self.setup.task, at.round);
        let root = MerkleTree::of_updates(&self.setup.domain, task, round, committed).root();
        let count = u16::try_from(committed.len()).unwrap_or(u16::MAX);
        patiently(|| chain.commit_updates(task, round, root, count)).await?;
        let seed = patiently(|| chain.draw_seed(task, round)).await?;
        let own_updates = match patiently(|| chain.round(task, round)).await?.own_updates {
            0 => Vec::new(),
            _ => patiently(|| chain.own_updates(task, round, at.attempt)).await?,
        };
        Ok(Event::Sealed { seed, own_updates })
    }

    /// Waits until the attempt has come to `stage`, and moves it on where its time has run out.
    pub(super) async fn until(&self, at: Attempt, stage: Stage) -> Reached<()> {
        let (chain, task) = (&self.chain, self.setup.task);
        let mut wait = LOOK_MIN;
        loop {
            let state = patiently(|| chain.round(task, at.round)).await?;
            if !is_open(state.stage) || state.attempt != at.attempt {
                return Ok(Err(lost(at)));
            }
            if state.stage >= stage {
                return Ok(Ok(()));
            }
            if !patiently(|| chain.tick(task)).await? {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LOOK_MAX);
            }
        }
    }

    /// Waits for the last reveal, and reads them all.
    pub(super) async fn read_scores(&self, at: Attempt) -> Result<Event, ChainError> {
        if let Err(lost) = self.until(at, Stage::Settling).await? {
            return Ok(lost);
        }
        let (chain, task) = (&self.chain, self.setup.task);
        let scores = patiently(|| chain.scores(task, at.round)).await?;
        Ok(Event::ScoresRead { scores })
    }

    /// What all trainers of a round share at most.
    pub(super) async fn trainers_pool(&self, round: RoundId) -> Result<Amount, ChainError> {
        let (chain, task) = (&self.chain, self.setup.task);
        let pool = patiently(|| chain.round(task, round)).await?.pool;
        let share = u128::from(self.setup.spec.reward.trainers_bps);
        Ok(pool.share_down(share, u128::from(BPS)))
    }

    /// Submits a result, whose hash is the name of its record.
    pub(super) async fn settle(
        &self,
        at: Attempt,
        result: &ResultSubmission,
    ) -> Result<Event, ChainError> {
        let (chain, task) = (&self.chain, self.setup.task);
        match patiently(|| chain.submit_result(task, at.round, result)).await {
            Ok(()) => Ok(Event::ResultRecorded {
                record: BlobHash(result.result_hash.0),
            }),
            Err(error) => self.round_lost(at, error).await,
        }
    }

    /// Gives an attempt up: what it had is for the next.
    pub(super) async fn give_up(&self, at: Attempt, reason: String) -> Result<Event, ChainError> {
        let (chain, task) = (&self.chain, self.setup.task);
        let state = patiently(|| chain.round(task, at.round)).await?;
        if is_open(state.stage) && state.attempt == at.attempt {
            patiently(|| chain.fail_round(task, at.round)).await?;
        }
        Ok(Event::RoundLost { reason })
    }

    /// Closes the task once its last result is final.
    pub(super) async fn close(&self) -> Result<Event, ChainError> {
        let (chain, task) = (&self.chain, self.setup.task);
        patiently(|| chain.finish(task)).await?;
        match patiently(|| chain.task(task)).await?.state {
            TaskState::Closing => Ok(Event::ClosingBegan),
            _ => self.refund().await,
        }
    }

    /// Waits for the end of the closing evaluation.
    pub(super) async fn await_closing(&self) -> Result<Event, ChainError> {
        let (chain, task) = (&self.chain, self.setup.task);
        let mut wait = LOOK_MIN;
        while !patiently(|| chain.task(task)).await?.state.has_ended() {
            if !patiently(|| chain.tick(task)).await? {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LOOK_MAX);
            }
        }
        self.refund().await
    }

    async fn refund(&self) -> Result<Event, ChainError> {
        patiently(|| self.chain.refund(self.setup.task)).await?;
        Ok(Event::TaskClosed)
    }

    /// A refusal means that the attempt is over, if the chain says so.
    async fn round_lost(&self, at: Attempt, error: ChainError) -> Result<Event, ChainError> {
        let (chain, task) = (&self.chain, self.setup.task);
        tracing::debug!(%error, round = at.round.0, "the chain refused a step of the round");
        if patiently(|| chain.task(task)).await?.state == TaskState::Active {
            patiently(|| chain.tick(task)).await?;
        }
        let state = patiently(|| chain.round(task, at.round)).await?;
        if is_open(state.stage) && state.attempt == at.attempt {
            return Err(error);
        }
        Ok(lost(at))
    }
}

fn is_open(stage: Stage) -> bool {
    !matches!(stage, Stage::None | Stage::Settled)
}

fn lost(at: Attempt) -> Event {
    Event::RoundLost {
        reason: format!("attempt {} ran out of time on chain", at.attempt),
    }
}
