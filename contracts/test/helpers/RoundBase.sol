// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {
    IRoundManagerErrors as Errors,
    IRoundManagerEvents as Events,
    IRoundManagerTypes as Rounds
} from "../../src/interfaces/IRoundManager.sol";
import {ITaskManagerTypes as Tasks} from "../../src/interfaces/ITaskManager.sol";
import {BaseTest} from "./Base.sol";
import {Tree} from "./Tree.sol";
import {vm} from "./Vm.sol";

/// @notice What tests of rounds say again and again.
abstract contract RoundBase is BaseTest {
    /// @dev One call and no more, so that the refusal expected is that of this call.
    function tryCommitScores(uint64 id, uint256 v) internal {
        vm.prank(validator(v));
        rounds.commitScores(id, 1, "scores");
    }

    function opens(uint64 id, uint32 round, uint16 size, bytes memory reason) internal {
        vm.prank(AGGREGATOR);
        refused(reason);
        rounds.openRound(id, round, "base", "cohort", size);
    }

    /// @dev The next call is not by the aggregator.
    function refusesOthers() internal {
        refused(
            abi.encodeWithSelector(Errors.NotTheAggregator.selector, AGGREGATOR, address(this))
        );
    }

    function refusesStage(Rounds.Stage expected, Rounds.Stage actual) internal {
        refused(abi.encodeWithSelector(Errors.WrongStage.selector, expected, actual));
    }

    function refusesValidator(uint256 v, uint128 stake_) internal {
        refused(
            abi.encodeWithSelector(
                Errors.NotEligible.selector, validator(v), VALIDATOR_STAKE, stake_
            )
        );
    }

    function refusesReveal(address who, bytes32 expected, bytes32 got) internal {
        refused(abi.encodeWithSelector(Errors.WrongReveal.selector, who, expected, got));
    }

    function failsAfter(uint64 id, uint256 window, Rounds.Stage in_) internal {
        pass(window + 1);
        vm.expectEmit(address(rounds));
        emit Events.RoundFailed(id, 1, 1, in_);
        vm.prank(ANYONE);
        tasks.tick(id);
        isStage(id, 1, Rounds.Stage.None);
        isState(id, Tasks.TaskState.Active);
        equal(rounds.openRoundKey(id), 0, "key");
        play(id, 1, 1, 1);
    }

    function expectedSeed(uint64 id, uint32 round, uint16 attempt, uint256 seedBlock)
        internal
        view
        returns (bytes32)
    {
        return keccak256(
            abi.encode(
                keccak256("convoke.seed.v1"),
                block.chainid,
                address(rounds),
                id,
                round,
                attempt,
                blockhash(seedBlock),
                block.prevrandao
            )
        );
    }

    function seedOf(uint64 id, uint32 round, bytes32 randao) internal returns (bytes32) {
        vm.prevrandao(randao);
        toScoring(id, round, 1);
        return rounds.roundOf(id, round).seed;
    }

    function fee(uint128 pool) internal pure returns (uint128) {
        return pool * AGGREGATOR_BPS / ONE;
    }

    /// @dev A result with this proof, open to challenges.
    function disputed(bytes memory proof)
        internal
        returns (uint64 id, Rounds.Submission memory result)
    {
        Tasks.TaskSpec memory spec = specification();
        spec.proofMode = Tasks.ProofMode.OnChallenge;
        id = staffed(spec, 1);
        result = toSettling(id, 1, 1, 1);
        result.proof = proof;
        submit(id, 1, result);
    }

    /// @dev A task that awaits its closing evaluation.
    function toClosing(uint256 validators) internal returns (uint64 id) {
        id = staffed(validators);
        play(id, 1, 2, validators);
        play(id, 2, 2, validators);
        tasks.finish(id);
        isState(id, Tasks.TaskState.Closing);
    }

    /// @dev Nobody does anything but tick.
    function end(uint64 id) internal {
        while (state(id) == Tasks.TaskState.Active || state(id) == Tasks.TaskState.Closing) {
            pass(1);
            try tasks.tick(id) {} catch {}
        }
    }

    /// @dev Everybody takes what is due: nothing is left of the task, to the unit.
    function takeAllOut(uint64 id, uint256 trainers, uint256 validators) internal {
        pass(DISPUTE);
        uint128 settled = 0;
        for (uint32 round = 1; round <= tasks.task(id).roundsSettled; ++round) {
            uint128[] memory amounts = share(id, round, trainers);
            bytes32[] memory leaves = payoutLeaves(id, round, amounts);
            for (uint256 i = 0; i < trainers; ++i) {
                tasks.claim(id, round, trainer(i), amounts[i], Tree.proof(leaves, i));
            }
            for (uint256 v = 0; v < validators; ++v) {
                if (rounds.directPayOf(id, round, validator(v)) == 0) continue;
                tasks.claimDirect(id, round, validator(v));
            }
            tasks.claimDirect(id, round, AGGREGATOR);
            settled += rounds.roundOf(id, round).allotted;
        }
        equal(tasks.task(id).allotted, settled, "allotted");
        if (tasks.task(id).vesting != 0) {
            for (uint256 i = 0; i < trainers; ++i) {
                tasks.releaseVested(id, trainer(i));
            }
            for (uint256 v = 0; v < validators; ++v) {
                if (tasks.vestingOf(id, validator(v)) != 0) tasks.releaseVested(id, validator(v));
            }
            tasks.releaseVested(id, AGGREGATOR);
        }
        if (tasks.refundableOf(id) != 0) tasks.refund(id);
        (,,,, uint128 held) = tasks.balances(id);
        equal(held, 0, "held");
        equal(tasks.task(id).vesting, 0, "vesting");
        for (uint256 v = 0; v < validators; ++v) {
            takeStake(id, validator(v));
        }
        takeStake(id, AGGREGATOR);
        equal(stakes.totalStakeOf(id), 0, "stake");
        conserved(id);
    }

    function takeStake(uint64 id, address account) internal {
        (, uint128 amount) = stakes.stakeOf(id, account);
        if (amount == 0) return;
        vm.prank(account);
        stakes.requestWithdrawal(id, amount);
        pass(UNBONDING);
        vm.prank(account);
        stakes.withdraw(id);
    }
}
