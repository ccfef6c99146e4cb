//! Delegation, and what is taken on evidence.

use convoke_client::{Chain, DeployOptions, Stage as RoundStage, TaskTerms};
use convoke_protocol::factors::{AttemptId, SignedReveal};
use convoke_protocol::ids::{Amount, RoundId};
use convoke_protocol::task::ProofMode;

use crate::support::Endpoint;
use crate::support::stage::*;

/// The accumulator counts in shares times 2^-64: what it loses is at most shares / 2^64, and one
/// unit each for commission and share.
const DUST_MAX: u128 = ((STAKE.0 * 1_000) >> 64) + 2;

/// Dora delegates to Vera, who keeps a tenth of the rewards; then a trainer with delegation signs
/// two updates for one round.
pub(crate) async fn delegation_and_slash(endpoint: &Endpoint) -> Vec<String> {
    let stage = Stage::set(endpoint).await;
    let task = stage.post(&stage.terms()).await;
    let (dora, vera, alice) = (&stage.dora, address(&stage.vera), address(&stage.alice));
    let me = address(dora);
    stage.vera.set_commission(task, 1_000).await.unwrap();
    stage.endpoint.pass(WARMUP.into()).await;
    assert_eq!(dora.pool(task, vera).await.unwrap().commission_bps, 1_000);

    // What waits does not count, and can be taken back.
    dora.delegate(task, vera, Amount(COIN)).await.unwrap();
    assert_eq!(
        dora.cancel_delegation(task, vera).await.unwrap(),
        Amount(COIN)
    );
    assert_reverts(dora.cancel_delegation(task, vera).await, "NothingPending");
    dora.delegate(task, vera, STAKE).await.unwrap();
    dora.delegate(task, alice, STAKE).await.unwrap();
    assert_reverts(
        dora.activate_delegation(task, vera, me).await,
        "NotActiveYet",
    );
    assert_eq!(dora.effective_stake(task, vera).await.unwrap(), STAKE);
    stage.endpoint.pass(WARMUP.into()).await;
    for operator in [vera, alice] {
        let shares = stage.bob.activate_delegation(task, operator, me).await;
        assert!(!shares.unwrap().is_zero());
    }
    let doubled = Amount(2 * STAKE.0);
    assert_eq!(dora.effective_stake(task, vera).await.unwrap(), doubled);

    rewarded(&stage, task).await;
    slashed(&stage, task).await;
    stage.record().await
}

/// Vera's pay is shared with Dora, commission first.
async fn rewarded(stage: &Stage<'_>, task: convoke_protocol::ids::TaskId) {
    let (dora, vera) = (&stage.dora, address(&stage.vera));
    let me = address(dora);
    let round = RoundId(1);
    stage.settle(task, round, Amount(COIN), Amount(COIN)).await;
    let scores = dora.scores(task, round).await.unwrap();
    assert_eq!(scores[0].weight, Amount(2 * STAKE.0), "with the delegation");
    stage.endpoint.pass(DISPUTE.into()).await;
    let before = stage.tokens(me).await;
    let own_before = stage.tokens(vera).await;
    assert_eq!(
        dora.claim_rewards(task, vera, me).await.unwrap(),
        Amount::ZERO
    );
    let paid = stage.bob.claim_direct(task, round, vera).await.unwrap();
    // Half of it is for Dora's half of the stake, less the commission of a tenth.
    let rewards = dora.delegation(task, vera, me).await.unwrap().rewards;
    let expected = paid.0 / 2 * 9_000 / 10_000;
    assert!(
        rewards.0 <= expected && expected - rewards.0 <= DUST_MAX,
        "{rewards} of {paid}"
    );
    assert_eq!(
        stage.bob.claim_rewards(task, vera, me).await.unwrap(),
        rewards
    );
    assert_eq!(
        stage.bob.claim_rewards(task, vera, me).await.unwrap(),
        Amount::ZERO
    );
    assert_eq!(stage.tokens(me).await, Amount(before.0 + rewards.0));
    let own = stage.tokens(vera).await.checked_sub(own_before).unwrap();
    assert!(paid.0 - own.0 - rewards.0 <= DUST_MAX, "dust only");
}

