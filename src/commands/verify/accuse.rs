//! Evidence: what the contract is sent of a false sketch.

use std::path::Path;

use anyhow::Context as _;
use convoke_client::{AuditEntry, Chain, Opened, SketchOpening};
use convoke_compress::{Codec, Delta};
use convoke_protocol::ids::Amount;
use convoke_protocol::record::RoundRecord;
use convoke_sketch::opening::{OpenedSums, Opener, Opening};

use super::deltas::Finding;
use super::facts::Facts;

/// What came of the evidence.
pub(crate) struct Accused {
    /// Taken from the aggregator; nothing if it was punished before.
    pub(crate) aggregator: Option<Amount>,
    /// Taken from the trainer, if it signed the lie; nothing if it was punished before.
    pub(crate) trainer: Option<Option<Amount>>,
}

/// Sends the evidence of a finding that can be proven.
pub(crate) async fn accuse(
    chain: &Chain,
    facts: &Facts,
    record: &RoundRecord,
    finding: &Finding,
    delta: &Path,
) -> anyhow::Result<Accused> {
    let entry = record.dossier.updates.get(finding.slot);
    let entry = entry.context("there is no such update")?;
    let (path, codec, dossier) = (
        delta.to_owned(),
        Codec::of_updates(&facts.compression),
        &record.dossier,
    );
    let (seed, clip) = (dossier.seed, dossier.clip_norm);
    // The last chunk: the sketch follows from the sums with it.
    let opening = tokio::task::spawn_blocking(move || {
        let file = Delta::open(&path, codec)?;
        let opener = Opener::new(&file, &seed, clip)?;
        anyhow::Ok(opener.open(opener.count().saturating_sub(1))?)
    });
    let opening = of_chain(opening.await??);
    let header = &entry.update.header;
    let place = AuditEntry {
        task: record.task,
        round: record.round,
        slot: finding.slot as u64,
        submission: &facts.submission,
    };
    let trainer = match &entry.claim {
        Some(claim) => Some(chain.punish_claim(header, claim, &opening).await?),
        None => None,
    };
    Ok(Accused {
        aggregator: chain.punish_entry(&place, header, &opening).await?,
        trainer,
    })
}

/// The opening in the types of the contracts' client.
fn of_chain(opening: Opening) -> SketchOpening {
    let sums = |sums: OpenedSums| Opened {
        bytes: sums.bytes.to_vec(),
        proof: sums.proof,
    };
    SketchOpening {
        index: opening.index,
        count: opening.count,
        chunk: Opened {
            bytes: opening.chunk.bytes,
            proof: opening.chunk.proof,
        },
        before: opening.before.map(sums),
        after: sums(opening.after),
    }
}
