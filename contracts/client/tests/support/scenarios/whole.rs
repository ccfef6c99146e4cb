//! A task from its posting to its last withdrawal.

use convoke_client::{
    AddressBook, Chain, ChainError, Claim, ProofCircuits, Stage as RoundStage, TaskState, TaskTerms,
};
use convoke_protocol::identity::keccak;
use convoke_protocol::ids::{Address, Amount, BlobHash, Digest, Role, RoundId, TaskId};
use convoke_protocol::payout::MerkleTree;

use crate::support::Endpoint;
use crate::support::stage::*;

/// Post, stake, train, score, settle, claim, close, release, refund, withdraw; and what must be
/// refused on the way.
pub(crate) async fn whole_task(endpoint: &Endpoint) -> Vec<String> {
    let stage = Stage::set(endpoint).await;
    strangers_are_told_apart(&stage).await;
    let task = posted(&stage).await;
    staked(&stage, task).await;
    first_round(&stage, task).await;
    first_claims(&stage, task).await;
    second_round_with_an_own_update(&stage, task).await;
    closing(&stage, task).await;
    the_end(&stage, task).await;
    stage.record().await
}

/// Nobody but the timelock and the guardian has a say after the deployment.
pub(crate) async fn administration(endpoint: &Endpoint) -> Vec<String> {
    let stage = Stage::set(endpoint).await;
    let bank = Chain::connect(&stage.book, Some(&endpoint.funder))
        .await
        .unwrap();
    assert_eq!(
        bank.proof_verifier().await.unwrap(),
        stage.book.verifier,
        "the deployment set it"
    );
    let verifier = stage.book.verifier.unwrap();
    let circuits = bank.proof_circuits().await.unwrap();
    assert_eq!(circuits, ProofCircuits::Unchecked { verifier });
    let roles = bank.administrators().await.unwrap();
    let timelock = stage.book.timelock.unwrap();
    assert_eq!(roles.admins, [timelock]);
    assert_eq!(roles.guardians, [endpoint.funder.address()]);
    assert_eq!(roles.verifier_setters, [timelock]);
    let mut slashers = [
        stage.book.round_manager,
        stage.book.penalty_manager,
        stage.book.sketch_audit.unwrap(),
    ];
    slashers.sort();
    assert_eq!(roles.slashers, slashers);
    assert_eq!(roles.slasher_setters, []);

    assert_reverts(
        stage.alice.pause_entry().await,
        "AccessControlUnauthorizedAccount",
    );
    bank.pause_entry().await.unwrap();
    bank.pause_entry().await.unwrap();
    let outcome = stage.creator.create_task(&stage.terms(), FILE).await;
    assert_reverts(outcome, "EnforcedPause");
    bank.unpause_entry().await.unwrap();
    stage.post(&stage.terms()).await;

    let unsafe_options = convoke_client::DeployOptions {
        token: convoke_client::DeployToken::Existing(stage.book.token),
        proofs: convoke_client::ProofCheck::Unverified,
        ..options()
    };
    let strict = Stage::set_with(endpoint, unsafe_options).await;
    assert_eq!(strict.book.token, stage.book.token);
    let circuits = strict.creator.proof_circuits().await.unwrap();
    assert_eq!(circuits, ProofCircuits::None);
    let task = strict.post(&strict.terms()).await;
    let outcome = strict
        .aggregator
        .open_round(task, RoundId(1), BASE, &strict.cohort())
        .await;
    assert_reverts(outcome, "NoProofVerifier");
    stage.record().await
}