/// Alice's stake and Dora's delegation to her lose a fifth each, once.
async fn slashed(stage: &Stage<'_>, task: convoke_protocol::ids::TaskId) {
    let (dora, alice) = (&stage.dora, address(&stage.alice));
    let me = address(dora);
    let round = RoundId(2);
    stage.train(task, round).await;
    let first = stage.update(3, task, round, 0xde);
    let second = stage.update(3, task, round, 0xdf);
    let others = stage.update(4, task, round, 0xdf);
    assert_reverts(
        stage.viktor.punish_equivocation(&first, &first).await,
        "SameUpdate",
    );
    assert_reverts(
        stage.viktor.punish_equivocation(&first, &others).await,
        "DifferentSigners",
    );
    let earlier = stage.update(3, task, RoundId(1), 0xdf);
    assert_reverts(
        stage.viktor.punish_equivocation(&first, &earlier).await,
        "DifferentRounds",
    );
    let mut forged = second.clone();
    forged.header.num_examples += 1;
    assert!(
        stage
            .viktor
            .punish_equivocation(&first, &forged)
            .await
            .is_err()
    );

    let viktor = address(&stage.viktor);
    let before = stage.tokens(viktor).await;
    let taken = stage
        .viktor
        .punish_equivocation(&first, &second)
        .await
        .unwrap();
    let fifth = STAKE.0 / 5;
    let taken = taken.unwrap();
    assert!(taken.0.abs_diff(2 * fifth) <= 1, "{taken}");
    let reward = stage.tokens(viktor).await.checked_sub(before).unwrap();
    assert_eq!(reward, Amount(fifth / 10), "of the own stake alone");
    // In whichever order, by whomever: one fault.
    let again = dora.punish_equivocation(&second, &first).await.unwrap();
    assert_eq!(again, None);
    let own = stage.bob.stake_of(task, alice).await.unwrap().unwrap().1;
    assert_eq!(own, Amount(STAKE.0 - fifth));
    let delegation = dora.delegation(task, alice, me).await.unwrap();
    assert!(delegation.active.0.abs_diff(STAKE.0 - fifth) <= 1);
    let escrowed = stage.bob.balances(task).await.unwrap().escrowed;
    assert_eq!(escrowed, Amount(REWARD.0 + taken.0 - reward.0));

    let (worth, _) = dora
        .undelegate(task, alice, delegation.shares)
        .await
        .unwrap();
    assert_reverts(
        dora.undelegate(task, alice, delegation.shares).await,
        "SharesTooFew",
    );
    // The round goes on without her: its validators never come.
    stage.endpoint.pass(u64::from(TIMEOUT + UNBONDING)).await;
    assert!(dora.tick(task).await.unwrap());
    assert_eq!(dora.withdraw_delegation(task, alice).await.unwrap(), worth);
    stage.money_adds_up(task).await;
}

/// Viktor signs other factors for the aggregator than he committed to.
pub(crate) async fn contradiction(endpoint: &Endpoint) -> Vec<String> {
    let stage = Stage::set(endpoint).await;
    let task = stage.post(&stage.terms()).await;
    let round = RoundId(1);
    stage.train(task, round).await;
    let sign = |factors: &[u16], number| {
        let attempt = AttemptId {
            task,
            round,
            attempt: 1,
        };
        let domain = stage.bob.domain();
        SignedReveal::sign(&domain, &attempt, factors.to_vec(), SALT.0, &wallet(number))
    };
    let lie = sign(&[0, 0], 6);
    assert_reverts(
        stage.bob.punish_contradiction(task, round, &lie).await,
        "NotCommitted",
    );
    let honest = [10_000, 10_000];
    let commitment = stage.commitment(&stage.viktor, task, round, &honest).await;
    stage
        .viktor
        .commit_scores(task, round, commitment)
        .await
        .unwrap();
    let truth = sign(&honest, 6);
    assert_reverts(
        stage.bob.punish_contradiction(task, round, &truth).await,
        "NoContradiction",
    );
    let taken = stage.bob.punish_contradiction(task, round, &lie).await;
    assert_eq!(taken.unwrap(), Some(Amount(STAKE.0 / 5)));
    let other = sign(&[1, 1], 6);
    for lie in [&lie, &other] {
        let taken = stage.bob.punish_contradiction(task, round, lie).await;
        assert_eq!(taken.unwrap(), None, "one commitment, one fault");
    }
    stage.record().await
}

