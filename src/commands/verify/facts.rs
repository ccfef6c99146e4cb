//! What the chain says of a settled round.

use anyhow::{Context as _, anyhow};
use convoke_client::{Chain, ResultSubmission};
use convoke_proofs::statement::Statement;
use convoke_proofs::submission::{RoundClaim, Submission};
use convoke_protocol::factors::ChainReveal;
use convoke_protocol::ids::{BlobHash, RoundId, TaskId};
use convoke_protocol::payout::PayoutDomain;
use convoke_protocol::task::{AggregationSpec, CompressionSpec, SplitKind, TaskSpec};

use super::control::ControlFacts;
use crate::failure::HintExt as _;

/// All that checks go by.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// Chain and task manager.
    pub(crate) domain: PayoutDomain,
    /// What the round's proof is about.
    pub(crate) statement: Statement,
    /// The checkpoints that updates may begin with: the round's base, and those of as many rounds
    /// before it as the task allows, newest first.
    pub(crate) bases: Vec<BlobHash>,
    /// What the round was settled with.
    pub(crate) submission: ResultSubmission,
    /// What the submission's proof says of the updates; nothing if it is none.
    pub(crate) claim: Option<RoundClaim>,
    /// The validators' scores, as revealed on chain.
    pub(crate) reveals: Vec<ChainReveal>,
    /// How the task's creator wants steps taken.
    pub(crate) aggregation: AggregationSpec,
    /// How the task's deltas and checkpoints are encoded, if they are.
    pub(crate) compression: CompressionSpec,
    /// What the control variate is checked with, in tasks that have one.
    pub(crate) control: Option<ControlFacts>,
    /// How pay is split, and the decay of the split by rank.
    pub(crate) split: (SplitKind, u16),
}

impl Facts {
    /// The checkpoint that the round started from.
    pub(crate) fn base(&self) -> BlobHash {
        self.bases[0]
    }

    /// Rounds that an update's base lies back, if it is one that the task allows. Of equal bases
    /// the newest counts.
    pub(crate) fn staleness(&self, base: &BlobHash) -> Option<u32> {
        let back = self.bases.iter().position(|known| known == base)?;
        u32::try_from(back).ok()
    }

    /// Reads them.
    pub(crate) async fn gather(
        chain: &Chain,
        task: TaskId,
        round: RoundId,
    ) -> anyhow::Result<Self> {
        let submission = chain
            .submission(task, round)
            .await
            .context("cannot read what the round was settled with")?
            .ok_or_else(|| anyhow!("round {round} of task {task} has no result"))
            .hint("`convoke task show` tells which rounds are settled")?;
        let (state, told, reveals) = tokio::try_join!(
            chain.round(task, round),
            chain.statement(task, round),
            chain.scores(task, round)
        )?;
        let spec = TaskSpec::parse(&chain.task_file(task).await?)?;
        let claim = Submission::decode(&submission.proof).ok();
        Ok(Self {
            domain: chain.domain(),
            statement: statement_of(&told),
            bases: bases(chain, task, round, state.base, &spec.aggregation).await?,
            claim: claim.map(|submission| submission.claim),
            submission,
            reveals,
            control: spec.training.control_variates.then(|| ControlFacts {
                spec: spec.clone(),
                cohort: u32::from(state.cohort_size),
            }),
            compression: spec.compression,
            aggregation: spec.aggregation,
            split: (told.split, told.rank_decay_bps),
        })
    }
}

async fn bases(
    chain: &Chain,
    task: TaskId,
    round: RoundId,
    base: BlobHash,
    aggregation: &AggregationSpec,
) -> anyhow::Result<Vec<BlobHash>> {
    let mut bases = vec![base];
    let oldest = round.0.saturating_sub(aggregation.staleness_limit()).max(1);
    for earlier in (oldest..round.0).rev() {
        bases.push(chain.round(task, RoundId(earlier)).await?.base);
    }
    Ok(bases)
}

/// The statement in the proofs' own type.
fn statement_of(told: &convoke_client::Statement) -> Statement {
    Statement {
        task: told.task,
        round: told.round,
        attempt: told.attempt,
        aggregator: told.aggregator,
        updates_root: told.updates_root,
        own_commitments: told.own_commitments,
        updates: told.updates,
        seed: told.seed,
        trainers_pool: told.trainers_pool,
        split: match told.split {
            SplitKind::Score => 0,
            SplitKind::Rank => 1,
        },
        rank_decay_bps: told.rank_decay_bps,
        checkpoint: told.checkpoint,
        result_hash: told.result_hash,
    }
}
