//! A federation of real processes for whole-system tests: a devnet, contracts, an aggregator,
//! trainers and validators, all on loopback, all in one temporary folder.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod hostile;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use convoke_client::{AddressBook, Chain, DeployOptions, ProofCheck, VerifierKey};
use convoke_models::{Images, Model, Part};
use convoke_node::claims::{claim_pay, outstanding};
use convoke_node::{Link, LinkConfig, LinkEvent, terms_of};
use convoke_proofs::keys::Keys;
use convoke_proofs::size::Size;
use convoke_protocol::factors;
use convoke_protocol::identity::Wallet;
use convoke_protocol::ids::{Address, Amount, BlobHash, Digest, Role, TaskId};
use convoke_protocol::message::{AggregatorMessage, Notice, PhaseName, RoundReport};
use convoke_protocol::task::{SplitKind, TaskSpec};
use convoke_transport::{Endpoint, Limits};
use serde_json::Value;

/// Nothing that a test waits for takes longer than this on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// A process that is killed when the test ends, however it ends.
pub struct Process(Child);

impl Process {
    /// `kill -9`, and waits until it is gone.
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A task on a chain of its own, with keys and data for its nodes.
pub struct World {
    pub dir: tempfile::TempDir,
    pub book: AddressBook,
    pub task: TaskId,
    pub spec: TaskSpec,
    pub initial: PathBuf,
    pub creator: Wallet,
    pub aggregator_port: u16,
    devnet: Option<Process>,
}

/// The nodes' keys are numbered: creator 1, aggregator 2, observer 3, trainers from 10,
/// validators from 50, hostile peers from 80.
pub fn wallet(number: u8) -> Wallet {
    let mut secret = [0; 32];
    secret[0] = 1;
    secret[31] = number;
    Wallet::from_bytes(&secret).unwrap()
}

pub fn trainer(index: u8) -> Wallet {
    wallet(10 + index)
}

pub fn validator(index: u8) -> Wallet {
    wallet(50 + index)
}

pub fn hostile(index: u8) -> Wallet {
    wallet(80 + index)
}

/// A task of the small network with windows that suit a test.
pub fn spec(trainers: u32, validators: u32, rounds: u32) -> TaskSpec {
    let mut spec = TaskSpec::parse("name = \"test\"\n[model]\nkind = \"mlp\"\n").unwrap();
    spec.rounds = rounds;
    spec.training.steps_max = Some(8);
    spec.cohort.trainers_min = trainers;
    spec.cohort.validators_min = validators;
    // Room of the smallest circuit.
    spec.cohort.trainers_max = 16;
    spec.timing.grace_s = 20;
    spec.timing.progress_timeout_s = 60;
    spec.timing.score_timeout_s = 60;
    spec.reward.pool = Amount(1_000_000_007);
    spec.reward.dispute_window_s = 0;
    spec
}

impl World {
    /// Starts the chain and posts the task with the model's own initial checkpoint.
    pub async fn start(spec: TaskSpec) -> Self {
        let checkpoint = Model::of_task(&spec)
            .unwrap()
            .initial(7)
            .unwrap()
            .to_safetensors();
        Self::with_checkpoint(spec, &checkpoint).await
    }

    /// Starts the chain and posts the task with any checkpoint.
    pub async fn with_checkpoint(mut spec: TaskSpec, checkpoint: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let initial = dir.path().join("initial.safetensors");
        fs::write(&initial, checkpoint).unwrap();
        spec.initial = Some(BlobHash::of(checkpoint));

        let mut command = convoke(&["devnet", "--listen", "127.0.0.1:0", "--format", "json"]);
        command.arg("--state").arg(dir.path().join("chain.jsonl"));
        for number in 1..=99 {
            command
                .arg("--fund")
                .arg(wallet(number).address().to_string());
        }
        let (devnet, listening) = listening(command, &dir.path().join("devnet.log"));
        let url = listening["url"].as_str().unwrap().to_owned();

        let creator = wallet(1);
        let options = DeployOptions {
            unbonding_seconds: 60,
            proofs: match spec.reward.split {
                SplitKind::Score => ProofCheck::Keys(vec![proof_key()]),
                // It cannot be proven.
                SplitKind::Rank => ProofCheck::Unchecked,
            },
            ..DeployOptions::new(Amount(u128::from(u64::MAX)))
        };
        let book = Chain::deploy(&url, &creator, &options).await.unwrap();
        book.save(&dir.path().join("chain.toml")).unwrap();
        let chain = Chain::connect(&book, Some(&creator)).await.unwrap();
        let terms = terms_of(&spec, wallet(2).address());
        let file = spec.to_toml().unwrap();
        let task = chain.create_task(&terms, &file).await.unwrap();
        let world = Self {
            dir,
            book,
            task,
            spec,
            initial,
            creator,
            aggregator_port: 0,
            devnet: Some(devnet),
        };
        // The chain waits for every validator that has staked: so many as the task wants.
        for index in (0..world.spec.cohort.validators_min).map(|index| index as u8) {
            let stake = Amount(100 + u128::from(index));
            world.stake(&validator(index), Role::Validator, stake).await;
        }
        world
    }

