//! A deployment, those who act on it, and whole rounds.

use convoke_client::{
    AddressBook, Chain, ChainError, ChainEvent, Claim, DeployOptions, ProofCheck, ResultSubmission,
    RoundResult, StakeMinimums, TaskTerms,
};
use convoke_protocol::factors::{self, AttemptId, ChainReveal};
use convoke_protocol::identity::{Wallet, keccak};
use convoke_protocol::ids::{Address, Amount, BlobHash, Digest, Role, RoundId, TaskId};
use convoke_protocol::payout::{MerkleTree, PayoutDomain};
use convoke_protocol::sketch::Norm;
use convoke_protocol::task::{ProofMode, RewardShares, SplitKind};
use convoke_protocol::update::{SignedUpdate, UpdateHeader};

use super::Endpoint;

pub(crate) const COIN: u128 = 1_000_000_000_000_000_000;
pub(crate) const SUPPLY: Amount = Amount(1_000_000 * COIN);
pub(crate) const GRANT: Amount = Amount(1_000 * COIN);
/// Not divisible by the number of rounds: the dust must come back.
pub(crate) const REWARD: Amount = Amount(100 * COIN + 1);
pub(crate) const ROUNDS: u32 = 2;
pub(crate) const STAKE: Amount = Amount(5 * COIN);
pub(crate) const DISPUTE: u32 = 3_600;
pub(crate) const UNBONDING: u32 = 7_200;
pub(crate) const WARMUP: u32 = 600;
/// Windows of a stage; far longer than any test takes.
pub(crate) const WINDOW: u32 = 1_800;
pub(crate) const TIMEOUT: u32 = 5 * WINDOW + DISPUTE;
pub(crate) const FILE: &str = "name = \"größer\"\nrounds = 2\n";
pub(crate) const BASE: BlobHash = BlobHash([0xba; 32]);

/// A deployment and one connection for each of those who act.
pub(crate) struct Stage<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) book: AddressBook,
    pub(crate) creator: Chain,
    pub(crate) aggregator: Chain,
    /// Trainers.
    pub(crate) alice: Chain,
    pub(crate) bob: Chain,
    /// Validators.
    pub(crate) vera: Chain,
    pub(crate) viktor: Chain,
    /// Delegates.
    pub(crate) dora: Chain,
}

pub(crate) fn options() -> DeployOptions {
    DeployOptions {
        unbonding_seconds: UNBONDING,
        warmup_seconds: WARMUP,
        commission_notice_seconds: WARMUP,
        proofs: ProofCheck::Unchecked,
        ..DeployOptions::new(SUPPLY)
    }
}

impl<'a> Stage<'a> {
    pub(crate) async fn set(endpoint: &'a Endpoint) -> Self {
        Self::set_with(endpoint, options()).await
    }

    pub(crate) async fn set_with(endpoint: &'a Endpoint, options: DeployOptions) -> Self {
        let book = Chain::deploy(&endpoint.rpc, &endpoint.funder, &options)
            .await
            .unwrap();
        let bank = Chain::connect(&book, Some(&endpoint.funder)).await.unwrap();
        for number in 1..=7 {
            let to = wallet(number).address();
            bank.transfer_native(to, Amount(10 * COIN)).await.unwrap();
            bank.transfer_token(to, GRANT).await.unwrap();
        }
        let connect = async |number| Chain::connect(&book, Some(&wallet(number))).await.unwrap();
        Self {
            creator: connect(1).await,
            aggregator: connect(2).await,
            alice: connect(3).await,
            bob: connect(4).await,
            vera: connect(5).await,
            viktor: connect(6).await,
            dora: connect(7).await,
            endpoint,
            book,
        }
    }

    pub(crate) fn terms(&self) -> TaskTerms {
        TaskTerms {
            aggregator: address(&self.aggregator),
            reward: REWARD,
            rounds: ROUNDS,
            trainers_min: 1,
            trainers_max: 4,
            validators_min: 1,
            attempts_max: 2,
            model_hash: BASE,
            data_hash: Digest([0xda; 32]),
            stakes_min: StakeMinimums {
                trainer: STAKE,
                validator: STAKE,
                aggregator: STAKE,
            },
            shares: RewardShares {
                trainers_bps: 8_000,
                validators_bps: 1_500,
                aggregator_bps: 500,
            },
            vesting_bps: 2_000,
            split: SplitKind::Rank,
            rank_decay_bps: 5_000,
            slash_bps: 2_000,
            reporter_bps: 1_000,
            proof_mode: ProofMode::OnSubmission,
            train_window_seconds: WINDOW,
            score_window_seconds: WINDOW,
            grace_window_seconds: 60,
            settle_window_seconds: WINDOW,
            dispute_window_seconds: DISPUTE,
            round_timeout_seconds: TIMEOUT,
        }
    }

