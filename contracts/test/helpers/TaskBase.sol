// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {ConvokeToken} from "../../src/ConvokeToken.sol";
import {TaskManager} from "../../src/TaskManager.sol";
import {IRoundManager} from "../../src/interfaces/IRoundManager.sol";
import {IStakeManager} from "../../src/interfaces/IStakeManager.sol";
import {
    ITaskManagerErrors as Errors,
    ITaskManagerTypes as Types
} from "../../src/interfaces/ITaskManager.sol";
import {Assertions} from "./Assertions.sol";
import {Tree} from "./Tree.sol";
import {vm} from "./Vm.sol";

/// @notice What the task manager asks a stake manager: delegators get `delegatorsBps` of all pay.
contract StakesDouble {
    IERC20 public token;
    uint32 public unbonding;
    uint16 public delegatorsBps;
    uint128 public booked;
    uint256 public bookings;

    constructor(IERC20 token_, uint32 unbonding_) {
        (token, unbonding) = (token_, unbonding_);
    }

    function setDelegatorsBps(uint16 bps) external {
        delegatorsBps = bps;
    }

    function bookRewardDown(uint64, address, uint128 amount) external returns (uint128 part) {
        part = uint128(uint256(amount) * delegatorsBps / 10_000);
        booked += part;
        bookings += 1;
    }

    function penalize(TaskManager tasks, uint64 task, uint128 amount) external {
        require(token.transfer(address(tasks), amount));
        tasks.onPenalty(task, amount);
    }
}

/// @notice What the task manager asks a round manager, and the calls it gets from one.
contract RoundsDouble {
    /// What the next `tick` does.
    enum Due {
        Nothing,
        /// The stage moves on, the round stays open.
        Move,
        /// The open attempt fails.
        Failure,
        /// The closing evaluation ends.
        Close
    }

    struct Settlement {
        bytes32 root;
        uint128 total;
        uint64 claimableAt;
    }

    struct Standing {
        uint64 openKey;
        uint16 attempts;
        Due due;
        uint16 releaseBps;
        bool closingOpened;
        bool roundsClosed;
    }

    TaskManager public taskManager;

    mapping(uint64 task => Standing) private standings;
    mapping(uint64 task => mapping(uint32 round => Settlement)) private settlements;
    mapping(uint64 task => mapping(uint32 round => mapping(address account => uint128))) private
        directs;

    error NothingDue(uint64 task);

    constructor(TaskManager tasks) {
        taskManager = tasks;
    }

    function open(uint64 task, uint32 round) external returns (uint128) {
        standings[task].openKey = (uint64(round) << 16) | 1;
        return taskManager.onRoundOpened(task, round);
    }

    function settle(
        uint64 task,
        uint32 round,
        bytes32 root,
        uint128 total,
        uint128 allotted,
        uint64 claimableAt
    ) external {
        (standings[task].openKey, standings[task].attempts) = (0, 0);
        settlements[task][round] = Settlement(root, total, claimableAt);
        taskManager.onRoundSettled(task, round, allotted);
    }

    function setDirect(uint64 task, uint32 round, address account, uint128 amount) external {
        directs[task][round][account] = amount;
    }

    function void_(uint64 task, uint32 round, uint128 allotted) external {
        delete settlements[task][round];
        taskManager.onResultVoided(task, round, allotted);
    }

    function close(uint64 task, uint16 releaseBps) external {
        standings[task].openKey = 0;
        taskManager.onClosed(task, releaseBps);
    }

    function fail(uint64 task, uint16 attempts) external {
        (standings[task].openKey, standings[task].attempts) = (0, attempts);
    }

    function setAttempts(uint64 task, uint16 attempts) external {
        standings[task].attempts = attempts;
    }

    function setDue(uint64 task, Due due, uint16 releaseBps) external {
        (standings[task].due, standings[task].releaseBps) = (due, releaseBps);
    }

    function standing(uint64 task) external view returns (Standing memory) {
        return standings[task];
    }

    // ---- What the task manager calls ----

    function tick(uint64 task) external {
        Standing storage s = standings[task];
        Due due = s.due;
        if (due == Due.Nothing) revert NothingDue(task);
        s.due = Due.Nothing;
        if (due == Due.Move) return;
        s.openKey = 0;
        if (due == Due.Close) taskManager.onClosed(task, s.releaseBps);
    }

    function openClosing(uint64 task) external {
        (standings[task].closingOpened, standings[task].openKey) = (true, 1 << 32);
    }

    function closeRounds(uint64 task) external {
        (standings[task].roundsClosed, standings[task].openKey) = (true, 0);
    }

    function openRoundKey(uint64 task) external view returns (uint64) {
        return standings[task].openKey;
    }

    function attemptsOf(uint64 task, uint32) external view returns (uint16) {
        return standings[task].attempts;
    }

    function settlementOf(uint64 task, uint32 round)
        external
        view
        returns (bytes32, uint128, uint64)
    {
        Settlement memory s = settlements[task][round];
        return (s.root, s.total, s.claimableAt);
    }

    function directPayOf(uint64 task, uint32 round, address account)
        external
        view
        returns (uint128)
    {
        return directs[task][round][account];
    }
}

