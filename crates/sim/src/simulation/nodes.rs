//! Scripted trainers and validators: what they do when they are told something.

use std::collections::{BTreeMap, BTreeSet};

use convoke_protocol::assignment::{Assignment, Signed, Start};
use convoke_protocol::factors::{AttemptId, SignedReveal};
use convoke_protocol::held_out;
use convoke_protocol::identity::Wallet;
use convoke_protocol::ids::{BlobHash, Digest, Role, RoundId, TaskId};
use convoke_protocol::message::{Candidate, NodeMessage, Order, RoundReport};
use convoke_protocol::payout::PayoutDomain;
use convoke_protocol::round::Setup;
use convoke_protocol::scores::{self, CandidateScore, Outcome, Score, ScoreSheet};
use convoke_protocol::sketch::{Norm, SketchClaim};
use convoke_protocol::update::{SignedUpdate, UpdateHeader};

use super::problem::{self, Examples};
use crate::adversaries::{Adversary, Persona};

/// Blobs by name: what the aggregator serves to everybody.
pub(super) type Blobs = BTreeMap<BlobHash, Vec<f32>>;

/// What a node sends. Few are under way at once.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone)]
pub(super) enum Parcel {
    Message(NodeMessage),
    /// A delta, asked for by [`Order::SendDelta`].
    Delta(Vec<f32>),
}

/// What a node does when it is told something.
#[allow(clippy::large_enum_variant)]
pub(super) enum Reply {
    Send(Parcel),
    /// It trains for so long, in milliseconds, and then [`Node::finish`]es what began there.
    Train(Start, u64),
}

pub(super) struct Node {
    pub(super) wallet: Wallet,
    pub(super) role: Role,
    pub(super) persona: Persona,
    adversary: Option<Box<dyn Adversary>>,
    examples: Examples,
    /// How long it trains, in milliseconds.
    pub(super) train_ms: u64,
    /// Work under way, and the round that it is for.
    job: Option<(Start, RoundId)>,
    /// What was signed, so that nothing is signed twice.
    sent: BTreeMap<RoundId, Sent>,
    /// Rounds that have decided on an update of this node.
    decided: BTreeSet<RoundId>,
    scored: BTreeMap<RoundId, Scored>,
    /// A validator that commits, and never reveals.
    pub(super) withholds: bool,
    /// A validator to which the aggregator does not listen.
    pub(super) censored: bool,
}

/// An update, and where the work on it began.
struct Sent {
    began: RoundId,
    update: SignedUpdate,
    delta: Vec<f32>,
}

/// What a validator committed to.
#[derive(Debug, Clone)]
pub(super) struct Scored {
    pub(super) attempt: u16,
    sheet: ScoreSheet,
    pub(super) factors: Vec<u16>,
}

impl Node {
    pub(super) fn new(wallet: Wallet, role: Role, persona: Persona, seed: u64, index: u64) -> Self {
        Self {
            wallet,
            role,
            persona,
            adversary: persona.adversary(seed.wrapping_add(index)),
            examples: Examples::of_node(seed, index),
            train_ms: 0,
            job: None,
            sent: BTreeMap::new(),
            decided: BTreeSet::new(),
            scored: BTreeMap::new(),
            withholds: false,
            censored: false,
        }
    }

    /// Does what it is told; what it sends in return.
    pub(super) fn obey(&mut self, order: &Order, setup: &Setup, blobs: &Blobs) -> Option<Reply> {
        let domain = &setup.domain;
        let parcel = match order {
            Order::Train { round, base, .. } => {
                let (round, base) = (*round, *base);
                return self.train(Start { round, base }, setup);
            }
            Order::SendDelta { round, .. } => Parcel::Delta(self.sent.get(round)?.delta.clone()),
            Order::Sketch {
                round,
                attempt,
                seed,
                clip_norm,
                ..
            } => {
                let update = &self.sent.get(round)?.update;
                // What the sketch is does not matter here: nothing is proven in a simulation.
                let claim = SketchClaim {
                    task: TaskId(1),
                    round: *round,
                    attempt: *attempt,
                    update: update.header.struct_hash(),
                    seed: *seed,
                    clip_norm: *clip_norm,
                    commitment: Digest::ZERO,
                    sums_root: Digest::ZERO,
                };
                let signed = claim.sign(domain, &self.wallet);
                Parcel::Message(NodeMessage::Sketch(signed))
            }
            Order::Score {
                round,
                attempt,
                base,
                updates,
                candidates,
            } => {
                let sheet = self.score(*round, blobs.get(base)?, candidates, blobs)?;
                let commitment = scores::commitment(self.wallet.address(), &sheet, &self.salt());
                let places: Vec<_> = candidates.iter().map(|c| c.index).collect();
                let scored = Scored {
                    attempt: *attempt,
                    factors: held_out::factors(&sheet, &places, *updates),
                    sheet,
                };
                self.scored.insert(*round, scored);
                Parcel::Message(NodeMessage::CommitScores {
                    round: *round,
                    commitment,
                })
            }
            Order::Reveal { round } if !self.withholds => {
                let (scored, salt) = (self.scored.get(round)?.clone(), self.salt());
                let attempt = AttemptId {
                    task: TaskId(1),
                    round: *round,
                    attempt: scored.attempt,
                };
                let reveal =
                    SignedReveal::sign(domain, &attempt, scored.factors, salt, &self.wallet);
                Parcel::Message(NodeMessage::RevealScores {
                    sheet: scored.sheet,
                    salt,
                    reveal,
                })
            }
            Order::UpdateStored { round } | Order::UpdateRefused { round, .. } => {
                self.decided.insert(*round);
                return None;
            }
            Order::Reveal { .. } | Order::Evaluate { .. } => return None,
        };
        Some(Reply::Send(parcel))
    }