    /// Has a node stake what it is given for it.
    pub async fn stake(&self, wallet: &Wallet, role: Role, amount: Amount) {
        let creator = self.chain().await;
        let given = creator.transfer_token(wallet.address(), amount);
        given.await.unwrap();
        let chain = Chain::connect(&self.book, Some(wallet)).await.unwrap();
        chain.deposit_stake(self.task, role, amount).await.unwrap();
    }

    pub async fn chain(&self) -> Chain {
        Chain::connect(&self.book, Some(&self.creator))
            .await
            .unwrap()
    }

    /// Starts the aggregator; the second time on the same port and folder. With `pause`, such as
    /// `filter:2`, it stands still once it is in that phase of that round.
    pub fn aggregator(&mut self, pause: Option<&str>) -> Process {
        let listen = format!("127.0.0.1:{}", self.aggregator_port);
        let mut command = self.role(
            &["aggregator", "--listen", &listen],
            &wallet(2),
            "aggregator",
        );
        command.arg("--initial").arg(&self.initial);
        if let Some(pause) = pause {
            command.env("CONVOKE_PAUSE_AT", pause);
        }
        let (process, listening) = listening(command, &self.log("aggregator"));
        let address = listening["address"].as_str().unwrap();
        self.aggregator_port = address.rsplit(':').next().unwrap().parse().unwrap();
        process
    }

    /// Waits until the aggregator stands still in a phase that it was told to pause in.
    pub async fn until_paused(&self, phase: PhaseName, round: u32) {
        let line = format!("paused for a test phase={phase} round={round}");
        let log = self.log("aggregator");
        until(&line, || fs::read_to_string(&log).unwrap().contains(&line)).await;
    }

    /// Starts a trainer on a slice of the committed images.
    pub fn trainer(&self, index: u8, more: &[&str]) -> Process {
        let from = 300 * usize::from(index);
        self.trainer_on(index, from..from + 300, more)
    }

    /// Starts a trainer on these of the committed images.
    pub fn trainer_on(&self, index: u8, range: std::ops::Range<usize>, more: &[&str]) -> Process {
        let data = self.dir.path().join(format!("trainer-{index}-data"));
        fs::create_dir_all(&data).unwrap();
        images(Part::Train, range).save(&data, Part::Train).unwrap();
        let mut command = self.node(
            "trainer",
            &trainer(index),
            &format!("trainer-{index}"),
            &data,
        );
        spawn(command.args(more), &self.log(&format!("trainer-{index}"))).0
    }

    /// Starts a validator on a slice of the committed test images.
    pub fn validator(&self, index: u8) -> Process {
        let name = format!("validator-{index}");
        let data = self.held_out(index);
        let mut command = self.node("validator", &validator(index), &name, &data);
        spawn(&mut command, &self.log(&name)).0
    }

    /// The folder with a validator's held-out images.
    pub fn held_out(&self, index: u8) -> PathBuf {
        let data = self.dir.path().join(format!("validator-{index}-data"));
        fs::create_dir_all(&data).unwrap();
        let from = 200 * usize::from(index);
        images(Part::Test, from..from + 200)
            .save(&data, Part::Test)
            .unwrap();
        data
    }

    /// An observer of what goes on.
    pub fn watch(&self) -> Watcher {
        let endpoint = Endpoint::client(wallet(3), Limits::default()).unwrap();
        let config = LinkConfig {
            aggregator: self.aggregator_address(),
            expected: wallet(2).address(),
            task: self.task,
            role: Role::Observer,
        };
        Watcher {
            link: Link::open(endpoint, config),
            reports: Vec::new(),
        }
    }

