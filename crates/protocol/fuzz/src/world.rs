//! A round state machine with scripted nodes and driver. Every event that is fed is checked
//! against the promises of `convoke_protocol::round`.

use std::collections::BTreeMap;

use convoke_protocol::factors::{AttemptId, ChainReveal, SignedReveal};
use convoke_protocol::held_out;
use convoke_protocol::identity::{Wallet, keccak};
use convoke_protocol::ids::{Address, Amount, BlobHash, Digest, Millis, Role, RoundId, TaskId};
use convoke_protocol::message::{Candidate, Notice, Order, PhaseName};
use convoke_protocol::payout::PayoutDomain;
use convoke_protocol::round::{Comparand, Effect, Event, Fault, Run, Setup, Verdict};
use convoke_protocol::scores::{self, CandidateScore, Outcome, Score, ScoreSheet};
use convoke_protocol::sketch::{Norm, SKETCH_LEN, Sketch, SketchClaim, Sketched};
use convoke_protocol::task::TaskSpec;
use convoke_protocol::update::{SignedUpdate, UpdateHeader};

/// Length of every checkpoint and delta.
pub(crate) const BYTES: u64 = 4_000;
/// Trainers that exist.
pub(crate) const TRAINERS: u8 = 5;
/// Validators that exist.
pub(crate) const VALIDATORS: u8 = 3;

/// A small task: `extra` is more of the task file, whole tables.
pub(crate) fn spec(rounds: u32, cohort: &str) -> TaskSpec {
    let text = format!(
        "name = \"t\"\nrounds = {rounds}\n[model]\nkind = \"cnn\"\n[cohort]\n{cohort}\n\
         [timing]\nprogress_timeout_s = 20\ntrain_max_s = 300\ngrace_s = 10\n\
         score_timeout_s = 30\nopen_timeout_s = 600\nattempts_max = 3\n\
         [reward]\npool = \"1000003\"\n"
    );
    TaskSpec::parse(&text).expect("the scripted task is sound")
}

/// The machine, its driver's memory, and the log that it would be restored from.
pub(crate) struct World {
    pub(crate) run: Run,
    born: Run,
    /// The state's digest after the last accepted event.
    digest: Digest,
    pub(crate) now: Millis,
    wallets: Vec<Wallet>,
    /// Accepted events, each with the digest after it.
    pub(crate) log: Vec<(Millis, Event, Digest)>,
    /// What the driver was asked for last and has not answered.
    pub(crate) answer: Option<Event>,
    /// The candidates that validators were asked to score last.
    pub(crate) candidates: Vec<Candidate>,
    /// Of how many updates in all.
    updates: u16,
    /// How often the chain has opened the round under way.
    pub(crate) attempt: u16,
    /// Updates that the chain has beyond the aggregator's.
    pub(crate) own_updates: u8,
    /// Who is committed to.
    committed: Vec<(Address, Digest)>,
    /// The claim that trainers were asked for last; update, commitment and root are their own.
    asked: Option<SketchClaim>,
    /// Who revealed in the attempt under way.
    revealed: Vec<u8>,
    /// All effects so far.
    pub(crate) effects: Vec<Effect>,
    pub(crate) phases: Vec<PhaseName>,
    pub(crate) paid: u128,
    signed: BTreeMap<(u8, RoundId, BlobHash, u8), SignedUpdate>,
}

impl World {
    /// # Panics
    /// Never: the scripted keys are sound.
    pub(crate) fn new(spec: TaskSpec) -> Self {
        let wallet = |id| Wallet::from_bytes(&[id; 32]).expect("small numbers are keys");
        let wallets: Vec<_> = (1..=TRAINERS + VALIDATORS).map(wallet).collect();
        let setup = Setup {
            task: TaskId(3),
            spec,
            domain: PayoutDomain {
                chain_id: 31_337,
                contract: Address([0xcc; 20]),
            },
            aggregator: Address([0xaa; 20]),
            initial: BlobHash([1; 32]),
            delta_bytes: BYTES,
        };
        let now = Millis(1_000_000);
        let run = Run::new(setup, now);
        let mut world = Self {
            born: run.clone(),
            digest: run.digest(),
            run,
            now,
            wallets,
            log: Vec::new(),
            answer: None,
            candidates: Vec::new(),
            updates: 0,
            attempt: 0,
            own_updates: 0,
            committed: Vec::new(),
            asked: None,
            revealed: Vec::new(),
            effects: Vec::new(),
            phases: Vec::new(),
            paid: 0,
            signed: BTreeMap::new(),
        };
        world.carry_out();
        world
    }

