//! A whole task under a virtual clock: the protocol's state machine, scripted nodes, links that
//! lose and reorder, and an aggregator that is killed at random and restored from its log.
//!
//! Same seed, same bytes. A failure names its seed.

mod aggregator;
mod chain;
mod links;
mod nodes;
mod outcome;
mod problem;

use std::collections::BTreeMap;

use convoke_protocol::assignment::Start;
use convoke_protocol::identity::{Wallet, keccak};
use convoke_protocol::ids::{Address, Amount, Millis, Role, RoundId, TaskId};
use convoke_protocol::message::{Order, RoundReport};
use convoke_protocol::payout::PayoutDomain;
use convoke_protocol::round::{Event, Setup};
use convoke_protocol::task::TaskSpec;

use self::aggregator::{Action, Aggregator};
use self::links::Links;
use self::nodes::{Node, Parcel, Reply};
pub use self::outcome::Outcome;
use self::problem::Examples;
use crate::adversaries::Persona;

/// A node whose connection broke is back after so long; each says hello so often.
const HELLO_EVERY_MS: u64 = 2_000;

/// Background jobs of the aggregator take so long.
const JOB_MS: u64 = 50;

/// Things that happen in one simulation at most.
const STEPS_MAX: usize = 2_000_000;

/// A simulation to be run.
#[derive(Debug, Clone)]
pub struct Sim {
    seed: u64,
    trainers: usize,
    adversaries: Vec<Persona>,
    validators: usize,
    rounds: u32,
    loss: f64,
    crashes: f64,
    lost_attempts: f64,
    withholding: usize,
    censored: usize,
    train_ms: u64,
    slow: (usize, u64),
    buffer: Option<(u32, u32)>,
}

impl Sim {
    /// Four honest trainers, one validator, five rounds, sound links, no crashes.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            seed,
            trainers: 4,
            adversaries: Vec::new(),
            validators: 1,
            rounds: 5,
            loss: 0.0,
            crashes: 0.0,
            lost_attempts: 0.0,
            withholding: 0,
            censored: 0,
            train_ms: 0,
            slow: (0, 1),
            buffer: None,
        }
    }

    /// Trainers, adversaries included; 1 to 256.
    #[must_use]
    pub fn trainers(mut self, trainers: usize) -> Self {
        self.trainers = trainers;
        self
    }

    /// Makes `count` more of the trainers adversaries.
    #[must_use]
    pub fn adversaries(mut self, count: usize, persona: Persona) -> Self {
        self.adversaries.extend(std::iter::repeat_n(persona, count));
        self
    }

    /// Validators, 0 to 64.
    #[must_use]
    pub fn validators(mut self, validators: usize) -> Self {
        self.validators = validators;
        self
    }

    /// Rounds, 1 to 10,000.
    #[must_use]
    pub fn rounds(mut self, rounds: u32) -> Self {
        self.rounds = rounds;
        self
    }

    /// Share of messages lost, 0 to 1.
    #[must_use]
    pub fn loss(mut self, loss: f64) -> Self {
        self.loss = loss;
        self
    }

    /// Chance that the aggregator is killed at each thing that happens, 0 to 1.
    #[must_use]
    pub fn crashes(mut self, crashes: f64) -> Self {
        self.crashes = crashes;
        self
    }

    /// Chance that the chain has failed an attempt at each look at it, 0 to 1.
    #[must_use]
    pub fn lost_attempts(mut self, chance: f64) -> Self {
        self.lost_attempts = chance;
        self
    }

    /// Makes the first validators commit without ever revealing.
    #[must_use]
    pub fn withholding(mut self, validators: usize) -> Self {
        self.withholding = validators;
        self
    }

    /// Makes the aggregator deaf to the last validators; the chain hears them.
    #[must_use]
    pub fn censored(mut self, validators: usize) -> Self {
        self.censored = validators;
        self
    }

    /// How long trainers train for an update, in milliseconds.
    #[must_use]
    pub fn train_ms(mut self, train_ms: u64) -> Self {
        self.train_ms = train_ms;
        self
    }

    /// Makes the last trainers slower by a factor.
    #[must_use]
    pub fn slow(mut self, trainers: usize, factor: u64) -> Self {
        self.slow = (trainers, factor);
        self
    }

    /// Lets rounds end with `size` updates, whose bases lie back `staleness_max` rounds at most.
    #[must_use]
    pub fn buffered(mut self, size: u32, staleness_max: u32) -> Self {
        self.buffer = Some((size, staleness_max));
        self
    }

    /// Runs the task to its end.
    ///
    /// # Panics
    /// If the numbers make no task, if a replay differs from what it replays, or if the task
    /// does not end. The text names the seed.
    #[must_use]
    pub fn run(self) -> Outcome {
        let mut world = World::new(self);
        for _ in 0..STEPS_MAX {
            if world.aggregator.run.is_over() {
                return world.outcome();
            }
            world.step();
        }
        panic!("the task does not end, seed {}", world.sim.seed);
    }

    fn spec(&self) -> TaskSpec {
        let (rounds, trainers, validators) = (self.rounds, self.trainers, self.validators);
        let mode = self.buffer.map_or_else(String::new, |(size, staleness)| {
            format!(
                "[aggregation]\nmode = \"buffered\"\nbuffer_size = {size}\n\
                 staleness_max = {staleness}\n"
            )
        });
        let text = format!(
            "name = \"sim\"\nrounds = {rounds}\n[model]\nkind = \"least_squares\"\n\
             [cohort]\ntrainers_min = {trainers}\ntrainers_max = {trainers}\n\
             validators_min = {validators}\n[timing]\nattempts_max = 100\n\
             [reward]\npool = \"1000000000000\"\n{mode}"
        );
        TaskSpec::parse(&text)
            .unwrap_or_else(|error| panic!("no task, seed {}: {error}", self.seed))
    }

    fn nodes(&self) -> Vec<Node> {
        let node = |index: usize| {
            let persona = self.adversaries.get(index).copied();
            let role = if index < self.trainers {
                Role::Trainer
            } else {
                Role::Validator
            };
            let (seed, index) = (self.seed, index as u64);
            let secret = keccak(&[&seed.to_le_bytes(), &index.to_le_bytes()]);
            let wallet = Wallet::from_bytes(&secret.0).expect("a hash is a key");
            let persona = persona.filter(|_| role == Role::Trainer);
            let persona = persona.unwrap_or(Persona::Honest);
            Node::new(wallet, role, persona, seed, index)
        };
        let mut nodes: Vec<_> = (0..self.trainers + self.validators).map(node).collect();
        let (slow, factor) = self.slow;
        for (index, trainer) in nodes[..self.trainers].iter_mut().enumerate() {
            let is_slow = index + slow >= self.trainers;
            trainer.train_ms = self.train_ms * if is_slow { factor } else { 1 };
        }
        let validators = &mut nodes[self.trainers..];
        let heard = self.validators.saturating_sub(self.censored);
        for (index, validator) in validators.iter_mut().enumerate() {
            validator.withholds = index < self.withholding;
            validator.censored = index >= heard;
        }
        nodes
    }
}

