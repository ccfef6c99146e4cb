//! What must go the same way on every chain.

use convoke_client::{
    AddressBook, Balances, Chain, ChainError, Claim, DeployOptions, NewTask, ResultSubmission,
    StakeMinimums, TaskState,
};
use convoke_protocol::identity::{Wallet, keccak};
use convoke_protocol::ids::{Address, Amount, BlobHash, Digest, Role, RoundId, TaskId};
use convoke_protocol::payout::{MerkleTree, Payout};

use super::Endpoint;
use super::proxy::losing_answers;

const COIN: u128 = 1_000_000_000_000_000_000;
const SUPPLY: Amount = Amount(1_000_000 * COIN);
const GRANT: Amount = Amount(1_000 * COIN);
/// Not divisible by the number of rounds: the dust must come back.
const REWARD: Amount = Amount(100 * COIN + 2);
const ROUNDS: u32 = 3;
const STAKE: Amount = Amount(5 * COIN);
const WINDOW: u32 = 60;
const TIMEOUT: u32 = 600;
const VESTING: u32 = 300;
const UNBONDING: u32 = 120;
const FILE: &str = "name = \"größer\"\nrounds = 3\n";

/// A deployment and one connection for each of those who act.
struct Stage<'a> {
    endpoint: &'a Endpoint,
    book: AddressBook,
    creator: Chain,
    aggregator: Chain,
    alice: Chain,
    bob: Chain,
}

/// Post, stake, settle, claim, finish, refund; and what must be refused on the way.
pub(crate) async fn whole_task(endpoint: &Endpoint) {
    let stage = Stage::set(endpoint).await;
    stage.strangers_are_told_apart().await;
    let task = stage.post().await;
    stage.read_back(task).await;
    stage.stake(task).await;
    stage.settle_and_claim(task).await;
    stage.promise_too_much(task).await;
    stage.finish(task).await;
}

/// A task whose aggregator falls silent: everything comes back by time-out.
pub(crate) async fn time_out(endpoint: &Endpoint) {
    let stage = Stage::set(endpoint).await;
    let task = stage.post().await;
    stage
        .alice
        .deposit_stake(task, Role::Trainer, STAKE)
        .await
        .unwrap();
    stage
        .settle(task, RoundId(1), Amount(1_001), Amount(500))
        .await;
    stage.abort_and_refund(task).await;
    stage.release(task).await;
    stage.unbond(task).await;

    let cancelled = stage.post().await;
    let error = stage.alice.cancel(cancelled).await.unwrap_err();
    assert_eq!(error.revert_name(), Some("NotTheCreator"), "{error}");
    assert_eq!(stage.creator.cancel(cancelled).await.unwrap(), REWARD);
    assert_eq!(
        stage.creator.task(cancelled).await.unwrap().state,
        TaskState::Cancelled
    );
}

/// Clones of one connection, and a second connection of the same wallet.
pub(crate) async fn at_once(endpoint: &Endpoint) {
    let stage = Stage::set(endpoint).await;
    let to = Address([0x77; 20]);
    let second = Chain::connect(&stage.book, Some(&wallet(1))).await.unwrap();
    let sends: Vec<_> = (1..=12)
        .map(|amount| {
            let chain = if amount % 4 == 0 {
                second.clone()
            } else {
                stage.creator.clone()
            };
            tokio::spawn(async move { chain.transfer_token(to, Amount(amount)).await })
        })
        .collect();
    for send in sends {
        send.await.unwrap().unwrap();
    }
    assert_eq!(stage.alice.token_balance(to).await.unwrap(), Amount(78));
}

/// A line that loses answers: every transaction arrives once all the same.
pub(crate) async fn lost_answers(endpoint: &Endpoint) {
    let stage = Stage::set(endpoint).await;
    let to = Address([0x78; 20]);
    for method in [
        "eth_sendRawTransaction",
        "eth_getTransactionReceipt",
        "eth_estimateGas",
    ] {
        let rpc = losing_answers(endpoint.rpc.clone(), method, 2).await;
        let book = AddressBook {
            rpc,
            ..stage.book.clone()
        };
        let chain = Chain::connect(&book, Some(&wallet(1))).await.unwrap();
        chain.transfer_token(to, Amount(1)).await.unwrap();
    }
    assert_eq!(stage.alice.token_balance(to).await.unwrap(), Amount(3));
}

