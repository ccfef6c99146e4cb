// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {ConvokeToken} from "../../src/ConvokeToken.sol";
import {StakeManager} from "../../src/StakeManager.sol";
import {TaskManager} from "../../src/TaskManager.sol";
import {ITaskManager, ITaskManagerTypes} from "../../src/interfaces/ITaskManager.sol";
import {Tree} from "./Tree.sol";
import {vm} from "./Vm.sol";

/// @notice A deployment with funded actors, and what all tests say about it.
abstract contract Base {
    error Different(string what, uint256 left, uint256 right);
    error Untrue(string what);

    uint128 internal constant REWARD = 1_000_003;
    uint32 internal constant ROUNDS = 4;
    uint128 internal constant POOL = REWARD / ROUNDS;
    uint32 internal constant WINDOW = 100;
    uint32 internal constant TIMEOUT = 1_000;
    uint32 internal constant VESTING = 500;
    uint32 internal constant UNBONDING = 200;
    uint128 internal constant STAKE_MIN = 50;
    uint256 internal constant START = 1_700_000_000;

    address internal constant CREATOR = address(0xC0);
    address internal constant AGGREGATOR = address(0xA0);
    address internal constant ALICE = address(0xA11CE);
    address internal constant BOB = address(0xB0B);
    address internal constant ANYONE = address(0xDEAD);

    IERC20 internal token;
    StakeManager internal stakes;
    TaskManager internal tasks;

    function start() internal {
        vm.warp(START);
        deploy(new ConvokeToken(1e30));
    }

    function deploy(IERC20 token_) internal {
        token = token_;
        stakes = new StakeManager(token, UNBONDING);
        tasks = new TaskManager(token, stakes);
        stakes.linkTaskManager(tasks);
        address[4] memory actors = [CREATOR, AGGREGATOR, ALICE, BOB];
        for (uint256 i = 0; i < actors.length; ++i) {
            require(token.transfer(actors[i], 1e24));
            vm.prank(actors[i]);
            token.approve(address(stakes), type(uint256).max);
            vm.prank(actors[i]);
            token.approve(address(tasks), type(uint256).max);
        }
    }

    // ---- What a test usually starts from ----

    function specification() internal pure returns (ITaskManagerTypes.TaskSpec memory) {
        return ITaskManagerTypes.TaskSpec({
            aggregator: AGGREGATOR,
            reward: REWARD,
            rounds: ROUNDS,
            trainerStakeMin: STAKE_MIN,
            validatorStakeMin: 2 * STAKE_MIN,
            aggregatorStakeMin: 0,
            vestingBps: 2_500,
            disputeWindow: WINDOW,
            roundTimeout: TIMEOUT,
            vestingDuration: VESTING
        });
    }

    function newTask() internal returns (uint64) {
        vm.prank(CREATOR);
        return tasks.createTask(specification(), "task");
    }

    function submit(uint64 task, uint32 round, bytes32 root, uint128 total) internal {
        vm.prank(AGGREGATOR);
        tasks.submitResult(task, round, root, total, bytes32("checkpoint"), bytes32("result"));
    }

    function submitEmpty(uint64 task, uint32 first, uint32 last) internal {
        for (uint32 round = first; round <= last; ++round) {
            submit(task, round, bytes32(0), 0);
        }
    }

    /// @dev Alice and Bob under the root, `total` set aside.
    function settle(uint64 task, uint32 round, uint128 alice, uint128 bob, uint128 total)
        internal
        returns (bytes32[] memory proofOfAlice, bytes32[] memory proofOfBob)
    {
        bytes32[] memory leaves = new bytes32[](2);
        leaves[0] = tasks.payoutLeaf(task, round, ALICE, alice);
        leaves[1] = tasks.payoutLeaf(task, round, BOB, bob);
        submit(task, round, Tree.root(leaves), total);
        return (Tree.proof(leaves, 0), Tree.proof(leaves, 1));
    }

    function pass(uint256 time) internal {
        vm.warp(block.timestamp + time);
    }

    // ---- Assertions ----

    function equal(uint256 left, uint256 right, string memory what) internal pure {
        if (left != right) revert Different(what, left, right);
    }

    function isTrue(bool condition, string memory what) internal pure {
        if (!condition) revert Untrue(what);
    }

    /// @dev The identity that holds at every moment, and the tokens behind it.
    function conserved(uint64 task) internal view {
        (uint128 reward, uint128 paid, uint128 refunded, uint128 vesting, uint128 unclaimed) =
            tasks.balances(task);
        equal(reward, uint256(paid) + refunded + vesting + unclaimed, "reward");
        equal(token.balanceOf(address(tasks)), escrowed(), "escrow");
    }

    /// @dev What the task manager must hold, over all tasks.
    function escrowed() internal view returns (uint256 sum) {
        for (uint64 id = 1; id <= tasks.taskCount(); ++id) {
            (uint128 reward, uint128 paid, uint128 refunded,,) = tasks.balances(id);
            sum += uint256(reward) - paid - refunded;
        }
    }

    function state(uint64 task) internal view returns (ITaskManagerTypes.TaskState) {
        return tasks.task(task).state;
    }

    function refused(bytes memory reason) internal {
        vm.expectRevert(reason);
    }

    function refused(bytes4 selector) internal {
        vm.expectRevert(abi.encodeWithSelector(selector));
    }
}

/// @notice A test that starts from a fresh deployment.
abstract contract BaseTest is Base {
    function setUp() public virtual {
        start();
    }
}
