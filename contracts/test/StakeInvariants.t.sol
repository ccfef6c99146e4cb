// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IStakeManagerTypes as Types} from "../src/interfaces/IStakeManager.sol";
import {StakeBase} from "./helpers/Doubles.sol";
import {vm} from "./helpers/Vm.sol";

/// @notice Random actors. Each function makes one call that is often, not always, allowed; what
/// reverts leaves no trace. Keeps its own books of what everybody should have.
contract StakeActors is StakeBase {
    uint256 internal constant OPERATORS = 2;
    uint256 internal constant DELEGATORS = 2;

    /// @notice What one account has put in for an operator, and what came back.
    struct Book {
        uint256 paidIn;
        uint256 paidOut;
        /// Rewards by the shares held at each booking, rounded up, and what was paid of them.
        uint256 due;
        uint256 rewarded;
        /// Before this, and while this round is open, nothing is withdrawn.
        uint256 notBefore;
        uint64 lockedBy;
        /// Calls that may each leave a unit of dust to others.
        uint256 calls;
    }

    mapping(address operator => mapping(address account => Book)) private books;

    /// @notice Rewards booked and not paid.
    mapping(address operator => uint256) public unpaid;
    /// @notice Penalties of an operator, its delegators' included.
    mapping(address operator => uint256) public lost;
    /// @notice The commission that holds, by the actors' own reckoning.
    mapping(address operator => uint16) public commission;
    mapping(address operator => uint16) private announced;
    /// Withdrawn since the last deposit.
    mapping(address operator => uint256) private left;
    mapping(address operator => uint256) private announcedFor;
    /// @notice A withdrawal came too early.
    bool public early;
    /// @notice A commission rose before its notice was over, or a penalty was wrong.
    bool public wrong;
    uint256 public slashed;
    uint256 public done;

    constructor() {
        start();
        for (uint256 i = 0; i < OPERATORS; ++i) {
            fund(operator(i), 1e24);
            vm.prank(operator(i));
            stakes.deposit(TASK, roleOf(i), 1_000);
            books[operator(i)][operator(i)].paidIn = 1_000;
        }
        for (uint256 i = 0; i < DELEGATORS; ++i) {
            fund(delegator(i), 1e24);
        }
    }

    // ---- Operators ----

    function deposit(uint256 seed, uint128 amount) external {
        uint256 i = seed % OPERATORS;
        amount = 1 + amount % 1e18 / (seed % 2 == 0 ? 1 : 1e14);
        deposit(operator(i), roleOf(i), amount);
        left[operator(i)] = 0;
        books[operator(i)][operator(i)].paidIn += amount;
        ++done;
    }

    function request(uint256 seed, uint128 amount) external {
        address account = operator(seed);
        uint128 own = ownOf(account);
        if (own == 0) return;
        request(account, seed % 16 == 0 ? own : 1 + amount % own);
        delay(books[account][account]);
        ++done;
    }

    function withdraw(uint256 seed) external {
        address account = operator(seed);
        Book storage book = books[account][account];
        if (seed % 2 == 0) pass(UNBONDING);
        uint256 before = token.balanceOf(account);
        withdraw(account);
        book.paidOut += token.balanceOf(account) - before;
        left[account] += token.balanceOf(account) - before;
        checkTime(book);
        ++done;
    }

    function setCommission(uint256 seed, uint16 bps) external {
        address account = operator(seed);
        bps %= 10_001;
        settleCommission(account);
        vm.prank(account);
        stakes.setCommission(TASK, bps);
        announcedFor[account] = 0;
        if (bps <= commission[account]) {
            commission[account] = bps;
        } else {
            (announced[account], announcedFor[account]) = (bps, block.timestamp + NOTICE);
        }
        ++done;
    }

    // ---- Delegators ----

    function delegate(uint256 seed, uint128 amount) external {
        (address to, address from) = pair(seed);
        amount = 1 + amount % 1e18 / (seed % 2 == 0 ? 1 : 1e14);
        delegate(to, from, amount);
        books[to][from].paidIn += amount;
        ++done;
        if (seed % 3 != 0) return;
        pass(WARMUP);
        stakes.activate(TASK, to, from);
    }

    function activate(uint256 seed) external {
        (address to, address from) = pair(seed);
        uint64 activeAt = stakes.delegationOf(TASK, to, from).activeAt;
        stakes.activate(TASK, to, from);
        if (block.timestamp < activeAt) early = true;
        ++done;
    }

    function cancel(uint256 seed) external {
        if (seed % 4 != 0) return;
        (address to, address from) = pair(seed);
        vm.prank(from);
        books[to][from].paidOut += stakes.cancelDelegation(TASK, to);
        ++done;
    }

    function undelegate(uint256 seed, uint256 part) external {
        (address to, address from) = pair(seed);
        uint256 shares = sharesOf(to, from);
        if (shares == 0) return;
        undelegate(to, from, seed % 3 == 0 ? shares : 1 + part % shares);
        delay(books[to][from]);
        ++books[to][from].calls;
        ++done;
    }

    function withdrawDelegation(uint256 seed) external {
        (address to, address from) = pair(seed);
        Book storage book = books[to][from];
        if (seed % 2 == 0) pass(UNBONDING);
        uint256 before = token.balanceOf(from);
        withdrawDelegation(to, from);
        book.paidOut += token.balanceOf(from) - before;
        ++book.calls;
        checkTime(book);
        ++done;
    }

    function claimRewards(uint256 seed) external {
        (address to, address from) = pair(seed);
        uint256 before = token.balanceOf(from);
        stakes.claimRewards(TASK, to, from);
        uint256 amount = token.balanceOf(from) - before;
        books[to][from].rewarded += amount;
        unpaid[to] -= amount;
        ++done;
    }

    // ---- The task ----

    function pay(uint256 seed, uint128 amount) external {
        address to = operator(seed);
        settleCommission(to);
        Types.Pool memory pool = poolOf(to);
        Types.Stake memory stake = stakes.stakeRecord(TASK, to);
        amount %= 1e20;
        uint256 booked = tasks.pay(TASK, to, amount);
        unpaid[to] += booked;
        for (uint256 i = 0; i < DELEGATORS && pool.shares != 0; ++i) {
            uint256 shares = sharesOf(to, delegator(i));
            books[to][delegator(i)].due += (booked * shares + pool.shares - 1) / pool.shares;
        }
        uint256 own = uint256(stake.amount) + stake.unbonding;
        // Who has left counts with what it took away, or leaves what next to nothing would.
        if (own == 0) own = left[to];
        uint256 counted = pool.assets < 3 * own ? pool.assets : 3 * own;
        if (own == 0 && pool.assets != 0) (own, counted) = (1, 3);
        if (pool.shares == 0 || counted == 0) {
            if (booked != 0) wrong = true;
        } else if (booked != 0) {
            uint256 kept = 10_000 - commission[to];
            if (booked != amount * counted * kept / ((own + counted) * 10_000)) wrong = true;
        }
        ++done;
    }

    function slash(uint256 seed, uint16 bps, uint16 reporterBps) external {
        address account = operator(seed);
        bps = seed % 4 == 0 ? bps % 5_001 : bps % 101;
        uint256 before = token.balanceOf(REPORTER) + tasks.penalties(TASK);
        uint256 own = ownOf(account) + stakes.stakeRecord(TASK, account).unbonding;
        uint256 taken = slash(account, bps, reporterBps % 10_001);
        uint256 ownAfter = ownOf(account) + stakes.stakeRecord(TASK, account).unbonding;
        if (token.balanceOf(REPORTER) + tasks.penalties(TASK) != before + taken) wrong = true;
        if ((own - ownAfter) * 10_000 < own * bps) wrong = true;
        if (taken > own - ownAfter + 3 * own * bps / 10_000) wrong = true;
        lost[account] += taken;
        slashed += taken;
        ++done;
    }

    function open(uint16 round) external {
        rounds.open(TASK, 1 + round % 4, 1 + round / 4 % 3);
        ++done;
    }

    function close(uint16 window) external {
        if (rounds.openRoundKey(TASK) == 0) return;
        if (window % 3 == 0) rounds.close(TASK);
        else rounds.settle(TASK, uint64(block.timestamp) + window % UNBONDING);
        ++done;
    }

    /// Rarely, and then nobody gets in any more.
    function end(uint256 seed) external {
        if (seed % 4 != 0 || done < 60) return;
        tasks.end(TASK);
        ++done;
    }

    function wait(uint256 time) external {
        pass(time % 2 == 0 ? UNBONDING : time % UNBONDING);
    }

    // ---- Everybody ----

    function operator(uint256 seed) public pure returns (address) {
        return address(uint160(0x0A00 + seed % OPERATORS));
    }

    function delegator(uint256 seed) public pure returns (address) {
        return address(uint160(0xDE00 + seed % DELEGATORS));
    }

    function roleOf(uint256 i) public pure returns (uint8) {
        return i == 0 ? TRAINER : VALIDATOR;
    }

    function pair(uint256 seed) private pure returns (address, address) {
        // Random seeds are often small or round.
        seed = uint256(keccak256(abi.encode(seed)));
        return (operator(seed), delegator(seed >> 128));
    }

    function bookOf(address to, address from) external view returns (Book memory) {
        return books[to][from];
    }

    // ---- The actors' own books ----

    function delay(Book storage book) private {
        book.notBefore = block.timestamp + UNBONDING;
        book.lockedBy = rounds.openRoundKey(TASK);
    }

    function checkTime(Book storage book) private {
        uint64 lock = book.lockedBy;
        bool open_ = lock != 0 && rounds.openRoundKey(TASK) == lock;
        uint256 finalAt = lock == 0 ? 0 : rounds.finalAt(TASK, uint32(lock >> 16));
        if (block.timestamp < book.notBefore || open_ || block.timestamp < finalAt) early = true;
        (book.notBefore, book.lockedBy) = (0, 0);
    }

    function settleCommission(address account) private {
        uint256 from = announcedFor[account];
        if (from == 0 || block.timestamp < from) return;
        (commission[account], announcedFor[account]) = (announced[account], 0);
    }

    // ---- What always holds ----

    function checkTokens() external view {
        uint256 sum;
        for (uint256 i = 0; i < OPERATORS; ++i) {
            address to = operator(i);
            Types.Stake memory stake = stakes.stakeRecord(TASK, to);
            Types.Pool memory pool = poolOf(to);
            sum += uint256(stake.amount) + stake.unbonding + pool.assets + pool.unbondingAssets;
            sum += unpaid[to];
            for (uint256 j = 0; j < DELEGATORS; ++j) {
                sum += stakes.delegationOf(TASK, to, delegator(j)).pending;
            }
        }
        equal(stakes.totalHeld(), sum, "book");
        equal(token.balanceOf(address(stakes)), sum, "tokens");
        equal(token.balanceOf(REPORTER) + tasks.penalties(TASK), slashed, "penalties");
    }

    function checkSums() external view {
        uint256 own;
        uint256 validators;
        for (uint256 i = 0; i < OPERATORS; ++i) {
            uint128 amount = ownOf(operator(i));
            own += amount;
            if (roleOf(i) == VALIDATOR && amount >= VALIDATOR_MIN) ++validators;
        }
        equal(stakes.totalStakeOf(TASK), own, "own stake");
        equal(stakes.validatorCount(TASK), validators, "validators");
    }

    function checkShares() external view {
        for (uint256 i = 0; i < OPERATORS; ++i) {
            address to = operator(i);
            Types.Pool memory pool = poolOf(to);
            (uint256 shares, uint256 unbonding) = (0, 0);
            (uint256 active, uint256 unbonds, uint256 rewards) = (0, 0, 0);
            for (uint256 j = 0; j < DELEGATORS; ++j) {
                address from = delegator(j);
                Types.Delegation memory d = stakes.delegationOf(TASK, to, from);
                (uint128 a, uint128 u, uint128 r) = stakes.worthDown(TASK, to, from);
                (shares, unbonding) = (shares + d.shares, unbonding + d.unbondingShares);
                (active, unbonds, rewards) = (active + a, unbonds + u, rewards + r);
            }
            equal(shares, pool.shares, "shares");
            equal(unbonding, pool.unbondingShares, "unbonding shares");
            atMost(active, pool.assets, "worth");
            atMost(unbonds, pool.unbondingAssets, "unbonding worth");
            atMost(rewards, unpaid[to], "rewards");
        }
    }

    /// What everybody has, took out and lost comes to no more than what it put in; what one may
    /// have above that is the dust of others.
    function checkDues() external view {
        for (uint256 i = 0; i < OPERATORS; ++i) {
            address to = operator(i);
            Types.Stake memory stake = stakes.stakeRecord(TASK, to);
            Book memory book = books[to][to];
            uint256 has = uint256(stake.amount) + stake.unbonding;
            atMost(book.paidOut + has, book.paidIn, "operator");
            (uint256 dust, uint256 paidIn, uint256 paidOut) = (0, book.paidIn, book.paidOut + has);
            for (uint256 j = 0; j < DELEGATORS; ++j) {
                book = books[to][delegator(j)];
                dust += 1 + 2 * book.calls;
            }
            for (uint256 j = 0; j < DELEGATORS; ++j) {
                address from = delegator(j);
                (uint128 active, uint128 unbonds, uint128 rewards) =
                    stakes.worthDown(TASK, to, from);
                book = books[to][from];
                has = uint256(active) + unbonds + stakes.delegationOf(TASK, to, from).pending;
                atMost(book.paidOut + has, book.paidIn + dust, "delegator");
                atMost(book.rewarded + rewards, book.due, "rewards");
                (paidIn, paidOut) = (paidIn + book.paidIn, paidOut + book.paidOut + has);
            }
            atMost(paidOut + lost[to], paidIn, "all together");
            Types.Pool memory pool = poolOf(to);
            // And nothing is lost but dust. What nobody is left to own is dust as well.
            if (pool.shares > 1_000_000 && pool.unbondingShares > 1_000_000) {
                atMost(paidIn, paidOut + lost[to] + worthOfVirtual(pool) + dust, "conserved");
            }
        }
    }

    /// What the shares that nobody holds are worth.
    function worthOfVirtual(Types.Pool memory pool) private pure returns (uint256) {
        return 2 + 1_000 * uint256(pool.assets) / (pool.shares + 1_000)
            + 1_000 * uint256(pool.unbondingAssets) / (pool.unbondingShares + 1_000);
    }
}

contract StakeInvariantsTest {
    StakeActors private actors;

    function setUp() public {
        actors = new StakeActors();
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(actors);
    }

    /// One for all, so that a long sequence of calls is played once.
    function invariant_the_books_hold() public view {
        actors.checkTokens();
        actors.checkSums();
        actors.checkShares();
        actors.checkDues();
        require(!actors.early(), "something left early");
        require(!actors.wrong(), "something followed a wrong formula");
    }
}