impl<'a> Stage<'a> {
    async fn set(endpoint: &'a Endpoint) -> Self {
        let options = DeployOptions {
            initial_supply: SUPPLY,
            unbonding_seconds: UNBONDING,
        };
        let book = Chain::deploy(&endpoint.rpc, &endpoint.funder, options)
            .await
            .unwrap();
        let bank = Chain::connect(&book, Some(&endpoint.funder)).await.unwrap();
        for number in 1..=4 {
            let to = wallet(number).address();
            bank.transfer_native(to, Amount(10 * COIN)).await.unwrap();
            bank.transfer_token(to, GRANT).await.unwrap();
            assert_eq!(bank.native_balance(to).await.unwrap(), Amount(10 * COIN));
        }
        assert_eq!(
            bank.token_symbol_decimals().await.unwrap(),
            ("CVK".to_owned(), 18)
        );
        let connect = async |number| Chain::connect(&book, Some(&wallet(number))).await.unwrap();
        Self {
            creator: connect(1).await,
            aggregator: connect(2).await,
            alice: connect(3).await,
            bob: connect(4).await,
            endpoint,
            book,
        }
    }

    async fn strangers_are_told_apart(&self) {
        let wrong = AddressBook {
            chain_id: 1,
            ..self.book.clone()
        };
        let error = Chain::connect(&wrong, None).await.unwrap_err();
        assert!(
            matches!(error, ChainError::WrongChain { expected: 1, .. }),
            "{error}"
        );

        let wrong = AddressBook {
            task_manager: Address([9; 20]),
            ..self.book.clone()
        };
        let error = Chain::connect(&wrong, None).await.unwrap_err();
        assert!(matches!(
            error,
            ChainError::NotDeployed {
                contract: "task manager",
                ..
            }
        ));

        let reader = Chain::connect(&self.book, None).await.unwrap();
        let error = reader.refund(TaskId(1)).await.unwrap_err();
        assert_eq!(error, ChainError::UnknownTask { task: TaskId(1) });
        let error = reader
            .transfer_token(Address::ZERO, Amount(1))
            .await
            .unwrap_err();
        assert!(matches!(error, ChainError::NoWallet { .. }), "{error}");
    }

    async fn post(&self) -> TaskId {
        let before = self
            .creator
            .token_balance(address(&self.creator))
            .await
            .unwrap();
        let task = self
            .creator
            .create_task(&self.new_task(), FILE)
            .await
            .unwrap();
        let after = self
            .creator
            .token_balance(address(&self.creator))
            .await
            .unwrap();
        assert_eq!(before.checked_sub(after), Some(REWARD));
        task
    }

    fn new_task(&self) -> NewTask {
        NewTask {
            aggregator: address(&self.aggregator),
            reward: REWARD,
            rounds: ROUNDS,
            stakes_min: StakeMinimums {
                trainer: STAKE,
                validator: STAKE,
                aggregator: STAKE,
            },
            vesting_bps: 2_000,
            dispute_window_seconds: WINDOW,
            round_timeout_seconds: TIMEOUT,
            vesting_seconds: VESTING,
        }
    }

    async fn read_back(&self, task: TaskId) {
        let record = self.bob.task(task).await.unwrap();
        assert_eq!(record.creator, address(&self.creator));
        assert_eq!(record.state, TaskState::Active);
        assert_eq!((record.reward, record.rounds), (REWARD, ROUNDS));
        assert_eq!(record.stakes_min, self.new_task().stakes_min);
        assert_eq!(record.task_file_hash, keccak(&[FILE.as_bytes()]));
        assert_eq!(self.bob.task_file(task).await.unwrap(), FILE);
        assert_eq!(self.bob.tasks().await.unwrap(), [(task, record)]);
        let next = TaskId(task.0 + 1);
        let error = self.bob.task_file(next).await.unwrap_err();
        assert_eq!(error, ChainError::UnknownTask { task: next });

        let head = self.bob.latest_block().await.unwrap();
        assert!(head.number >= self.book.deployed_block && head.hash != Digest::ZERO);

        let greedy = NewTask {
            reward: SUPPLY,
            ..self.new_task()
        };
        let error = self.creator.create_task(&greedy, FILE).await.unwrap_err();
        assert!(
            matches!(error, ChainError::NotEnoughTokens { .. }),
            "{error}"
        );
        let wrong = NewTask {
            vesting_bps: 9_999,
            ..self.new_task()
        };
        let error = self.creator.create_task(&wrong, FILE).await.unwrap_err();
        assert_eq!(error.revert_name(), Some("VestingTooHigh"));
        assert!(
            error
                .to_string()
                .contains("9999 basis points vest, at most 9000"),
            "{error}"
        );
    }