async fn strangers_are_told_apart(stage: &Stage<'_>) {
    let with = |change: &dyn Fn(&mut AddressBook)| {
        let mut book = stage.book.clone();
        change(&mut book);
        book
    };
    let book = with(&|book| book.chain_id = 1);
    let error = Chain::connect(&book, None).await.unwrap_err();
    assert!(
        matches!(error, ChainError::WrongChain { expected: 1, .. }),
        "{error}"
    );
    let book = with(&|book| book.round_manager = Address([9; 20]));
    let error = Chain::connect(&book, None).await.unwrap_err();
    let contract = "round manager";
    assert!(matches!(error, ChainError::NotDeployed { contract: c, .. } if c == contract));
    let book = with(&|book| book.round_manager = book.token);
    let error = Chain::connect(&book, None).await.unwrap_err();
    assert!(matches!(error, ChainError::NotLinked { .. }), "{error}");

    let reader = Chain::connect(&stage.book, None).await.unwrap();
    let error = reader.refund(TaskId(1)).await.unwrap_err();
    assert_eq!(error, ChainError::UnknownTask { task: TaskId(1) });
    let sent = reader.transfer_token(Address::ZERO, Amount(1)).await;
    assert!(matches!(sent, Err(ChainError::NoWallet { .. })), "{sent:?}");
}

async fn posted(stage: &Stage<'_>) -> TaskId {
    let terms = stage.terms();
    let creator = &stage.creator;
    let greedy = TaskTerms {
        reward: SUPPLY,
        ..terms.clone()
    };
    let error = creator.create_task(&greedy, FILE).await.unwrap_err();
    assert!(
        matches!(error, ChainError::NotEnoughTokens { .. }),
        "{error}"
    );
    let wrong = TaskTerms {
        vesting_bps: 9_999,
        ..terms.clone()
    };
    let error = creator.create_task(&wrong, FILE).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("9999 basis points, at most 9000"),
        "{error}"
    );

    let before = stage.tokens(address(creator)).await;
    let task = creator.create_task(&terms, FILE).await.unwrap();
    let after = stage.tokens(address(creator)).await;
    assert_eq!(before.checked_sub(after), Some(REWARD));
    assert_eq!(stage.bob.terms(task).await.unwrap(), terms);
    let record = stage.bob.task(task).await.unwrap();
    assert_eq!(record.creator, address(creator));
    assert_eq!(record.state, TaskState::Active);
    assert_eq!(record.round_pool, Amount(REWARD.0 / u128::from(ROUNDS)));
    assert_eq!(record.task_file_hash, keccak(&[FILE.as_bytes()]));
    assert_eq!(stage.bob.task_file(task).await.unwrap(), FILE);
    assert_eq!(stage.bob.tasks().await.unwrap(), [(task, record)]);
    let next = TaskId(task.0 + 1);
    let error = stage.bob.terms(next).await.unwrap_err();
    assert_eq!(error, ChainError::UnknownTask { task: next });
    task
}

async fn staked(stage: &Stage<'_>, task: TaskId) {
    let alice = &stage.alice;
    let me = address(alice);
    assert_eq!(alice.stake_of(task, me).await.unwrap(), None);
    let little = Amount(STAKE.0 - 1);
    assert_reverts(
        alice.deposit_stake(task, Role::Trainer, little).await,
        "StakeBelowMinimum",
    );
    for (chain, role) in stage.operators() {
        chain.deposit_stake(task, role, STAKE).await.unwrap();
    }
    assert_reverts(
        alice.deposit_stake(task, Role::Validator, STAKE).await,
        "RoleTaken",
    );
    let error = alice
        .deposit_stake(task, Role::Observer, STAKE)
        .await
        .unwrap_err();
    assert_eq!(error, ChainError::NoStakeForObservers);
    assert_eq!(
        stage.bob.stake_of(task, me).await.unwrap(),
        Some((Role::Trainer, STAKE))
    );
    assert_eq!(stage.bob.effective_stake(task, me).await.unwrap(), STAKE);
    assert_eq!(stage.bob.validator_count(task).await.unwrap(), 2);
    assert_reverts(stage.alice.cancel(task).await, "NotTheCreator");
}

