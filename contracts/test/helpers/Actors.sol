// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IPenaltyManagerTypes as Penalties} from "../../src/interfaces/IPenaltyManager.sol";
import {IRoundManagerTypes as Rounds} from "../../src/interfaces/IRoundManager.sol";
import {IStakeManagerTypes as Stakes} from "../../src/interfaces/IStakeManager.sol";
import {ITaskManagerTypes as Tasks} from "../../src/interfaces/ITaskManager.sol";
import {Base} from "./Base.sol";
import {Reference} from "./Reference.sol";
import {Tree} from "./Tree.sol";
import {vm} from "./Vm.sol";

/// @notice Random actors on the real contracts: creator, aggregator, trainers, validators,
/// delegators and strangers. Each call does one thing that is often, not always, allowed; what
/// reverts leaves no trace. Keeps its own books of what everybody should have.
contract Actors is Base {
    uint256 private constant TRAINERS = 3;
    uint256 private constant VALIDATORS = 3;
    uint256 private constant DELEGATORS = 2;
    uint64 private constant TASKS = 3;
    uint256 private constant KEYS = 0x7000;

    /// @notice One payout of a settled round; of a validator or the aggregator if `isDirect`.
    struct Leaf {
        address account;
        uint128 amount;
        bool isDirect;
        bool isClaimed;
        bytes32[] proof;
    }

    /// @notice When one may withdraw, by the actors' own reckoning.
    struct Delay {
        uint256 notBefore;
        uint64 lockedBy;
    }

    address private immutable OWNER = msg.sender;

    address[] private operators;
    mapping(uint64 task => mapping(uint32 round => Leaf[])) private leaves;
    mapping(uint64 task => mapping(uint32 round => Rounds.Submission)) private submitted;
    mapping(bytes32 said => bytes) private factorsOf;
    mapping(uint64 task => mapping(address account => mapping(address operator => Delay))) private
        delays;

    /// @notice Allotted and not claimed.
    mapping(uint64 task => uint256) public unclaimed;
    /// @notice What an account claimed, and what tokens it got for it.
    mapping(address account => uint256) public due;
    mapping(address account => uint256) public got;
    /// @notice Rewards of delegators that were booked and not paid.
    uint256 public rewards;
    /// @notice What must never happen and did.
    string public broken;
    /// @notice Calls that went through.
    uint256 public done;

    constructor() {
        start();
        for (uint256 i = 0; i < TRAINERS + VALIDATORS; ++i) {
            operators.push(vm.addr(KEYS + i));
        }
        operators.push(AGGREGATOR);
        for (uint256 i = 0; i < operators.length + DELEGATORS; ++i) {
            endow(i < operators.length ? operators[i] : delegator(i));
        }
        for (uint64 id = 1; id <= TASKS; ++id) {
            Tasks.TaskSpec memory spec = specification();
            spec.trainersMax = uint16(TRAINERS);
            spec.reward += 1e6 * id;
            if (id == 2) spec.proofMode = Tasks.ProofMode.OnChallenge;
            if (id == 3) (spec.validatorsMin, spec.vestingBps) = (0, 0);
            staffed(spec, VALIDATORS);
        }
    }

    // ---- Rounds ----

    /// The next steps that somebody owes; several, so that rounds get somewhere.
    function advance(uint256 seed) external {
        seed = mix(seed);
        uint64 id = pick(seed);
        for (uint256 i = 0; i < 4; ++i) {
            // A step that is refused does not undo those before it.
            try this.advanceOne(id, mix(seed + i)) {}
                catch {
                return;
            }
        }
    }

    function advanceOne(uint64 id, uint256 seed) external {
        step(1 + id % TASKS, mix(seed));
    }

    function disturb(uint256 seed) external {
        seed = mix(seed);
        if (seed % 4 == 0) punish(seed / 4);
        else interrupt(seed / 4);
    }

    function money(uint256 seed) external {
        seed = mix(seed);
        uint256 what = seed % 6;
        seed /= 6;
        if (what < 2) claim(seed);
        else if (what == 2) claimMany(seed);
        else if (what == 3) claimWrongly(seed);
        else if (what == 4) release(seed);
        else escrow(seed);
    }

    function staking(uint256 seed) external {
        seed = mix(seed);
        if (seed % 2 == 0) stakeOrLeave(seed / 2);
        else delegateOrLeave(seed / 2);
    }

    function interrupt(uint256 seed) private {
        uint64 id = pick(seed);
        if (seed % 16 == 0) {
            uint32 round = tasks.task(id).roundsSettled + 1;
            vm.prank(AGGREGATOR);
            rounds.failRound(id, round);
        } else if (seed % 2 == 0) {
            challenge(2);
        } else if (seed % 4 == 1) {
            rounds.tick(id);
        } else {
            tasks.tick(id);
        }
        ++done;
    }

    /// Mostly short: a long wait ends tasks.
    function wait(uint256 seed) external {
        seed = mix(seed);
        pass(seed % 32 == 0 ? seed / 64 % TIMEOUT : seed / 64 % GRACE);
        vm.roll(block.number + seed / 64 % (seed % 8 == 1 ? 600 : 4));
    }

    // ---- Money ----

    function claim(uint256 seed) private {
        (uint64 id, uint32 round) = settled(seed);
        uint256 index = seed / 256 % leaves[id][round].length;
        Leaf memory leaf = leaves[id][round][index];
        uint256 before = token.balanceOf(leaf.account);
        uint256 pooled = token.balanceOf(address(stakes));
        if (leaf.isDirect) tasks.claimDirect(id, round, leaf.account);
        else tasks.claim(id, round, leaf.account, leaf.amount, leaf.proof);
        got[leaf.account] += token.balanceOf(leaf.account) - before;
        rewards += token.balanceOf(address(stakes)) - pooled;
        book(id, round, index);
    }

    /// All of a round, whatever was claimed before.
    function claimMany(uint256 seed) private {
        (uint64 id, uint32 round) = settled(seed);
        Leaf[] memory all = leaves[id][round];
        Tasks.Claim[] memory batch = new Tasks.Claim[](all.length);
        uint256[] memory before = new uint256[](all.length);
        for (uint256 i = 0; i < all.length; ++i) {
            uint128 amount = all[i].isDirect ? 0 : all[i].amount;
            batch[i] = Tasks.Claim(round, all[i].account, amount, all[i].proof);
            before[i] = token.balanceOf(all[i].account);
        }
        uint256 pooled = token.balanceOf(address(stakes));
        tasks.claimMany(id, batch);
        rewards += token.balanceOf(address(stakes)) - pooled;
        for (uint256 i = 0; i < all.length; ++i) {
            // No account is in a round twice.
            got[all[i].account] += token.balanceOf(all[i].account) - before[i];
            if (!all[i].isClaimed) book(id, round, i);
        }
    }

    /// What must be refused: another amount than the leaf says, and another's leaf.
    function claimWrongly(uint256 seed) private {
        (uint64 id, uint32 round) = settled(seed);
        Leaf memory leaf = leaves[id][round][seed / 256 % leaves[id][round].length];
        if (leaf.isDirect) {
            tasks.claimDirect(id, round, ANYONE);
        } else if (seed % 3 == 0) {
            tasks.claim(id, round, leaf.account, leaf.amount + 1, leaf.proof);
        } else if (seed % 3 == 1) {
            tasks.claim(id, round, ANYONE, leaf.amount, leaf.proof);
        } else {
            tasks.claim(id, round, leaf.account, leaf.amount - 1, leaf.proof);
        }
        broken = "a wrong claim was paid";
    }

    function release(uint256 seed) private {
        uint64 id = pick(seed);
        address account = operators[seed / 16 % operators.length];
        releaseTo(id, account);
        ++done;
    }

    function escrow(uint256 seed) private {
        uint64 id = pick(seed);
        if (seed % 32 == 0) {
            vm.prank(CREATOR);
            tasks.cancel(id);
        } else if (seed % 4 == 1) {
            vm.prank(CREATOR);
            tasks.fund(id, uint128(1 + seed / 16 % 1e6));
        } else {
            tasks.refund(id);
        }
        ++done;
    }

    // ---- Stake ----

    function stakeOrLeave(uint256 seed) private {
        uint64 id = pick(seed);
        uint256 i = seed / 16 % operators.length;
        address account = operators[i];
        uint256 amount = 1 + seed / 256 % 300;
        if (seed % 4 == 0) {
            vm.prank(account);
            stakes.requestWithdrawal(id, uint128(amount));
            delays[id][account][account] =
                Delay(block.timestamp + UNBONDING, rounds.openRoundKey(id));
        } else if (seed % 4 == 1) {
            vm.prank(account);
            stakes.withdraw(id);
            checkDelay(id, account, account);
        } else {
            vm.prank(account);
            stakes.deposit(
                id, i < TRAINERS ? 0 : i < TRAINERS + VALIDATORS ? 1 : 2, uint128(amount)
            );
        }
        ++done;
    }

    function delegateOrLeave(uint256 seed) private {
        uint64 id = pick(seed);
        address operator = delegated(seed / 16);
        address from = delegator(seed / 64);
        uint256 amount = seed / 256 % 500;
        uint256 what = seed % 7;
        Stakes.Delegation memory delegation = stakes.delegationOf(id, operator, from);
        if (what == 0 || delegation.shares + delegation.pending == 0) {
            vm.prank(from);
            stakes.delegate(id, operator, uint128(amount));
        } else if (what == 1 || what == 2) {
            stakes.activate(id, operator, from);
        } else if (what == 3) {
            uint256 part = 1 + seed / 256 % delegation.shares;
            vm.prank(from);
            stakes.undelegate(id, operator, part);
            uint64 key = rounds.openRoundKey(id);
            delays[id][from][operator] = Delay(block.timestamp + UNBONDING, key);
        } else if (what == 4) {
            vm.prank(from);
            stakes.withdrawDelegation(id, operator);
            checkDelay(id, from, operator);
        } else if (what == 5) {
            rewards -= stakes.claimRewards(id, operator, from);
        } else {
            vm.prank(from);
            stakes.cancelDelegation(id, operator);
        }
        ++done;
    }

    function punish(uint256 seed) private {
        uint64 id = pick(seed);
        uint32 round = 1 + uint32(seed / 16 % ROUNDS);
        vm.prank(ANYONE);
        if (seed % 2 == 0) punishTrainer(id, round, seed / 256);
        else punishValidator(id, round, seed / 256);
        ++done;
    }

    // ---- What must hold ----

    function checkTokens() external view {
        isTrue(bytes(broken).length == 0, broken);
        uint256 sum = 0;
        for (uint64 id = 1; id <= TASKS; ++id) {
            (uint128 escrowed, uint128 paid, uint128 refunded, uint128 vesting, uint128 held) =
                tasks.balances(id);
            equal(escrowed, uint256(paid) + refunded + vesting + held, "escrow");
            uint256 owing = unclaimed[id] + tasks.refundableOf(id);
            equal(held, owing, "unclaimed and refundable");
            sum += owing + vesting;
        }
        equal(token.balanceOf(address(tasks)), sum, "tokens of the task manager");
        equal(token.balanceOf(address(rounds)), 0, "tokens of the round manager");
        equal(token.balanceOf(address(stakes)), stakes.totalHeld(), "tokens of the stake manager");
    }

    function checkStakes() public view {
        uint256 sum = rewards;
        for (uint64 id = 1; id <= TASKS; ++id) {
            uint256 active = 0;
            uint256 validators = 0;
            for (uint256 i = 0; i < operators.length; ++i) {
                Stakes.Stake memory record = stakes.stakeRecord(id, operators[i]);
                active += record.amount;
                sum += record.unbonding;
                if (record.role == 1 && record.amount >= VALIDATOR_STAKE) ++validators;
            }
            equal(stakes.totalStakeOf(id), active, "stake of a task");
            equal(stakes.validatorCount(id), validators, "validators");
            sum += active;
            for (uint256 i = 0; i < 2; ++i) {
                Stakes.Pool memory pool = stakes.poolOf(id, delegated(i));
                sum += uint256(pool.assets) + pool.unbondingAssets;
                for (uint256 d = 0; d < DELEGATORS; ++d) {
                    sum += stakes.delegationOf(id, delegated(i), delegator(d)).pending;
                }
            }
        }
        equal(token.balanceOf(address(stakes)), sum, "stake, delegation and rewards");
        for (uint256 i = 0; i < operators.length; ++i) {
            isTrue(got[operators[i]] <= due[operators[i]], "paid more than claimed");
        }
    }

    /// @notice Everybody goes silent but for one who ticks: all tasks end within the sum of their
    /// windows, and then all money comes out.
    function endAll() external {
        require(msg.sender == OWNER);
        checkStakes();
        uint256 began = block.timestamp;
        for (uint64 id = 1; id <= TASKS; ++id) {
            vm.warp(began);
            while (state(id) == Tasks.TaskState.Active || state(id) == Tasks.TaskState.Closing) {
                pass(SCORE);
                try tasks.tick(id) {} catch {}
                // Ticks come a window late at most, for each of the last stages.
                uint256 windows = TIMEOUT + DISPUTE + 2 * SCORE;
                isTrue(block.timestamp <= began + windows + 4 * SCORE, "never ends");
            }
            equal(rounds.openRoundKey(id), 0, "an open round");
        }
        vm.warp(began + 2 * TIMEOUT);
        for (uint64 id = 1; id <= TASKS; ++id) {
            takeAllOut(id);
        }
        equal(token.balanceOf(address(tasks)), 0, "left in the task manager");
        // Rounding of shares and of rewards, against those who share; never much.
        isTrue(token.balanceOf(address(stakes)) < 200, "left in the stake manager");
    }

    // ---- Inside: rounds ----

    function step(uint64 id, uint256 seed) private {
        uint64 key = rounds.openRoundKey(id);
        if (key == 0) {
            uint32 last = tasks.task(id).roundsSettled;
            if (last == ROUNDS) tasks.finish(id);
            else open(id, last + 1, uint16(1 + seed % TRAINERS));
        } else {
            stepIn(id, uint32(key >> 16), seed);
        }
        ++done;
    }

    function stepIn(uint64 id, uint32 round, uint256 seed) private {
        Rounds.Round memory r = rounds.roundOf(id, round);
        if (block.timestamp > r.deadline && seed % 4 != 0) {
            tasks.tick(id);
        } else if (r.stage == Rounds.Stage.Training) {
            if (seed % 3 == 0) commitOwn(id, round, seed / 3 % r.cohortSize, r.cohortSize);
            else seal(id, round, uint16(1 + seed / 3 % r.cohortSize));
        } else if (r.stage == Rounds.Stage.Sealed) {
            draw(id, round);
        } else if (r.stage == Rounds.Stage.Scoring) {
            commitAs(id, round, r, seed);
        } else if (r.stage == Rounds.Stage.Revealing) {
            revealAs(id, round, r, seed);
        } else {
            settle(id, round, r, seed);
        }
    }

    /// The first validator from a random one on that has not committed.
    function commitAs(uint64 id, uint32 round, Rounds.Round memory r, uint256 seed) private {
        uint256 v = seed % VALIDATORS;
        while (rounds.scoreCommitmentOf(id, round, r.attempt, validator(v)).weight != 0) {
            v = (v + 1) % VALIDATORS;
            if (v == seed % VALIDATORS) return;
        }
        uint16[] memory factors = new uint16[](r.updates + r.ownUpdates);
        for (uint256 i = 0; i < factors.length; ++i) {
            factors[i] = uint16((seed >> (16 * i + 16)) % (round > ROUNDS ? ONE + 1 : 2 * ONE + 1));
        }
        commitScores(id, round, v, factors);
        factorsOf[said(id, round, r.attempt, validator(v))] = encode(factors);
    }

    function revealAs(uint64 id, uint32 round, Rounds.Round memory r, uint256 seed) private {
        uint256 v = seed % VALIDATORS;
        while (rounds.scoreCommitmentOf(id, round, r.attempt, validator(v)).factorsHash != 0) {
            v = (v + 1) % VALIDATORS;
        }
        vm.prank(validator(v));
        rounds.revealScores(id, round, factorsOf[said(id, round, r.attempt, validator(v))], SALT);
    }

    /// One in eight lies about a median, and one in eight has a bad proof.
    function settle(uint64 id, uint32 round, Rounds.Round memory r, uint256 seed) private {
        Rounds.Submission memory result = honest(id, round, r);
        uint128[] memory amounts = new uint128[](1 + seed / 8 % TRAINERS);
        uint128[] memory most = share(id, round, amounts.length);
        for (uint256 i = 0; i < amounts.length; ++i) {
            amounts[i] = 1 + uint128((seed >> (32 * i + 8)) % most[i]);
        }
        result.payouts = pack(amounts);
        bool lies = seed % 8 == 0;
        if (lies) result.factors[1] ^= 0x01;
        if (seed % 8 == 1) result.proof = "bad";
        submit(id, round, result);
        if (lies) broken = "a wrong median passed";
        if (seed % 8 == 1 && id != 2) broken = "a bad proof passed";
        remember(id, round, amounts);
        submitted[id][round] = result;
    }

    function honest(uint64 id, uint32 round, Rounds.Round memory r)
        private
        view
        returns (Rounds.Submission memory result)
    {
        (result.checkpoint, result.resultHash, result.proof) = ("checkpoint", "result", "good");
        uint256 updates = uint256(r.updates) + r.ownUpdates;
        if (r.revealed == 0) {
            result.factors = encode(same(updates, ONE));
            return result;
        }
        result.reveals = new bytes[](r.revealed);
        uint16[][] memory values = new uint16[][](r.revealed);
        uint256[] memory by = new uint256[](r.revealed);
        address[] memory committed = rounds.validatorsOf(id, round);
        uint256 found = 0;
        for (uint256 i = 0; i < committed.length; ++i) {
            Rounds.ScoreCommitment memory score =
                rounds.scoreCommitmentOf(id, round, r.attempt, committed[i]);
            if (score.factorsHash == 0) continue;
            result.reveals[found] = factorsOf[said(id, round, r.attempt, committed[i])];
            values[found] = decode(result.reveals[found]);
            by[found++] = score.weight;
        }
        result.factors = encode(Reference.medians(values, by));
    }

    function remember(uint64 id, uint32 round, uint128[] memory amounts) private {
        bytes32[] memory tree = payoutLeaves(id, round, amounts);
        for (uint256 i = 0; i < amounts.length; ++i) {
            leaves[id][round].push(Leaf(trainer(i), amounts[i], false, false, Tree.proof(tree, i)));
        }
        for (uint256 i = TRAINERS; i < operators.length; ++i) {
            uint128 pay = rounds.directPayOf(id, round, operators[i]);
            if (pay == 0) continue;
            leaves[id][round].push(Leaf(operators[i], pay, true, false, new bytes32[](0)));
        }
        for (uint256 i = 0; i < leaves[id][round].length; ++i) {
            unclaimed[id] += leaves[id][round][i].amount;
        }
    }

    function challenge(uint64 id) private {
        uint32 round = tasks.task(id).roundsSettled;
        Rounds.Submission memory result = submitted[id][round];
        Rounds.Round memory r = rounds.roundOf(id, round);
        vm.prank(ANYONE);
        rounds.challengeResult(id, round, result.payouts, result.factors, result.proof);
        if (keccak256(result.proof) != keccak256("bad")) broken = "a good proof was voided";
        if (block.timestamp >= r.settledAt + DISPUTE) broken = "a final result was voided";
        unclaimed[id] -= r.allotted;
        delete leaves[id][round];
    }

    // ---- Inside: money ----

    function book(uint64 id, uint32 round, uint256 index) private {
        Leaf storage leaf = leaves[id][round][index];
        if (leaf.isClaimed) broken = "paid twice";
        Rounds.Round memory r = rounds.roundOf(id, round);
        if (block.timestamp < r.settledAt + DISPUTE) broken = "paid before it was final";
        leaf.isClaimed = true;
        due[leaf.account] += leaf.amount;
        unclaimed[id] -= leaf.amount;
        ++done;
    }

    function releaseTo(uint64 id, address account) private {
        uint256 before = token.balanceOf(account);
        uint256 pooled = token.balanceOf(address(stakes));
        tasks.releaseVested(id, account);
        got[account] += token.balanceOf(account) - before;
        rewards += token.balanceOf(address(stakes)) - pooled;
    }

    function punishTrainer(uint64 id, uint32 round, uint256 seed) private {
        uint256 key = KEYS + seed % TRAINERS;
        Penalties.Update memory first = Penalties.Update(id, round, 0, "a", 0, 1, 1, 1, 1);
        Penalties.Update memory second = Penalties.Update(id, round, 0, "b", 0, 1, 1, 1, 1);
        bytes32 kind = keccak256(
            "Update(uint256 task,uint256 round,bytes32 base,bytes32 delta,bytes32 deltaRoot,"
            "uint256 deltaBytes,uint256 deltaNorm,uint256 numExamples,uint256 trainLossMicros)"
        );
        penalties.punishEquivocation(
            first,
            sign(key, keccak256(abi.encode(kind, first))),
            second,
            sign(key, keccak256(abi.encode(kind, second)))
        );
    }

    function punishValidator(uint64 id, uint32 round, uint256 seed) private {
        uint256 key = KEYS + TRAINERS + seed % VALIDATORS;
        Penalties.Reveal memory lie = Penalties.Reveal(id, round, 1, "lie", SALT);
        bytes32 kind = keccak256(
            "Reveal(uint256 task,uint256 round,uint256 attempt,bytes factors,bytes32 salt)"
        );
        bytes32 content =
            keccak256(abi.encode(kind, lie.task, lie.round, 1, keccak256(lie.factors), SALT));
        penalties.punishContradiction(lie, sign(key, content));
    }

    function sign(uint256 key, bytes32 content) private view returns (bytes memory) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256(
                    "EIP712Domain(string name,string version,uint256 chainId,"
                    "address verifyingContract)"
                ),
                keccak256("Convoke"),
                keccak256("1"),
                block.chainid,
                address(tasks)
            )
        );
        (uint8 v, bytes32 r, bytes32 s) =
            vm.sign(key, keccak256(abi.encodePacked(hex"1901", domain, content)));
        return abi.encodePacked(r, s, v);
    }

    function checkDelay(uint64 id, address account, address operator) private {
        Delay memory delay = delays[id][account][operator];
        if (block.timestamp < delay.notBefore) broken = "withdrawn before it had unbonded";
        if (delay.lockedBy != 0 && rounds.openRoundKey(id) == delay.lockedBy) {
            broken = "withdrawn from under an open round";
        }
    }

    // ---- Inside: the end ----

    function takeAllOut(uint64 id) private {
        for (uint32 round = 1; round <= ROUNDS; ++round) {
            for (uint256 i = 0; i < leaves[id][round].length; ++i) {
                Leaf memory leaf = leaves[id][round][i];
                if (leaf.isClaimed) continue;
                if (leaf.isDirect) tasks.claimDirect(id, round, leaf.account);
                else tasks.claim(id, round, leaf.account, leaf.amount, leaf.proof);
            }
        }
        for (uint256 i = 0; i < operators.length; ++i) {
            if (tasks.vestingOf(id, operators[i]) != 0) tasks.releaseVested(id, operators[i]);
            uint128 amount = stakes.stakeRecord(id, operators[i]).amount;
            if (amount == 0) continue;
            vm.prank(operators[i]);
            stakes.requestWithdrawal(id, amount);
        }
        for (uint256 i = 0; i < 2 * DELEGATORS; ++i) {
            startToLeave(id, delegated(i), delegator(i / 2));
        }
        pass(UNBONDING);
        for (uint256 i = 0; i < operators.length; ++i) {
            if (stakes.stakeRecord(id, operators[i]).unbonding == 0) continue;
            vm.prank(operators[i]);
            stakes.withdraw(id);
        }
        for (uint256 i = 0; i < 2 * DELEGATORS; ++i) {
            takeDelegation(id, delegated(i), delegator(i / 2));
        }
        if (tasks.refundableOf(id) != 0) tasks.refund(id);
    }

    function startToLeave(uint64 id, address operator, address from) private {
        Stakes.Delegation memory delegation = stakes.delegationOf(id, operator, from);
        (uint128 active,,) = stakes.worthDown(id, operator, from);
        if (active != 0) {
            vm.prank(from);
            stakes.undelegate(id, operator, delegation.shares);
        }
        if (delegation.pending != 0) {
            vm.prank(from);
            stakes.cancelDelegation(id, operator);
        }
    }

    function takeDelegation(uint64 id, address operator, address from) private {
        if (stakes.delegationOf(id, operator, from).unbondingShares != 0) {
            vm.prank(from);
            stakes.withdrawDelegation(id, operator);
        }
        (,, uint128 reward) = stakes.worthDown(id, operator, from);
        if (reward != 0) stakes.claimRewards(id, operator, from);
    }

    // ---- Who ----

    function trainer(uint256 i) internal view override returns (address) {
        return operators[i];
    }

    function validator(uint256 i) internal view override returns (address) {
        return operators[TRAINERS + i];
    }

    function delegator(uint256 i) private pure returns (address) {
        return address(uint160(0x9000 + i % DELEGATORS));
    }

    /// @dev One trainer and one validator can be delegated to.
    function delegated(uint256 i) private view returns (address) {
        return i % 2 == 0 ? trainer(0) : validator(0);
    }

    /// @dev Small numbers, which a fuzzer likes, would be small in all their parts.
    function mix(uint256 seed) private pure returns (uint256) {
        return uint256(keccak256(abi.encode(seed)));
    }

    /// @dev A round with payouts, if there is one.
    function settled(uint256 seed) private view returns (uint64 id, uint32 round) {
        for (uint256 i = 0; i < TASKS * ROUNDS; ++i) {
            (id, round) =
            (pick(seed + (7 * i << 128)), 1 + uint32((seed / 16 + i / TASKS) % ROUNDS));
            if (leaves[id][round].length != 0) return (id, round);
        }
    }

    function pick(uint256 seed) private pure returns (uint64) {
        return 1 + uint64((seed >> 128) / 7 % TASKS);
    }

    function said(uint64 id, uint32 round, uint16 attempt, address who)
        private
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(id, round, attempt, who));
    }

    function decode(bytes memory packed) private pure returns (uint16[] memory factors) {
        factors = new uint16[](packed.length / 2);
        for (uint256 i = 0; i < factors.length; ++i) {
            factors[i] = (uint16(uint8(packed[2 * i])) << 8) | uint8(packed[2 * i + 1]);
        }
    }
}