    pub(crate) fn trainer(&self, index: u8) -> Address {
        self.wallets[usize::from(index % TRAINERS)].address()
    }

    pub(crate) fn validator(&self, index: u8) -> Address {
        self.wallets[usize::from(TRAINERS + index % VALIDATORS)].address()
    }

    /// Feeds an event now, and checks what the machine promises of it.
    ///
    /// # Panics
    /// If a promise is broken.
    pub(crate) fn feed(&mut self, event: Event) -> Result<(), Fault> {
        if let Err(fault) = self.run.handle(self.now, &event) {
            assert_eq!(self.run.digest(), self.digest, "{fault} changed the state");
            assert_eq!(self.run.poll_effect(), None, "{fault} had effects");
            return Err(fault);
        }
        self.digest = self.run.digest();
        self.log.push((self.now, event, self.digest));
        self.carry_out();
        self.check_deadline();
        Ok(())
    }

    /// Lets time pass up to the machine's deadline, and ticks. False without a deadline.
    pub(crate) fn tick(&mut self) -> bool {
        let Some(deadline) = self.run.deadline() else {
            return false;
        };
        self.now = self.now.max(deadline);
        self.feed(Event::Tick).is_ok()
    }

    pub(crate) fn pass(&mut self, seconds: u64) {
        self.now = self.now.after(seconds * 1_000);
    }

    pub(crate) fn join_trainer(&mut self, index: u8) -> Result<(), Fault> {
        let address = self.trainer(index);
        self.join(address, Role::Trainer)
    }

    pub(crate) fn join_validator(&mut self, index: u8) -> Result<(), Fault> {
        let address = self.validator(index);
        self.join(address, Role::Validator)
    }

    pub(crate) fn join(&mut self, address: Address, role: Role) -> Result<(), Fault> {
        let stake = Amount(u128::from(address.0[0]) + 1);
        self.feed(Event::Joined {
            address,
            role,
            stake,
        })
    }

    /// Answers what the driver was asked for last, if anything. Once the seed is drawn, the
    /// trainers claim their sketches, and the comparison is answered too.
    pub(crate) fn answer(&mut self) -> Option<Result<(), Fault>> {
        let sealed = matches!(self.answer, Some(Event::Sealed { .. }));
        let outcome = self.answer_once()?;
        if !sealed || outcome.is_err() {
            return Some(outcome);
        }
        for index in 0..TRAINERS {
            let _ = self.claim(index);
        }
        self.answer_once().or(Some(outcome))
    }

    /// Answers that and nothing else.
    pub(crate) fn answer_once(&mut self) -> Option<Result<(), Fault>> {
        let answer = self.answer.take()?;
        Some(self.feed(answer))
    }

    /// What a trainer claims its sketch to be, if it was asked.
    pub(crate) fn sketch(&self, index: u8) -> Option<SketchClaim> {
        let trainer = self.trainer(index);
        let (_, update) = self.committed.iter().find(|(t, _)| *t == trainer)?;
        Some(SketchClaim {
            update: *update,
            ..self.asked.clone()?
        })
    }

    pub(crate) fn claim(&mut self, index: u8) -> Option<Result<(), Fault>> {
        let claim = self.sketch(index)?;
        Some(self.feed_claim(index, claim))
    }

    pub(crate) fn feed_claim(&mut self, index: u8, claim: SketchClaim) -> Result<(), Fault> {
        let wallet = &self.wallets[usize::from(index % TRAINERS)];
        let signed = claim.sign(&self.run.setup().domain, wallet);
        self.feed(Event::SketchClaimed(signed))
    }

    /// A delta of a trainer; other variants are other deltas.
    pub(crate) fn delta(&self, index: u8, variant: u8) -> BlobHash {
        let round = self.run.round().0.to_le_bytes()[0];
        BlobHash(
            [index % TRAINERS + 1, variant, round, 7]
                .repeat(8)
                .try_into()
                .expect("4 × 8 = 32"),
        )
    }

