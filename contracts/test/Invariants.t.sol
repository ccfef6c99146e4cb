// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ITaskManagerTypes as Types} from "../src/interfaces/ITaskManager.sol";
import {Base} from "./helpers/Base.sol";
import {Tree} from "./helpers/Tree.sol";
import {vm} from "./helpers/Vm.sol";

/// @notice Random actors. Each function makes one call that is often, not always, allowed; what
/// reverts leaves no trace. Keeps its own books of what everybody should have.
contract Actors is Base {
    uint64 private constant TASKS_MAX = 3;
    uint256 private constant ACCOUNTS = 5;

    struct Leaf {
        uint64 id;
        uint32 round;
        address account;
        uint128 amount;
        bytes32[] proof;
    }

    Leaf[] private leaves;

    /// @notice What the leaves of an account come to.
    mapping(address account => uint256) public promised;
    /// @notice What an account has been paid in rewards.
    mapping(address account => uint256) public received;
    /// @notice What an account has put into stake and not yet got back.
    mapping(address account => uint256) public staked;
    /// @notice Calls that went through.
    uint256 public done;

    constructor() {
        start();
        for (uint256 i = 0; i < ACCOUNTS; ++i) {
            require(token.transfer(account(i), 1e24));
            vm.prank(account(i));
            token.approve(address(stakes), type(uint256).max);
        }
    }

    // ---- Tasks ----

    function create(uint128 reward, uint32 rounds, uint16 bps, uint32 window) external {
        if (tasks.taskCount() == TASKS_MAX) return;
        Types.TaskSpec memory spec = specification();
        spec.rounds = 1 + rounds % 6;
        spec.reward = spec.rounds + reward % 1e18;
        spec.vestingBps = bps % 9_001;
        spec.disputeWindow = window % (UNBONDING + 1);
        vm.prank(CREATOR);
        tasks.createTask(spec, "task");
        ++done;
    }

    /// Half the roots promise more than the total that is set aside.
    function settleNext(uint256 seed, uint128[4] calldata weights, uint128 cut) external {
        uint64 id = task(seed);
        uint32 round = tasks.task(id).roundsSettled + 1;
        uint128 pool = tasks.roundPoolDown(id);
        bytes32[] memory hashes = new bytes32[](weights.length);
        uint128[] memory amounts = new uint128[](weights.length);
        uint128 total = 0;
        for (uint256 i = 0; i < weights.length; ++i) {
            amounts[i] = weights[i] % (pool / 4 + 1);
            hashes[i] = tasks.payoutLeaf(id, round, account(i), amounts[i]);
            total += amounts[i];
        }
        if (cut % 2 == 0) total -= cut % (total + 1);
        vm.prank(AGGREGATOR);
        tasks.submitResult(id, round, Tree.root(hashes), total, 0, 0);
        for (uint256 i = 0; i < weights.length; ++i) {
            leaves.push(Leaf(id, round, account(i), amounts[i], Tree.proof(hashes, i)));
            promised[account(i)] += amounts[i];
        }
        ++done;
    }

    function finish(uint256 seed) external {
        uint64 id = task(seed);
        vm.prank(AGGREGATOR);
        tasks.finish(id);
        ++done;
    }

    function abort(uint256 seed) external {
        tasks.abort(task(seed));
        ++done;
    }

    /// Rarely: a cancelled task is of no more use.
    function cancel(uint256 seed) external {
        if (seed % 8 != 0) return;
        uint64 id = task(seed / 8);
        vm.prank(CREATOR);
        tasks.cancel(id);
        ++done;
    }

    function refund(uint256 seed) external {
        tasks.refund(task(seed));
        ++done;
    }

    function wait(uint256 time) external {
        // Mostly short: a long wait ends tasks.
        pass(time % 3 == 0 ? TIMEOUT : time % UNBONDING);
    }

    // ---- Payouts ----

    function claim(uint256 seed) external {
        Leaf memory leaf = leaves[seed % leaves.length];
        uint256 before = token.balanceOf(leaf.account);
        tasks.claim(leaf.id, leaf.round, leaf.account, leaf.amount, leaf.proof);
        received[leaf.account] += token.balanceOf(leaf.account) - before;
        ++done;
    }

    function claimMany(uint256 seed, uint8 count) external {
        uint64 id;
        Types.Claim[] memory batch = new Types.Claim[](1 + count % 6);
        for (uint256 i = 0; i < batch.length; ++i) {
            Leaf memory leaf = leaves[(seed % leaves.length + i) % leaves.length];
            if (i == 0) id = leaf.id;
            require(leaf.id == id);
            batch[i] = Types.Claim(leaf.round, leaf.account, leaf.amount, leaf.proof);
        }
        uint256[] memory before = balancesOfAll();
        tasks.claimMany(id, batch);
        for (uint256 i = 0; i < ACCOUNTS; ++i) {
            received[account(i)] += token.balanceOf(account(i)) - before[i];
        }
        ++done;
    }

    /// A claim of more than the leaf says must never go through.
    function claimMore(uint256 seed, uint128 more) external {
        Leaf memory leaf = leaves[seed % leaves.length];
        uint128 amount = leaf.amount + 1 + more % 1e18;
        tasks.claim(leaf.id, leaf.round, leaf.account, amount, leaf.proof);
        received[leaf.account] = type(uint128).max;
    }

    function release(uint256 seed) external {
        (uint64 id, address to) = find(seed, vests);
        received[to] += tasks.releaseVested(id, to);
        ++done;
    }

    // ---- Stakes ----

    function deposit(uint256 seed, uint256 who, uint8 role, uint128 amount) external {
        (uint64 id, address from) = (task(seed), account(who));
        amount = 1 + amount % 1e18;
        vm.prank(from);
        stakes.deposit(id, role % 2, amount);
        staked[from] += amount;
        ++done;
    }

    function request(uint256 seed, uint128 amount) external {
        (uint64 id, address from) = find(seed, backs);
        uint128 stake = stakes.stakeRecord(id, from).amount;
        vm.prank(from);
        stakes.requestWithdrawal(id, 1 + amount % stake);
        ++done;
    }

    function withdraw(uint256 seed) external {
        (uint64 id, address from) = find(seed, unbonds);
        vm.prank(from);
        staked[from] -= stakes.withdraw(id);
        ++done;
    }

    // ---- What must hold ----

    function checkEscrow() external view {
        equal(token.balanceOf(address(tasks)), escrowed(), "tokens of the task manager");
        for (uint64 id = 1; id <= tasks.taskCount(); ++id) {
            (uint128 reward, uint128 paid, uint128 refunded, uint128 vesting, uint128 unclaimed) =
                tasks.balances(id);
            equal(reward, uint256(paid) + refunded + vesting + unclaimed, "reward");
            uint256 sum = 0;
            for (uint256 i = 0; i < ACCOUNTS; ++i) {
                sum += tasks.vestingOf(id, account(i));
            }
            equal(vesting, sum, "vesting");
            checkRounds(id);
        }
    }

    function checkAccounts() external view {
        for (uint256 i = 0; i < ACCOUNTS; ++i) {
            isTrue(received[account(i)] <= promised[account(i)], "paid more than promised");
            equal(
                token.balanceOf(account(i)),
                1e24 + received[account(i)] - staked[account(i)],
                "tokens of an account"
            );
        }
    }

    function checkStakes() external view {
        uint256 sum = 0;
        for (uint64 id = 1; id <= tasks.taskCount(); ++id) {
            uint256 ofTask = 0;
            for (uint256 i = 0; i < ACCOUNTS; ++i) {
                ofTask += stakes.stakeRecord(id, account(i)).amount;
                sum += stakes.stakeRecord(id, account(i)).unbonding;
            }
            equal(stakes.totalStakeOf(id), ofTask, "stake of a task");
            sum += ofTask;
        }
        equal(token.balanceOf(address(stakes)), sum, "tokens of the stake manager");
        equal(stakes.totalHeld(), sum, "book of the stake manager");
    }

    function checkRounds(uint64 id) private view {
        Types.TaskRecord memory record = tasks.task(id);
        uint256 allocated = 0;
        for (uint32 round = 1; round <= record.roundsSettled; ++round) {
            Types.RoundResult memory result = tasks.roundResult(id, round);
            isTrue(result.claimed <= result.total, "claims of a round");
            allocated += result.total;
        }
        equal(record.allocated, allocated, "allocated");
        isTrue(allocated + record.refunded <= record.reward, "allotted twice");
    }

    function task(uint256 seed) private view returns (uint64) {
        return 1 + uint64(seed % tasks.taskCount());
    }

    function account(uint256 who) private pure returns (address) {
        return address(uint160(0x7000 + who % ACCOUNTS));
    }

    /// @dev The first task and account after `seed` for which something can be done.
    function find(uint256 seed, function(uint64, address) view returns (bool) fits)
        private
        view
        returns (uint64 id, address who)
    {
        for (uint256 i = 0; i < ACCOUNTS * TASKS_MAX; ++i) {
            id = task(seed % 100 + i / ACCOUNTS);
            who = account(seed % 100 + i);
            if (fits(id, who)) return (id, who);
        }
    }

    function vests(uint64 id, address who) private view returns (bool) {
        return tasks.vestingOf(id, who) != 0;
    }

    function backs(uint64 id, address who) private view returns (bool) {
        return stakes.stakeRecord(id, who).amount != 0;
    }

    function unbonds(uint64 id, address who) private view returns (bool) {
        return stakes.stakeRecord(id, who).unbonding != 0;
    }

    function balancesOfAll() private view returns (uint256[] memory all) {
        all = new uint256[](ACCOUNTS);
        for (uint256 i = 0; i < ACCOUNTS; ++i) {
            all[i] = token.balanceOf(account(i));
        }
    }
}

/// @notice The money adds up after every call of a random sequence.
contract InvariantsTest {
    Actors private actors;

    function setUp() public {
        actors = new Actors();
        actors.create(1e18, 3, 2_500, 0);
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(actors);
    }

    function invariant_the_escrow_holds_what_is_owed() external view {
        actors.checkEscrow();
    }

    function invariant_accounts_hold_what_they_were_paid() external view {
        actors.checkAccounts();
    }

    function invariant_stakes_are_covered() external view {
        actors.checkStakes();
    }
}