/// @notice A task manager between doubles, with funded actors.
abstract contract TaskBase is Assertions {
    uint128 internal constant REWARD = 1_000_003;
    uint32 internal constant ROUNDS = 4;
    uint128 internal constant POOL = REWARD / ROUNDS;
    uint32 internal constant WINDOW = 100;
    uint32 internal constant TIMEOUT = 1_000;
    uint16 internal constant ATTEMPTS = 3;
    uint32 internal constant UNBONDING = 200;
    uint16 internal constant VESTING_BPS = 2_500;
    uint16 internal constant WHOLE = 10_000;
    uint256 internal constant START = 1_700_000_000;

    address internal constant CREATOR = address(0xC0);
    address internal constant AGGREGATOR = address(0xA0);
    address internal constant ALICE = address(0xA11CE);
    address internal constant BOB = address(0xB0B);
    address internal constant ADMIN = address(0xAD);
    address internal constant ANYONE = address(0xDEAD);

    IERC20 internal token;
    StakesDouble internal stakes;
    TaskManager internal tasks;
    RoundsDouble internal rounds;

    function setUp() public virtual {
        vm.warp(START);
        deploy(new ConvokeToken(type(uint256).max));
    }

    function deploy(IERC20 token_) internal {
        token = token_;
        stakes = new StakesDouble(token, UNBONDING);
        tasks = new TaskManager(token, IStakeManager(address(stakes)), ADMIN);
        rounds = new RoundsDouble(tasks);
        tasks.link(IRoundManager(address(rounds)));
        address[2] memory payers = [CREATOR, ANYONE];
        uint256 each = token.balanceOf(address(this)) / 4;
        for (uint256 i = 0; i < payers.length; ++i) {
            require(token.transfer(payers[i], each));
            vm.prank(payers[i]);
            token.approve(address(tasks), type(uint256).max);
        }
    }

    function specification() internal pure returns (Types.TaskSpec memory) {
        return Types.TaskSpec({
            aggregator: AGGREGATOR,
            rounds: ROUNDS,
            trainersMin: 1,
            trainersMax: 16,
            validatorsMin: 1,
            attemptsMax: ATTEMPTS,
            trainWindow: 100,
            scoreWindow: 50,
            graceWindow: 10,
            settleWindow: 20,
            disputeWindow: WINDOW,
            roundTimeout: TIMEOUT,
            trainersBps: 7_000,
            validatorsBps: 2_000,
            aggregatorBps: 1_000,
            vestingBps: VESTING_BPS,
            reward: REWARD,
            split: Types.SplitKind.Score,
            rankDecayBps: 9_000,
            proofMode: Types.ProofMode.OnSubmission,
            slashBps: 1_000,
            reporterBps: 2_500,
            trainerStakeMin: 50,
            validatorStakeMin: 100,
            aggregatorStakeMin: 0,
            modelHash: bytes32("model"),
            dataHash: bytes32("data")
        });
    }

    function create(Types.TaskSpec memory spec) internal returns (uint64) {
        vm.prank(CREATOR);
        return tasks.createTask(spec, "task");
    }

    function newTask() internal returns (uint64) {
        return create(specification());
    }

    /// @dev A round that allots `total` to trainers under `root`, and `direct` besides.
    function settle(uint64 task, uint32 round, bytes32 root, uint128 total, uint128 direct)
        internal
    {
        rounds.open(task, round);
        rounds.settle(task, round, root, total, total + direct, uint64(block.timestamp) + WINDOW);
    }

    function settleEmpty(uint64 task, uint32 first, uint32 last) internal {
        for (uint32 round = first; round <= last; ++round) {
            settle(task, round, 0, 0, 0);
        }
    }

    /// @dev Alice and Bob under the root, as trainers.
    function settleTwo(uint64 task, uint32 round, uint128 alice, uint128 bob, uint128 total)
        internal
        returns (bytes32[] memory proofOfAlice, bytes32[] memory proofOfBob)
    {
        bytes32[] memory leaves = new bytes32[](2);
        leaves[0] = tasks.payoutLeaf(task, round, ALICE, alice);
        leaves[1] = tasks.payoutLeaf(task, round, BOB, bob);
        settle(task, round, Tree.root(leaves), total, 0);
        return (Tree.proof(leaves, 0), Tree.proof(leaves, 1));
    }

    function pass(uint256 time) internal {
        vm.warp(block.timestamp + time);
    }

    function state(uint64 task) internal view returns (Types.TaskState) {
        return tasks.task(task).state;
    }

    /// @dev What a call says when the task's state forbids it.
    function wrongState(uint64 task, Types.TaskState got) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(Errors.WrongState.selector, task, got);
    }

    function inState(uint64 task, Types.TaskState expected) internal view {
        equal(uint256(state(task)), uint256(expected), "state");
    }

    /// @dev The identity that holds at every moment, and the tokens behind it.
    function conserved(uint64 task) internal view {
        (uint128 escrowed, uint128 paid, uint128 refunded, uint128 vesting, uint128 held) =
            tasks.balances(task);
        equal(escrowed, uint256(paid) + refunded + vesting + held, "escrowed");
        uint256 sum = 0;
        for (uint64 id = 1; id <= tasks.taskCount(); ++id) {
            (escrowed, paid, refunded,,) = tasks.balances(id);
            sum += uint256(escrowed) - paid - refunded;
        }
        equal(token.balanceOf(address(tasks)), sum, "tokens");
    }
}