/// A verifier that finds no proof right, in a task whose proofs are checked on challenge.
pub(crate) async fn voided_result(endpoint: &Endpoint) -> Vec<String> {
    let quick = DeployOptions {
        timelock_delay_seconds: 60,
        ..options()
    };
    let stage = Stage::set_with(endpoint, quick).await;
    // It has no function that checks proofs: every call fails.
    let strict = stage.book.token;
    assert_reverts(
        stage.dora.propose_verifier(strict).await,
        "AccessControlUnauthorizedAccount",
    );
    let governor = Chain::connect(&stage.book, Some(&endpoint.funder))
        .await
        .unwrap();
    let proposal = governor.propose_verifier(strict).await.unwrap();
    let early = stage.dora.enact_verifier(&proposal).await;
    assert_reverts(early, "TimelockUnexpectedOperationState");
    stage.endpoint.pass(60).await;
    for _ in 0..2 {
        stage.dora.enact_verifier(&proposal).await.unwrap();
    }
    assert_eq!(stage.bob.proof_verifier().await.unwrap(), Some(strict));
    let terms = TaskTerms {
        proof_mode: ProofMode::OnChallenge,
        ..stage.terms()
    };
    let task = stage.post(&terms).await;
    let round = RoundId(1);
    let (result, settled) = stage.settle(task, round, Amount(COIN), Amount(1)).await;
    assert_eq!(settled.attempt, 1);
    let challenge = async |factors: &[u16]| {
        stage
            .dora
            .challenge_result(task, round, &result.payouts, factors, &result.proof)
            .await
    };
    assert_reverts(challenge(&[1, 2]).await, "NotTheSubmission");
    let next = stage
        .aggregator
        .open_round(task, RoundId(2), BASE, &stage.cohort())
        .await
        .unwrap_err();
    assert_eq!(next.revert_name(), Some("PreviousRoundDisputable"));
    assert!(next.retryable());

    let before = stage.tokens(address(&stage.dora)).await;
    challenge(&result.factors).await.unwrap();
    let reporter = stage.tokens(address(&stage.dora)).await;
    let tenth = Amount(STAKE.0 / 5 / 10);
    assert_eq!(reporter.checked_sub(before), Some(tenth));
    assert_reverts(challenge(&result.factors).await, "WrongStage");
    assert_eq!(stage.bob.round_result(task, round).await.unwrap(), None);
    let state = stage.bob.round(task, round).await.unwrap();
    assert_eq!((state.stage, state.attempt), (RoundStage::None, 1));
    assert_eq!(stage.bob.payouts(task, round).await.unwrap(), []);

    // The aggregator makes up its stake, and the second attempt stands.
    stage
        .aggregator
        .deposit_stake(task, convoke_protocol::ids::Role::Aggregator, STAKE)
        .await
        .unwrap();
    let (result, settled) = stage.settle(task, round, Amount(2), Amount(3)).await;
    assert_eq!(settled.attempt, 2);
    assert_eq!(
        stage.bob.payouts(task, round).await.unwrap(),
        result.payouts,
        "of the attempt that stands"
    );
    stage.endpoint.pass(DISPUTE.into()).await;
    let late = stage
        .dora
        .challenge_result(task, round, &result.payouts, &result.factors, &result.proof)
        .await;
    assert_reverts(late, "DisputeWindowClosed");
    let claims = stage.claims(task, round).await;
    stage.dora.claim_many(task, &claims).await.unwrap();
    stage.money_adds_up(task).await;
    stage.record().await
}
