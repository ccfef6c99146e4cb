//! The audit of sketches: evidence of false ones, and demands for what is withheld.

use alloy::primitives::{B256, Bytes, U256};
use alloy::sol_types::SolCall;
use convoke_protocol::factors;
use convoke_protocol::identity::{Signature, keccak};
use convoke_protocol::ids::{Address, Amount, Digest, RoundId, TaskId};
use convoke_protocol::sketch::SignedSketch;
use convoke_protocol::update::UpdateHeader;

use crate::abi::sketch_audit::{IPenaltyManagerTypes, ISketchAuditTypes, SketchAudit};
use crate::abi::{digest, ours, word};
use crate::audit_types::{AuditDemand, AuditEntry, AuditLeaf, AuditPart, Opened, SketchOpening};
use crate::round_types::payout_bytes;
use crate::sending::event;
use crate::{Chain, ChainError};

impl Chain {
    /// Punishes a trainer that signed a false claim of its sketch; the wallet is the reporter and
    /// gets its part. Anyone, while the chain's newest attempt is the claim's. Returns what was
    /// taken, or `None` if the trainer was punished for this attempt before.
    ///
    /// # Errors
    /// [`ChainError::NoAudit`]; [`ChainError::Reverted`] with `NoFault`, `NotThisAttempt`,
    /// `OtherHeader`, `NotInTree`, `InvalidSignature`, `NotAnOperator`; errors of any transaction.
    pub async fn punish_claim(
        &self,
        header: &UpdateHeader,
        claim: &SignedSketch,
        opening: &SketchOpening,
    ) -> Result<Option<Amount>, ChainError> {
        let said = &claim.claim;
        let call = SketchAudit::punishClaimCall {
            header: header_of(header),
            claim: ISketchAuditTypes::Sketch {
                task: U256::from(said.task.0),
                round: U256::from(said.round.0),
                attempt: U256::from(said.attempt),
                update: word(said.update),
                seed: word(said.seed),
                clipNorm: U256::from(said.clip_norm.bits()),
                commitment: word(said.commitment),
                sumsRoot: word(said.sums_root),
            },
            signature: Bytes::copy_from_slice(&claim.signature.0),
            opening: opening_of(opening),
        };
        let audit = self.audit()?;
        self.punish(audit, &call, |event: SketchAudit::ClaimPunished| {
            event.taken
        })
        .await
    }

    /// Punishes an aggregator whose result says something false of an update's sketch; the wallet
    /// is the reporter. Anyone, while the result stands. Returns what was taken, or `None` if the
    /// aggregator was punished for this result before.
    ///
    /// # Errors
    /// [`ChainError::NoAudit`]; [`ChainError::Reverted`] with `NoFault`, `NotSettled`,
    /// `NotTheSubmission`, `NoSuchUpdate`, `NotActive`, `OtherHeader`, `NotInTree`; errors of any
    /// transaction.
    pub async fn punish_entry(
        &self,
        entry: &AuditEntry<'_>,
        header: &UpdateHeader,
        opening: &SketchOpening,
    ) -> Result<Option<Amount>, ChainError> {
        self.punish_aggregator(&SketchAudit::punishEntryCall {
            place: place_of(entry),
            header: header_of(header),
            opening: opening_of(opening),
        })
        .await
    }

    /// Punishes an aggregator whose result names two trees that disagree on the number of chunks.
    ///
    /// # Errors
    /// As [`Chain::punish_entry`].
    pub async fn punish_counts(
        &self,
        entry: &AuditEntry<'_>,
        header: &UpdateHeader,
        leaves: [&AuditLeaf; 2],
    ) -> Result<Option<Amount>, ChainError> {
        let [one, other] = leaves.map(leaf_of);
        self.punish_aggregator(&SketchAudit::punishCountsCall {
            place: place_of(entry),
            header: header_of(header),
            one,
            other,
        })
        .await
    }

