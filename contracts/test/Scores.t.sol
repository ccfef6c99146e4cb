// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {
    IRoundManagerErrors as Errors,
    IRoundManagerTypes as Rounds
} from "../src/interfaces/IRoundManager.sol";
import {PayoutTree} from "../src/libraries/PayoutTree.sol";
import {Scores} from "../src/libraries/Scores.sol";
import {Settlement} from "../src/libraries/Settlement.sol";
import {BaseTest} from "./helpers/Base.sol";
import {Reference} from "./helpers/Reference.sol";
import {Tree} from "./helpers/Tree.sol";
import {vm} from "./helpers/Vm.sol";

/// @notice The formulas against plain references, alone and in whole rounds.
contract ScoresTest is BaseTest {
    uint256 private constant MOST = 9;

    // ---- The median ----

    function test_the_lower_median() public pure {
        check([uint16(5), 0, 0], [uint256(1), 0, 0], 1, 5);
        check([uint16(5), 7, 0], [uint256(1), 1, 0], 2, 5);
        check([uint16(7), 5, 0], [uint256(1), 1, 0], 2, 5);
        check([uint16(7), 5, 6], [uint256(1), 1, 1], 3, 6);
        check([uint16(7), 5, 6], [uint256(2), 1, 1], 3, 6);
        check([uint16(7), 5, 6], [uint256(3), 1, 1], 3, 7);
        // No weight, no say.
        check([uint16(1), 5, 6], [uint256(0), 1, 0], 3, 5);
        check([uint16(4), 4, 9], [uint256(1), 1, 2], 3, 4);
    }

    function testFuzz_the_lower_median(uint16[MOST] memory values, uint128[MOST] memory by, uint8 n)
        public
        pure
    {
        (uint16[] memory some, uint256[] memory weights, uint256 total) = take(values, by, n);
        if (total == 0) return;
        equal(
            Scores.lowerMedian(some, weights, total), Reference.lowerMedian(some, weights), "median"
        );
    }

    /// Few values, so that there are many ties and much weight on the border.
    function testFuzz_the_lower_median_of_ties(
        uint16[MOST] memory values,
        uint128[MOST] memory by,
        uint8 n
    ) public pure {
        for (uint256 i = 0; i < MOST; ++i) {
            (values[i], by[i]) = (values[i] % 4, by[i] % 4);
        }
        testFuzz_the_lower_median(values, by, n);
    }

    /// One value passes the check, and it is the median.
    function testFuzz_no_other_factor_passes(
        uint16[MOST] memory values,
        uint128[MOST] memory by,
        uint8 n,
        uint16 other
    ) public view {
        for (uint256 i = 0; i < MOST; ++i) {
            values[i] = values[i] % 6;
        }
        (uint16[] memory some, uint256[] memory weights, uint256 total) = take(values, by, n);
        if (total == 0) return;
        uint16 median = Reference.lowerMedian(some, weights);
        isTrue(this.passes(oneEach(some), median, weights, total), "the median");
        isTrue(!this.passes(oneEach(some), median + 1, weights, total), "one more");
        if (median > 0) {
            isTrue(!this.passes(oneEach(some), median - 1, weights, total), "one less");
        }
        if (other != median) {
            isTrue(!this.passes(oneEach(some), other, weights, total), "another");
        }
    }

    // ---- Agreement and pay ----

    function test_agreement() public pure {
        equal(Scores.agreementDown(0, 3), 10_000, "full");
        equal(Scores.agreementDown(15_000, 3), 0, "none");
        equal(Scores.agreementDown(1, 1), 9_998, "down");
        equal(Scores.agreementDown(5_000, 2), 5_000, "half");
        equal(Scores.agreementDown(0, 0), 10_000, "of nothing");
    }

    function testFuzz_agreement(uint16[MOST] memory said, uint16[MOST] memory middle, uint8 n)
        public
        view
    {
        uint256 count = 1 + n % MOST;
        uint16[] memory factors = new uint16[](count);
        uint16[] memory medians = new uint16[](count);
        uint256 sum = 0;
        for (uint256 i = 0; i < count; ++i) {
            (factors[i], medians[i]) = (said[i] % 20_001, middle[i] % 20_001);
            sum += this.deviationOf(factors[i], medians[i]);
        }
        equal(
            Scores.agreementDown(sum, count), Reference.agreementDown(factors, medians), "agreement"
        );
    }

    function testFuzz_pay(uint128 pool, uint128 weight, uint128 rest, uint256 agreement)
        public
        pure
    {
        uint256 total = uint256(weight) + rest;
        agreement = agreement % 10_001;
        uint256 pay = Scores.payDown(pool, weight, total, agreement);
        isTrue(pay <= pool, "above the pool");
        if (total == 0) return equal(pay, 0, "of nothing");
        equal(pay, uint256(pool) * weight / total * agreement / 10_000, "pay");
    }

    // ---- Whole rounds ----

    /// Medians and pay of a round as the chain settles it, with validators of any stake.
    function testFuzz_a_round_is_settled_by_the_medians(
        uint8 validatorCount,
        uint8 updateCount,
        uint64[5] memory stakes_,
        uint256 seed
    ) public {
        uint256 validators = 1 + validatorCount % 5;
        uint16 updates = 1 + updateCount % 6;
        uint64 id = staffed(0);
        for (uint256 v = 0; v < validators; ++v) {
            stake(id, validator(v), 1, VALIDATOR_STAKE + stakes_[v] % (seed % 2 == 0 ? 3 : 1e18));
        }
        toScoring(id, 1, updates);
        uint16[][] memory reveals = randomReveals(validators, updates, seed);
        score(id, 1, reveals);
        Rounds.Submission memory result = submission(id, 1, reveals, new uint128[](0));

        uint256 update = seed % updates;
        uint16 median = Reference.medians(reveals, weights(id, 1, validators))[update];
        refusesFactor(id, result, update, median + 1);
        if (median > 0) refusesFactor(id, result, update, median - 1);
        submit(id, 1, result);
        checkPays(id, reveals);
    }

    /// Who reveals nothing gets nothing and has no say; the others get no more by it.
    function testFuzz_the_silent_have_no_say(uint8 silent, uint256 seed) public {
        uint256 validators = 4;
        uint64 id = staffed(validators);
        toScoring(id, 1, 3);
        uint16[][] memory reveals = randomReveals(validators, 3, seed);
        for (uint256 v = 0; v < validators; ++v) {
            commitScores(id, 1, v, reveals[v]);
        }
        uint256 missing = silent % validators;
        uint16[][] memory rest = new uint16[][](validators - 1);
        bytes[] memory encoded = new bytes[](validators - 1);
        uint256[] memory equalWeights = new uint256[](validators - 1);
        uint256 found = 0;
        for (uint256 v = 0; v < validators; ++v) {
            if (v == missing) continue;
            reveal(id, 1, v, reveals[v]);
            (rest[found], encoded[found]) = (reveals[v], encode(reveals[v]));
            equalWeights[found++] = 1;
        }
        pass(SCORE + 1);
        uint16[] memory medians = Reference.medians(rest, equalWeights);
        submit(id, 1, Rounds.Submission(0, 0, "", encode(medians), encoded, "proof"));
        uint256 part = POOL * VALIDATORS_BPS / ONE / validators;
        for (uint256 v = 0; v < validators; ++v) {
            uint256 pay =
                v == missing ? 0 : part * Reference.agreementDown(reveals[v], medians) / ONE;
            equal(rounds.directPayOf(id, 1, validator(v)), pay, "pay");
        }
    }

    // ---- The payouts ----

    function testFuzz_the_root_is_that_of_a_plain_tree(uint16 count, uint128 seed) public view {
        uint128[] memory amounts = new uint128[](count % 257);
        uint256 sum = 0;
        for (uint256 i = 0; i < amounts.length; ++i) {
            amounts[i] = 1 + uint128(uint256(keccak256(abi.encode(seed, i))) % 1e18);
            sum += amounts[i];
        }
        (bytes32 root, uint128 total) = Settlement.checkPayouts(
            address(tasks), 3, 7, pack(amounts), type(uint128).max, amounts.length
        );
        equal(total, sum, "total");
        isTrue(root == Tree.root(payoutLeaves(3, 7, amounts)), "root");
    }

    function testFuzz_no_account_is_paid_twice(uint16 count, uint256 first, uint256 second)
        public
        view
    {
        uint128[] memory amounts = new uint128[](2 + count % 255);
        for (uint256 i = 0; i < amounts.length; ++i) {
            amounts[i] = 1;
        }
        (first, second) = (first % amounts.length, second % amounts.length);
        if (first == second) return;
        if (first > second) (first, second) = (second, first);
        bytes memory packed = pack(amounts);
        for (uint256 i = 0; i < 20; ++i) {
            packed[36 * second + i] = packed[36 * first + i];
        }
        try Settlement.checkPayouts(
            address(tasks), 1, 1, packed, type(uint128).max, amounts.length
        ) {
            isTrue(false, "paid twice");
        } catch (bytes memory reason) {
            bytes memory expected =
                abi.encodeWithSelector(Errors.DuplicatePayout.selector, second, trainer(first));
            isTrue(keccak256(reason) == keccak256(expected), "reason");
        }
    }

    function testFuzz_packed_payouts_are_read_as_they_were_written(
        address account,
        uint128 amount,
        uint8 before
    ) public view {
        bytes memory packed = abi.encodePacked(
            new bytes(36 * uint256(before)), account, amount, "rest"
        );
        (address read, uint128 value) = this.entryOf(packed, before);
        isTrue(read == account && value == amount, "entry");
    }

    // ---- Calls that need calldata ----

    function passes(bytes[] calldata reveals, uint16 middle, uint256[] memory by, uint256 total)
        external
        pure
        returns (bool)
    {
        uint256[] memory places = Scores.starts(reveals);
        return Scores.checkMedian(places, 0, middle, by, total, new uint256[](reveals.length));
    }

    function deviationOf(uint16 factor, uint16 middle) external view returns (uint256) {
        bytes[] memory reveals = new bytes[](1);
        reveals[0] = abi.encodePacked(factor);
        return this.deviation(reveals, middle);
    }

    function deviation(bytes[] calldata reveals, uint16 middle) external pure returns (uint256) {
        uint256[] memory deviations = new uint256[](1);
        Scores.checkMedian(Scores.starts(reveals), 0, middle, new uint256[](1), 0, deviations);
        return deviations[0];
    }

    function entryOf(bytes calldata packed, uint256 index)
        external
        pure
        returns (address account, uint128 amount)
    {
        return PayoutTree.entry(packed, index);
    }

    // ---- Helpers ----

    function check(uint16[3] memory values, uint256[3] memory by, uint256 count, uint16 expected)
        private
        pure
    {
        uint16[] memory some = new uint16[](count);
        uint256[] memory weights = new uint256[](count);
        uint256 total = 0;
        for (uint256 i = 0; i < count; ++i) {
            (some[i], weights[i]) = (values[i], by[i]);
            total += by[i];
        }
        equal(Scores.lowerMedian(some, weights, total), expected, "median");
        equal(Reference.lowerMedian(some, weights), expected, "reference");
    }

    function checkPays(uint64 id, uint16[][] memory reveals) private view {
        uint256[] memory by = weights(id, 1, reveals.length);
        uint16[] memory medians = Reference.medians(reveals, by);
        uint256 total = 0;
        for (uint256 v = 0; v < by.length; ++v) {
            total += by[v];
        }
        uint256 pool = POOL * VALIDATORS_BPS / ONE;
        uint256 allotted = POOL * AGGREGATOR_BPS / ONE;
        for (uint256 v = 0; v < by.length; ++v) {
            uint256 pay = pool * by[v] / total * Reference.agreementDown(reveals[v], medians) / ONE;
            equal(rounds.directPayOf(id, 1, validator(v)), pay, "pay");
            allotted += pay;
        }
        equal(rounds.roundOf(id, 1).allotted, allotted, "allotted");
    }

    function refusesFactor(
        uint64 id,
        Rounds.Submission memory result,
        uint256 update,
        uint16 factor
    ) private {
        bytes memory honest = result.factors;
        bytes memory wrong = bytes.concat(honest);
        wrong[2 * update] = bytes1(uint8(factor >> 8));
        wrong[2 * update + 1] = bytes1(uint8(factor));
        result.factors = wrong;
        refused(abi.encodeWithSelector(Errors.WrongMedian.selector, update, factor));
        submit(id, 1, result);
        result.factors = honest;
    }

    function take(uint16[MOST] memory values, uint128[MOST] memory by, uint256 n)
        private
        pure
        returns (uint16[] memory some, uint256[] memory weights, uint256 total)
    {
        uint256 count = 1 + n % MOST;
        (some, weights) = (new uint16[](count), new uint256[](count));
        for (uint256 i = 0; i < count; ++i) {
            (some[i], weights[i]) = (values[i], by[i]);
            total += by[i];
        }
    }

    function oneEach(uint16[] memory values) private pure returns (bytes[] memory reveals) {
        reveals = new bytes[](values.length);
        for (uint256 i = 0; i < values.length; ++i) {
            reveals[i] = abi.encodePacked(values[i]);
        }
    }

    /// @dev Sometimes from few values, so that there are ties.
    function randomReveals(uint256 validators, uint256 updates, uint256 seed)
        private
        pure
        returns (uint16[][] memory reveals)
    {
        reveals = new uint16[][](validators);
        uint256 range = seed % 3 == 0 ? 3 : 20_001;
        for (uint256 v = 0; v < validators; ++v) {
            reveals[v] = new uint16[](updates);
            for (uint256 i = 0; i < updates; ++i) {
                reveals[v][i] = uint16(uint256(keccak256(abi.encode(seed, v, i))) % range);
            }
        }
    }
}