    pub(crate) fn header(&self, index: u8, variant: u8) -> UpdateHeader {
        UpdateHeader {
            task: self.run.setup().task,
            round: self.run.round(),
            base: self.run.base(),
            delta: self.delta(index, variant),
            delta_root: Digest([index; 32]),
            delta_bytes: BYTES,
            delta_norm: Norm::of(1.0 + f64::from(index)),
            num_examples: 100 + u64::from(index),
            train_loss_micros: 500_000,
        }
    }

    /// An update that begins with the base of so many rounds ago, from 1.
    pub(crate) fn stale_header(&self, index: u8, back: usize) -> Option<UpdateHeader> {
        let reports: Vec<_> = self.run.history().collect();
        let report = reports.get(reports.len().checked_sub(back)?)?;
        Some(UpdateHeader {
            base: report.base,
            ..self.header(index, 3)
        })
    }

    pub(crate) fn sign(&self, index: u8, header: UpdateHeader) -> SignedUpdate {
        let wallet = &self.wallets[usize::from(index % TRAINERS)];
        header.sign(&self.run.setup().domain, wallet)
    }

    /// A sound update, signed once.
    pub(crate) fn update(&mut self, index: u8, variant: u8) -> SignedUpdate {
        let key = (index % TRAINERS, self.run.round(), self.run.base(), variant);
        if let Some(signed) = self.signed.get(&key) {
            return signed.clone();
        }
        let signed = self.sign(index, self.header(index % TRAINERS, variant));
        self.signed.insert(key, signed.clone());
        signed
    }

    pub(crate) fn announce(&mut self, index: u8, variant: u8) -> Result<(), Fault> {
        let update = self.update(index, variant);
        self.feed(Event::UpdateAnnounced(update))
    }

    pub(crate) fn store(&mut self, index: u8, variant: u8) -> Result<(), Fault> {
        let (trainer, delta) = (self.trainer(index), self.delta(index, variant));
        self.feed(Event::DeltaStored { trainer, delta })
    }

    /// What a validator finds: every candidate is good.
    pub(crate) fn sheet(&self) -> ScoreSheet {
        let score = |candidate: &Candidate| CandidateScore {
            trainer: candidate.trainer,
            outcome: Outcome::Scored(Score {
                gain_micros: 1_000,
                cosine_ppm: 200_000,
                relatedness_milli: 90_000,
                value_nanos: 200_000_000,
            }),
        };
        ScoreSheet {
            task: self.run.setup().task,
            round: self.run.round(),
            base_loss_micros: 700_000,
            base_accuracy_ppm: 600_000,
            candidates: self.candidates.iter().map(score).collect(),
        }
    }

    pub(crate) fn commit(&mut self, index: u8) -> Result<(), Fault> {
        let validator = self.validator(index);
        let commitment = scores::commitment(validator, &self.sheet(), &[index; 32]);
        self.feed(Event::ScoresCommitted {
            validator,
            commitment,
        })
    }

    pub(crate) fn reveal(&mut self, index: u8) -> Result<(), Fault> {
        let sheet = self.sheet();
        let reveal = self.signed_reveal(index, &sheet);
        // On chain first, so that the chain has it when the machine asks.
        self.revealed.push(index);
        let outcome = self.feed(Event::ScoresRevealed {
            validator: self.validator(index),
            sheet,
            salt: [index; 32],
            reveal,
        });
        if outcome.is_err() {
            self.revealed.pop();
        }
        outcome
    }

    /// The factors that follow from a sheet, signed.
    pub(crate) fn signed_reveal(&self, index: u8, sheet: &ScoreSheet) -> SignedReveal {
        let attempt = AttemptId {
            task: self.run.setup().task,
            round: self.run.round(),
            attempt: self.attempt,
        };
        let wallet = &self.wallets[usize::from(TRAINERS + index % VALIDATORS)];
        let domain = &self.run.setup().domain;
        SignedReveal::sign(domain, &attempt, self.factors(sheet), [index; 32], wallet)
    }

