// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";

import {RoundManager} from "../src/RoundManager.sol";
import {StakeManager} from "../src/StakeManager.sol";
import {IProofVerifier} from "../src/interfaces/IProofVerifier.sol";
import {
    IRoundManagerErrors as Errors,
    IRoundManagerEvents as Events,
    IRoundManagerTypes as Rounds
} from "../src/interfaces/IRoundManager.sol";
import {ITaskManagerTypes as Tasks} from "../src/interfaces/ITaskManager.sol";
import {RoundBase} from "./helpers/RoundBase.sol";
import {Tree} from "./helpers/Tree.sol";
import {PickyVerifier} from "./helpers/Verifiers.sol";
import {vm} from "./helpers/Vm.sol";

/// @notice Each step of a round up to its result: who may take it, when, and what it refuses.
contract RoundManagerTest is RoundBase {
    // ---- Deployment and administration ----

    function test_it_refuses_the_task_manager_of_another_deployment() public {
        StakeManager other = new StakeManager(token, UNBONDING, WARMUP, NOTICE, CAP_BPS, ADMIN);
        refused(abi.encodeWithSelector(Errors.ForeignContract.selector, tasks));
        new RoundManager(other, tasks, ADMIN);
    }

    function test_only_its_role_names_the_verifier() public {
        IProofVerifier verifier = new PickyVerifier();
        bytes32 role = rounds.VERIFIER_ROLE();
        vm.prank(ANYONE);
        refused(
            abi.encodeWithSelector(
                IAccessControl.AccessControlUnauthorizedAccount.selector, ANYONE, role
            )
        );
        rounds.setProofVerifier(verifier);
        vm.expectEmit(address(rounds));
        emit Events.ProofVerifierChanged(address(verifier));
        setVerifier(verifier);
        isTrue(address(rounds.proofVerifier()) == address(verifier), "verifier");
        isTrue(address(rounds.taskManager()) == address(tasks), "task manager");
        isTrue(address(rounds.stakeManager()) == address(stakes), "stake manager");
    }

    function test_only_the_task_manager_opens_the_closing_and_closes_rounds() public {
        uint64 id = staffed(1);
        bytes memory reason =
            abi.encodeWithSelector(Errors.NotTheTaskManager.selector, tasks, AGGREGATOR);
        vm.prank(AGGREGATOR);
        refused(reason);
        rounds.openClosing(id);
        vm.prank(AGGREGATOR);
        refused(reason);
        rounds.closeRounds(id);
    }

    // ---- openRound ----

    function test_opening() public {
        uint64 id = staffed(1);
        vm.expectEmit(address(rounds));
        emit Events.RoundOpened(id, 1, 1, "base", "cohort", 4, POOL);
        vm.prank(AGGREGATOR);
        rounds.openRound(id, 1, "base", "cohort", 4);

        Rounds.Round memory r = rounds.roundOf(id, 1);
        isStage(id, 1, Rounds.Stage.Training);
        equal(r.attempt, 1, "attempt");
        equal(r.cohortSize, 4, "cohort");
        equal(r.deadline, START + TRAIN, "deadline");
        equal(r.stageAt, START, "stage at");
        equal(r.pool, POOL, "pool");
        isTrue(r.base == "base" && r.cohortRoot == "cohort", "base and cohort");
        equal(rounds.openRoundKey(id), (1 << 16) | 1, "key");
    }

    function test_opening_is_refused() public {
        Tasks.TaskSpec memory spec = specification();
        (spec.trainersMin, spec.trainersMax) = (2, 5);
        uint64 id = create(spec);
        opens(
            id,
            1,
            2,
            abi.encodeWithSelector(Errors.NotEligible.selector, AGGREGATOR, AGGREGATOR_STAKE, 0)
        );
        stake(id, AGGREGATOR, 2, AGGREGATOR_STAKE);
        refusesOthers();
        rounds.openRound(id, 1, 0, 0, 2);
        opens(id, 0, 2, abi.encodeWithSelector(Errors.WrongRound.selector, 1, 0));
        opens(id, 2, 2, abi.encodeWithSelector(Errors.WrongRound.selector, 1, 2));
        opens(id, 3, 2, abi.encodeWithSelector(Errors.WrongRound.selector, 1, 3));
        opens(id, 1, 1, abi.encodeWithSelector(Errors.CohortSizeOutOfRange.selector, 2, 5, 1));
        opens(id, 1, 6, abi.encodeWithSelector(Errors.CohortSizeOutOfRange.selector, 2, 5, 6));
        open(id, 1, 2);
        opens(id, 1, 2, abi.encodeWithSelector(Errors.WrongRound.selector, 1, 1));
        opens(id, 2, 2, abi.encodeWithSelector(Errors.WrongRound.selector, 1, 2));
    }

    function test_a_settled_round_is_not_opened_again() public {
        uint64 id = staffed(1);
        play(id, 1, 1, 1);
        opens(
            id,
            1,
            1,
            abi.encodeWithSelector(
                Errors.WrongStage.selector, Rounds.Stage.None, Rounds.Stage.Settled
            )
        );
    }

    function test_nothing_opens_in_a_task_that_has_ended() public {
        uint64 id = staffed(1);
        vm.prank(CREATOR);
        tasks.cancel(id);
        opens(id, 1, 1, abi.encodeWithSelector(Errors.TaskNotActive.selector, id));
    }

    function test_an_aggregator_that_withdraws_its_stake_opens_no_more() public {
        uint64 id = staffed(1);
        vm.prank(AGGREGATOR);
        stakes.requestWithdrawal(id, 1);
        opens(
            id,
            1,
            1,
            abi.encodeWithSelector(
                Errors.NotEligible.selector, AGGREGATOR, AGGREGATOR_STAKE, AGGREGATOR_STAKE - 1
            )
        );
    }

    /// A validator's stake does not count as an aggregator's.
    function test_an_aggregator_with_another_role_has_no_stake() public {
        uint64 id = create(specification());
        stake(id, AGGREGATOR, 1, AGGREGATOR_STAKE);
        opens(
            id,
            1,
            1,
            abi.encodeWithSelector(Errors.NotEligible.selector, AGGREGATOR, AGGREGATOR_STAKE, 0)
        );
    }

    function test_a_round_is_tried_until_its_attempts_are_used_up() public {
        uint64 id = staffed(1);
        for (uint16 attempt = 1; attempt <= ATTEMPTS; ++attempt) {
            open(id, 1, 1);
            equal(rounds.attemptsOf(id, 1), attempt, "attempts");
            equal(rounds.openRoundKey(id), (1 << 16) | attempt, "key");
            pass(TRAIN + 1);
            vm.expectEmit(address(rounds));
            emit Events.RoundFailed(id, 1, attempt, Rounds.Stage.Training);
            rounds.tick(id);
        }
        opens(id, 1, 1, abi.encodeWithSelector(Errors.AttemptsExhausted.selector, ATTEMPTS));
        tasks.tick(id);
        isState(id, Tasks.TaskState.Aborted);
    }

    function test_nothing_of_a_failed_attempt_is_left() public {
        uint64 id = staffed(2);
        open(id, 1, 2);
        commitOwn(id, 1, 0, 2);
        seal(id, 1, 2);
        draw(id, 1);
        score(id, 1, sameReveals(2, 3, ONE));
        vm.prank(AGGREGATOR);
        rounds.failRound(id, 1);

        open(id, 1, 2);
        Rounds.Round memory r = rounds.roundOf(id, 1);
        equal(r.attempt, 2, "attempt");
        equal(r.updates + r.ownUpdates + r.committed + r.revealed, 0, "counts");
        equal(r.weight, 0, "weight");
        isTrue(r.ownCommitments == 0 && r.updatesRoot == 0 && r.seed == 0, "hashes");
        equal(rounds.validatorsOf(id, 1).length, 0, "validators");
        commitOwn(id, 1, 0, 2);
        seal(id, 1, 2);
        draw(id, 1);
        score(id, 1, sameReveals(2, 3, ONE));
        isStage(id, 1, Rounds.Stage.Settling);
    }

    function test_the_next_round_waits_for_the_dispute_of_the_last() public {
        Tasks.TaskSpec memory spec = specification();
        spec.proofMode = Tasks.ProofMode.OnChallenge;
        uint64 id = staffed(spec, 1);
        play(id, 1, 1, 1);
        pass(DISPUTE - 1);
        opens(
            id,
            2,
            1,
            abi.encodeWithSelector(Errors.PreviousRoundDisputable.selector, block.timestamp + 1)
        );
        pass(1);
        open(id, 2, 1);
    }

    // ---- Commitments to updates ----

    function test_the_aggregator_commits_to_updates() public {
        uint64 id = staffed(1);
        open(id, 1, 3);
        vm.expectEmit(address(rounds));
        emit Events.UpdatesCommitted(id, 1, UPDATES_ROOT, 2, uint64(block.number + 1));
        seal(id, 1, 2);
        Rounds.Round memory r = rounds.roundOf(id, 1);
        isStage(id, 1, Rounds.Stage.Sealed);
        equal(r.updates, 2, "updates");
        equal(r.deadline, START + SETTLE, "deadline");
        isTrue(r.updatesRoot == UPDATES_ROOT, "root");
    }

    function test_commitments_of_the_aggregator_are_refused() public {
        uint64 id = staffed(1);
        refusesStage(Rounds.Stage.Training, Rounds.Stage.None);
        seal(id, 1, 1);
        open(id, 1, 3);
        refusesOthers();
        rounds.commitUpdates(id, 1, 0, 1);
        refused(abi.encodeWithSelector(Errors.UpdateCountOutOfRange.selector, 3, 0));
        seal(id, 1, 0);
        refused(abi.encodeWithSelector(Errors.UpdateCountOutOfRange.selector, 3, 4));
        seal(id, 1, 4);
        pass(TRAIN);
        seal(id, 1, 3);
        refusesStage(Rounds.Stage.Training, Rounds.Stage.Sealed);
        seal(id, 1, 3);
    }

    function test_no_commitment_after_the_deadline() public {
        uint64 id = staffed(1);
        open(id, 1, 1);
        pass(TRAIN + 1);
        bytes memory over = abi.encodeWithSelector(Errors.StageOver.selector, START + TRAIN);
        refused(over);
        seal(id, 1, 1);
        bytes32[] memory proof = new bytes32[](0);
        vm.prank(trainer(0));
        refused(over);
        rounds.commitUpdate(id, 1, "update", proof);
    }

    function test_trainers_commit_past_the_aggregator() public {
        uint64 id = staffed(1);
        open(id, 1, 5);
        bytes32 chain = 0;
        for (uint256 i = 0; i < 5; ++i) {
            vm.expectEmit(address(rounds));
            emit Events.UpdateCommitted(id, 1, trainer(i), keccak256(abi.encode(i)));
            commitOwn(id, 1, i, 5);
            chain = keccak256(abi.encode(chain, trainer(i), keccak256(abi.encode(i))));
        }
        Rounds.Round memory r = rounds.roundOf(id, 1);
        equal(r.ownUpdates, 5, "own updates");
        isTrue(r.ownCommitments == chain, "chain");
        seal(id, 1, 1);
        refusesStage(Rounds.Stage.Training, Rounds.Stage.Sealed);
        commitOwn(id, 1, 4, 5);
    }

    /// The factors of own commitments are judged and paid like the others.
    function test_an_own_commitment_is_scored_and_paid() public {
        uint64 id = staffed(1);
        open(id, 1, 2);
        commitOwn(id, 1, 1, 2);
        seal(id, 1, 1);
        draw(id, 1);
        score(id, 1, sameReveals(1, 2, ONE));
        submit(id, 1, submission(id, 1, sameReveals(1, 2, ONE), share(id, 1, 2)));
        pass(DISPUTE);
        uint128[] memory amounts = share(id, 1, 2);
        bytes32[] memory proof = Tree.proof(payoutLeaves(id, 1, amounts), 1);
        equal(
            tasks.claim(id, 1, trainer(1), amounts[1], proof), amounts[1] * 7_500 / ONE, "claimed"
        );
    }

    function test_own_commitments_are_refused() public {
        uint64 id = staffed(1);
        open(id, 1, 4);
        refused(abi.encodeWithSelector(Errors.NotInCohort.selector, trainer(4)));
        commitOwn(id, 1, 4, 5);
        bytes32[] memory others = Tree.proof(cohort(id, 1, 4), 1);
        vm.prank(trainer(0));
        refused(abi.encodeWithSelector(Errors.NotInCohort.selector, trainer(0)));
        rounds.commitUpdate(id, 1, "update", others);
        commitOwn(id, 1, 0, 4);
        refused(abi.encodeWithSelector(Errors.AlreadyCommitted.selector, trainer(0)));
        commitOwn(id, 1, 0, 4);
    }

    /// Membership proven for one round, task or chain is worth nothing elsewhere.
    function test_the_leaf_of_a_cohort_is_bound_to_its_round() public {
        uint64 id = staffed(1);
        bytes32 leaf = cohort(id, 2, 1)[0];
        vm.prank(AGGREGATOR);
        rounds.openRound(id, 1, "base", leaf, 1);
        vm.prank(trainer(0));
        refused(abi.encodeWithSelector(Errors.NotInCohort.selector, trainer(0)));
        rounds.commitUpdate(id, 1, "update", new bytes32[](0));
        leaf = cohort(id, 1, 1)[0];
        vm.prank(AGGREGATOR);
        rounds.failRound(id, 1);
        vm.prank(AGGREGATOR);
        rounds.openRound(id, 1, "base", leaf, 1);
        uint256 chain = block.chainid;
        vm.chainId(chain + 1);
        vm.prank(trainer(0));
        refused(abi.encodeWithSelector(Errors.NotInCohort.selector, trainer(0)));
        rounds.commitUpdate(id, 1, "update", new bytes32[](0));
        vm.chainId(chain);
        vm.prank(trainer(0));
        rounds.commitUpdate(id, 1, "update", new bytes32[](0));
    }

    /// A root over more trainers than it says does not swell the round.
    function test_there_are_no_more_own_commitments_than_the_cohort_has_members() public {
        uint64 id = staffed(1);
        bytes32 root = Tree.root(cohort(id, 1, 3));
        vm.prank(AGGREGATOR);
        rounds.openRound(id, 1, "base", root, 2);
        commitOwn(id, 1, 0, 3);
        commitOwn(id, 1, 1, 3);
        refused(abi.encodeWithSelector(Errors.UpdateCountOutOfRange.selector, 2, 3));
        commitOwn(id, 1, 2, 3);
    }

    // ---- The seed ----

    function test_the_seed_comes_from_a_later_block() public {
        uint64 id = staffed(1);
        open(id, 1, 1);
        seal(id, 1, 1);
        uint256 seedBlock = block.number + 1;
        bytes memory early = abi.encodeWithSelector(Errors.SeedTooEarly.selector, seedBlock);
        refused(early);
        rounds.drawSeed(id, 1);
        vm.roll(seedBlock);
        refused(early);
        rounds.drawSeed(id, 1);
        vm.roll(seedBlock + 1);
        vm.prevrandao("mixed in");
        bytes32 seed = expectedSeed(id, 1, 1, seedBlock);
        isTrue(blockhash(seedBlock) != 0, "a hash");
        vm.expectEmit(address(rounds));
        emit Events.SeedDrawn(id, 1, seed);
        vm.prank(ANYONE);
        rounds.drawSeed(id, 1);
        isStage(id, 1, Rounds.Stage.Scoring);
        isTrue(rounds.roundOf(id, 1).seed == seed, "seed");
        refusesStage(Rounds.Stage.Sealed, Rounds.Stage.Scoring);
        rounds.drawSeed(id, 1);
    }

    function test_the_seed_differs_by_all_that_it_is_made_of() public {
        uint64 id = staffed(1);
        uint64 other = staffed(1);
        bytes32 first = seedOf(id, 1, "a");
        vm.prank(AGGREGATOR);
        rounds.failRound(id, 1);
        bytes32 again = seedOf(id, 1, "a");
        bytes32 elsewhere = seedOf(other, 1, "a");
        vm.prank(AGGREGATOR);
        rounds.failRound(other, 1);
        vm.roll(block.number - 3);
        bytes32 mixed = seedOf(other, 1, "b");
        isTrue(first != again && first != elsewhere && again != elsewhere, "bound");
        isTrue(mixed != elsewhere, "mixed");
    }

    function test_the_last_block_whose_hash_is_there_still_gives_the_seed() public {
        uint64 id = staffed(1);
        open(id, 1, 1);
        seal(id, 1, 1);
        vm.roll(block.number + 1 + 256);
        rounds.drawSeed(id, 1);
        isStage(id, 1, Rounds.Stage.Scoring);
    }

    function test_after_256_blocks_another_block_gives_the_seed() public {
        uint64 id = staffed(1);
        open(id, 1, 1);
        seal(id, 1, 1);
        vm.roll(block.number + 1 + 257);
        vm.expectEmit(address(rounds));
        emit Events.SeedPostponed(id, 1, uint64(block.number + 1));
        rounds.drawSeed(id, 1);
        isStage(id, 1, Rounds.Stage.Sealed);
        refused(abi.encodeWithSelector(Errors.SeedTooEarly.selector, block.number + 1));
        rounds.drawSeed(id, 1);
        draw(id, 1);
        isStage(id, 1, Rounds.Stage.Scoring);
    }

    function test_no_seed_after_the_deadline() public {
        uint64 id = staffed(1);
        open(id, 1, 1);
        seal(id, 1, 1);
        pass(SETTLE + 1);
        refused(abi.encodeWithSelector(Errors.StageOver.selector, block.timestamp - 1));
        draw(id, 1);
    }

    function test_without_validators_the_seed_is_followed_by_the_result() public {
        Tasks.TaskSpec memory spec = specification();
        spec.validatorsMin = 0;
        uint64 id = staffed(spec, 0);
        toScoring(id, 1, 2);
        isStage(id, 1, Rounds.Stage.Settling);
        submit(id, 1, submission(id, 1, new uint16[][](0), share(id, 1, 2)));
        equal(
            rounds.roundOf(id, 1).allotted, 2 * uint256(share(id, 1, 2)[0]) + fee(POOL), "allotted"
        );
    }

    // ---- Commit and reveal ----

    function test_validators_commit_and_reveal() public {
        uint64 id = staffed(2);
        toScoring(id, 1, 1);
        uint16[] memory factors = same(1, 7);
        vm.expectEmit(address(rounds));
        emit Events.ScoresCommitted(id, 1, validator(0), VALIDATOR_STAKE);
        commitScores(id, 1, 0, factors);
        isStage(id, 1, Rounds.Stage.Scoring);
        Rounds.ScoreCommitment memory score = rounds.scoreCommitmentOf(id, 1, 1, validator(0));
        isTrue(score.commitment != 0 && score.factorsHash == 0, "commitment");
        equal(score.weight, VALIDATOR_STAKE, "weight");

        commitScores(id, 1, 1, factors);
        isStage(id, 1, Rounds.Stage.Revealing);
        equal(rounds.roundOf(id, 1).deadline, START + SCORE, "deadline");
        equal(rounds.roundOf(id, 1).weight, 2 * VALIDATOR_STAKE, "weight");
        isTrue(rounds.validatorsOf(id, 1)[1] == validator(1), "order");

        vm.expectEmit(address(rounds));
        emit Events.ScoresRevealed(id, 1, validator(1), encode(factors));
        reveal(id, 1, 1, factors);
        isTrue(
            rounds.scoreCommitmentOf(id, 1, 1, validator(1)).factorsHash
                == keccak256(encode(factors)),
            "factors"
        );
        vm.expectEmit(address(rounds));
        emit Events.SettlingOpened(id, 1, uint64(START + SETTLE));
        reveal(id, 1, 0, factors);
        isStage(id, 1, Rounds.Stage.Settling);
    }

    function test_commitments_to_scores_are_refused() public {
        uint64 id = staffed(2);
        open(id, 1, 1);
        refusesStage(Rounds.Stage.Scoring, Rounds.Stage.Training);
        tryCommitScores(id, 0);
        seal(id, 1, 1);
        draw(id, 1);
        refusesValidator(2, 0);
        tryCommitScores(id, 2);
        stake(id, validator(2), 0, VALIDATOR_STAKE);
        refusesValidator(2, 0);
        tryCommitScores(id, 2);
        vm.prank(validator(1));
        stakes.requestWithdrawal(id, 1);
        refusesValidator(1, VALIDATOR_STAKE - 1);
        tryCommitScores(id, 1);
        stake(id, validator(1), 1, 1);
        commitScores(id, 1, 0, same(1, 1));
        refused(abi.encodeWithSelector(Errors.AlreadyCommitted.selector, validator(0)));
        tryCommitScores(id, 0);
        pass(SCORE + 1);
        refused(abi.encodeWithSelector(Errors.StageOver.selector, block.timestamp - 1));
        tryCommitScores(id, 1);
    }

    /// Whoever has nothing at stake is no validator, even where no least stake is asked for.
    function test_a_validator_without_any_stake_is_refused() public {
        Tasks.TaskSpec memory spec = specification();
        spec.validatorStakeMin = 0;
        uint64 id = create(spec);
        stake(id, AGGREGATOR, 2, AGGREGATOR_STAKE);
        stake(id, validator(0), 1, 1);
        vm.prank(validator(0));
        stakes.requestWithdrawal(id, 1);
        toScoring(id, 1, 1);
        refused(abi.encodeWithSelector(Errors.NotEligible.selector, validator(0), 0, 0));
        tryCommitScores(id, 0);
    }

    function test_reveals_are_refused() public {
        uint64 id = staffed(3);
        toScoring(id, 1, 2);
        refusesStage(Rounds.Stage.Revealing, Rounds.Stage.Scoring);
        reveal(id, 1, 0, same(2, 1));
        commitScores(id, 1, 0, same(2, 1));
        commitScores(id, 1, 1, same(1, 1));
        pass(SCORE + 1);
        // The first reveal opens the stage itself.
        reveal(id, 1, 0, same(2, 1));
        isStage(id, 1, Rounds.Stage.Revealing);
        refused(abi.encodeWithSelector(Errors.AlreadyRevealed.selector, validator(0)));
        reveal(id, 1, 0, same(2, 1));
        refused(abi.encodeWithSelector(Errors.NotCommitted.selector, validator(2)));
        reveal(id, 1, 2, same(2, 1));
        bytes32 said = rounds.scoresCommitment(id, 1, 1, validator(1), encode(same(2, 1)), SALT);
        bytes32 committed = rounds.scoreCommitmentOf(id, 1, 1, validator(1)).commitment;
        refused(abi.encodeWithSelector(Errors.RevealMismatch.selector, committed, said));
        reveal(id, 1, 1, same(2, 1));
        refused(abi.encodeWithSelector(Errors.WrongFactorsLength.selector, 4, 2));
        reveal(id, 1, 1, same(1, 1));
        pass(SCORE + 1);
        rounds.tick(id);
        refusesStage(Rounds.Stage.Revealing, Rounds.Stage.Settling);
        reveal(id, 1, 1, same(2, 1));
    }

    function test_a_reveal_after_the_deadline_is_refused() public {
        uint64 id = staffed(1);
        toScoring(id, 1, 1);
        commitScores(id, 1, 0, same(1, 1));
        pass(SCORE + 1);
        refused(abi.encodeWithSelector(Errors.StageOver.selector, block.timestamp - 1));
        reveal(id, 1, 0, same(1, 1));
    }

    function test_no_factor_is_above_the_maximum() public {
        uint64 id = staffed(2);
        toScoring(id, 1, 2);
        uint16[] memory factors = same(2, 20_000);
        commitScores(id, 1, 0, factors);
        factors[1] = 20_001;
        commitScores(id, 1, 1, factors);
        refused(abi.encodeWithSelector(Errors.FactorTooHigh.selector, 20_000, 20_001));
        reveal(id, 1, 1, factors);
        reveal(id, 1, 0, same(2, 20_000));
    }

    /// Someone else's commitment is of no use: the reveal that opens it names its validator.
    function test_a_copied_commitment_cannot_be_revealed() public {
        uint64 id = staffed(2);
        toScoring(id, 1, 1);
        commitScores(id, 1, 0, same(1, 5));
        bytes32 copied = rounds.scoreCommitmentOf(id, 1, 1, validator(0)).commitment;
        vm.prank(validator(1));
        rounds.commitScores(id, 1, copied);
        reveal(id, 1, 0, same(1, 5));
        bytes32 own = rounds.scoresCommitment(id, 1, 1, validator(1), encode(same(1, 5)), SALT);
        refused(abi.encodeWithSelector(Errors.RevealMismatch.selector, copied, own));
        reveal(id, 1, 1, same(1, 5));
    }

    function test_commitments_differ_by_all_that_they_bind() public {
        bytes memory factors = encode(same(1, 1));
        bytes32 one = rounds.scoresCommitment(1, 1, 1, validator(0), factors, SALT);
        isTrue(one != rounds.scoresCommitment(2, 1, 1, validator(0), factors, SALT), "task");
        isTrue(one != rounds.scoresCommitment(1, 2, 1, validator(0), factors, SALT), "round");
        isTrue(one != rounds.scoresCommitment(1, 1, 2, validator(0), factors, SALT), "attempt");
        isTrue(one != rounds.scoresCommitment(1, 1, 1, validator(1), factors, SALT), "validator");
        isTrue(one != rounds.scoresCommitment(1, 1, 1, validator(0), "", SALT), "factors");
        isTrue(one != rounds.scoresCommitment(1, 1, 1, validator(0), factors, 0), "salt");
        vm.chainId(block.chainid + 1);
        isTrue(one != rounds.scoresCommitment(1, 1, 1, validator(0), factors, SALT), "chain");
    }

    function test_weight_is_what_stood_behind_the_validator_when_it_committed() public {
        uint64 id = staffed(2);
        endow(ANYONE);
        vm.prank(ANYONE);
        stakes.delegate(id, validator(0), 5 * VALIDATOR_STAKE);
        pass(WARMUP);
        stakes.activate(id, validator(0), ANYONE);
        toScoring(id, 1, 1);
        commitScores(id, 1, 0, same(1, 1));
        // The cap: twice the own stake.
        equal(rounds.roundOf(id, 1).weight, 3 * VALIDATOR_STAKE, "weight");
        vm.prank(ANYONE);
        stakes.undelegate(id, validator(0), 5e5);
        equal(rounds.roundOf(id, 1).weight, 3 * VALIDATOR_STAKE, "weight");
    }

    // ---- When scoring closes early ----

    function test_who_committed_and_left_stands_for_nobody_else() public {
        uint64 id = staffed(3);
        toScoring(id, 1, 1);
        // Two of little stake commit and leave at once; one is left that has not committed.
        for (uint256 v = 0; v < 2; ++v) {
            commitScores(id, 1, v, same(1, 0));
            vm.prank(validator(v));
            stakes.requestWithdrawal(id, VALIDATOR_STAKE);
        }
        equal(stakes.validatorCount(id), 1, "eligible");
        refused(abi.encodeWithSelector(Errors.NothingDue.selector, id));
        rounds.tick(id);
        commitScores(id, 1, 2, same(1, 1));
        isStage(id, 1, Rounds.Stage.Revealing);
    }

    function test_after_the_grace_time_as_many_as_last_time_are_enough() public {
        uint64 id = staffed(3);
        toScoring(id, 1, 1);
        score(id, 1, sameReveals(2, 1, ONE));
        submit(id, 1, submission(id, 1, sameReveals(2, 1, ONE), share(id, 1, 1)));

        toScoring(id, 2, 1);
        commitScores(id, 2, 0, same(1, ONE));
        commitScores(id, 2, 2, same(1, ONE));
        pass(GRACE);
        refused(abi.encodeWithSelector(Errors.NothingDue.selector, id));
        rounds.tick(id);
        pass(1);
        rounds.tick(id);
        isStage(id, 2, Rounds.Stage.Revealing);
    }

    function test_the_first_round_has_no_grace_time() public {
        uint64 id = staffed(2);
        toScoring(id, 1, 1);
        commitScores(id, 1, 0, same(1, ONE));
        pass(SCORE);
        refused(abi.encodeWithSelector(Errors.NothingDue.selector, id));
        rounds.tick(id);
    }

    /// The many small do not shut out the few large.
    function test_a_small_validator_cannot_keep_larger_ones_out() public {
        uint64 id = staffed(1);
        play(id, 1, 1, 1);
        for (uint256 v = 1; v < 4; ++v) {
            stake(id, validator(v), 1, 1_000_000);
        }
        toScoring(id, 2, 1);
        uint16[][] memory all = sameReveals(1, 1, 20_000);
        commitScores(id, 2, 0, all[0]);
        pass(GRACE + 1);
        refused(abi.encodeWithSelector(Errors.NothingDue.selector, id));
        rounds.tick(id);
        isStage(id, 2, Rounds.Stage.Scoring);
    }

    function test_after_the_grace_time_little_weight_is_not_enough() public {
        uint64 id = staffed(1);
        stake(id, validator(0), 1, 9 * VALIDATOR_STAKE);
        play(id, 1, 1, 1);
        for (uint256 v = 1; v < 4; ++v) {
            stake(id, validator(v), 1, VALIDATOR_STAKE);
        }
        toScoring(id, 2, 1);
        for (uint256 v = 1; v < 4; ++v) {
            commitScores(id, 2, v, same(1, 0));
        }
        pass(GRACE + 1);
        refused(abi.encodeWithSelector(Errors.NothingDue.selector, id));
        rounds.tick(id);
        commitScores(id, 2, 0, same(1, ONE));
        isStage(id, 2, Rounds.Stage.Revealing);
    }

    function test_a_heavier_validator_takes_the_place_of_the_lightest() public {
        uint64 id = staffed(0);
        uint16 most = rounds.VALIDATORS_MAX();
        for (uint256 v = 0; v < uint256(most) + 2; ++v) {
            stake(id, validator(v), 1, VALIDATOR_STAKE + (v == 9 ? 0 : 1));
        }
        toScoring(id, 1, 1);
        for (uint256 v = 0; v < most; ++v) {
            commitScores(id, 1, v, same(1, 1));
        }
        isStage(id, 1, Rounds.Stage.Scoring);
        uint256 weight = rounds.roundOf(id, 1).weight;
        vm.expectEmit(address(rounds));
        emit Events.ScoresDisplaced(id, 1, validator(9));
        commitScores(id, 1, most, same(1, 1));
        Rounds.Round memory r = rounds.roundOf(id, 1);
        equal(r.committed, most, "committed");
        equal(r.weight, weight + 1, "weight");
        isTrue(rounds.validatorsOf(id, 1)[9] == validator(most), "place");
        equal(rounds.scoreCommitmentOf(id, 1, 1, validator(9)).weight, 0, "gone");
        refused(abi.encodeWithSelector(Errors.TooManyValidators.selector, most));
        tryCommitScores(id, uint256(most) + 1);
        pass(SCORE + 1);
        refused(abi.encodeWithSelector(Errors.NotCommitted.selector, validator(9)));
        reveal(id, 1, 9, same(1, 1));
        reveal(id, 1, most, same(1, 1));
    }

    // ---- Time-outs ----

    function test_a_stage_ends_only_after_its_deadline() public {
        uint64 id = staffed(1);
        bytes memory nothing = abi.encodeWithSelector(Errors.NothingDue.selector, id);
        refused(nothing);
        rounds.tick(id);
        open(id, 1, 1);
        pass(TRAIN);
        refused(nothing);
        rounds.tick(id);
        seal(id, 1, 1);
        pass(SETTLE);
        refused(nothing);
        rounds.tick(id);
        draw(id, 1);
        pass(SCORE);
        refused(nothing);
        rounds.tick(id);
        commitScores(id, 1, 0, same(1, ONE));
        pass(SCORE);
        refused(nothing);
        rounds.tick(id);
        reveal(id, 1, 0, same(1, ONE));
        pass(SETTLE);
        refused(nothing);
        rounds.tick(id);
        submit(id, 1, submission(id, 1, sameReveals(1, 1, ONE), share(id, 1, 1)));
        isStage(id, 1, Rounds.Stage.Settled);
        refused(nothing);
        rounds.tick(id);
    }

    function test_time_out_of_training() public {
        uint64 id = staffed(1);
        open(id, 1, 1);
        failsAfter(id, TRAIN, Rounds.Stage.Training);
    }

    function test_time_out_of_the_seed() public {
        uint64 id = staffed(1);
        open(id, 1, 1);
        seal(id, 1, 1);
        failsAfter(id, SETTLE, Rounds.Stage.Sealed);
    }

    function test_time_out_of_scoring_without_scores() public {
        uint64 id = staffed(1);
        toScoring(id, 1, 1);
        failsAfter(id, SCORE, Rounds.Stage.Scoring);
    }

    function test_time_out_of_scoring_with_some_scores() public {
        uint64 id = staffed(2);
        toScoring(id, 1, 1);
        commitScores(id, 1, 0, same(1, ONE));
        pass(SCORE + 1);
        vm.expectEmit(address(rounds));
        emit Events.RevealOpened(id, 1, uint64(block.timestamp + SCORE));
        tasks.tick(id);
        isStage(id, 1, Rounds.Stage.Revealing);
    }

    function test_time_out_of_revealing_without_reveals() public {
        uint64 id = staffed(1);
        toScoring(id, 1, 1);
        commitScores(id, 1, 0, same(1, ONE));
        failsAfter(id, SCORE, Rounds.Stage.Revealing);
    }

    function test_time_out_of_revealing_with_some_reveals() public {
        uint64 id = staffed(2);
        toScoring(id, 1, 1);
        commitScores(id, 1, 0, same(1, ONE));
        commitScores(id, 1, 1, same(1, ONE));
        reveal(id, 1, 1, same(1, ONE));
        pass(SCORE + 1);
        // The result itself ends the stage: nobody needs to tick.
        uint16[][] memory reveals = sameReveals(1, 1, ONE);
        submit(id, 1, submission(id, 1, reveals, share(id, 1, 1)));
        equal(rounds.directPayOf(id, 1, validator(0)), 0, "silent");
        // Half of the weight that committed revealed.
        equal(rounds.directPayOf(id, 1, validator(1)), POOL * VALIDATORS_BPS / ONE / 2, "pay");
    }

    function test_time_out_of_the_result() public {
        uint64 id = staffed(1);
        toSettling(id, 1, 1, 1);
        failsAfter(id, SETTLE, Rounds.Stage.Settling);
    }

    // ---- failRound ----

    function test_the_aggregator_gives_up_an_attempt() public {
        uint64 id = staffed(1);
        refusesOthers();
        rounds.failRound(id, 1);
        vm.prank(AGGREGATOR);
        refusesStage(Rounds.Stage.Training, Rounds.Stage.None);
        rounds.failRound(id, 1);
        toScoring(id, 1, 1);
        vm.expectEmit(address(rounds));
        emit Events.RoundFailed(id, 1, 1, Rounds.Stage.Scoring);
        vm.prank(AGGREGATOR);
        rounds.failRound(id, 1);
        isStage(id, 1, Rounds.Stage.None);
        equal(rounds.openRoundKey(id), 0, "key");
        play(id, 1, 1, 1);
        vm.prank(AGGREGATOR);
        refusesStage(Rounds.Stage.Training, Rounds.Stage.Settled);
        rounds.failRound(id, 1);
    }

    function test_the_aggregator_cannot_give_up_the_closing_evaluation() public {
        uint64 id = toClosing(1);
        vm.prank(AGGREGATOR);
        refused(abi.encodeWithSelector(Errors.TaskNotActive.selector, id));
        rounds.failRound(id, ROUNDS + 1);
    }
}
