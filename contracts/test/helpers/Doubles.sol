// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {ConvokeToken} from "../../src/ConvokeToken.sol";
import {StakeManager} from "../../src/StakeManager.sol";
import {IRoundManager, IRoundManagerTypes} from "../../src/interfaces/IRoundManager.sol";
import {IStakeManager, IStakeManagerTypes} from "../../src/interfaces/IStakeManager.sol";
import {ITaskManager, ITaskManagerTypes} from "../../src/interfaces/ITaskManager.sol";
import {Assertions} from "./Assertions.sol";
import {vm} from "./Vm.sol";

/// @notice As much of a task manager as staking and penalties ask for. Tasks 1 and 2 are there.
contract TasksDouble {
    IERC20 public immutable token;
    IStakeManager public immutable stakeManager;
    address public immutable aggregator;

    mapping(uint64 task => bool) public ended;
    /// @notice Penalties that arrived.
    mapping(uint64 task => uint256) public penalties;
    uint16 public slashBps = 1_000;
    uint16 public reporterBps = 2_500;

    constructor(IERC20 token_, IStakeManager stakeManager_, address aggregator_) {
        (token, stakeManager, aggregator) = (token_, stakeManager_, aggregator_);
    }

    function end(uint64 task) external {
        ended[task] = true;
    }

    function setRates(uint16 slashBps_, uint16 reporterBps_) external {
        (slashBps, reporterBps) = (slashBps_, reporterBps_);
    }

    /// @notice Pays an operator as a claim does; this contract must have the tokens.
    function pay(uint64 task, address operator, uint128 amount)
        external
        returns (uint128 toDelegators)
    {
        toDelegators = stakeManager.bookRewardDown(task, operator, amount);
        require(token.transfer(address(stakeManager), toDelegators));
    }

    function onPenalty(uint64 task, uint128 amount) external {
        require(msg.sender == address(stakeManager));
        penalties[task] += amount;
    }

    function stakeTerms(uint64 task, uint8 role) external view returns (bool, uint128, address) {
        bool active = (task == 1 || task == 2) && !ended[task];
        uint128[3] memory minimums = [uint128(50), 100, 0];
        return (active, minimums[role], aggregator);
    }

    function specOf(uint64) external view returns (ITaskManagerTypes.TaskSpec memory spec) {
        (spec.slashBps, spec.reporterBps) = (slashBps, reporterBps);
        spec.aggregator = aggregator;
    }
}

/// @notice As much of a round manager as staking and penalties ask for.
contract RoundsDouble {
    IStakeManager public immutable stakeManager;
    ITaskManager public immutable taskManager;

    mapping(uint64 task => uint64) public openRoundKey;
    mapping(uint64 task => mapping(uint32 round => uint64)) public finalAt;
    mapping(uint64 task => mapping(uint32 round => uint16)) public attempts;
    mapping(bytes32 key => bytes32) public commitments;
    mapping(uint64 task => mapping(uint32 round => IRoundManagerTypes.Round)) private records;

    constructor(IStakeManager stakeManager_, ITaskManager taskManager_) {
        (stakeManager, taskManager) = (stakeManager_, taskManager_);
    }

    /// @notice All of a round; its attempt is that of `open`.
    function set(uint64 task, uint32 round, IRoundManagerTypes.Round calldata r) external {
        records[task][round] = r;
    }

    function open(uint64 task, uint32 round, uint16 attempt) external {
        openRoundKey[task] = uint64(round) << 16 | attempt;
        attempts[task][round] = attempt;
    }

    function close(uint64 task) external {
        openRoundKey[task] = 0;
    }

    function settle(uint64 task, uint64 finalAt_) external {
        finalAt[task][uint32(openRoundKey[task] >> 16)] = finalAt_;
        openRoundKey[task] = 0;
    }

    function commit(uint64 task, uint32 round, uint16 attempt, address by, bytes32 hash) external {
        commitments[keccak256(abi.encode(task, round, attempt, by))] = hash;
    }

    function roundOf(uint64 task, uint32 round)
        external
        view
        returns (IRoundManagerTypes.Round memory r)
    {
        r = records[task][round];
        r.attempt = attempts[task][round];
    }

    function settlementOf(uint64 task, uint32 round)
        external
        view
        returns (bytes32, uint128, uint64)
    {
        return (0, 0, finalAt[task][round]);
    }

    function scoreCommitmentOf(uint64 task, uint32 round, uint16 attempt, address validator)
        external
        view
        returns (IRoundManagerTypes.ScoreCommitment memory c)
    {
        c.commitment = commitments[keccak256(abi.encode(task, round, attempt, validator))];
    }

    function scoresCommitment(
        uint64 task,
        uint32 round,
        uint16 attempt,
        address validator,
        bytes calldata factors,
        bytes32 salt
    ) external view returns (bytes32) {
        return keccak256(abi.encode(this, task, round, attempt, validator, factors, salt));
    }
}