    /// Posts a task and stakes for everyone.
    pub(crate) async fn post(&self, terms: &TaskTerms) -> TaskId {
        let task = self.creator.create_task(terms, FILE).await.unwrap();
        for (chain, role) in self.operators() {
            chain.deposit_stake(task, role, STAKE).await.unwrap();
        }
        task
    }

    pub(crate) fn operators(&self) -> [(&Chain, Role); 5] {
        [
            (&self.aggregator, Role::Aggregator),
            (&self.alice, Role::Trainer),
            (&self.bob, Role::Trainer),
            (&self.vera, Role::Validator),
            (&self.viktor, Role::Validator),
        ]
    }

    pub(crate) fn cohort(&self) -> [Address; 2] {
        [address(&self.alice), address(&self.bob)]
    }

    /// From the opening to the seed; both trainers' updates arrive.
    pub(crate) async fn train(&self, task: TaskId, round: RoundId) -> Digest {
        self.aggregator
            .open_round(task, round, BASE, &self.cohort())
            .await
            .unwrap();
        let updates: Vec<_> = [3, 4]
            .map(|number| {
                let update = self.update(number, task, round, 0xde);
                (update.trainer, update.header.struct_hash())
            })
            .into();
        let root = MerkleTree::of_updates(&self.aggregator.domain(), task, round, &updates).root();
        self.aggregator
            .commit_updates(task, round, root, 2)
            .await
            .unwrap();
        self.aggregator.draw_seed(task, round).await.unwrap()
    }

    pub(crate) fn update(
        &self,
        number: u8,
        task: TaskId,
        round: RoundId,
        delta: u8,
    ) -> SignedUpdate {
        UpdateHeader {
            task,
            round,
            base: BASE,
            delta: BlobHash([delta; 32]),
            delta_root: Digest([0xd1; 32]),
            delta_bytes: 1_000,
            delta_norm: Norm::of(0.5),
            num_examples: 10,
            train_loss_micros: 7,
        }
        .sign(&self.creator.domain(), &wallet(number))
    }

    /// The commitment of a validator in the round's newest attempt.
    pub(crate) async fn commitment(
        &self,
        chain: &Chain,
        task: TaskId,
        round: RoundId,
        factors: &[u16],
    ) -> Digest {
        let attempt = AttemptId {
            task,
            round,
            attempt: chain.round(task, round).await.unwrap().attempt,
        };
        factors::commitment(
            &self.rounds_domain(),
            &attempt,
            address(chain),
            factors,
            &SALT.0,
        )
    }

    pub(crate) fn rounds_domain(&self) -> PayoutDomain {
        PayoutDomain {
            chain_id: self.book.chain_id,
            contract: self.book.round_manager,
        }
    }

    /// Both validators commit, then reveal.
    pub(crate) async fn score(
        &self,
        task: TaskId,
        round: RoundId,
        vera: &[u16],
        viktor: &[u16],
    ) -> Vec<ChainReveal> {
        let both = [(&self.vera, vera), (&self.viktor, viktor)];
        for (chain, factors) in both {
            let commitment = self.commitment(chain, task, round, factors).await;
            chain.commit_scores(task, round, commitment).await.unwrap();
        }
        for (chain, factors) in both {
            chain
                .reveal_scores(task, round, factors, SALT)
                .await
                .unwrap();
        }
        self.aggregator.scores(task, round).await.unwrap()
    }

    /// What the aggregator makes of the reveals, with payouts as given.
    pub(crate) fn submission(
        &self,
        scores: &[ChainReveal],
        updates: usize,
        payouts: &[(Address, Amount)],
    ) -> ResultSubmission {
        ResultSubmission {
            checkpoint: BlobHash([0xcc; 32]),
            result_hash: keccak(&[b"result"]),
            payouts: payouts.to_vec(),
            factors: factors::medians(scores, updates),
            reveals: scores.iter().filter_map(|s| s.factors.clone()).collect(),
            proof: b"proof".to_vec(),
        }
    }