/// Every step twice, as after a kill, and once with something else.
async fn first_round(stage: &Stage<'_>, task: TaskId) {
    let round = RoundId(1);
    let (aggregator, cohort) = (&stage.aggregator, stage.cohort());
    let none = aggregator.round(task, round).await.unwrap();
    assert_eq!((none.stage, none.attempt), (RoundStage::None, 0));
    assert_reverts(
        stage.alice.open_round(task, round, BASE, &cohort).await,
        "NotTheAggregator",
    );
    for _ in 0..2 {
        let attempt = aggregator.open_round(task, round, BASE, &cohort).await;
        assert_eq!(attempt.unwrap(), 1);
    }
    let other = aggregator
        .open_round(task, round, BlobHash([1; 32]), &cohort)
        .await;
    assert!(
        matches!(other, Err(ChainError::Conflict { .. })),
        "{other:?}"
    );
    let key = stage.bob.open_round_key(task).await.unwrap().unwrap();
    assert_eq!((key.round, key.attempt), (round, 1));

    stage.train(task, round).await;
    let seed = stage.train(task, round).await;
    let state = stage.bob.round(task, round).await.unwrap();
    assert_eq!((state.stage, state.updates), (RoundStage::Scoring, 2));
    assert_eq!(state.seed, Some(seed));
    let other = aggregator.commit_updates(task, round, Digest([1; 32]), 2);
    assert!(matches!(other.await, Err(ChainError::Conflict { .. })));
    assert_reverts(
        stage
            .alice
            .commit_scores(task, round, Digest([1; 32]))
            .await,
        "NotEligible",
    );

    let scores = stage
        .score(task, round, &[10_000, 2_000], &[12_000, 0])
        .await;
    assert_eq!(scores, stage.bob.scores(task, round).await.unwrap());
    assert_eq!(scores[1].factors.as_deref(), Some(&[12_000, 0][..]));
    for again in [true, false] {
        let factors: &[u16] = if again { &[12_000, 0] } else { &[1, 1] };
        let outcome = stage.viktor.reveal_scores(task, round, factors, SALT).await;
        assert_eq!(outcome.is_ok(), again, "{outcome:?}");
        let commitment = stage.commitment(&stage.viktor, task, round, factors).await;
        let outcome = stage.viktor.commit_scores(task, round, commitment).await;
        assert_eq!(outcome.is_ok(), again, "{outcome:?}");
    }
    submitted(stage, task, round, &scores).await;
}

async fn submitted(
    stage: &Stage<'_>,
    task: TaskId,
    round: RoundId,
    scores: &[convoke_protocol::factors::ChainReveal],
) {
    let (alice, bob) = (Amount(20 * COIN + 1), Amount(3));
    let payouts = [(stage.cohort()[0], alice), (stage.cohort()[1], bob)];
    let result = stage.submission(scores, 2, &payouts);
    assert_eq!(result.factors, [10_000, 0], "lower medians");
    let mut wrong = result.clone();
    wrong.factors[1] = 2_000;
    let outcome = stage.aggregator.submit_result(task, round, &wrong).await;
    assert_reverts(outcome, "WrongMedian");
    let mut greedy = result.clone();
    greedy.payouts[0].1 = REWARD;
    let outcome = stage.aggregator.submit_result(task, round, &greedy).await;
    assert_reverts(outcome, "PayoutsAbovePool");
    assert_eq!(stage.bob.round_result(task, round).await.unwrap(), None);
    assert_eq!(stage.bob.payouts(task, round).await.unwrap(), []);
    assert_eq!(stage.bob.submission(task, round).await.unwrap(), None);
    for _ in 0..2 {
        let outcome = stage.aggregator.submit_result(task, round, &result).await;
        outcome.unwrap();
    }
    let outcome = stage.aggregator.submit_result(task, round, &wrong).await;
    let what = "result";
    assert_eq!(
        outcome,
        Err(ChainError::Conflict { what, task, round }),
        "another result"
    );
    let told = stage.bob.submission(task, round).await.unwrap();
    assert_eq!(told, Some(result.clone()));
    stage.bob.check_proof(task, round, &result).await.unwrap();
    let settled = stage.bob.round_result(task, round).await.unwrap().unwrap();
    let tree = MerkleTree::of_payouts(&stage.bob.domain(), task, round, &payouts);
    assert_eq!(settled.payouts_root, tree.root());
    assert_eq!(settled.submission_hash, result.submission_hash());
    assert_eq!(settled.total, Amount(alice.0 + bob.0));
    assert_eq!(
        settled.claimable_at,
        settled.settled_at + u64::from(DISPUTE)
    );
    assert_eq!(stage.bob.payouts(task, round).await.unwrap(), payouts);
}