/// Something on its way.
enum Thing {
    ToAggregator(usize, Parcel),
    Hello(usize),
    ToNode(usize, Order),
    /// A node has trained for long enough.
    Trained(usize, Start),
    /// How the latest round went.
    Report(usize, RoundReport),
    Answer(Event),
    HelloTimer(usize),
}

struct World {
    sim: Sim,
    now: Millis,
    nodes: Vec<Node>,
    links: Links<Thing>,
    aggregator: Aggregator,
    test: Examples,
    crashes: u32,
    lost_attempts: u32,
    initial_loss: f64,
    reports: BTreeMap<u32, RoundReport>,
}

impl World {
    fn new(sim: Sim) -> Self {
        let initial = vec![0.0; problem::DIMENSIONS];
        let setup = Setup {
            task: TaskId(1),
            spec: sim.spec(),
            domain: PayoutDomain {
                chain_id: 1,
                contract: Address::ZERO,
            },
            aggregator: Address([0xaa; 20]),
            initial: problem::blob(&initial),
            delta_bytes: 4 * problem::DIMENSIONS as u64,
        };
        let nodes = sim.nodes();
        let mut links = Links::seeded(sim.seed, sim.loss);
        for node in 0..nodes.len() {
            links.at(Millis(node as u64), Thing::HelloTimer(node));
        }
        let test = Examples::of_node(sim.seed, u64::MAX - 1);
        Self {
            initial_loss: test.loss(&initial),
            aggregator: Aggregator::new(setup, initial, Millis(0)),
            now: Millis(0),
            nodes,
            links,
            test,
            crashes: 0,
            lost_attempts: 0,
            reports: BTreeMap::new(),
            sim,
        }
    }