    /// Asks the aggregator for the header of an update, and pays the bond. Returns the demand's
    /// number.
    ///
    /// # Errors
    /// [`ChainError::NoAudit`]; [`ChainError::NotEnoughTokens`]; [`ChainError::Reverted`] with
    /// `DemandTooLate`, `NotSettled`, `NoSuchUpdate`, `NotActive`; errors of any transaction.
    pub async fn demand_header(&self, entry: &AuditEntry<'_>) -> Result<u64, ChainError> {
        self.demand(&SketchAudit::demandHeaderCall {
            place: place_of(entry),
        })
        .await
    }

    /// Asks the aggregator for a chunk of an update's delta, and pays the bond. Returns the
    /// demand's number.
    ///
    /// # Errors
    /// As [`Chain::demand_header`], and with `OtherHeader`.
    pub async fn demand_chunk(
        &self,
        entry: &AuditEntry<'_>,
        header: &UpdateHeader,
        index: u64,
    ) -> Result<u64, ChainError> {
        self.demand(&SketchAudit::demandChunkCall {
            place: place_of(entry),
            header: header_of(header),
            index,
        })
        .await
    }

    /// Asks the aggregator for the sums up to and with a chunk, and pays the bond. Returns the
    /// demand's number.
    ///
    /// # Errors
    /// As [`Chain::demand_header`].
    pub async fn demand_sums(&self, entry: &AuditEntry<'_>, index: u64) -> Result<u64, ChainError> {
        self.demand(&SketchAudit::demandSumsCall {
            place: place_of(entry),
            index,
        })
        .await
    }

    /// Answers a demand for a header; the bond goes to the aggregator. Anyone. The signature is
    /// not looked at if the trainer committed to the update on chain.
    ///
    /// # Errors
    /// [`ChainError::NoAudit`]; [`ChainError::Reverted`] with `NoSuchDemand`, `AnswerTooLate`,
    /// `NotAnAnswer`; errors of any transaction.
    pub async fn answer_header(
        &self,
        demand: u64,
        header: &UpdateHeader,
        signature: &Signature,
    ) -> Result<(), ChainError> {
        let call = SketchAudit::answerHeaderCall {
            demand: U256::from(demand),
            header: header_of(header),
            signature: Bytes::copy_from_slice(&signature.0),
        };
        self.link().send(self.audit()?, &call).await?;
        Ok(())
    }

    /// Answers a demand for a chunk or for sums, by those at `index` of `count`. Anyone.
    ///
    /// # Errors
    /// As [`Chain::answer_header`], and with `NotInTree`.
    pub async fn answer_leaf(
        &self,
        demand: u64,
        index: u64,
        count: u64,
        opened: &Opened,
    ) -> Result<(), ChainError> {
        let call = SketchAudit::answerLeafCall {
            demand: U256::from(demand),
            index,
            count,
            content: Bytes::copy_from_slice(&opened.bytes),
            proof: words(&opened.proof),
        };
        self.link().send(self.audit()?, &call).await?;
        Ok(())
    }

    /// Closes a demand that was not answered in time: the aggregator is punished, if its result
    /// stands, and the bond goes back. Returns what was taken from the aggregator.
    ///
    /// # Errors
    /// [`ChainError::NoAudit`]; [`ChainError::Reverted`] with `NoSuchDemand`, `AnswerAwaited`;
    /// errors of any transaction.
    pub async fn punish_silence(&self, demand: u64) -> Result<Amount, ChainError> {
        let audit = self.audit()?;
        let call = SketchAudit::punishSilenceCall {
            demand: U256::from(demand),
        };
        let receipt = self.link().send(audit, &call).await?;
        event::<SketchAudit::DemandClosed>(&receipt, audit).map(|event| Amount(event.taken))
    }

    /// What was asked for; `None` if there is no such demand, or none any more.
    ///
    /// # Errors
    /// [`ChainError::NoAudit`]; [`ChainError::Unreachable`].
    pub async fn audit_demand(&self, demand: u64) -> Result<Option<AuditDemand>, ChainError> {
        let call = SketchAudit::demandOfCall {
            demand: U256::from(demand),
        };
        let asked = self.link().call(self.audit()?, &call).await?;
        if ours(asked.demander) == Address::ZERO {
            return Ok(None);
        }
        let part = AuditPart::of_chain(asked.part)
            .ok_or_else(|| ChainError::Unexpected(format!("part {}", asked.part)))?;
        Ok(Some(AuditDemand {
            demander: ours(asked.demander),
            due: asked.due,
            part,
            task: TaskId(asked.task),
            round: RoundId(asked.round),
            attempt: asked.attempt,
            index: asked.index,
            trainer: Some(ours(asked.trainer)).filter(|trainer| *trainer != Address::ZERO),
            root: digest(asked.root),
        }))
    }

