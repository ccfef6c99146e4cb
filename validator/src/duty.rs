//! A validator's duty on chain: commit to factors, and reveal them once the contract takes
//! reveals. It needs no aggregator, so none can keep a validator from its pay.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use convoke_client::{Chain, ChainError, Stage, patiently};
use convoke_protocol::factors::{self, AttemptId};
use convoke_protocol::ids::{Address, Digest, RoundId, TaskId};
use convoke_protocol::payout::PayoutDomain;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

/// First wait between two looks at the round's stage; doubled up to the longest.
const LOOK_MIN: Duration = Duration::from_millis(100);
const LOOK_MAX: Duration = Duration::from_secs(5);

/// What is committed to and revealed in one attempt at a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Duty {
    pub(crate) attempt: AttemptId,
    /// Of how many updates there are factors.
    pub(crate) factors: Vec<u16>,
    pub(crate) salt: [u8; 32],
    /// Commit, but never reveal.
    pub(crate) withhold: bool,
}

/// How far a duty has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The commitment is on chain, or can no longer be put there.
    Committed,
    /// The same for the reveal.
    Revealed,
}

/// A duty being done. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Attendance {
    pub(crate) attempt: AttemptId,
    pub(crate) done: Option<Step>,
    /// Whether the aggregator has asked for the reveal.
    pub(crate) reveal_wanted: bool,
    look: Arc<Notify>,
    _stop: DropGuard,
}

impl Attendance {
    /// Begins a duty; its steps come over `steps`.
    pub(crate) fn begin(
        chain: Chain,
        validator: Address,
        duty: Duty,
        steps: mpsc::Sender<(AttemptId, Step)>,
    ) -> Self {
        let (stop, look) = (CancellationToken::new(), Arc::new(Notify::new()));
        let (stopped, nudged) = (stop.clone(), look.clone());
        let attempt = duty.attempt;
        tokio::spawn(async move {
            let work = async {
                report(&duty, "commitment", commit(&chain, validator, &duty).await);
                let _ = steps.send((attempt, Step::Committed)).await;
                if duty.withhold {
                    return;
                }
                report(&duty, "reveal", reveal(&chain, &duty, &nudged).await);
                let _ = steps.send((attempt, Step::Revealed)).await;
            };
            tokio::select! {
                () = stopped.cancelled() => {}
                () = work => {}
            }
        });
        Self {
            attempt,
            done: None,
            reveal_wanted: false,
            look,
            _stop: stop.drop_guard(),
        }
    }

    /// Has it look at the chain's stage now.
    pub(crate) fn look(&self) {
        self.look.notify_one();
    }
}

/// Why a duty came to nothing on chain.
#[derive(Debug, thiserror::Error)]
enum Missed {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error("the chain is at attempt {0} of the round, at stage {1}")]
    Elsewhere(u16, Stage),
}

/// The aggregator counts the measurements all the same: only pay is lost.
fn report(duty: &Duty, what: &str, outcome: Result<(), Missed>) {
    let round = duty.attempt.round.0;
    match outcome {
        Ok(()) => tracing::debug!(round, what, "on chain"),
        Err(error) => tracing::warn!(round, what, %error, "not on chain"),
    }
}

async fn commit(chain: &Chain, validator: Address, duty: &Duty) -> Result<(), Missed> {
    let AttemptId {
        task,
        round,
        attempt,
    } = duty.attempt;
    let there = patiently(|| chain.round(task, round)).await?;
    let updates = usize::from(there.updates) + usize::from(there.own_updates);
    // Factors of other updates than the chain's would be refused at the reveal.
    if there.attempt != attempt || there.stage == Stage::None || updates != duty.factors.len() {
        return Err(Missed::Elsewhere(there.attempt, there.stage));
    }
    let rounds = PayoutDomain {
        chain_id: chain.book().chain_id,
        contract: chain.book().round_manager,
    };
    let commitment =
        factors::commitment(&rounds, &duty.attempt, validator, &duty.factors, &duty.salt);
    Ok(patiently(|| chain.commit_scores(task, round, commitment)).await?)
}

async fn reveal(chain: &Chain, duty: &Duty, look: &Notify) -> Result<(), Missed> {
    let AttemptId { task, round, .. } = duty.attempt;
    let mut wait = LOOK_MIN;
    loop {
        let there = patiently(|| chain.round(task, round)).await?;
        match there.stage {
            _ if there.attempt != duty.attempt.attempt => {
                return Err(Missed::Elsewhere(there.attempt, there.stage));
            }
            Stage::Scoring => {}
            Stage::Revealing => break,
            stage => return Err(Missed::Elsewhere(there.attempt, stage)),
        }
        // Usually the aggregator moves it on; one that is silent keeps nobody from it.
        if there.deadline + SLACK_S < now() {
            patiently(|| chain.tick(task)).await?;
        }
        tokio::select! {
            () = look.notified() => {}
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(LOOK_MAX),
        }
    }
    let salt = Digest(duty.salt);
    Ok(patiently(|| chain.reveal_scores(task, round, &duty.factors, salt)).await?)
}

/// So long the aggregator is left to move on a stage whose time has run out, in seconds.
const SLACK_S: u64 = 10;

fn now() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    elapsed.unwrap_or_default().as_secs()
}

/// The attempt at a closing round that is open on chain.
pub(crate) async fn closing_attempt(
    chain: &Chain,
    task: TaskId,
    round: RoundId,
) -> Result<AttemptId, ChainError> {
    let attempt = patiently(|| chain.round(task, round)).await?.attempt;
    Ok(AttemptId {
        task,
        round,
        attempt,
    })
}
