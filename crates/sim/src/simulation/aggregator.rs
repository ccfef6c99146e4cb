//! The aggregator's driver: logs, answers what the machine demands, and can be killed.

use std::collections::BTreeMap;

use convoke_protocol::codec;
use convoke_protocol::ids::{Address, BlobHash, Millis};
use convoke_protocol::message::{Candidate, NodeMessage, Order};
use convoke_protocol::refusal::Refusal;
use convoke_protocol::round::{Comparand, Effect, Event, Run, Setup, Verdict};
use convoke_protocol::sketch::Norm;

use super::chain::{Chain, Submission};
use super::nodes::{Blobs, Parcel};
use super::problem;

/// What the driver wants sent or done.
pub(super) enum Action {
    Tell(Address, Order),
    /// A background job is done some time.
    Answer(Event),
}

pub(super) struct Aggregator {
    pub(super) run: Run,
    born: Millis,
    log: Vec<(Millis, Vec<u8>)>,
    pub(super) blobs: Blobs,
    pub(super) chain: Chain,
}

impl Aggregator {
    pub(super) fn new(setup: Setup, initial: Vec<f32>, now: Millis) -> Self {
        Self {
            run: Run::new(setup, now),
            born: now,
            log: Vec::new(),
            blobs: BTreeMap::from([(problem::blob(&initial), initial)]),
            chain: Chain::default(),
        }
    }

    /// Decides, logs, then acts.
    pub(super) fn feed(&mut self, now: Millis, event: &Event) -> Vec<Action> {
        if self.run.handle(now, event).is_err() {
            return Vec::new();
        }
        let bytes = codec::encode(event).expect("events of a bounded round fit a message");
        self.log.push((now, bytes));
        self.carry_out()
    }

    /// Killed, and started again from the log: the state must be the very same.
    pub(super) fn crash(&mut self, now: Millis) -> Vec<Action> {
        let mut run = Run::new(self.run.setup().clone(), self.born);
        for (at, bytes) in &self.log {
            let event = codec::decode(bytes).expect("what was logged can be read");
            run.handle(*at, &event)
                .expect("what was accepted is accepted again");
        }
        run.resume();
        assert_eq!(
            run.digest(),
            self.run.digest(),
            "the replay went another way"
        );
        self.run = run;
        let mut actions = self.carry_out();
        actions.extend(self.feed(now, &Event::Restarted));
        actions
    }

    /// What a node's parcel means to the machine.
    pub(super) fn read(&mut self, from: Address, parcel: Parcel) -> Option<Event> {
        let now = self.run.round();
        match parcel {
            Parcel::Message(NodeMessage::Update(update)) => Some(Event::UpdateAnnounced(update)),
            Parcel::Message(NodeMessage::CommitScores { round, commitment }) if round == now => {
                Some(Event::ScoresCommitted {
                    validator: from,
                    commitment,
                })
            }
            Parcel::Message(NodeMessage::RevealScores {
                sheet,
                salt,
                reveal,
            }) => Some(Event::ScoresRevealed {
                validator: from,
                sheet,
                salt,
                reveal,
            }),
            Parcel::Message(NodeMessage::Sketch(claim)) => Some(Event::SketchClaimed(claim)),
            Parcel::Message(_) => None,
            Parcel::Delta(values) => self.store(from, values),
        }
    }

    fn store(&mut self, trainer: Address, values: Vec<f32>) -> Option<Event> {
        let delta = problem::blob(&values);
        if !self.run.expects_delta(trainer, &delta) {
            return None;
        }
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            let refusal = Refusal::NotFinite {
                index: index as u64,
                value: values[index].to_string(),
            };
            return Some(Event::DeltaRefused {
                trainer,
                delta,
                refusal,
            });
        }
        self.blobs.insert(delta, values);
        Some(Event::DeltaStored { trainer, delta })
    }

    fn carry_out(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        while let Some(effect) = self.run.poll_effect() {
            let answer = match effect {
                Effect::Tell { to, order } => {
                    actions.push(Action::Tell(to, order));
                    continue;
                }
                Effect::Announce(_) => continue,
                Effect::DrawSeed => Event::SeedDrawn {
                    seed: self.run.digest(),
                },
                Effect::OpenRound { round, after, .. } => {
                    let pool = self.run.setup().spec.round_pool();
                    self.chain.open(round, after, pool)
                }
                Effect::Seal { .. } => Event::Sealed {
                    seed: self.run.digest(),
                    own_updates: Vec::new(),
                },
                Effect::Filter { updates, .. } => Event::Filtered {
                    verdicts: self.filter(&updates),
                },
                Effect::OpenReveal { round, .. } => match self.chain.scores(round).len() {
                    0 => lost("nobody committed on chain"),
                    _ => Event::RevealOpened,
                },
                Effect::ReadScores { round, .. } => {
                    let scores = self.chain.scores(round);
                    match scores.iter().any(|score| score.factors.is_some()) {
                        true => Event::ScoresRead { scores },
                        false => lost("nobody revealed on chain"),
                    }
                }
                Effect::Aggregate { base, kept, .. } => Event::Aggregated {
                    checkpoint: self.step(base, &kept),
                    states: vec![],
                    control: None,
                    broadcast: None,
                    shares: vec![],
                    noise: Norm::ZERO,
                },
                Effect::SubmitResult {
                    round,
                    attempt,
                    payouts,
                    factors,
                    reveals,
                    ..
                } => {
                    let result = Submission {
                        payouts,
                        factors,
                        reveals,
                    };
                    let setup = self.run.setup();
                    self.chain.settle(setup, round, attempt, &result);
                    Event::ResultRecorded {
                        record: BlobHash::ZERO,
                    }
                }
                Effect::CloseTask => Event::ClosingBegan,
                Effect::AwaitClosing => Event::TaskClosed,
            };
            actions.push(Action::Answer(answer));
        }
        actions
    }

    /// Keeps all, clipped to the median norm. Here only the validators find adversaries.
    fn filter(&self, updates: &[Comparand]) -> Vec<Verdict> {
        let delta = |update: &Comparand| &self.blobs[&update.candidate.delta];
        let clip = Norm::clipping(updates.iter().map(|u| u.norm)).value();
        let scale = |u: &Comparand| (clip / u.norm.value().max(1e-30)).min(1.0);
        let mut sum = vec![0.0; problem::DIMENSIONS];
        for update in updates {
            sum = problem::plus(&sum, scale(update), delta(update));
        }
        let verdict = |update: &Comparand| Verdict {
            trainer: update.candidate.trainer,
            sketched: None,
            clip_ppm: (scale(update) * 1e6) as u32,
            // A negative agreement casts to nothing.
            alignment: (problem::dot(delta(update), &sum) * scale(update) * 1e6) as u64,
            refusal: None,
        };
        updates.iter().map(verdict).collect()
    }

    /// FedAvg of the clipped deltas.
    fn step(&mut self, base: BlobHash, kept: &[Candidate]) -> BlobHash {
        let mut model = self.blobs[&base].clone();
        let total: u64 = kept.iter().map(|c| c.num_examples).sum();
        for candidate in kept {
            let weight = candidate.num_examples as f64 / total as f64;
            let clipped = weight * f64::from(candidate.clip_ppm) / 1e6;
            model = problem::plus(&model, clipped, &self.blobs[&candidate.delta]);
        }
        let name = problem::blob(&model);
        self.blobs.insert(name, model);
        name
    }
}

fn lost(reason: &str) -> Event {
    Event::RoundLost {
        reason: reason.to_owned(),
    }
}