    pub fn aggregator_address(&self) -> String {
        format!("127.0.0.1:{}", self.aggregator_port)
    }

    /// Escrow in = paid + refunded + vesting + held, to the unit.
    pub async fn assert_money_adds_up(&self) {
        let balances = self.chain().await.balances(self.task).await.unwrap();
        let parts = [
            balances.paid,
            balances.refunded,
            balances.vesting,
            balances.held,
        ];
        assert_eq!(balances.escrowed, self.spec.reward.pool);
        assert_eq!(balances.escrowed, parts.into_iter().sum(), "{balances:?}");
    }

    /// Each round's factors on chain are the medians of what it has revealed, the reports name
    /// them, and the payouts come to what the chain allots.
    pub async fn assert_paid_as_the_chain_says(&self, watcher: &Watcher) {
        let (chain, task) = (self.chain().await, self.task);
        for report in &watcher.reports {
            let round = report.round;
            let state = chain.round(task, round).await.unwrap();
            let result = chain.round_result(task, round).await.unwrap().unwrap();
            assert_eq!(result.checkpoint, report.checkpoint, "round {round}");
            let payouts = chain.payouts(task, round).await.unwrap();
            let total = payouts.iter().map(|(_, amount)| *amount).sum();
            assert_eq!(result.total, total, "round {round}");
            let scores = chain.scores(task, round).await.unwrap();
            let updates = usize::from(state.updates + state.own_updates);
            let medians = factors::medians(&scores, updates);
            for kept in &report.kept {
                assert!(medians.contains(&kept.factor), "{kept:?}, {medians:?}");
            }
            let share = self.spec.reward.validators_bps;
            let share = state.pool.share_down(u128::from(share), 10_000);
            let pay = factors::validators_pay_down(share, &scores, &medians);
            for (score, pay) in scores.iter().zip(pay) {
                let booked = chain.direct_pay(task, round, score.validator);
                assert_eq!(booked.await.unwrap(), pay, "round {round}");
            }
        }
    }

    /// Claims what is left for everyone whom the chain owes, and finds nothing owed after it.
    pub async fn assert_all_can_be_claimed(&self) {
        let chain = self.chain().await;
        let trainers = (0..8).map(trainer);
        let nodes = trainers.chain((0..4).map(validator)).chain([wallet(2)]);
        for account in nodes.map(|wallet| wallet.address()) {
            claim_pay(&chain, self.task, account).await.unwrap();
            let left = outstanding(&chain, self.task, account).await.unwrap();
            assert_eq!(left, [], "{account}");
        }
        let record = chain.task(self.task).await.unwrap();
        let gone = record.balances.paid.0 + record.forfeited.0;
        assert_eq!(gone, record.allotted.0, "{record:?}");
        chain.refund(self.task).await.unwrap();
        let balances = chain.balances(self.task).await.unwrap();
        assert_eq!(balances.held, Amount::ZERO, "{balances:?}");
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.log"))
    }

    fn node(&self, role: &str, wallet: &Wallet, name: &str, data: &Path) -> Command {
        let aggregator = self.aggregator_address();
        let mut command = self.role(&[role, "--aggregator", &aggregator], wallet, name);
        command.arg("--data").arg(data).args(["--threads", "1"]);
        command
    }

    fn role(&self, arguments: &[&str], wallet: &Wallet, name: &str) -> Command {
        let key = self.dir.path().join(format!("{name}.key"));
        if !key.exists() {
            let secret: String = wallet
                .secret_bytes()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            fs::write(&key, secret).unwrap();
            fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let mut command = convoke(arguments);
        command.args([
            "--format",
            "json",
            "--log",
            "info",
            "--task",
            &self.task.to_string(),
        ]);
        command.arg("--key").arg(key);
        command
            .arg("--chain")
            .arg(self.dir.path().join("chain.toml"));
        command.arg("--dir").arg(self.dir.path().join(name));
        command
    }
}

impl Drop for World {
    /// A failed test shows what its processes said last.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for entry in fs::read_dir(self.dir.path())
            .into_iter()
            .flatten()
            .flatten()
        {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let text = fs::read_to_string(&path).unwrap_or_default();
                let lines: Vec<_> = text.lines().collect();
                let last = &lines[lines.len().saturating_sub(25)..];
                eprintln!("--- {}\n{}", path.display(), last.join("\n"));
            }
        }
    }
}

