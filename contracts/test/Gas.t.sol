// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ITaskManagerTypes} from "../src/interfaces/ITaskManager.sol";
import {BaseTest} from "./helpers/Base.sol";
import {Tree} from "./helpers/Tree.sol";
import {vm} from "./helpers/Vm.sol";

/// @notice Gas of each call; `npm run gas` writes it to snapshots/.
contract GasTest is BaseTest {
    function test_gas_of_the_life_of_a_task() public {
        vm.prank(CREATOR);
        uint64 id = tasks.createTask(specification(), new bytes(0));
        vm.snapshotGasLastCall("createTask, first, empty file");
        bytes memory file = new bytes(1_024);
        for (uint256 i = 0; i < file.length; ++i) {
            file[i] = "x";
        }
        vm.prank(CREATOR);
        id = tasks.createTask(specification(), file);
        vm.snapshotGasLastCall("createTask, file of 1 KiB");
        vm.prank(ALICE);
        stakes.deposit(id, 0, STAKE_MIN);
        vm.snapshotGasLastCall("deposit, first");
        vm.prank(BOB);
        stakes.deposit(id, 0, STAKE_MIN);
        vm.snapshotGasLastCall("deposit");
        submitEmpty(id, 1, 1);
        vm.snapshotGasLastCall("submitResult, first");
        submitEmpty(id, 2, ROUNDS);
        vm.snapshotGasLastCall("submitResult");
        vm.prank(AGGREGATOR);
        tasks.finish(id);
        vm.snapshotGasLastCall("finish");
        tasks.refund(id);
        vm.snapshotGasLastCall("refund");
        vm.prank(ALICE);
        stakes.requestWithdrawal(id, STAKE_MIN);
        vm.snapshotGasLastCall("requestWithdrawal");
        pass(UNBONDING);
        vm.prank(ALICE);
        stakes.withdraw(id);
        vm.snapshotGasLastCall("withdraw");
        id = newTask();
        pass(TIMEOUT);
        tasks.abort(id);
        vm.snapshotGasLastCall("abort");
        id = newTask();
        vm.prank(CREATOR);
        tasks.cancel(id);
        vm.snapshotGasLastCall("cancel");
    }

    function test_gas_of_claims_16() public {
        claims(16, "16 payouts");
    }

    function test_gas_of_claims_64() public {
        claims(64, "64 payouts");
    }

    function test_gas_of_claims_256() public {
        claims(256, "256 payouts");
    }

    function test_gas_of_an_account_with_many_rounds() public {
        ITaskManagerTypes.TaskSpec memory spec = specification();
        spec.rounds = 10;
        vm.prank(CREATOR);
        uint64 id = tasks.createTask(spec, "task");
        ITaskManagerTypes.Claim[] memory batch = new ITaskManagerTypes.Claim[](spec.rounds);
        for (uint32 round = 1; round <= spec.rounds; ++round) {
            (bytes32[] memory proof,) = settle(id, round, 1_000, 1, 1_001);
            batch[round - 1] = ITaskManagerTypes.Claim(round, ALICE, 1_000, proof);
        }
        pass(WINDOW);
        tasks.claimMany(id, batch);
        vm.snapshotGasLastCall("claimMany, 10 rounds of one account");
        vm.prank(AGGREGATOR);
        tasks.finish(id);
        pass(VESTING);
        tasks.releaseVested(id, ALICE);
        vm.snapshotGasLastCall("releaseVested");
    }

    function claims(uint256 count, string memory label) private {
        uint64 id = newTask();
        bytes32[] memory leaves = new bytes32[](count);
        for (uint256 i = 0; i < count; ++i) {
            leaves[i] = tasks.payoutLeaf(id, 1, account(i), 400);
        }
        submit(id, 1, Tree.root(leaves), uint128(400 * count));
        pass(WINDOW);
        tasks.claim(id, 1, account(0), 400, Tree.proof(leaves, 0));
        tasks.claim(id, 1, account(1), 400, Tree.proof(leaves, 1));
        vm.snapshotGasLastCall(string.concat("claim, one of ", label));
        ITaskManagerTypes.Claim[] memory batch = new ITaskManagerTypes.Claim[](10);
        for (uint256 i = 0; i < batch.length; ++i) {
            batch[i] = ITaskManagerTypes.Claim(1, account(i + 2), 400, Tree.proof(leaves, i + 2));
        }
        tasks.claimMany(id, batch);
        vm.snapshotGasLastCall(string.concat("claimMany, 10 accounts of ", label));
    }

    function account(uint256 i) private pure returns (address) {
        return address(uint160(0x9000 + i));
    }
}
