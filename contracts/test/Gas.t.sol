// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IRoundManagerTypes as Rounds} from "../src/interfaces/IRoundManager.sol";
import {ITaskManagerTypes as Tasks} from "../src/interfaces/ITaskManager.sol";
import {BaseTest} from "./helpers/Base.sol";
import {Tree} from "./helpers/Tree.sol";
import {vm} from "./helpers/Vm.sol";

/// @notice Gas of each call, a transaction of its own; `npm run gas` writes it to snapshots/.
contract GasTest is BaseTest {
    address private constant DELEGATOR = address(0x9000);

    /// What one transaction may use since EIP-7825.
    uint256 private constant TRANSACTION_GAS_MAX = 1 << 24;

    string private label;

    function test_gas_of_tasks() public {
        create(specification());
        vm.prank(CREATOR);
        tasks.createTask(specification(), new bytes(0));
        note("createTask, empty file");
        bytes memory file = new bytes(1_024);
        for (uint256 i = 0; i < file.length; ++i) {
            file[i] = "x";
        }
        vm.prank(CREATOR);
        uint64 id = tasks.createTask(specification(), file);
        note("createTask, file of 1 KiB");
        vm.prank(CREATOR);
        tasks.fund(id, 1_000);
        note("fund");
        vm.prank(CREATOR);
        tasks.cancel(id);
        note("cancel");
        id = staffed(1);
        play(id, 1, 1, 1);
        open(id, 2, 1);
        pass(TIMEOUT);
        tasks.tick(id);
        note("tick, ends a task");
        tasks.refund(id);
        note("refund");
    }

    function test_gas_of_stake() public {
        uint64 id = staffed(1);
        stake(id, validator(1), 1, VALIDATOR_STAKE);
        note("deposit");
        endow(DELEGATOR);
        vm.prank(DELEGATOR);
        stakes.delegate(id, validator(1), 100);
        note("delegate");
        pass(WARMUP);
        stakes.activate(id, validator(1), DELEGATOR);
        note("activate");
        vm.prank(validator(1));
        stakes.setCommission(id, 500);
        note("setCommission");
        play(id, 1, 1, 2);
        pass(DISPUTE);
        tasks.claimDirect(id, 1, validator(1));
        note("claimDirect, with delegators");
        stakes.claimRewards(id, validator(1), DELEGATOR);
        note("claimRewards");
        vm.prank(DELEGATOR);
        stakes.undelegate(id, validator(1), 50_000);
        note("undelegate");
        vm.prank(validator(1));
        stakes.requestWithdrawal(id, VALIDATOR_STAKE);
        note("requestWithdrawal");
        pass(UNBONDING);
        vm.prank(DELEGATOR);
        stakes.withdrawDelegation(id, validator(1));
        note("withdrawDelegation");
        vm.prank(validator(1));
        stakes.withdraw(id);
        note("withdraw");
    }

    function test_gas_of_a_challenge() public {
        Tasks.TaskSpec memory spec = specification();
        spec.proofMode = Tasks.ProofMode.OnChallenge;
        uint64 id = staffed(spec, 3);
        Rounds.Submission memory result = toSettling(id, 1, 16, 3);
        result.proof = "bad";
        submit(id, 1, result);
        vm.prank(ANYONE);
        rounds.challengeResult(id, 1, result.payouts, result.factors, result.proof);
        note("challengeResult, voids and slashes");
    }

    function test_gas_of_a_round_of_16() public {
        round(16, 3, "16 trainers, 3 validators");
    }

    function test_gas_of_a_round_of_16_with_8() public {
        round(16, 8, "16 trainers, 8 validators");
    }

    function test_gas_of_a_round_of_64() public {
        round(64, 3, "64 trainers, 3 validators");
    }

    function test_gas_of_a_round_of_64_with_8() public {
        round(64, 8, "64 trainers, 8 validators");
    }

    function test_gas_of_a_round_of_256() public {
        round(256, 3, "256 trainers, 3 validators");
    }

    function test_gas_of_a_round_of_256_with_8() public {
        round(256, 8, "256 trainers, 8 validators");
    }

    function test_gas_of_a_round_of_256_with_16() public {
        round(256, 16, "256 trainers, 16 validators");
    }

    /// The most that a result can be: the task ends by time-out if it does not fit a transaction.
    function test_the_largest_result_fits_a_transaction() public {
        label = ", 256 trainers, 64 validators, all commit themselves as well";
        uint64 id = staffed(64);
        open(id, 1, 256);
        bytes32[] memory leaves = cohort(id, 1, 256);
        for (uint256 i = 0; i < 256; ++i) {
            bytes32[] memory proof = Tree.proof(leaves, i);
            vm.prank(trainer(i));
            rounds.commitUpdate(id, 1, "update", proof);
        }
        seal(id, 1, 256);
        draw(id, 1);
        uint16[][] memory reveals = sameReveals(64, 512, ONE - 1);
        score(id, 1, reveals);
        Rounds.Submission memory result = submission(id, 1, reveals, share(id, 1, 512));
        submit(id, 1, result);
        isTrue(note("submitResult") < TRANSACTION_GAS_MAX, "too large");
    }

    function test_the_closing_evaluation_fits_a_transaction() public {
        uint64 id = staffed(64);
        play(id, 1, 1, 64);
        play(id, 2, 1, 64);
        tasks.finish(id);
        note("finish, opens the closing evaluation");
        score(id, ROUNDS + 1, sameReveals(64, 1, ONE));
        isTrue(
            note("revealScores, the last of 64 in the closing evaluation") < TRANSACTION_GAS_MAX,
            "too large"
        );
        isState(id, Tasks.TaskState.Finished);
    }

    // ---- Inside ----

    /// @dev Round 2, so that nothing is paid for a first time but what each round brings anew.
    function round(uint16 trainers, uint256 validators, string memory label_) private {
        label = string.concat(", ", label_);
        Tasks.TaskSpec memory spec = specification();
        spec.reward = 1e18;
        uint64 id = staffed(spec, validators);
        play(id, 1, 1, validators);
        uint256 sum = settle(id, trainers, validators);
        pass(DISPUTE);
        uint128[] memory amounts = share(id, 2, trainers);
        bytes32[] memory leaves = payoutLeaves(id, 2, amounts);
        tasks.claim(id, 2, trainer(0), amounts[0], Tree.proof(leaves, 0));
        uint256 claim = note("claim, a first one");
        Tasks.Claim[] memory batch = new Tasks.Claim[](10);
        for (uint256 i = 0; i < batch.length; ++i) {
            batch[i] = Tasks.Claim(2, trainer(i + 1), amounts[0], Tree.proof(leaves, i + 1));
        }
        tasks.claimMany(id, batch);
        note("claimMany, 10 accounts");
        tasks.claimDirect(id, 2, validator(0));
        note("claimDirect");
        vm.snapshotValue(string.concat("whole round without claims", label), sum);
        vm.snapshotValue(
            string.concat("each trainer and round, claim included", label), sum / trainers + claim
        );
    }

    /// @return sum Gas of the whole round.
    function settle(uint64 id, uint16 trainers, uint256 validators) private returns (uint256 sum) {
        uint32 number = tasks.task(id).roundsSettled + 1;
        open(id, number, trainers);
        sum = note("openRound");
        if (trainers < 256) {
            commitOwn(id, number, 0, trainers);
            note("commitUpdate");
            vm.prank(AGGREGATOR);
            rounds.failRound(id, number);
            open(id, number, trainers);
        }
        seal(id, number, trainers);
        sum += note("commitUpdates");
        draw(id, number);
        sum += note("drawSeed");
        uint16[][] memory reveals = sameReveals(validators, trainers, ONE);
        for (uint256 v = 0; v < validators; ++v) {
            reveals[v][v % trainers] += uint16(100 * v);
            commitScores(id, number, v, reveals[v]);
            sum += note("commitScores");
        }
        for (uint256 v = 0; v < validators; ++v) {
            reveal(id, number, v, reveals[v]);
            sum += note("revealScores");
        }
        Rounds.Submission memory result =
            submission(id, number, reveals, share(id, number, trainers));
        submit(id, number, result);
        sum += note("submitResult");
    }

    function note(string memory name) private returns (uint256) {
        return vm.snapshotGasLastCall(string.concat(name, label));
    }
}
