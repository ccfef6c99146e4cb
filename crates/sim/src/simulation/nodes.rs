//! Scripted trainers and validators: what they do when they are told something.

use std::collections::BTreeMap;

use convoke_protocol::factors::{AttemptId, SignedReveal};
use convoke_protocol::held_out;
use convoke_protocol::identity::Wallet;
use convoke_protocol::ids::{BlobHash, Digest, Role, RoundId, TaskId};
use convoke_protocol::message::{Candidate, NodeMessage, Order};
use convoke_protocol::payout::PayoutDomain;
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

pub(super) struct Node {
    pub(super) wallet: Wallet,
    pub(super) role: Role,
    pub(super) persona: Persona,
    adversary: Option<Box<dyn Adversary>>,
    examples: Examples,
    /// What was sent, so that nothing is trained or signed twice.
    sent: BTreeMap<RoundId, (BlobHash, SignedUpdate, Vec<f32>)>,
    scored: BTreeMap<RoundId, Scored>,
    /// A validator that commits, and never reveals.
    pub(super) withholds: bool,
    /// A validator to which the aggregator does not listen.
    pub(super) censored: bool,
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
            sent: BTreeMap::new(),
            scored: BTreeMap::new(),
            withholds: false,
            censored: false,
        }
    }

    /// Does what it is told; what it sends in return.
    pub(super) fn obey(
        &mut self,
        order: &Order,
        domain: &PayoutDomain,
        blobs: &Blobs,
    ) -> Option<Parcel> {
        match order {
            Order::Train { round, base } => {
                let update = self.train(*round, *base, domain, blobs)?;
                Some(Parcel::Message(NodeMessage::Update(update)))
            }
            Order::SendDelta { round, .. } => {
                let (_, _, delta) = self.sent.get(round)?;
                Some(Parcel::Delta(delta.clone()))
            }
            Order::Sketch {
                round,
                attempt,
                seed,
                clip_norm,
                ..
            } => {
                let (_, update, _) = self.sent.get(round)?;
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
                Some(Parcel::Message(NodeMessage::Sketch(signed)))
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
                Some(Parcel::Message(NodeMessage::CommitScores {
                    round: *round,
                    commitment,
                }))
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
                Some(Parcel::Message(NodeMessage::RevealScores {
                    sheet: scored.sheet,
                    salt,
                    reveal,
                }))
            }
            Order::Reveal { .. }
            | Order::UpdateStored { .. }
            | Order::UpdateRefused { .. }
            | Order::Evaluate { .. } => None,
        }
    }

    /// What it committed to in a round.
    pub(super) fn scored(&self, round: RoundId) -> Option<&Scored> {
        self.scored.get(&round)
    }

    fn train(
        &mut self,
        round: RoundId,
        base: BlobHash,
        domain: &PayoutDomain,
        blobs: &Blobs,
    ) -> Option<SignedUpdate> {
        if let Some((sent_base, update, _)) = self.sent.get(&round)
            && *sent_base == base
        {
            return Some(update.clone());
        }
        let mut delta = self.examples.train(blobs.get(&base)?);
        if let Some(adversary) = &mut self.adversary {
            adversary.corrupt(round, &mut delta);
        }
        let header = UpdateHeader {
            task: TaskId(1),
            round,
            base,
            delta: problem::blob(&delta),
            delta_root: Digest::ZERO,
            delta_bytes: 4 * delta.len() as u64,
            delta_norm: Norm::of(problem::norm(&delta)),
            num_examples: self.examples.count(),
            train_loss_micros: 0,
        };
        let update = header.sign(domain, &self.wallet);
        self.sent.insert(round, (base, update.clone(), delta));
        Some(update)
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