    async fn stake(&self, task: TaskId) {
        assert_eq!(
            self.alice
                .stake_of(task, address(&self.alice))
                .await
                .unwrap(),
            None
        );
        let little = Amount(STAKE.0 - 1);
        let error = self
            .alice
            .deposit_stake(task, Role::Trainer, little)
            .await
            .unwrap_err();
        assert_eq!(error.revert_name(), Some("StakeBelowMinimum"), "{error}");
        self.alice
            .deposit_stake(task, Role::Trainer, STAKE)
            .await
            .unwrap();
        let error = self
            .alice
            .deposit_stake(task, Role::Validator, STAKE)
            .await
            .unwrap_err();
        assert_eq!(error.revert_name(), Some("RoleTaken"), "{error}");
        let error = self
            .alice
            .deposit_stake(task, Role::Observer, STAKE)
            .await
            .unwrap_err();
        assert_eq!(error, ChainError::NoStakeForObservers);
        let stake = self.bob.stake_of(task, address(&self.alice)).await.unwrap();
        assert_eq!(stake, Some((Role::Trainer, STAKE)));
        let error = self
            .alice
            .request_withdrawal(task, STAKE)
            .await
            .unwrap_err();
        assert_eq!(error.revert_name(), Some("TaskStillActive"), "{error}");
        let error = self.creator.cancel(task).await.unwrap_err();
        assert_eq!(error.revert_name(), Some("NotCancellable"), "{error}");

        let result = submission(Digest::ZERO, Amount::ZERO);
        let error = self
            .aggregator
            .submit_result(task, RoundId(1), &result)
            .await
            .unwrap_err();
        assert_eq!(error.revert_name(), Some("StakeBelowMinimum"), "{error}");
        self.aggregator
            .deposit_stake(task, Role::Aggregator, STAKE)
            .await
            .unwrap();
    }

    /// Settles a round in which Alice and Bob are paid; returns their claims.
    async fn settle(&self, task: TaskId, round: RoundId, alice: Amount, bob: Amount) -> [Claim; 2] {
        if self
            .aggregator
            .stake_of(task, address(&self.aggregator))
            .await
            .unwrap()
            .is_none()
        {
            self.aggregator
                .deposit_stake(task, Role::Aggregator, STAKE)
                .await
                .unwrap();
        }
        let (tree, claims) = self.payouts(task, round, alice, bob);
        let result = submission(tree.root(), alice.checked_add(bob).unwrap());
        self.aggregator
            .submit_result(task, round, &result)
            .await
            .unwrap();
        claims
    }

    fn payouts(
        &self,
        task: TaskId,
        round: RoundId,
        alice: Amount,
        bob: Amount,
    ) -> (MerkleTree, [Claim; 2]) {
        let pay = |chain, amount| Payout {
            account: address(chain),
            role: Role::Trainer,
            amount,
        };
        let payouts = [pay(&self.alice, alice), pay(&self.bob, bob)];
        let tree = MerkleTree::of_payouts(&self.creator.domain(), task, round, &payouts);
        let claim = |index: usize| Claim {
            round,
            account: payouts[index].account,
            amount: payouts[index].amount,
            proof: tree.proof(index).unwrap(),
        };
        let claims = [claim(0), claim(1)];
        (tree, claims)
    }

