//! The record against the chain, and the round's arithmetic done again. Pure: everything comes in
//! as arguments.

use convoke_aggregator::filter::clip_ppm;
use convoke_proofs::plain::{self, Judgement, Reason, judge};
use convoke_proofs::public_data::Commitment;
use convoke_proofs::statement::own_commitments;
use convoke_protocol::factors;
use convoke_protocol::ids::{Address, Digest};
use convoke_protocol::payout::MerkleTree;
use convoke_protocol::record::{RecordedUpdate, RoundRecord};
use convoke_protocol::refusal::Refusal;
use convoke_protocol::sketch::{Norm, SketchClaim, Sketched};
use convoke_protocol::split::{Contribution, split_down};

use super::facts::Facts;
use super::report::Check;

/// What a check finds: nothing, or the lie.
type Found = Result<(), String>;

/// All checks that the record alone makes possible. If it is about other updates than those on
/// chain, nothing else in it means anything.
pub(crate) fn check_record(facts: &Facts, record: &RoundRecord) -> Vec<Check> {
    let audit = Audit { facts, record };
    let count = facts.statement.updates;
    let place = Check::of("record", "is of this round".into(), audit.place());
    let updates = format!("{count}, those committed to on chain before the seed");
    let updates = Check::of("updates", updates, audit.updates());
    if super::report::any_fails(&[place.clone(), updates.clone()]) {
        return vec![place, updates];
    }
    vec![
        place,
        updates,
        Check::of("signatures", audit.signed(), audit.signatures()),
        Check::of("commitments", audit.committed(), audit.commitments()),
        audit.entries(),
        Check::of(
            "clipping norm",
            format!("{:e}, the lower median", record.dossier.clip_norm.value()),
            audit.clipping(),
        ),
        Check::of("filter", audit.judged(), audit.filter()),
        Check::of(
            "factors",
            format!("the medians of {} reveals", audit.revealed().count()),
            audit.factors(),
        ),
        Check::of(
            "payouts",
            format!("{} follow from scores and factors", record.payouts.len()),
            audit.payouts(),
        ),
        Check::of("weights", audit.weighted(), audit.weights()),
    ]
}

struct Audit<'a> {
    facts: &'a Facts,
    record: &'a RoundRecord,
}