    /// Hears how a round went.
    pub(super) fn read(&mut self, report: &RoundReport) {
        let us = self.wallet.address();
        let mut decided = report.refused.iter().map(|(trainer, _)| *trainer);
        if decided.any(|t| t == us) || report.kept.iter().any(|kept| kept.trainer == us) {
            self.decided.insert(report.round);
        }
    }

    /// What it committed to in a round.
    pub(super) fn scored(&self, round: RoundId) -> Option<&Scored> {
        self.scored.get(&round)
    }

    fn train(&mut self, order: Start, setup: &Setup) -> Option<Reply> {
        let latest = self.sent.last_key_value().map(|(round, sent)| Signed {
            round: *round,
            began: Start {
                round: sent.began,
                base: sent.update.header.base,
            },
            spent: self.decided.contains(round),
        });
        let limit = setup.spec.aggregation.staleness_limit();
        let training = self.job.map(|(began, _)| began);
        match Assignment::of(order, limit, latest, training) {
            Assignment::SendAgain => {
                let update = self.sent.get(&order.round)?.update.clone();
                Some(Reply::Send(Parcel::Message(NodeMessage::Update(update))))
            }
            Assignment::SignAgain => {
                let (_, sent) = self.sent.last_key_value()?;
                let mut header = sent.update.header.clone();
                header.round = order.round;
                let (began, delta) = (sent.began, sent.delta.clone());
                Some(Reply::Send(self.sign(began, header, delta, &setup.domain)))
            }
            Assignment::GoOn => {
                if let Some((_, serves)) = &mut self.job {
                    *serves = order.round;
                }
                None
            }
            Assignment::Begin => {
                self.job = Some((order, order.round));
                Some(Reply::Train(order, self.train_ms))
            }
        }
    }

    /// The training that began there is done, unless it was given up.
    pub(super) fn finish(
        &mut self,
        began: Start,
        domain: &PayoutDomain,
        blobs: &Blobs,
    ) -> Option<Parcel> {
        let (_, round) = self.job.take_if(|(job, _)| *job == began)?;
        let mut delta = self.examples.train(blobs.get(&began.base)?);
        if let Some(adversary) = &mut self.adversary {
            adversary.corrupt(round, &mut delta);
        }
        let header = UpdateHeader {
            task: TaskId(1),
            round,
            base: began.base,
            delta: problem::blob(&delta),
            delta_root: Digest::ZERO,
            delta_bytes: 4 * delta.len() as u64,
            delta_norm: Norm::of(problem::norm(&delta)),
            num_examples: self.examples.count(),
            train_loss_micros: 0,
        };
        Some(self.sign(began.round, header, delta, domain))
    }

    /// # Panics
    /// If another update was signed for the same round.
    fn sign(
        &mut self,
        began: RoundId,
        header: UpdateHeader,
        delta: Vec<f32>,
        domain: &PayoutDomain,
    ) -> Parcel {
        let round = header.round;
        let update = header.sign(domain, &self.wallet);
        let sent = Sent {
            began,
            update: update.clone(),
            delta,
        };
        let before = self.sent.insert(round, sent);
        assert!(before.is_none(), "two updates for round {round}");
        Parcel::Message(NodeMessage::Update(update))
    }

    /// What `protocol::scores` says a validator measures.
    fn score(
        &self,
        round: RoundId,
        base: &[f32],
        candidates: &[Candidate],
        blobs: &Blobs,
    ) -> Option<ScoreSheet> {
        let deltas: Option<Vec<&Vec<f32>>> =
            candidates.iter().map(|c| blobs.get(&c.delta)).collect();
        let deltas = deltas?;
        let reference = self.examples.train(base);
        let base_loss = self.examples.loss(base);
        let total: u64 = candidates.iter().map(|c| c.num_examples).sum();
        let score = |(candidate, delta): (&Candidate, &&Vec<f32>)| {
            let weight = candidate.num_examples as f64 / total.max(1) as f64;
            let related: f64 = deltas
                .iter()
                .filter(|other| !std::ptr::eq(**other, *delta))
                .map(|other| problem::cosine(delta, other).powi(2))
                .sum();
            let cosine = problem::cosine(delta, &reference);
            let share = problem::DIMENSIONS as f64 / deltas.len() as f64;
            let moved = self.examples.loss(&problem::plus(base, weight, delta));
            CandidateScore {
                trainer: candidate.trainer,
                outcome: Outcome::Scored(Score {
                    gain_micros: ((base_loss - moved) * 1e6) as i64,
                    cosine_ppm: (cosine * 1e6) as i32,
                    relatedness_milli: (share * (related + cosine.powi(2)) * 1e3) as u32,
                    value_nanos: (cosine * 1e9) as i64,
                }),
            }
        };
        Some(ScoreSheet {
            task: TaskId(1),
            round,
            base_loss_micros: (base_loss * 1e6) as u64,
            base_accuracy_ppm: 0,
            candidates: candidates.iter().zip(&deltas).map(score).collect(),
        })
    }

    fn salt(&self) -> [u8; 32] {
        self.wallet.secret_bytes()
    }
}