    async fn settle_and_claim(&self, task: TaskId) {
        let round = RoundId(1);
        let (alice, bob) = (Amount(20 * COIN + 1), Amount(3));
        let (tree, claims) = self.payouts(task, round, alice, bob);
        let result = submission(tree.root(), alice.checked_add(bob).unwrap());

        let error = self
            .alice
            .submit_result(task, round, &result)
            .await
            .unwrap_err();
        assert_eq!(error.revert_name(), Some("NotTheAggregator"), "{error}");
        let error = self
            .aggregator
            .submit_result(task, RoundId(2), &result)
            .await
            .unwrap_err();
        assert_eq!(error.revert_name(), Some("WrongRound"), "{error}");
        assert_eq!(self.bob.round_result(task, round).await.unwrap(), None);
        self.aggregator
            .submit_result(task, round, &result)
            .await
            .unwrap();
        self.aggregator
            .submit_result(task, round, &result)
            .await
            .unwrap();
        let other = submission(tree.root(), Amount(1));
        let error = self
            .aggregator
            .submit_result(task, round, &other)
            .await
            .unwrap_err();
        assert_eq!(error, ChainError::ResultConflict { task, round });
        let settled = self.bob.round_result(task, round).await.unwrap().unwrap();
        assert_eq!(settled.submission, result);

        let error = self.bob.claim_many(task, &claims).await.unwrap_err();
        assert_eq!(error.revert_name(), Some("DisputeWindowOpen"), "{error}");
        assert!(error.retryable());
        self.endpoint.pass(WINDOW.into()).await;
        self.claim(task, &claims).await;
    }

    async fn claim(&self, task: TaskId, claims: &[Claim; 2]) {
        let before = self.bob.token_balance(address(&self.alice)).await.unwrap();
        let mut forged = claims[0].clone();
        forged.amount.0 += 1;
        let error = self.alice.claim(task, &forged).await.unwrap_err();
        assert_eq!(error.revert_name(), Some("InvalidProof"), "{error}");

        // A fifth vests, and what is lost to rounding with it.
        let now = Amount(16 * COIN);
        assert_eq!(self.bob.claim(task, &claims[0]).await.unwrap(), now);
        let error = self.bob.claim(task, &claims[0]).await.unwrap_err();
        assert_eq!(error.revert_name(), Some("AlreadyClaimed"), "{error}");
        assert_eq!(
            self.alice.claim_many(task, claims).await.unwrap(),
            Amount(2),
            "Bob's alone"
        );
        assert_eq!(
            self.alice.claim_many(task, claims).await.unwrap(),
            Amount::ZERO
        );

        let after = self.bob.token_balance(address(&self.alice)).await.unwrap();
        assert_eq!(after.checked_sub(before), Some(now));
        assert!(
            self.bob
                .claimed(task, RoundId(1), address(&self.alice))
                .await
                .unwrap()
        );
        let vesting = self
            .bob
            .vesting_of(task, address(&self.alice))
            .await
            .unwrap();
        assert_eq!(vesting, Amount(4 * COIN + 1));
        self.money_adds_up(task).await;
    }

    /// The root gives both the whole pool; the contract pays it once.
    async fn promise_too_much(&self, task: TaskId) {
        let round = RoundId(2);
        let pool = self.bob.task(task).await.unwrap().round_pool_down();
        let (tree, claims) = self.payouts(task, round, pool, pool);
        let greedy = submission(tree.root(), Amount(pool.0 + 1));
        let error = self
            .aggregator
            .submit_result(task, round, &greedy)
            .await
            .unwrap_err();
        assert_eq!(error.revert_name(), Some("TotalAboveRoundPool"), "{error}");
        let lying = submission(tree.root(), pool);
        self.aggregator
            .submit_result(task, round, &lying)
            .await
            .unwrap();
        self.endpoint.pass(WINDOW.into()).await;
        self.alice.claim(task, &claims[0]).await.unwrap();
        let error = self.bob.claim(task, &claims[1]).await.unwrap_err();
        assert_eq!(error.revert_name(), Some("ClaimAboveRoundTotal"), "{error}");
        self.money_adds_up(task).await;
    }

    async fn finish(&self, task: TaskId) {
        let error = self.aggregator.finish(task).await.unwrap_err();
        assert_eq!(error.revert_name(), Some("RoundsRemaining"), "{error}");
        let claims = self
            .settle(task, RoundId(ROUNDS), Amount(7), Amount(9))
            .await;
        let error = self.creator.refund(task).await.unwrap_err();
        assert_eq!(error.revert_name(), Some("TaskStillActive"), "{error}");
        self.aggregator.finish(task).await.unwrap();
        self.aggregator.finish(task).await.unwrap();
        assert_eq!(
            self.bob.task(task).await.unwrap().state,
            TaskState::Finished
        );

        let allotted = [20 * COIN + 4, REWARD.0 / u128::from(ROUNDS), 16];
        let refund = Amount(REWARD.0 - allotted.iter().sum::<u128>());
        assert_eq!(self.bob.refund(task).await.unwrap(), refund);
        assert_eq!(self.bob.refund(task).await.unwrap(), Amount::ZERO);
        self.endpoint.pass(u64::from(WINDOW.max(VESTING))).await;
        self.bob.claim_many(task, &claims).await.unwrap();
        for account in [address(&self.alice), address(&self.bob)] {
            self.creator.release_vested(task, account).await.unwrap();
        }
        let balances = self.money_adds_up(task).await;
        assert_eq!(
            (balances.vesting, balances.unclaimed),
            (Amount::ZERO, Amount::ZERO)
        );
        assert_eq!(balances.refunded, refund);
    }