    /// A whole round in which Alice and Bob are paid.
    pub(crate) async fn settle(
        &self,
        task: TaskId,
        round: RoundId,
        alice: Amount,
        bob: Amount,
    ) -> (ResultSubmission, RoundResult) {
        self.train(task, round).await;
        let scores = self
            .score(task, round, &[10_000, 0], &[10_000, 4_000])
            .await;
        let payouts = [(address(&self.alice), alice), (address(&self.bob), bob)];
        let result = self.submission(&scores, 2, &payouts);
        self.aggregator
            .submit_result(task, round, &result)
            .await
            .unwrap();
        let settled = self.creator.round_result(task, round).await.unwrap();
        (result, settled.unwrap())
    }

    /// Claims of everything that a round pays, from the chain alone.
    pub(crate) async fn claims(&self, task: TaskId, round: RoundId) -> Vec<Claim> {
        let payouts = self.dora.payouts(task, round).await.unwrap();
        let tree = MerkleTree::of_payouts(&self.dora.domain(), task, round, &payouts);
        let by_proof = payouts.iter().enumerate().map(|(index, pay)| Claim {
            round,
            account: pay.0,
            amount: pay.1,
            proof: tree.proof(index).unwrap(),
        });
        let mut claims: Vec<_> = by_proof.collect();
        for (chain, _) in self.operators() {
            let account = address(chain);
            if self.dora.direct_pay(task, round, account).await.unwrap() > Amount::ZERO {
                claims.push(Claim::direct(round, account));
            }
        }
        claims
    }

    /// The books of a task, and the tokens behind all contracts, if it is the only one.
    pub(crate) async fn money_adds_up(&self, task: TaskId) {
        let balances = self.bob.balances(task).await.unwrap();
        let parts = [
            balances.paid,
            balances.refunded,
            balances.vesting,
            balances.held,
        ];
        assert_eq!(balances.escrowed, parts.into_iter().sum());
        let held = self.tokens(self.book.task_manager).await;
        assert_eq!(Some(held), balances.vesting.checked_add(balances.held));
    }

    pub(crate) async fn tokens(&self, account: Address) -> Amount {
        self.bob.token_balance(account).await.unwrap()
    }

    /// All that the contracts said and the balances in the end, without what must differ between
    /// chains: hashes of blocks, and what the clock says.
    pub(crate) async fn record(&self) -> Vec<String> {
        let mut events = self.bob.events(self.book.deployed_block, 0);
        let mut record = Vec::new();
        while let Some(event) = events.next_now().await.unwrap() {
            let ChainEvent::Logged(event) = event else {
                panic!("{event:?}");
            };
            let mut value = serde_json::to_value(&event).unwrap();
            let fields = value.as_object_mut().unwrap();
            fields["block"] = (event.block - self.book.deployed_block).into();
            for name in CLOCK_AND_CHANCE {
                fields.remove(name);
            }
            record.push(value.to_string());
        }
        let contracts = [self.book.stake_manager, self.book.task_manager];
        let accounts = (1..=7).map(|number| wallet(number).address());
        for account in accounts.chain(contracts) {
            record.push(format!("{account} {}", self.tokens(account).await));
        }
        record
    }
}

const CLOCK_AND_CHANCE: [&str; 9] = [
    "block_hash",
    "transaction",
    "available_at",
    "active_at",
    "from",
    "deadline",
    "due",
    "seed",
    "seed_block",
];

pub(crate) const SALT: Digest = Digest([0x5a; 32]);

pub(crate) fn wallet(number: u8) -> Wallet {
    Wallet::from_bytes(&[number; 32]).unwrap()
}

pub(crate) fn address(chain: &Chain) -> Address {
    chain.wallet_address().unwrap()
}

#[track_caller]
pub(crate) fn assert_reverts<T: std::fmt::Debug>(outcome: Result<T, ChainError>, name: &str) {
    let error = outcome.unwrap_err();
    assert_eq!(error.revert_name(), Some(name), "{error}");
}