    fn factors(&self, sheet: &ScoreSheet) -> Vec<u16> {
        let places: Vec<_> = self.candidates.iter().map(|c| c.index).collect();
        held_out::factors(sheet, &places, self.updates)
    }

    /// What the chain has of a round that went well: one more validator committed than revealed.
    fn chain_scores(&self) -> Vec<ChainReveal> {
        let factors = self.factors(&self.sheet());
        let scores = |index: &u8| ChainReveal {
            validator: self.validator(*index),
            weight: Amount(1 + u128::from(*index)),
            factors: Some(factors.clone()),
        };
        let silent = ChainReveal {
            validator: Address([0xdd; 20]),
            weight: Amount(1_000),
            factors: None,
        };
        self.revealed.iter().map(scores).chain([silent]).collect()
    }

    /// The chain fails the attempt instead of the answer that is awaited.
    pub(crate) fn lose_round(&mut self) -> Result<(), Fault> {
        let reason = "the chain's time has run out".to_owned();
        let awaited = self.answer.take();
        let outcome = self.feed(Event::RoundLost { reason });
        if outcome.is_err() {
            self.answer = awaited;
        }
        outcome
    }

    /// The machine as a restart restores it from the log, which must be the very same.
    ///
    /// # Panics
    /// If it is another.
    pub(crate) fn replayed(&self) -> Run {
        let mut run = self.born.clone();
        for (at, event, digest) in &self.log {
            let replayed = run.handle(*at, event);
            assert_eq!(
                replayed,
                Ok(()),
                "an accepted event is refused in the replay"
            );
            assert_eq!(run.digest(), *digest, "the replay went another way");
            while run.poll_effect().is_some() {}
        }
        run.resume();
        assert_eq!(run.digest(), self.digest, "resuming changed the state");
        run
    }

    /// The driver is killed and comes back.
    pub(crate) fn restart(&mut self) {
        self.run = self.replayed();
        self.answer = None;
        self.carry_out();
        self.feed(Event::Restarted)
            .expect("a restart is always possible");
    }

    /// Digest of the state and of all effects so far.
    pub(crate) fn transcript(&self) -> Digest {
        let effects = format!("{:?}", self.effects);
        keccak(&[&self.run.digest().0, effects.as_bytes()])
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.run.poll_effect() {
            self.obey(&effect);
            self.effects.push(effect);
        }
    }