    async fn abort_and_refund(&self, task: TaskId) {
        let error = self.bob.abort(task).await.unwrap_err();
        assert_eq!(error.revert_name(), Some("NotTimedOut"), "{error}");
        self.endpoint.pass(TIMEOUT.into()).await;
        self.bob.abort(task).await.unwrap();
        self.bob.abort(task).await.unwrap();
        assert_eq!(self.bob.task(task).await.unwrap().state, TaskState::Aborted);
        let result = submission(Digest::ZERO, Amount::ZERO);
        let error = self
            .aggregator
            .submit_result(task, RoundId(2), &result)
            .await
            .unwrap_err();
        assert_eq!(error.revert_name(), Some("TaskNotActive"), "{error}");
        assert_eq!(
            self.alice.refund(task).await.unwrap(),
            Amount(REWARD.0 - 1_501)
        );
        self.money_adds_up(task).await;
    }

    async fn release(&self, task: TaskId) {
        let (_, claims) = self.payouts(task, RoundId(1), Amount(1_001), Amount(500));
        assert_eq!(
            self.alice.claim_many(task, &claims).await.unwrap(),
            Amount(800 + 400)
        );
        let account = address(&self.alice);
        let error = self.bob.release_vested(task, account).await.unwrap_err();
        assert_eq!(error.revert_name(), Some("StillVesting"), "{error}");
        self.endpoint.pass(VESTING.into()).await;
        assert_eq!(
            self.bob.release_vested(task, account).await.unwrap(),
            Amount(201)
        );
        let error = self.bob.release_vested(task, account).await.unwrap_err();
        assert_eq!(error.revert_name(), Some("NothingVested"), "{error}");
        self.money_adds_up(task).await;
    }

    async fn unbond(&self, task: TaskId) {
        let before = self
            .alice
            .token_balance(address(&self.alice))
            .await
            .unwrap();
        let available_at = self.alice.request_withdrawal(task, STAKE).await.unwrap();
        let record = self
            .bob
            .stake_record(task, address(&self.alice))
            .await
            .unwrap()
            .unwrap();
        assert_eq!((record.amount, record.unbonding), (Amount::ZERO, STAKE));
        assert_eq!(record.available_at, Some(available_at));
        let error = self.alice.withdraw_stake(task).await.unwrap_err();
        assert_eq!(error.revert_name(), Some("StillUnbonding"), "{error}");
        self.endpoint.pass(UNBONDING.into()).await;
        assert_eq!(self.alice.withdraw_stake(task).await.unwrap(), STAKE);
        let after = self
            .alice
            .token_balance(address(&self.alice))
            .await
            .unwrap();
        assert_eq!(after.checked_sub(before), Some(STAKE));
    }

    /// The books of the task, and the tokens behind them, of the only task with money in escrow.
    async fn money_adds_up(&self, task: TaskId) -> Balances {
        let balances = self.bob.balances(task).await.unwrap();
        let parts = [
            balances.paid,
            balances.refunded,
            balances.vesting,
            balances.unclaimed,
        ];
        assert_eq!(balances.reward, parts.into_iter().sum());
        let held = self
            .bob
            .token_balance(self.book.task_manager)
            .await
            .unwrap();
        assert_eq!(Some(held), balances.vesting.checked_add(balances.unclaimed));
        balances
    }
}

fn wallet(number: u8) -> Wallet {
    Wallet::from_bytes(&[number; 32]).unwrap()
}

fn address(chain: &Chain) -> Address {
    chain.wallet_address().unwrap()
}

fn submission(payouts_root: Digest, total: Amount) -> ResultSubmission {
    ResultSubmission {
        payouts_root,
        total,
        checkpoint: BlobHash([0xcc; 32]),
        result_hash: keccak(&[b"result"]),
    }
}