async fn first_claims(stage: &Stage<'_>, task: TaskId) {
    let round = RoundId(1);
    let claims = stage.claims(task, round).await;
    assert_eq!(claims.len(), 2 + 3, "trainers, validators, aggregator");
    let error = stage.bob.claim_many(task, &claims).await.unwrap_err();
    assert_eq!(error.revert_name(), Some("DisputeWindowOpen"), "{error}");
    assert!(error.retryable());
    stage.endpoint.pass(DISPUTE.into()).await;

    let mut forged = claims[0].clone();
    forged.amount.0 += 1;
    assert_reverts(stage.alice.claim(task, &forged).await, "InvalidProof");
    // A fifth vests, and what is lost to rounding with it.
    let now = Amount(16 * COIN);
    assert_eq!(stage.bob.claim(task, &claims[0]).await.unwrap(), now);
    assert_reverts(stage.bob.claim(task, &claims[0]).await, "AlreadyClaimed");
    let vera = address(&stage.vera);
    let pay = stage.bob.direct_pay(task, round, vera).await.unwrap();
    // Half the weight of 7.5 coins, and 1,000 of the 10,000 that two factors can miss.
    let pool = REWARD.0 / u128::from(ROUNDS) * 1_500 / 10_000;
    assert_eq!(pay, Amount(pool / 2 * 8_000 / 10_000));
    let paid = stage.dora.claim_direct(task, round, vera).await.unwrap();
    assert_eq!(paid, Amount(pay.0 * 8_000 / 10_000));
    assert!(stage.bob.direct_claimed(task, round, vera).await.unwrap());
    assert_reverts(
        stage.dora.claim_direct(task, round, vera).await,
        "AlreadyClaimed",
    );
    assert_reverts(
        stage
            .dora
            .claim_direct(task, round, address(&stage.dora))
            .await,
        "NothingToClaim",
    );

    let rest = stage.dora.claim_many(task, &claims).await.unwrap();
    assert!(rest > Amount(2), "{rest}");
    assert_eq!(
        stage.dora.claim_many(task, &claims).await.unwrap(),
        Amount::ZERO
    );
    let alice = address(&stage.alice);
    assert!(stage.bob.claimed(task, round, alice).await.unwrap());
    assert_eq!(
        stage.bob.vesting_of(task, alice).await.unwrap(),
        Amount(4 * COIN + 1)
    );
    stage.money_adds_up(task).await;
}

/// The aggregator leaves Bob out; he commits to his update himself and is scored all the same.
async fn second_round_with_an_own_update(stage: &Stage<'_>, task: TaskId) {
    let round = RoundId(2);
    let pool = stage.dora.fund(task, Amount(10 * COIN)).await.unwrap();
    assert_eq!(pool, Amount(REWARD.0 / u128::from(ROUNDS) + 10 * COIN));
    let (aggregator, cohort) = (&stage.aggregator, stage.cohort());
    aggregator
        .open_round(task, round, BASE, &cohort)
        .await
        .unwrap();
    assert_eq!(stage.bob.round(task, round).await.unwrap().pool, pool);

    let tree = MerkleTree::of_cohort(&stage.bob.domain(), task, round, &cohort);
    let proof = tree.proof(1).unwrap();
    let hash = stage.update(4, task, round, 0xb0).header.struct_hash();
    for _ in 0..2 {
        let outcome = stage.bob.commit_update(task, round, hash, &proof).await;
        outcome.unwrap();
    }
    let other = stage
        .bob
        .commit_update(task, round, Digest([1; 32]), &proof);
    assert!(matches!(other.await, Err(ChainError::Conflict { .. })));
    let outcome = stage.dora.commit_update(task, round, hash, &proof).await;
    assert_reverts(outcome, "NotInCohort");
    let own = stage.dora.own_updates(task, round, 1).await.unwrap();
    assert_eq!(own, [(address(&stage.bob), hash)]);
    let other = stage.dora.own_updates(task, round, 2).await;
    assert!(matches!(other, Err(ChainError::Conflict { .. })));
    let first = stage.dora.own_updates(task, RoundId(1), 1).await.unwrap();
    assert_eq!(first, [], "of the round asked for");

    let alice = stage.update(3, task, round, 0xa0);
    let updates = [(alice.trainer, alice.header.struct_hash())];
    let root = MerkleTree::of_updates(&stage.bob.domain(), task, round, &updates).root();
    aggregator
        .commit_updates(task, round, root, 1)
        .await
        .unwrap();
    let drawn = aggregator.draw_seed(task, round).await.unwrap();
    let again = stage.dora.draw_seed(task, round).await.unwrap();
    assert_eq!(again, drawn, "one seed");
    let scores = stage
        .score(task, round, &[9_000, 11_000], &[9_000, 11_000])
        .await;
    let result = stage.submission(&scores, 2, &[(cohort[1], Amount(7))]);
    aggregator
        .submit_result(task, round, &result)
        .await
        .unwrap();
    let state = stage.bob.round(task, round).await.unwrap();
    assert_eq!((state.updates, state.own_updates), (1, 1));
    let [claim] = &stage.claims(task, round).await[..1] else {
        panic!("one payout by proof");
    };
    assert_eq!(claim.proof, [], "the only leaf is the root");
}