impl Audit<'_> {
    fn place(&self) -> Found {
        let (record, statement) = (self.record, &self.facts.statement);
        same("chain or task manager", &record.domain, &self.facts.domain)?;
        same("task", &record.task, &statement.task)?;
        same("round", &record.round, &statement.round)?;
        same("attempt", &record.attempt, &statement.attempt)?;
        same("base", &record.base, &self.facts.base())?;
        same("checkpoint", &record.checkpoint, &statement.checkpoint)?;
        same("seed", &record.dossier.seed, &statement.seed)
    }

    fn updates(&self) -> Found {
        let (dossier, statement) = (&self.record.dossier, &self.facts.statement);
        same(
            "number of updates",
            &dossier.count(),
            &usize::from(statement.updates),
        )?;
        let committed: Vec<_> = dossier.committed().collect();
        let record = self.record;
        let tree = MerkleTree::of_updates(&record.domain, record.task, record.round, &committed);
        same("root of the updates", &tree.root(), &statement.updates_root)?;
        let own = own_commitments(&dossier.own_updates);
        same(
            "chain of the trainers' own updates",
            &own,
            &statement.own_commitments,
        )
    }

    fn signed(&self) -> String {
        let claims = self.entries_with(|entry| entry.claim.as_ref());
        format!(
            "{} headers, {} sketches",
            self.record.dossier.updates.len(),
            claims.count()
        )
    }

    fn signatures(&self) -> Found {
        self.each(|entry| {
            let (update, domain) = (&entry.update, &self.facts.domain);
            let bad = |what: &str| format!("the {what} of {} is not by it", update.trainer);
            update.verify(domain).map_err(|_| bad("header"))?;
            let here = (self.record.task, self.record.round);
            let header = &update.header;
            if entry.sketched.is_some() && (header.task, header.round) != here {
                return Err(format!(
                    "the update of {} is for another round",
                    update.trainer
                ));
            }
            if entry.sketched.is_some() && self.facts.staleness(&header.base).is_none() {
                return Err(format!(
                    "the update of {} begins with a checkpoint that is none of the task's latest {}",
                    update.trainer,
                    self.facts.bases.len()
                ));
            }
            let Some(signed) = &entry.claim else {
                return Ok(());
            };
            signed.verify(domain).map_err(|_| bad("sketch"))?;
            let expected = SketchClaim {
                task: self.record.task,
                round: self.record.round,
                attempt: self.record.attempt,
                update: header.struct_hash(),
                seed: self.record.dossier.seed,
                clip_norm: self.record.dossier.clip_norm,
                commitment: signed.claim.commitment,
                sums_root: signed.claim.sums_root,
            };
            if signed.trainer != update.trainer || signed.claim != expected {
                return Err(format!(
                    "the sketch of {} is signed for something else",
                    update.trainer
                ));
            }
            Ok(())
        })
    }

    fn committed(&self) -> String {
        let count = self.entries_with(|entry| entry.sketched.as_ref()).count();
        format!("{count} sketches, each the one committed to and signed")
    }

    /// Each commitment is to the sketch beside it, and what a trainer signed is the same.
    fn commitments(&self) -> Found {
        let context = self.facts.statement.context(&self.facts.domain);
        self.each(|entry| {
            let Some(sketched) = &entry.sketched else {
                return Ok(());
            };
            let trainer = entry.update.trainer;
            let expected = Commitment::of(&sketched.sketch.0, trainer, &context);
            if sketched.commitment.0 != expected.0 {
                return Err(format!("the commitment of {trainer} is to another sketch"));
            }
            let said = entry.claim.as_ref().map(|signed| &signed.claim);
            let is_signed = said.is_none_or(|claim| {
                (claim.commitment, claim.sums_root) == (sketched.commitment, sketched.sums_root)
            });
            match is_signed {
                true => Ok(()),
                false => Err(format!(
                    "{trainer} signed another sketch than the one that counted"
                )),
            }
        })
    }

    /// The proof speaks of the same updates, sketches and clipping norm.
    fn entries(&self) -> Check {
        const NAME: &str = "proof's entries";
        let Some(claim) = &self.facts.claim else {
            return Check::not_checkable(NAME, "the round was settled without a proof of ours");
        };
        let found = || {
            let dossier = &self.record.dossier;
            same(
                "clipping norm",
                &dossier.clip_norm.bits(),
                &claim.clip_norm_bits,
            )?;
            let own = usize::from(claim.own);
            same(
                "number of the trainers' own updates",
                &dossier.own_updates.len(),
                &own,
            )?;
            let recorded = self.recorded();
            same("number of updates", &recorded.len(), &claim.updates.len())?;
            for (index, (said, entry)) in recorded.iter().zip(&claim.updates).enumerate() {
                let (trainer, update, sketched) = said;
                let nothing = (Digest::ZERO, Digest::ZERO);
                let sums = sketched.map_or(nothing, |s| (s.commitment, s.sums_root));
                let (commitment, root) = (Digest(entry.commitment.0), entry.sums_root);
                if (*trainer, *update, sums) != (entry.trainer, entry.update, (commitment, root)) {
                    return Err(format!(
                        "entry {index} of the proof is not that of the record"
                    ));
                }
            }
            Ok(())
        };
        Check::of(NAME, "are those of the record".into(), found())
    }

    fn recorded(&self) -> Vec<(Address, Digest, Option<Sketched>)> {
        let dossier = &self.record.dossier;
        let own = dossier.own_updates.iter().map(|(t, u)| (*t, *u, None));
        let updates = dossier.committed().zip(&dossier.updates);
        let updates = updates.map(|((trainer, update), entry)| (trainer, update, entry.sketched));
        updates.chain(own).collect()
    }

    /// Norms count of every update that got as far as being sketched.
    fn clipping(&self) -> Found {
        let counted = |entry: &&RecordedUpdate| {
            entry.sketched.is_some() || entry.refusal == Some(Refusal::WrongSketch)
        };
        let dossier = &self.record.dossier;
        let norms = dossier.updates.iter().filter(counted);
        let median = Norm::clipping(norms.map(|entry| entry.update.header.delta_norm));
        let (told, expected) = (dossier.clip_norm.value(), median.value());
        if dossier.clip_norm != median {
            return Err(format!(
                "{told:e}, the lower median of the norms is {expected:e}"
            ));
        }
        self.each(|entry| {
            let ppm = clip_ppm(entry.update.header.delta_norm, median);
            let trainer = entry.update.trainer;
            match entry.sketched.is_none() || entry.clip_ppm == ppm {
                true => Ok(()),
                false => Err(format!(
                    "the delta of {trainer} is scaled by {} millionths instead of {ppm}",
                    entry.clip_ppm
                )),
            }
        })
    }

    fn judgement(&self) -> Judgement {
        let dossier = &self.record.dossier;
        let sketch = |entry: &RecordedUpdate| entry.sketched.map(|s| s.sketch.0);
        let own = dossier.own_updates.iter().map(|_| None);
        let sketches: Vec<_> = dossier.updates.iter().map(sketch).chain(own).collect();
        judge(&sketches)
    }

    fn judged(&self) -> String {
        let kept = self.judgement().kept().count();
        format!(
            "{kept} of {} kept, with the scores that the rule gives",
            self.facts.statement.updates
        )
    }

    fn filter(&self) -> Found {
        let judgement = self.judgement();
        let trainer = |slot: usize| {
            self.record
                .dossier
                .updates
                .get(slot)
                .map(|e| e.update.trainer)
        };
        let rows = judgement.verdicts.iter().zip(&judgement.scores);
        for (entry, (verdict, score)) in self.record.dossier.updates.iter().zip(rows) {
            let who = entry.update.trainer;
            let expected = match verdict {
                plain::Verdict::Kept => None,
                plain::Verdict::Absent => match &entry.refusal {
                    None => return Err(format!("{who} counts without a sketch")),
                    refusal => refusal.clone(),
                },
                plain::Verdict::Refused(Reason::NoWork { ratio_ppm }) => {
                    let ratio_ppm = *ratio_ppm;
                    Some(Refusal::NoWork { ratio_ppm })
                }
                plain::Verdict::Refused(Reason::Copy { of }) => {
                    trainer(*of).map(|of| Refusal::Copy { of })
                }
                plain::Verdict::Refused(Reason::Colluding { energy_percent }) => {
                    let energy_percent = *energy_percent;
                    Some(Refusal::Colluding { energy_percent })
                }
            };
            if entry.refusal != expected {
                let said = |refusal: &Option<Refusal>| match refusal {
                    None => "kept".to_owned(),
                    Some(reason) => format!("refused ({reason})"),
                };
                let (told, rule) = (said(&entry.refusal), said(&expected));
                return Err(format!("{who} is {told}, by the rule it is {rule}"));
            }
            if entry.alignment != *score {
                let told = entry.alignment;
                return Err(format!("{who} has score {told}, by the rule it is {score}"));
            }
        }
        Ok(())
    }

    fn revealed(&self) -> impl Iterator<Item = &Vec<u16>> {
        self.facts
            .reveals
            .iter()
            .filter_map(|reveal| reveal.factors.as_ref())
    }

    fn factors(&self) -> Found {
        let submission = &self.facts.submission;
        if !self.revealed().eq(&submission.reveals) {
            return Err("the result names other reveals than the chain".into());
        }
        let count = usize::from(self.facts.statement.updates);
        let medians = factors::medians(&self.facts.reveals, count);
        if submission.factors != medians {
            return Err("the factors on chain are not the medians of the reveals".into());
        }
        match self.record.factors == medians {
            true => Ok(()),
            false => Err("the record's factors are not those on chain".into()),
        }
    }

    fn payouts(&self) -> Found {
        let scores = self.judgement().scores;
        let rows = self
            .recorded()
            .into_iter()
            .zip(scores)
            .zip(&self.facts.submission.factors);
        let contributions: Vec<_> = rows
            .map(|(((trainer, ..), alignment), factor)| Contribution {
                trainer,
                alignment,
                factor: *factor,
            })
            .collect();
        let (split, decay) = self.facts.split;
        let pool = self.facts.statement.trainers_pool;
        let expected = split_down(pool, split, decay, &contributions);
        let paid = &self.facts.submission.payouts;
        if *paid != expected {
            let first = paid.iter().zip(&expected).find(|(paid, due)| paid != due);
            return Err(match first {
                Some(((who, got), (due, amount))) => {
                    format!("{who} is paid {got} where {due} is due {amount}")
                }
                None => format!("{} are paid, {} should be", paid.len(), expected.len()),
            });
        }
        match self.record.payouts == expected {
            true => Ok(()),
            false => Err("the record's payouts are not those on chain".into()),
        }
    }

    fn weighted(&self) -> String {
        let left_out = |entry: &&RecordedUpdate| entry.refusal.is_none() && entry.weight == 0;
        let count = self.record.dossier.updates.iter().filter(left_out).count();
        let counted = match self.facts.aggregation.buffer() {
            None => "claimed examples, capped",
            Some(_) => "claimed examples, capped and discounted by their bases' ages",
        };
        match count {
            0 => format!("{counted}, of all that are kept"),
            _ => format!(
                "{counted}; {count} kept by the filter left out, which is by the validators' held-out losses and not checkable"
            ),
        }
    }

    fn weights(&self) -> Found {
        self.each(|entry| {
            let header = &entry.update.header;
            // Nothing is sketched, and so nothing kept, of any other base.
            let staleness = self.facts.staleness(&header.base).unwrap_or(0);
            let aggregation = &self.facts.aggregation;
            let due = aggregation.weight(header.num_examples, staleness);
            let (trainer, weight) = (entry.update.trainer, entry.weight);
            match weight {
                0 => Ok(()),
                _ if entry.refusal.is_some() => Err(format!(
                    "{trainer} is refused and has weight {weight} in the step"
                )),
                _ if weight != due => Err(format!(
                    "{trainer} has weight {weight} in the step instead of {due}"
                )),
                _ => Ok(()),
            }
        })
    }

    fn entries_with<'b, T>(
        &'b self,
        part: impl Fn(&'b RecordedUpdate) -> Option<T>,
    ) -> impl Iterator<Item = T> {
        self.record.dossier.updates.iter().filter_map(part)
    }

    fn each(&self, check: impl Fn(&RecordedUpdate) -> Found) -> Found {
        self.record.dossier.updates.iter().try_for_each(check)
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, told: &T, expected: &T) -> Found {
    match told == expected {
        true => Ok(()),
        false => Err(format!("the {what} is {told:?}, on chain {expected:?}")),
    }
}
