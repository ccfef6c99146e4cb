// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IRoundManagerErrors} from "../interfaces/IRoundManager.sol";
import {PayoutTree} from "./PayoutTree.sol";
import {Scores} from "./Scores.sol";

// What static analysis points at, and why it stays:
// - divide-before-multiply: the first quotient is meant to be rounded;
// - unused-return: some views answer more than one question.
// slither-disable-start divide-before-multiply,unused-return

/// @title What a submitted result is checked against, and what it pays
/// @dev Deployed by itself and linked: the round manager alone would pass the size limit of
/// EIP-170. It keeps nothing.
library Settlement {
    using Scores for bytes;

    uint256 private constant FACTOR_BYTES = 2;

    /// @notice What the chain holds of one validator that revealed.
    struct Revealer {
        address validator;
        bytes32 factorsHash;
        uint256 weight;
    }

    /// @notice Checks that `factors` are the stake-weighted lower medians of the reveals, and these
    /// the ones that the validators revealed; then splits the validators' pool.
    /// @param revealers In the order of their commitments.
    /// @param pool What all validators share; base units.
    /// @param committed Sum of the weights of all that committed, the silent ones too.
    /// @param count Number of updates.
    /// @return pays One for each revealer; what disagreement and silence lose is not paid.
    function validatorPaysDown(
        bytes calldata factors,
        bytes[] calldata reveals,
        Revealer[] memory revealers,
        uint256 pool,
        uint256 committed,
        uint256 count
    ) external pure returns (uint128[] memory pays) {
        _checkLength(factors, count);
        _checkReveals(reveals, revealers);
        uint256[] memory weights = new uint256[](revealers.length);
        for (uint256 v = 0; v < revealers.length; ++v) {
            weights[v] = revealers[v].weight;
        }
        uint256[] memory deviations = _checkMedians(factors, reveals, weights, count);
        pays = new uint128[](revealers.length);
        for (uint256 v = 0; v < revealers.length; ++v) {
            uint256 agreement = Scores.agreementDown(deviations[v], count);
            pays[v] = Scores.payDown(pool, weights[v], committed, agreement);
        }
    }

    /// @notice Without validators every update counts alike.
    function checkPlainFactors(bytes calldata factors, bytes[] calldata reveals, uint256 count)
        external
        pure
    {
        _checkLength(factors, count);
        _checkReveals(reveals, new Revealer[](0));
        for (uint256 i = 0; i < count; ++i) {
            uint16 factor = factors.factorAt(i);
            if (factor != Scores.FACTOR_ONE) {
                revert IRoundManagerErrors.WrongMedian(uint16(i), factor);
            }
        }
    }

    /// @notice Root and sum of packed payouts: nobody is asked to believe them.
    /// @param pool What all trainers share; base units.
    /// @param updates There are no more payouts than updates.
    function checkPayouts(
        address taskManager,
        uint64 task,
        uint32 round,
        bytes calldata payouts,
        uint128 pool,
        uint256 updates
    ) external view returns (bytes32 root, uint128 total) {
        uint256 count = payouts.length / PayoutTree.ENTRY_BYTES;
        if (count * PayoutTree.ENTRY_BYTES != payouts.length || count > updates) {
            revert IRoundManagerErrors.WrongPayoutsLength(payouts.length);
        }
        bytes32[] memory leaves = new bytes32[](count);
        uint256 sum = 0;
        for (uint256 i = 0; i < count; ++i) {
            (address account, uint128 amount) = PayoutTree.entry(payouts, i);
            if (amount == 0) revert IRoundManagerErrors.ZeroPayout(uint16(i));
            sum += amount;
            leaves[i] = PayoutTree.leaf(taskManager, task, round, account, amount);
        }
        if (sum > pool) revert IRoundManagerErrors.PayoutsAbovePool(pool, sum);
        _checkAccounts(payouts, count);
        return (PayoutTree.root(leaves), uint128(sum));
    }

    /// @return deviations Sum over the updates, one for each reveal.
    function _checkMedians(
        bytes calldata factors,
        bytes[] calldata reveals,
        uint256[] memory weights,
        uint256 count
    ) private pure returns (uint256[] memory deviations) {
        deviations = new uint256[](weights.length);
        uint256[] memory places = Scores.starts(reveals);
        uint256 total = 0;
        for (uint256 v = 0; v < weights.length; ++v) {
            total += weights[v];
        }
        for (uint256 i = 0; i < count; ++i) {
            uint16 factor = factors.factorAt(i);
            if (!Scores.checkMedian(places, i, factor, weights, total, deviations)) {
                revert IRoundManagerErrors.WrongMedian(uint16(i), factor);
            }
        }
    }

    /// @dev One payout an account, by a hash set with open addressing. The zero address cannot be
    /// told from a free place; nobody could claim for it either.
    function _checkAccounts(bytes calldata payouts, uint256 count) private pure {
        address[] memory seen = new address[](2 * count);
        for (uint256 i = 0; i < count; ++i) {
            (address account,) = PayoutTree.entry(payouts, i);
            uint256 place = uint256(keccak256(abi.encode(account))) % seen.length;
            while (seen[place] != account && seen[place] != address(0)) {
                place = (place + 1) % seen.length;
            }
            if (seen[place] == account) {
                revert IRoundManagerErrors.DuplicatePayout(uint16(i), account);
            }
            seen[place] = account;
        }
    }

    function _checkLength(bytes calldata factors, uint256 count) private pure {
        if (factors.length != FACTOR_BYTES * count) {
            revert IRoundManagerErrors.WrongFactorsLength(FACTOR_BYTES * count, factors.length);
        }
    }

    function _checkReveals(bytes[] calldata reveals, Revealer[] memory revealers) private pure {
        for (uint256 v = 0; v < revealers.length; ++v) {
            bytes32 got = v < reveals.length ? keccak256(reveals[v]) : bytes32(0);
            Revealer memory revealer = revealers[v];
            if (got != revealer.factorsHash) {
                revert IRoundManagerErrors.WrongReveal(
                    revealer.validator, revealer.factorsHash, got
                );
            }
        }
        if (reveals.length > revealers.length) {
            bytes32 got = keccak256(reveals[revealers.length]);
            revert IRoundManagerErrors.WrongReveal(address(0), 0, got);
        }
    }
}
// slither-disable-end divide-before-multiply,unused-return