    /// What a demand costs if it is answered, in base units, and the seconds in which that must
    /// be done.
    ///
    /// # Errors
    /// [`ChainError::NoAudit`]; [`ChainError::Unreachable`].
    pub async fn audit_terms(&self) -> Result<(Amount, u32), ChainError> {
        let audit = self.audit()?;
        let (bond, window) = tokio::try_join!(
            self.link().call(audit, &SketchAudit::bondCall {}),
            self.link().call(audit, &SketchAudit::answerWindowCall {}),
        )?;
        Ok((Amount(bond), window))
    }

    fn audit(&self) -> Result<Address, ChainError> {
        self.book().sketch_audit.ok_or(ChainError::NoAudit)
    }

    async fn punish_aggregator<C: SolCall>(&self, call: &C) -> Result<Option<Amount>, ChainError> {
        let audit = self.audit()?;
        self.punish(audit, call, |event: SketchAudit::EntryPunished| event.taken)
            .await
    }

    async fn demand<C: SolCall>(&self, call: &C) -> Result<u64, ChainError> {
        let audit = self.audit()?;
        let (bond, _) = self.audit_terms().await?;
        self.approve(audit, bond).await?;
        let receipt = self.link().send(audit, call).await?;
        let number = event::<SketchAudit::Demanded>(&receipt, audit)?.demand;
        u64::try_from(number).map_err(|_| ChainError::Unexpected(format!("demand {number}")))
    }
}

fn place_of(entry: &AuditEntry<'_>) -> ISketchAuditTypes::Place {
    let submission = entry.submission;
    ISketchAuditTypes::Place {
        task: entry.task.0,
        round: entry.round.0,
        slot: U256::from(entry.slot),
        payoutsHash: word(keccak(&[&payout_bytes(&submission.payouts)])),
        factorsHash: word(keccak(&[&factors::encode(&submission.factors)])),
        proof: Bytes::copy_from_slice(&submission.proof),
    }
}

fn header_of(header: &UpdateHeader) -> IPenaltyManagerTypes::Update {
    IPenaltyManagerTypes::Update {
        task: U256::from(header.task.0),
        round: U256::from(header.round.0),
        base: header.base.0.into(),
        delta: header.delta.0.into(),
        deltaRoot: word(header.delta_root),
        deltaBytes: U256::from(header.delta_bytes),
        deltaNorm: U256::from(header.delta_norm.bits()),
        numExamples: U256::from(header.num_examples),
        trainLossMicros: U256::from(header.train_loss_micros),
    }
}

fn opening_of(opening: &SketchOpening) -> ISketchAuditTypes::Opening {
    let bytes = |opened: &Opened| Bytes::copy_from_slice(&opened.bytes);
    let before = opening.before.as_ref();
    ISketchAuditTypes::Opening {
        index: opening.index,
        count: opening.count,
        chunk: bytes(&opening.chunk),
        chunkProof: words(&opening.chunk.proof),
        sumsBefore: before.map(bytes).unwrap_or_default(),
        beforeProof: before.map_or_else(Vec::new, |before| words(&before.proof)),
        sumsAfter: bytes(&opening.after),
        afterProof: words(&opening.after.proof),
    }
}

fn leaf_of(leaf: &AuditLeaf) -> ISketchAuditTypes::Leaf {
    ISketchAuditTypes::Leaf {
        part: leaf.part.on_chain(),
        index: leaf.index,
        count: leaf.count,
        content: word(leaf.content),
        proof: words(&leaf.proof),
    }
}

fn words(digests: &[Digest]) -> Vec<B256> {
    digests.iter().copied().map(word).collect()
}