/// Validators release half of what vests.
async fn closing(stage: &Stage<'_>, task: TaskId) {
    stage.endpoint.pass(DISPUTE.into()).await;
    assert_reverts(stage.creator.refund(task).await, "WrongState");
    for _ in 0..2 {
        stage.dora.finish(task).await.unwrap();
    }
    let record = stage.bob.task(task).await.unwrap();
    assert_eq!(record.state, TaskState::Closing);
    let closing = RoundId(ROUNDS + 1);
    let scores = stage.score(task, closing, &[5_000], &[6_000]).await;
    assert_eq!(scores.len(), 2);
    let record = stage.bob.task(task).await.unwrap();
    assert_eq!(record.state, TaskState::Finished);
    assert_eq!(record.release_bps, 5_000, "the lower median");
    stage.dora.finish(task).await.unwrap();
}

async fn the_end(stage: &Stage<'_>, task: TaskId) {
    let mut claims: Vec<Claim> = Vec::new();
    for round in (1..=ROUNDS).map(RoundId) {
        claims.extend(stage.claims(task, round).await);
    }
    stage.dora.claim_many(task, &claims).await.unwrap();
    for (chain, _) in stage.operators() {
        let account = address(chain);
        let vesting = stage.bob.vesting_of(task, account).await.unwrap();
        let released = stage.dora.release_vested(task, account).await.unwrap();
        assert_eq!(released, Amount(vesting.0 / 2));
        assert_reverts(
            stage.dora.release_vested(task, account).await,
            "NothingVested",
        );
    }
    let due = stage.bob.refundable(task).await.unwrap();
    assert_eq!(stage.dora.refund(task).await.unwrap(), due);
    assert_eq!(stage.dora.refund(task).await.unwrap(), Amount::ZERO);
    let balances = stage.bob.balances(task).await.unwrap();
    assert_eq!(
        (balances.vesting, balances.held),
        (Amount::ZERO, Amount::ZERO),
        "to the unit"
    );
    stage.money_adds_up(task).await;
    for (chain, _) in stage.operators() {
        let at = chain.request_withdrawal(task, STAKE).await.unwrap();
        let record = stage.bob.stake(task, address(chain)).await.unwrap();
        let record = record.unwrap();
        assert_eq!((record.amount, record.unbonding), (Amount::ZERO, STAKE));
        assert_eq!(record.available_at, Some(at));
        assert_reverts(chain.withdraw_stake(task).await, "StillUnbonding");
    }
    stage.endpoint.pass(UNBONDING.into()).await;
    for (chain, _) in stage.operators() {
        assert_eq!(chain.withdraw_stake(task).await.unwrap(), STAKE);
    }
    assert_eq!(stage.tokens(stage.book.stake_manager).await, Amount::ZERO);
}
