// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";

import {ConvokeToken} from "../src/ConvokeToken.sol";
import {TaskManager} from "../src/TaskManager.sol";
import {IRoundManager} from "../src/interfaces/IRoundManager.sol";
import {IStakeManager} from "../src/interfaces/IStakeManager.sol";
import {
    ITaskManagerErrors as Errors,
    ITaskManagerEvents,
    ITaskManagerTypes as Types
} from "../src/interfaces/ITaskManager.sol";
import {RoundsDouble, TaskBase} from "./helpers/TaskBase.sol";
import {vm} from "./helpers/Vm.sol";

/// @notice The life of a task: what may be asked for, its stages, its ends, its escrow.
contract TaskManagerTest is TaskBase, ITaskManagerEvents {
    // ---- Creation ----

    function test_create_pulls_the_reward_and_logs_the_file() public {
        uint256 before = token.balanceOf(CREATOR);
        vm.expectEmit(address(tasks));
        emit TaskCreated(1, CREATOR, AGGREGATOR, REWARD, keccak256("task"), "task");
        equal(newTask(), 1, "first id");
        equal(before - token.balanceOf(CREATOR), REWARD, "pulled");
        Types.TaskRecord memory record = tasks.task(1);
        equal(record.roundPool, POOL, "pool of a round");
        equal(record.escrowed, REWARD, "escrowed");
        equal(record.releaseBps, WHOLE, "release");
        isTrue(record.taskFileHash == keccak256("task"), "file");
        isTrue(
            keccak256(abi.encode(tasks.specOf(1))) == keccak256(abi.encode(specification())),
            "specification"
        );
        equal(record.lastProgressAt, START, "begin");
        equal(record.createdBlock, block.number, "block");
        isTrue(record.creator == CREATOR, "creator");
        (Types.TaskSpec memory spec, Types.TaskState state_) = tasks.termsOf(1);
        isTrue(spec.modelHash == "model" && state_ == Types.TaskState.Active, "terms");
        equal(newTask(), 2, "second id");
        conserved(1);
    }

    function test_create_refuses_what_is_out_of_range() public {
        Types.TaskSpec memory spec = specification();
        spec.aggregator = address(0);
        outOfRange(spec, abi.encodeWithSelector(Errors.AggregatorMissing.selector));

        spec = specification();
        spec.rounds = 0;
        outOfRange(spec, abi.encodeWithSelector(Errors.RoundsOutOfRange.selector, 10_000, 0));
        spec.rounds = 10_001;
        outOfRange(spec, abi.encodeWithSelector(Errors.RoundsOutOfRange.selector, 10_000, 10_001));

        spec = specification();
        spec.reward = ROUNDS - 1;
        outOfRange(spec, abi.encodeWithSelector(Errors.RewardTooSmall.selector, ROUNDS, ROUNDS - 1));

        spec = specification();
        spec.trainersMin = 0;
        outOfRange(spec, abi.encodeWithSelector(Errors.CohortOutOfRange.selector, 0, 16));
        spec.trainersMin = 17;
        outOfRange(spec, abi.encodeWithSelector(Errors.CohortOutOfRange.selector, 17, 16));
        spec.trainersMax = 257;
        outOfRange(spec, abi.encodeWithSelector(Errors.CohortOutOfRange.selector, 17, 257));

        spec = specification();
        spec.validatorsMin = 65;
        outOfRange(spec, abi.encodeWithSelector(Errors.ValidatorsOutOfRange.selector, 64, 65));

        spec = specification();
        spec.attemptsMax = 0;
        outOfRange(spec, abi.encodeWithSelector(Errors.AttemptsOutOfRange.selector, 0));
        spec.attemptsMax = 101;
        outOfRange(spec, abi.encodeWithSelector(Errors.AttemptsOutOfRange.selector, 101));

        spec = specification();
        spec.trainersBps = 7_001;
        outOfRange(spec, abi.encodeWithSelector(Errors.SharesDoNotAddUp.selector, 10_001));
    }

    function test_create_refuses_rates_and_windows_out_of_range() public {
        Types.TaskSpec memory spec = specification();
        spec.vestingBps = 9_001;
        outOfRange(spec, abi.encodeWithSelector(Errors.RateTooHigh.selector, 9_000, 9_001));
        spec = specification();
        spec.rankDecayBps = 10_001;
        outOfRange(spec, abi.encodeWithSelector(Errors.RateTooHigh.selector, 10_000, 10_001));
        spec = specification();
        spec.slashBps = 5_001;
        outOfRange(spec, abi.encodeWithSelector(Errors.RateTooHigh.selector, 5_000, 5_001));
        spec = specification();
        spec.reporterBps = 5_001;
        outOfRange(spec, abi.encodeWithSelector(Errors.RateTooHigh.selector, 5_000, 5_001));

        spec = specification();
        spec.trainWindow = 0;
        outOfRange(spec, window(1, 365 days, 0));
        spec.trainWindow = 365 days + 1;
        outOfRange(spec, window(1, 365 days, 365 days + 1));
        spec = specification();
        spec.scoreWindow = 0;
        outOfRange(spec, window(1, 365 days, 0));
        spec = specification();
        spec.graceWindow = spec.scoreWindow + 1;
        outOfRange(spec, window(0, spec.scoreWindow, spec.graceWindow));
        spec = specification();
        spec.settleWindow = 0;
        outOfRange(spec, window(1, 365 days, 0));
        spec = specification();
        spec.disputeWindow = UNBONDING + 1;
        outOfRange(spec, window(0, UNBONDING, UNBONDING + 1));
        spec = specification();
        // 100 + 2 * 50 + 2 * 20
        spec.roundTimeout = 239;
        outOfRange(spec, abi.encodeWithSelector(Errors.RoundTimeoutTooShort.selector, 240, 239));
        spec.roundTimeout = 240;
        create(spec);
    }

    function test_create_refuses_a_split_by_rank_without_decay() public {
        Types.TaskSpec memory spec = specification();
        spec.rankDecayBps = 0;
        create(spec);
        spec.split = Types.SplitKind.Rank;
        outOfRange(spec, abi.encodeWithSelector(Errors.RankDecayMissing.selector));
        spec.rankDecayBps = 1;
        create(spec);
    }

    /// @dev Or the time-out would end every task before its second round.
    function test_the_round_timeout_covers_the_dispute_window_before_a_round() public {
        Types.TaskSpec memory spec = specification();
        spec.proofMode = Types.ProofMode.OnChallenge;
        spec.roundTimeout = 240 + WINDOW - 1;
        outOfRange(
            spec,
            abi.encodeWithSelector(
                Errors.RoundTimeoutTooShort.selector, 240 + WINDOW, 240 + WINDOW - 1
            )
        );
        spec.roundTimeout += 1;
        create(spec);
    }

    function test_create_takes_the_longest_and_the_largest() public {
        Types.TaskSpec memory spec = specification();
        (spec.reward, spec.rounds) = (type(uint128).max, 10_000);
        (spec.trainersMin, spec.trainersMax, spec.validatorsMin) = (256, 256, 64);
        (spec.attemptsMax, spec.vestingBps, spec.rankDecayBps) = (100, 9_000, 10_000);
        (spec.slashBps, spec.reporterBps) = (5_000, 5_000);
        (spec.disputeWindow, spec.roundTimeout) = (UNBONDING, 365 days);
        vm.prank(CREATOR);
        uint64 id = tasks.createTask(spec, new bytes(16 * 1024));
        equal(tasks.task(id).roundPool, type(uint128).max / 10_000, "pool");
        conserved(id);
        spec.roundTimeout += 1;
        outOfRange(spec, window(1, 365 days, 365 days + 1));
    }

    function test_create_refuses_a_long_file_and_a_pause() public {
        bytes memory file = new bytes(16 * 1024 + 1);
        refused(abi.encodeWithSelector(Errors.TaskFileTooLong.selector, 16 * 1024, 16 * 1024 + 1));
        vm.prank(CREATOR);
        tasks.createTask(specification(), file);

        uint64 id = newTask();
        bytes32 role = tasks.PAUSER_ROLE();
        refused(
            abi.encodeWithSelector(
                IAccessControl.AccessControlUnauthorizedAccount.selector, ANYONE, role
            )
        );
        vm.prank(ANYONE);
        tasks.pause();
        vm.prank(ADMIN);
        tasks.grantRole(role, BOB);
        vm.prank(BOB);
        tasks.pause();
        refused(abi.encodeWithSelector(Pausable.EnforcedPause.selector));
        vm.prank(CREATOR);
        tasks.createTask(specification(), "task");
        // The way out stays open.
        vm.prank(CREATOR);
        tasks.cancel(id);
        vm.prank(BOB);
        tasks.unpause();
        newTask();
    }

    // ---- Links ----

    function test_the_round_manager_is_linked_once_by_the_deployer() public {
        TaskManager fresh = new TaskManager(token, IStakeManager(address(stakes)), ADMIN);
        IRoundManager own = IRoundManager(address(new RoundsDouble(fresh)));
        refused(abi.encodeWithSelector(Errors.NotTheDeployer.selector, address(this), ANYONE));
        vm.prank(ANYONE);
        fresh.link(own);
        refused(abi.encodeWithSelector(Errors.ForeignContract.selector, address(rounds)));
        fresh.link(IRoundManager(address(rounds)));
        fresh.link(own);
        refused(abi.encodeWithSelector(Errors.AlreadyLinked.selector, address(own)));
        fresh.link(own);
    }

    function test_the_stake_manager_must_hold_the_same_token() public {
        ConvokeToken other = new ConvokeToken(1);
        refused(abi.encodeWithSelector(Errors.ForeignContract.selector, address(stakes)));
        new TaskManager(other, IStakeManager(address(stakes)), ADMIN);
    }

    function test_hooks_are_for_their_contracts_alone() public {
        uint64 id = newTask();
        bytes memory notRounds = abi.encodeWithSelector(
            Errors.NotTheRoundManager.selector, address(rounds), address(this)
        );
        refused(notRounds);
        tasks.onRoundOpened(id, 1);
        refused(notRounds);
        tasks.onRoundSettled(id, 1, 1);
        refused(notRounds);
        tasks.onResultVoided(id, 1, 1);
        refused(notRounds);
        tasks.onClosed(id, 1);
        refused(
            abi.encodeWithSelector(
                Errors.NotTheStakeManager.selector, address(stakes), address(this)
            )
        );
        tasks.onPenalty(id, 1);
        refused(wrongState(id, Types.TaskState.Active));
        rounds.close(id, 1);
    }

    // ---- Escrow ----

    function test_fund_raises_the_pools_of_rounds_to_come() public {
        uint64 id = newTask();
        rounds.open(id, 1);
        vm.expectEmit(address(tasks));
        emit TaskFunded(id, ANYONE, 302, POOL + 100);
        vm.prank(ANYONE);
        tasks.fund(id, 302);
        equal(rounds.open(id, 1), POOL, "a further attempt has the first one's pool");
        equal(rounds.open(id, 2), POOL + 100, "a later round has more");
        conserved(id);
    }

    function test_fund_after_the_last_opening_goes_back() public {
        uint64 id = newTask();
        settleEmpty(id, 1, ROUNDS);
        vm.prank(ANYONE);
        tasks.fund(id, 7);
        equal(tasks.task(id).roundPool, POOL, "no round is left to share it");
        equal(tasks.refundableOf(id), REWARD + 7, "refundable");
        conserved(id);
    }

    function test_fund_refuses_nothing_and_ended_tasks() public {
        uint64 id = newTask();
        refused(abi.encodeWithSelector(Errors.ZeroAmount.selector));
        tasks.fund(id, 0);
        vm.prank(CREATOR);
        tasks.cancel(id);
        refused(wrongState(id, Types.TaskState.Cancelled));
        vm.prank(ANYONE);
        tasks.fund(id, 1);
        refused(abi.encodeWithSelector(Errors.UnknownTask.selector, 9));
        tasks.fund(9, 1);
    }

    /// @dev However often and whenever a task is funded, its rounds never promise more than it has.
    function testFuzz_pools_never_exceed_the_escrow(uint128 reward, uint8 count, uint256 seed)
        public
    {
        Types.TaskSpec memory spec = specification();
        spec.rounds = uint32(count) % 12 + 1;
        spec.reward = reward / 2 + spec.rounds;
        uint64 id = create(spec);
        uint256 promised = 0;
        uint256 escrowed = spec.reward;
        for (uint32 round = 1; round <= spec.rounds; ++round) {
            seed = uint256(keccak256(abi.encode(seed)));
            if (seed % 3 != 0) {
                uint128 amount = uint128(seed >> 8) / 32 + 1;
                vm.prank(ANYONE);
                tasks.fund(id, amount);
                escrowed += amount;
            }
            promised += rounds.open(id, round);
            isTrue(promised <= escrowed, "promised more than there is");
        }
        // Each rounding loses less than one unit a round and change.
        isTrue(escrowed - promised <= 12 * 13, "nearly all of it can be earned");
    }

    function test_an_escrow_that_would_not_fit_is_refused() public {
        Types.TaskSpec memory spec = specification();
        spec.reward = type(uint128).max - 5;
        uint64 id = create(spec);
        bytes memory overflow = abi.encodeWithSignature("Panic(uint256)", 0x11);
        refused(overflow);
        vm.prank(ANYONE);
        tasks.fund(id, 6);
        vm.prank(ANYONE);
        tasks.fund(id, 5);
        require(token.transfer(address(stakes), 1));
        refused(overflow);
        stakes.penalize(tasks, id, 1);
        conserved(id);
    }

    function test_a_penalty_goes_to_the_creator_in_the_end() public {
        uint64 id = newTask();
        require(token.transfer(address(stakes), 50));
        vm.expectEmit(address(tasks));
        emit PenaltyReceived(id, 20);
        stakes.penalize(tasks, id, 20);
        conserved(id);
        vm.prank(CREATOR);
        tasks.cancel(id);
        equal(tasks.task(id).refunded, REWARD + 20, "refunded");
        // Evidence may come later still.
        stakes.penalize(tasks, id, 30);
        equal(tasks.refund(id), 30, "the rest");
        conserved(id);
    }

    // ---- Cancel ----

    function test_cancel_refunds_at_once_until_the_first_round_is_opened() public {
        uint64 id = newTask();
        refused(abi.encodeWithSelector(Errors.NotTheCreator.selector, CREATOR, ANYONE));
        vm.prank(ANYONE);
        tasks.cancel(id);
        uint256 before = token.balanceOf(CREATOR);
        vm.expectEmit(address(tasks));
        emit TaskCancelled(id);
        vm.expectEmit(address(tasks));
        emit TaskRefunded(id, CREATOR, REWARD);
        vm.prank(CREATOR);
        tasks.cancel(id);
        equal(token.balanceOf(CREATOR) - before, REWARD, "refund");
        inState(id, Types.TaskState.Cancelled);
        equal(tasks.task(id).endedAt, START, "end");
        conserved(id);

        uint64 opened = newTask();
        rounds.open(opened, 1);
        refused(abi.encodeWithSelector(Errors.NotCancellable.selector, 1));
        vm.prank(CREATOR);
        tasks.cancel(opened);
    }

    // ---- Views ----

    function test_terms_of_stake() public {
        uint64 id = newTask();
        (bool active, uint128 minimum, address aggregator) = tasks.stakeTerms(id, 0);
        isTrue(active && minimum == 50 && aggregator == AGGREGATOR, "trainer");
        (, minimum,) = tasks.stakeTerms(id, 1);
        equal(minimum, 100, "validator");
        (active,,) = tasks.stakeTerms(9, 2);
        isTrue(!active, "unknown");
        Types.TaskSpec memory spec = specification();
        spec.aggregatorStakeMin = 200;
        (, minimum,) = tasks.stakeTerms(create(spec), 2);
        equal(minimum, 200, "aggregator");
    }

    function test_unknown_tasks() public {
        bytes memory unknown = abi.encodeWithSelector(Errors.UnknownTask.selector, 9);
        refused(unknown);
        tasks.task(9);
        refused(unknown);
        tasks.specOf(9);
        refused(unknown);
        tasks.termsOf(9);
        refused(unknown);
        tasks.balances(9);
        refused(unknown);
        tasks.refundableOf(9);
        refused(unknown);
        tasks.tick(9);
        refused(unknown);
        tasks.releaseVested(9, ALICE);
        refused(unknown);
        tasks.finish(9);
        refused(unknown);
        tasks.cancel(9);
        refused(unknown);
        tasks.refund(9);
        refused(unknown);
        tasks.claimDirect(9, 1, ALICE);
        refused(unknown);
        tasks.claimMany(9, new Types.Claim[](0));
        refused(unknown);
        rounds.open(9, 1);
    }

    function outOfRange(Types.TaskSpec memory spec, bytes memory reason) private {
        refused(reason);
        vm.prank(CREATOR);
        tasks.createTask(spec, "task");
    }

    function window(uint32 minimum, uint32 maximum, uint32 got)
        private
        pure
        returns (bytes memory)
    {
        return abi.encodeWithSelector(Errors.WindowOutOfRange.selector, minimum, maximum, got);
    }
}
