// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {ITaskManagerTypes as Types} from "../src/interfaces/ITaskManager.sol";
import {TaskBase} from "./helpers/TaskBase.sol";
import {Tree} from "./helpers/Tree.sol";
import {vm} from "./helpers/Vm.sol";

/// @notice Random lives of two tasks at once, against a plain account of what each call should do.
contract TaskBooksTest is TaskBase {
    struct Payout {
        uint32 round;
        address account;
        uint128 amount;
        uint256 claimableAt;
        bool isDirect;
        bool isPaid;
        bytes32[] proof;
    }

    struct Book {
        Types.TaskState state;
        uint256 vestingBps;
        bool isChallengeable;
        uint256 escrowed;
        uint256 allotted;
        uint256 paid;
        uint256 vesting;
        uint256 forfeited;
        uint256 refunded;
        uint256 roundPool;
        uint256 releaseBps;
        uint256 lastProgressAt;
        uint256 claimableAt;
        uint32 opened;
        uint32 settled;
        bool isOpen;
    }

    uint256 private constant TASKS = 2;
    uint256 private constant STEPS = 80;
    uint256 private constant CALLS = 16;

    Book[TASKS] private books;
    Payout[][TASKS] private payouts;
    mapping(uint256 index => mapping(uint32 round => uint256)) private pools;
    mapping(uint256 index => mapping(address account => uint256)) private vestings;
    uint256 private random;

    /// forge-config: long.fuzz.runs = 2000
    function testFuzz_random_lives(uint256 seed) public {
        random = seed;
        stakes.setDelegatorsBps(uint16(draw(10_001)));
        require(token.transfer(address(stakes), 1e12));
        for (uint256 index = 0; index < TASKS; ++index) {
            begin(index);
        }
        for (uint256 i = 0; i < STEPS; ++i) {
            uint256 index = draw(TASKS);
            step(index, draw(CALLS));
            compare(index);
        }
        for (uint256 index = 0; index < TASKS; ++index) {
            endAndEmpty(index);
        }
        equal(token.balanceOf(address(tasks)), 0, "nothing is left");
    }

    function begin(uint256 index) private {
        Types.TaskSpec memory spec = specification();
        spec.reward = uint128(ROUNDS + draw(10_000));
        spec.vestingBps = draw(4) == 0 ? 0 : uint16(draw(9_001));
        if (draw(2) == 0) spec.proofMode = Types.ProofMode.OnChallenge;
        equal(create(spec), id(index), "id");
        Book storage book = books[index];
        book.state = Types.TaskState.Active;
        book.vestingBps = spec.vestingBps;
        book.isChallengeable = spec.proofMode == Types.ProofMode.OnChallenge;
        book.escrowed = spec.reward;
        book.roundPool = spec.reward / ROUNDS;
        book.releaseBps = WHOLE;
        book.lastProgressAt = block.timestamp;
    }

    function step(uint256 index, uint256 call) private {
        if (call == 0) fund(index);
        else if (call <= 3) open(index);
        else if (call <= 6) settleRound(index);
        else if (call == 7) void_(index);
        else if (call <= 9) claimSome(index);
        else if (call == 10) penalize(index);
        else if (call == 11) release(index, [ALICE, BOB][draw(2)]);
        else if (call == 12) refund(index);
        else if (call == 13) end(index);
        else pass(draw(12) == 0 ? draw(TIMEOUT) : draw(WINDOW));
    }

    // ---- What each call should do ----

    function fund(uint256 index) private {
        uint128 amount = uint128(draw(1_000));
        vm.prank(ANYONE);
        bool done = tries(abi.encodeCall(tasks.fund, (id(index), amount)));
        Book storage book = books[index];
        expected(done, amount != 0 && book.state == Types.TaskState.Active, "fund");
        if (!done) return;
        book.escrowed += amount;
        if (book.opened < ROUNDS) book.roundPool += amount / (ROUNDS - book.opened);
    }

    function open(uint256 index) private {
        Book storage book = books[index];
        if (book.state != Types.TaskState.Active || book.isOpen || book.settled == ROUNDS) return;
        // Not before the round manager would.
        if (book.isChallengeable && block.timestamp < book.claimableAt) return;
        uint32 round = book.settled + 1;
        if (round > book.opened) (book.opened, pools[index][round]) = (round, book.roundPool);
        equal(rounds.open(id(index), round), pools[index][round], "pool");
        book.isOpen = true;
    }

    function settleRound(uint256 index) private {
        Book storage book = books[index];
        if (!book.isOpen) return;
        uint32 round = book.settled + 1;
        uint128[3] memory amounts;
        uint256 left = pools[index][round];
        for (uint256 i = 0; i < amounts.length; ++i) {
            amounts[i] = uint128(draw(left + 1));
            left -= amounts[i];
        }
        uint256 claimableAt = block.timestamp + draw(WINDOW);
        bytes32[] memory leaves = new bytes32[](2);
        leaves[0] = tasks.payoutLeaf(id(index), round, ALICE, amounts[0]);
        leaves[1] = tasks.payoutLeaf(id(index), round, BOB, amounts[1]);
        add(
            index,
            Payout(round, ALICE, amounts[0], claimableAt, false, false, Tree.proof(leaves, 0))
        );
        add(index, Payout(round, BOB, amounts[1], claimableAt, false, false, Tree.proof(leaves, 1)));
        add(index, Payout(round, ALICE, amounts[2], claimableAt, true, false, new bytes32[](0)));
        rounds.setDirect(id(index), round, ALICE, amounts[2]);
        uint128 total = amounts[0] + amounts[1];
        rounds.settle(
            id(index), round, Tree.root(leaves), total, total + amounts[2], uint64(claimableAt)
        );
        (book.settled, book.isOpen) = (round, false);
        book.allotted += total + amounts[2];
        (book.lastProgressAt, book.claimableAt) = (block.timestamp, claimableAt);
    }

    /// @dev Only before the first claim can be, and before the next round opens.
    function void_(uint256 index) private {
        Book storage book = books[index];
        if (
            !book.isChallengeable || book.settled == 0 || book.isOpen
                || block.timestamp >= book.claimableAt
        ) return;
        uint256 allotted = 0;
        Payout[] storage list = payouts[index];
        while (list.length != 0 && list[list.length - 1].round == book.settled) {
            isTrue(!list[list.length - 1].isPaid, "paid and voided");
            allotted += list[list.length - 1].amount;
            list.pop();
        }
        rounds.void_(id(index), book.settled, uint128(allotted));
        book.allotted -= allotted;
        book.settled -= 1;
        book.claimableAt = 0;
    }

    function claimSome(uint256 index) private {
        Payout[] storage list = payouts[index];
        if (list.length == 0) return;
        if (draw(3) == 0) {
            claimAll(index);
            return;
        }
        Payout storage payout = list[draw(list.length)];
        bytes memory call = payout.isDirect
            ? abi.encodeCall(tasks.claimDirect, (id(index), payout.round, payout.account))
            : abi.encodeCall(
                tasks.claim, (id(index), payout.round, payout.account, payout.amount, payout.proof)
            );
        bool isDue = !payout.isPaid && block.timestamp >= payout.claimableAt;
        expected(tries(call), isDue && !(payout.isDirect && payout.amount == 0), "claim");
        if (isDue) book_(index, payout);
    }

    function claimAll(uint256 index) private {
        Payout[] storage list = payouts[index];
        uint256 count = 0;
        for (uint256 i = 0; i < list.length; ++i) {
            if (isBatchable(list[i])) ++count;
        }
        Types.Claim[] memory batch = new Types.Claim[](count);
        for (uint256 i = 0; i < list.length; ++i) {
            if (!isBatchable(list[i])) continue;
            batch[--count] = Types.Claim(
                list[i].round, list[i].account, list[i].isDirect ? 0 : list[i].amount, list[i].proof
            );
            if (!list[i].isPaid) book_(index, list[i]);
        }
        tasks.claimMany(id(index), batch);
    }

    /// @dev Amount zero stands for a direct claim, and nothing is no direct pay.
    function isBatchable(Payout storage payout) private view returns (bool) {
        return payout.amount != 0 && block.timestamp >= payout.claimableAt;
    }

    function book_(uint256 index, Payout storage payout) private {
        Book storage book = books[index];
        uint256 paidNow = uint256(payout.amount) * (10_000 - book.vestingBps) / 10_000;
        payout.isPaid = payout.amount != 0 || !payout.isDirect;
        book.paid += paidNow;
        book.vesting += payout.amount - paidNow;
        vestings[index][payout.account] += payout.amount - paidNow;
    }

    function penalize(uint256 index) private {
        uint128 amount = uint128(draw(100));
        stakes.penalize(tasks, id(index), amount);
        books[index].escrowed += amount;
    }

    function release(uint256 index, address account) private {
        Book storage book = books[index];
        uint256 vesting = vestings[index][account];
        bool done = tries(abi.encodeCall(tasks.releaseVested, (id(index), account)));
        expected(done, hasEnded(book) && vesting != 0, "release");
        if (!done) return;
        uint256 amount = vesting * book.releaseBps / 10_000;
        book.paid += amount;
        book.vesting -= vesting;
        book.forfeited += vesting - amount;
        vestings[index][account] = 0;
    }

    function refund(uint256 index) private {
        Book storage book = books[index];
        uint256 due = book.escrowed + book.forfeited - book.allotted - book.refunded;
        uint256 before = token.balanceOf(CREATOR);
        bool done = tries(abi.encodeCall(tasks.refund, (id(index))));
        expected(done, hasEnded(book) && due != 0, "refund");
        if (!done) return;
        book.refunded += due;
        equal(token.balanceOf(CREATOR) - before, due, "to the creator");
    }

    /// @dev By whatever of cancel, finish and tick can be called.
    function end(uint256 index) private {
        Book storage book = books[index];
        if (book.state == Types.TaskState.Closing) {
            book.releaseBps = draw(10_001);
            rounds.close(id(index), uint16(book.releaseBps));
            book.state = Types.TaskState.Finished;
            return;
        }
        bool isActive = book.state == Types.TaskState.Active;
        if (book.opened == 0 && draw(8) == 0) {
            vm.prank(CREATOR);
            expected(tries(abi.encodeCall(tasks.cancel, (id(index)))), isActive, "cancel");
            if (isActive) (book.state, book.refunded) = (Types.TaskState.Cancelled, book.escrowed);
            return;
        }
        bool isComplete = isActive && book.settled == ROUNDS
            && (!book.isChallengeable || block.timestamp >= book.claimableAt);
        bool isLate =
            isActive && book.settled < ROUNDS && block.timestamp >= book.lastProgressAt + TIMEOUT;
        if (draw(2) == 0) {
            expected(tries(abi.encodeCall(tasks.finish, (id(index)))), isComplete, "finish");
            isLate = false;
        } else {
            expected(tries(abi.encodeCall(tasks.tick, (id(index)))), isComplete || isLate, "tick");
        }
        if (isLate) (book.state, book.isOpen) = (Types.TaskState.Aborted, false);
        if (isComplete) {
            book.state = book.vestingBps == 0 ? Types.TaskState.Finished : Types.TaskState.Closing;
        }
    }

    // ---- Comparison ----

    function compare(uint256 index) private view {
        Book storage book = books[index];
        Types.TaskRecord memory record = tasks.task(id(index));
        inState(id(index), book.state);
        equal(record.escrowed, book.escrowed, "escrowed");
        equal(record.allotted, book.allotted, "allotted");
        equal(record.paid, book.paid, "paid");
        equal(record.vesting, book.vesting, "vesting");
        equal(record.forfeited, book.forfeited, "forfeited");
        equal(record.refunded, book.refunded, "refunded");
        equal(record.roundPool, book.roundPool, "pool");
        equal(record.roundsOpened, book.opened, "opened");
        equal(record.roundsSettled, book.settled, "settled");
        equal(record.releaseBps, book.releaseBps, "release");
        equal(record.lastProgressAt, book.lastProgressAt, "progress");
        isTrue((record.endedAt != 0) == hasEnded(book), "end");
        equal(tasks.vestingOf(id(index), ALICE), vestings[index][ALICE], "of Alice");
        equal(tasks.vestingOf(id(index), BOB), vestings[index][BOB], "of Bob");
        conserved(id(index));
    }

    /// @dev Whatever happened, time alone lets everybody have what is due, and nothing stays.
    function endAndEmpty(uint256 index) private {
        pass(TIMEOUT);
        while (!hasEnded(books[index])) end(index);
        claimAll(index);
        if (vestings[index][ALICE] != 0) release(index, ALICE);
        if (vestings[index][BOB] != 0) release(index, BOB);
        refund(index);
        compare(index);
        (,,,, uint128 held) = tasks.balances(id(index));
        equal(held, 0, "held");
    }

    function add(uint256 index, Payout memory payout) private {
        payouts[index].push(payout);
    }

    function tries(bytes memory call) private returns (bool done) {
        (done,) = address(tasks).call(call);
    }

    function expected(bool done, bool should, string memory what) private pure {
        isTrue(done == should, what);
    }

    function hasEnded(Book storage book) private view returns (bool) {
        return book.state > Types.TaskState.Closing;
    }

    function id(uint256 index) private pure returns (uint64) {
        return uint64(index + 1);
    }

    function draw(uint256 below) private returns (uint256) {
        random = uint256(keccak256(abi.encode(random)));
        return below == 0 ? 0 : random % below;
    }
}