    /// The next thing that happens: an arrival, or else the machine's deadline.
    fn step(&mut self) {
        if self.links.chance(self.sim.crashes) {
            self.crash();
        }
        let deadline = self.aggregator.run.deadline();
        let Some((at, thing)) = self.links.next(deadline) else {
            self.now = self.now.max(deadline.unwrap_or(self.now));
            return self.feed(&Event::Tick);
        };
        self.now = at;
        match thing {
            Thing::ToAggregator(from, parcel) => {
                let address = self.nodes[from].wallet.address();
                if let Some(event) = self.aggregator.read(address, parcel) {
                    self.feed(&event);
                }
            }
            Thing::Hello(from) => {
                let node = &self.nodes[from];
                let event = Event::Joined {
                    address: node.wallet.address(),
                    role: node.role,
                    stake: Amount(100),
                };
                if let Some(report) = self.aggregator.run.history().last() {
                    let report = Thing::Report(from, report.clone());
                    self.links.send(self.now, report);
                }
                self.feed(&event);
            }
            Thing::ToNode(to, order) => {
                let setup = self.aggregator.run.setup();
                let reply = self.nodes[to].obey(&order, setup, &self.aggregator.blobs);
                if let Order::Score { round, .. } = order {
                    self.commit_on_chain(to, round);
                }
                match reply {
                    Some(Reply::Send(parcel)) => self.send(to, parcel),
                    Some(Reply::Train(start, ms)) => {
                        self.links.at(self.now.after(ms), Thing::Trained(to, start));
                    }
                    None => {}
                }
            }
            Thing::Trained(node, began) => {
                let domain = self.aggregator.run.setup().domain;
                let parcel = self.nodes[node].finish(began, &domain, &self.aggregator.blobs);
                if let Some(parcel) = parcel {
                    self.send(node, parcel);
                }
            }
            Thing::Report(to, report) => self.nodes[to].read(&report),
            Thing::Answer(event) => self.feed(&event),
            Thing::HelloTimer(node) => {
                self.links.send(self.now, Thing::Hello(node));
                let next = self.now.after(HELLO_EVERY_MS);
                self.links.at(next, Thing::HelloTimer(node));
            }
        }
    }

    fn send(&mut self, from: usize, parcel: Parcel) {
        if !self.nodes[from].censored {
            self.links.send(self.now, Thing::ToAggregator(from, parcel));
        }
    }

    fn feed(&mut self, event: &Event) {
        let actions = self.aggregator.feed(self.now, event);
        self.perform(actions);
        if let Some(report) = self.aggregator.run.history().last() {
            // A round that is tried again has another report.
            self.reports.insert(report.round.0, report.clone());
        }
    }

    /// A validator's own transaction; the reveal follows by itself once the chain takes it.
    fn commit_on_chain(&mut self, validator: usize, round: RoundId) {
        let node = &self.nodes[validator];
        let Some(scored) = node.scored(round) else {
            return;
        };
        let factors = Some(scored.factors.clone()).filter(|_| !node.withholds);
        let (attempt, address) = (scored.attempt, node.wallet.address());
        self.aggregator
            .chain
            .score(round, attempt, address, factors);
    }

    /// Everything on its way to the aggregator dies with it, and so do its jobs.
    fn crash(&mut self) {
        self.crashes += 1;
        self.links.retain(|thing| {
            !matches!(
                thing,
                Thing::ToAggregator(..) | Thing::Hello(_) | Thing::Answer(_)
            )
        });
        let actions = self.aggregator.crash(self.now);
        self.perform(actions);
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Answer(mut event) => {
                    let of_chain = matches!(event, Event::Sealed { .. } | Event::RevealOpened);
                    if of_chain && self.links.chance(self.sim.lost_attempts) {
                        self.lost_attempts += 1;
                        event = Event::RoundLost {
                            reason: "the chain's time has run out".into(),
                        };
                    }
                    self.links.at(self.now.after(JOB_MS), Thing::Answer(event));
                }
                Action::Tell(to, order) => {
                    let found = self.nodes.iter().position(|n| n.wallet.address() == to);
                    if let Some(node) = found {
                        self.links.send(self.now, Thing::ToNode(node, order));
                    }
                }
            }
        }
    }

    fn outcome(self) -> Outcome {
        let run = &self.aggregator.run;
        let of_role = |role| {
            let nodes = self.nodes.iter().filter(move |node| node.role == role);
            nodes.map(|node| node.wallet.address())
        };
        let validators = of_role(Role::Validator).collect();
        let trainers = self.nodes.iter().filter(|node| node.role == Role::Trainer);
        Outcome {
            seed: self.sim.seed,
            initial_loss: self.initial_loss,
            held_out_loss: self.test.loss(&self.aggregator.blobs[&run.base()]),
            personas: trainers
                .map(|node| (node.wallet.address(), node.persona))
                .collect(),
            slow: of_role(Role::Trainer)
                .skip(self.sim.trainers - self.sim.slow.0)
                .collect(),
            ended: self.now,
            paid: self.aggregator.chain.paid(run.setup()),
            validators,
            lost_attempts: self.lost_attempts,
            lost: self.links.lost,
            crashes: self.crashes,
            digest: run.digest(),
            failure: run.failure().map(str::to_owned),
            reports: self.reports.into_values().collect(),
        }
    }
}