    fn obey(&mut self, effect: &Effect) {
        match effect {
            Effect::Announce(Notice::PhaseBegan { phase, .. }) => {
                if let Some(last) = self.phases.last() {
                    assert!(leads_to(*last, *phase), "{last} → {phase}");
                }
                self.phases.push(*phase);
            }
            Effect::Tell {
                order:
                    Order::Score {
                        candidates,
                        updates,
                        attempt,
                        ..
                    },
                ..
            } => {
                assert_eq!(*attempt, self.attempt, "an order about another attempt");
                self.candidates.clone_from(candidates);
                self.updates = *updates;
            }
            Effect::Tell {
                order:
                    Order::Sketch {
                        round,
                        attempt,
                        seed,
                        clip_norm,
                        ..
                    },
                ..
            } => {
                assert_eq!(*attempt, self.attempt, "an order about another attempt");
                self.asked = Some(SketchClaim {
                    task: self.run.setup().task,
                    round: *round,
                    attempt: *attempt,
                    update: Digest::ZERO,
                    seed: *seed,
                    clip_norm: *clip_norm,
                    commitment: Digest([1; 32]),
                    sums_root: Digest([2; 32]),
                });
            }
            Effect::Announce(_) | Effect::Tell { .. } => {}
            Effect::Seal { committed, .. } => {
                self.committed.clone_from(committed);
                self.asked = None;
                let own = |index| (Address([index; 20]), Digest([index; 32]));
                self.answer = Some(Event::Sealed {
                    seed: keccak(&[b"seal", &self.now.0.to_le_bytes()]),
                    own_updates: (0..self.own_updates).map(own).collect(),
                });
            }
            Effect::OpenRound { after, cohort, .. } => {
                assert!(!cohort.is_empty(), "an empty cohort");
                let pool = self.run.setup().spec.round_pool();
                let attempt = after + 1;
                self.revealed.clear();
                self.attempt = attempt;
                self.answer = Some(Event::RoundOpened { attempt, pool });
            }
            Effect::OpenReveal { .. } => self.answer = Some(Event::RevealOpened),
            Effect::ReadScores { .. } => {
                let scores = self.chain_scores();
                self.answer = Some(Event::ScoresRead { scores });
            }
            Effect::DrawSeed => {
                let seed = keccak(&[&self.now.0.to_le_bytes()]);
                self.answer = Some(Event::SeedDrawn { seed });
            }
            Effect::Filter { updates, .. } => {
                for update in updates {
                    let candidate = &update.candidate;
                    let (trainer, _) = self.committed[usize::from(candidate.index)];
                    assert_eq!(trainer, candidate.trainer, "an update in another's place");
                }
                let verdict = |update: &Comparand| Verdict {
                    trainer: update.candidate.trainer,
                    sketched: Some(Sketched {
                        sketch: Sketch([3; SKETCH_LEN]),
                        commitment: Digest([1; 32]),
                        sums_root: Digest([2; 32]),
                    }),
                    clip_ppm: 900_000,
                    alignment: 1_000 + u64::from(update.candidate.trainer.0[0]),
                    refusal: None,
                };
                let verdicts = updates.iter().map(verdict).collect();
                self.answer = Some(Event::Filtered { verdicts });
            }
            Effect::Aggregate {
                round,
                base,
                control,
                ..
            } => {
                let checkpoint = BlobHash(keccak(&[&base.0, &round.0.to_le_bytes()]).0);
                self.answer = Some(Event::Aggregated {
                    checkpoint,
                    states: vec![],
                    control: control.map(|_| BlobHash([0xc0; 32])),
                    broadcast: None,
                    shares: vec![],
                    noise: Norm::ZERO,
                });
            }
            Effect::SubmitResult {
                payouts,
                factors,
                reveals,
                dossier,
                ..
            } => {
                assert_eq!(dossier.count(), factors.len(), "a factor for each update");
                assert!(dossier.committed().eq(self.committed.iter().copied()));
                let total: Amount = payouts.iter().map(|(_, amount)| *amount).sum();
                let spec = &self.run.setup().spec;
                let share = u128::from(spec.reward.trainers_bps);
                let share = spec.round_pool().share_down(share, 10_000);
                assert!(total <= share, "more than the trainers' share");
                assert!(payouts.len() <= factors.len(), "more payouts than updates");
                assert!(reveals.iter().all(|r| r.len() == factors.len()));
                self.answer = Some(Event::ResultRecorded {
                    record: BlobHash([0xbb; 32]),
                });
                self.paid = total.0;
            }
            Effect::CloseTask if self.run.setup().spec.cohort.validators_min > 0 => {
                self.answer = Some(Event::ClosingBegan);
            }
            Effect::CloseTask | Effect::AwaitClosing => self.answer = Some(Event::TaskClosed),
        }
    }

    /// A tick at the deadline changes something, and never leaves the same deadline behind: a
    /// driver that sleeps until the deadline is never kept busy.
    fn check_deadline(&self) {
        let Some(deadline) = self.run.deadline() else {
            return;
        };
        let mut run = self.run.clone();
        let at = deadline.max(self.now);
        assert_eq!(
            run.handle(at, &Event::Tick),
            Ok(()),
            "nothing to do at the deadline"
        );
        assert_ne!(
            run.digest(),
            self.digest,
            "a tick at the deadline changed nothing"
        );
        let later = run.deadline().is_none_or(|next| next > at);
        assert!(later, "another deadline that has passed already");
    }
}

/// The arrows of the diagram in `round/mod.rs`.
fn leads_to(from: PhaseName, to: PhaseName) -> bool {
    use PhaseName::{Commit, Failed, Filter, Finished, Open, Settle, Train, Validate};
    matches!(
        (from, to),
        (Open, Train | Failed)
            | (Train, Filter | Open | Failed)
            | (Filter, Validate | Commit | Open | Failed)
            | (Validate, Commit | Open | Failed)
            | (Commit, Settle | Failed)
            | (Settle, Open | Finished | Failed)
    )
}