/// Follows a task.
pub struct Watcher {
    link: Link,
    pub reports: Vec<RoundReport>,
}

impl Watcher {
    /// Waits for a notice that `wanted` accepts, across broken connections.
    pub async fn until(&mut self, what: &str, mut wanted: impl FnMut(&Notice) -> bool) -> Notice {
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                match self.link.next().await.unwrap() {
                    LinkEvent::Connected { history, .. } => {
                        history.into_iter().for_each(|report| self.keep(report));
                    }
                    LinkEvent::Message(AggregatorMessage::Notice(notice)) => {
                        if let Notice::RoundCommitted(report) = &notice {
                            self.keep(*report.clone());
                        }
                        if wanted(&notice) {
                            return notice;
                        }
                    }
                    LinkEvent::Message(_) | LinkEvent::Disconnected { .. } => {}
                }
            }
        });
        found
            .await
            .unwrap_or_else(|_| panic!("{what} did not happen in {PATIENCE:?}"))
    }

    /// Waits for the end of the task.
    pub async fn until_finished(&mut self) {
        let over = |notice: &Notice| {
            matches!(
                notice,
                Notice::TaskFinished { .. } | Notice::TaskFailed { .. }
            )
        };
        let end = self.until("the end of the task", over).await;
        assert!(matches!(end, Notice::TaskFinished { .. }), "{end:?}");
    }

    /// A round that is tried again has another report.
    fn keep(&mut self, report: RoundReport) {
        self.reports.retain(|known| known.round != report.round);
        self.reports.push(report);
    }

    /// The reason's code for which `trainer` was refused in the given round, from 1.
    pub fn refusal(&self, round: usize, trainer: Address) -> Option<&'static str> {
        let report = &self.reports[round - 1];
        let found = report
            .refused
            .iter()
            .find(|(address, _)| *address == trainer);
        found.map(|(_, refusal)| refusal.code())
    }

    /// Whether `trainer` was kept in the given round, from 1.
    pub fn kept(&self, round: usize, trainer: Address) -> bool {
        self.reports[round - 1]
            .kept
            .iter()
            .any(|kept| kept.trainer == trainer)
    }
}

/// The program under test.
pub fn convoke(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_convoke"));
    command.args(arguments);
    command.env("CONVOKE_PROOF_KEYS", proof_keys());
    command
}

/// Images of the committed share.
pub fn images(part: Part, range: std::ops::Range<usize>) -> Images {
    let share = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/fashion-mnist");
    let all = Images::open(&share, part).unwrap();
    all.subset(&range.collect::<Vec<_>>())
}

/// Looks again and again until something is so.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let mut look = tokio::time::interval(Duration::from_millis(20));
    let looking = async {
        while !is_so() {
            look.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, looking)
        .await
        .unwrap_or_else(|_| panic!("not {what}"));
}

fn spawn(command: &mut Command, log: &Path) -> (Process, Option<std::process::ChildStdout>) {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .unwrap();
    let mut child = command
        // Held open by the test: a child whose test died stops by itself.
        .arg("--stop-with-stdin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let stdout = child.stdout.take();
    (Process(child), stdout)
}

/// Starts a process and waits for its `listening` line.
fn listening(mut command: Command, log: &Path) -> (Process, Value) {
    let (process, stdout) = spawn(&mut command, log);
    let mut lines = BufReader::new(stdout.unwrap()).lines();
    let line = lines.next().and_then(Result::ok).unwrap_or_else(|| {
        panic!(
            "{command:?} said nothing; its log: {}",
            fs::read_to_string(log).unwrap()
        )
    });
    let event: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(event["event"], "listening", "{line}");
    // What else it says is read, so that it never blocks on a full pipe.
    std::thread::spawn(move || lines.for_each(drop));
    (process, event)
}

/// Where all tests have the keys for proofs.
pub fn proof_keys() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("proof-keys")
}

/// The key of the smallest circuit, made at the first use of any process.
fn proof_key() -> VerifierKey {
    static KEY: OnceLock<VerifierKey> = OnceLock::new();
    let make = || {
        let keys = Keys::open_or_make(&proof_keys(), Size::N16, &()).unwrap();
        let verifying = keys.verifying();
        VerifierKey {
            slots: 16,
            circuit: Digest(*verifying.circuit()),
            words: verifying.words(),
        }
    };
    KEY.get_or_init(make).clone()
}