/// @notice A stake manager between the doubles, with funded actors.
abstract contract StakeBase is Assertions {
    uint32 internal constant UNBONDING = 200;
    uint32 internal constant WARMUP = 50;
    uint32 internal constant NOTICE = 80;
    uint32 internal constant CAP = 30_000;
    uint256 internal constant START = 1_700_000_000;

    uint64 internal constant TASK = 1;
    uint8 internal constant TRAINER = 0;
    uint8 internal constant VALIDATOR = 1;
    uint8 internal constant AGGREGATOR_ROLE = 2;
    uint128 internal constant TRAINER_MIN = 50;
    uint128 internal constant VALIDATOR_MIN = 100;

    address internal constant AGGREGATOR = address(0xA0);
    address internal constant ALICE = address(0xA11CE);
    address internal constant BOB = address(0xB0B);
    address internal constant CAROL = address(0xCA401);
    address internal constant REPORTER = address(0x4E4);
    uint256 internal constant FUNDS = 1e30;

    IERC20 internal token;
    StakeManager internal stakes;
    TasksDouble internal tasks;
    RoundsDouble internal rounds;

    function start() internal {
        vm.warp(START);
        deploy(new ConvokeToken(1e32));
    }

    function deploy(IERC20 token_) internal {
        token = token_;
        stakes = new StakeManager(token, UNBONDING, WARMUP, NOTICE, CAP, address(this));
        tasks = new TasksDouble(token, stakes, AGGREGATOR);
        rounds = new RoundsDouble(stakes, taskManager());
        stakes.link(taskManager(), roundManager());
        stakes.grantRole(stakes.PAUSER_ROLE(), address(this));
        stakes.grantRole(stakes.SLASHER_ROLE(), address(this));
        address[4] memory actors = [AGGREGATOR, ALICE, BOB, CAROL];
        for (uint256 i = 0; i < actors.length; ++i) {
            fund(actors[i], FUNDS / 8);
        }
        require(token.transfer(address(tasks), FUNDS / 8));
    }

    function fund(address account, uint256 amount) internal {
        require(token.transfer(account, amount));
        vm.prank(account);
        token.approve(address(stakes), type(uint256).max);
    }

    function taskManager() internal view returns (ITaskManager) {
        return ITaskManager(address(tasks));
    }

    function roundManager() internal view returns (IRoundManager) {
        return IRoundManager(address(rounds));
    }

    // ---- Calls ----

    function deposit(address account, uint8 role, uint128 amount) internal {
        vm.prank(account);
        stakes.deposit(TASK, role, amount);
    }

    function request(address account, uint128 amount) internal {
        vm.prank(account);
        stakes.requestWithdrawal(TASK, amount);
    }

    function withdraw(address account) internal returns (uint128) {
        vm.prank(account);
        return stakes.withdraw(TASK);
    }

    function delegate(address operator, address delegator, uint128 amount) internal {
        vm.prank(delegator);
        stakes.delegate(TASK, operator, amount);
    }

    function join(address operator, address delegator, uint128 amount)
        internal
        returns (uint256)
    {
        delegate(operator, delegator, amount);
        pass(WARMUP);
        return stakes.activate(TASK, operator, delegator);
    }

    function undelegate(address operator, address delegator, uint256 shares)
        internal
        returns (uint128)
    {
        vm.prank(delegator);
        return stakes.undelegate(TASK, operator, shares);
    }

    function withdrawDelegation(address operator, address delegator) internal returns (uint128) {
        vm.prank(delegator);
        return stakes.withdrawDelegation(TASK, operator);
    }

    function slash(address account, uint16 bps, uint16 reporterBps) internal returns (uint128) {
        return stakes.slash(TASK, account, bps, REPORTER, reporterBps);
    }

    function pass(uint256 time) internal {
        vm.warp(block.timestamp + time);
    }

    // ---- Views ----

    function sharesOf(address operator, address delegator) internal view returns (uint256) {
        return stakes.delegationOf(TASK, operator, delegator).shares;
    }

    function activeOf(address operator, address delegator) internal view returns (uint128 active) {
        (active,,) = stakes.worthDown(TASK, operator, delegator);
    }

    function ownOf(address account) internal view returns (uint128 amount) {
        (, amount) = stakes.stakeOf(TASK, account);
    }

    function poolOf(address operator) internal view returns (IStakeManagerTypes.Pool memory) {
        return stakes.poolOf(TASK, operator);
    }

    // ---- Assertions ----

    /// @dev The tokens that the book says are there.
    function covered() internal view {
        equal(token.balanceOf(address(stakes)), stakes.totalHeld(), "tokens and book");
    }
}

/// @notice A test that starts from a fresh deployment.
abstract contract StakeTest is StakeBase {
    function setUp() public virtual {
        start();
    }
}
