// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

// What static analysis points at, and why it stays:
// - assembly: words of calldata and memory whose lengths were checked; it runs for each slot;
// - cyclomatic-complexity: one pass over the slots;
// - divide-before-multiply: the quotient is the number of a word;
// - incorrect-shift: one bit is shifted by the number of the slot.
// slither-disable-start assembly,cyclomatic-complexity,divide-before-multiply,incorrect-shift

/// @title Public inputs of a round's proof
/// @notice Writes the public values of a round into a buffer and turns them into the inputs x and y
/// of the circuit. The layout is that of the Rust side, module `statement` of `crates/proofs`:
///
/// buffer = tag, h, bound, context, pool, flags (128 a word), factors (15 a word), then for each
/// slot commitment, trainer, payout
/// x = keccak256(buffer) mod r
/// y = the sum of value i times x^i, where value 0 is the context
///
/// Everything is one 32-byte word, so that the hash is over what Solidity has in memory anyway.
library RoundDigest {
    /// @notice A commitment is a field element.
    error CommitmentTooLarge(uint256 commitment);
    /// @notice An update with a commitment has sums, one without has none.
    error HalfAnEntry(uint256 index);
    /// @notice There are at most as many entries as slots, whole ones.
    error WrongEntries(uint256 slots, uint256 length);
    /// @notice Payouts have 36 bytes each.
    error WrongPayouts(uint256 length);
    /// @notice A payout, by its place in bytes, is to nobody whose slot is active and next.
    error PayoutWithoutSlot(uint256 offset);
    /// @notice More updates than the circuit has slots, or half a factor.
    error WrongFactors(uint256 slots, uint256 length);

    /// @notice Order of the scalar field of BN254.
    uint256 internal constant R =
        21888242871839275222246405745257275088548364400416034343698204186575808495617;
    bytes32 internal constant TAG = keccak256("convoke.round-proof.v1");
    bytes32 internal constant CONTEXT_TAG = keccak256("convoke.sketch-context.v1");
    uint256 internal constant FLAGS_PER_WORD = 128;
    uint256 internal constant FACTORS_PER_WORD = 15;
    /// @notice Bytes of one entry: trainer, update, commitment, root of the sums.
    uint256 internal constant ENTRY_BYTES = 116;
    uint256 internal constant PAYOUT_BYTES = 36;
    /// @dev Where in an entry its parts begin.
    uint256 private constant COMMITMENT_AT = 52;
    uint256 private constant SUMS_AT = 84;
    /// @dev Bytes of the factors that go in one word.
    uint256 private constant FACTOR_BYTES_PER_WORD = 30;
    /// @dev Words of the buffer before the flags.
    uint256 private constant FLAGS_AT = 5;

    /// @notice What sketches of a round are committed for; below 2^248.
    function context(address taskManager, uint64 task, uint32 round, uint16 attempt, bytes32 seed)
        internal
        view
        returns (uint256)
    {
        bytes32 hash = keccak256(
            abi.encode(CONTEXT_TAG, block.chainid, taskManager, task, round, attempt, seed)
        );
        return uint256(hash) & (type(uint256).max >> 8);
    }

    /// @notice A buffer with empty slots.
    /// @param slots The circuit's size.
    /// @param h What the prover sent along.
    /// @param bound Digest of whatever else the proof is tied to.
    /// @param pool What the trainers share.
    /// @param factors Two bytes an update, big endian; slots beyond have the factor 0.
    function open(
        uint256 slots,
        uint256 h,
        bytes32 bound,
        uint256 roundContext,
        uint128 pool,
        bytes calldata factors
    ) internal pure returns (uint256[] memory buffer) {
        if (factors.length > 2 * slots || factors.length % 2 != 0) {
            revert WrongFactors(slots, factors.length);
        }
        uint256 next = _factorsAt(slots);
        buffer = new uint256[](_slotsAt(slots) + 3 * slots);
        buffer[0] = uint256(TAG);
        buffer[1] = h;
        buffer[2] = uint256(bound);
        buffer[3] = roundContext;
        buffer[4] = pool;
        for (uint256 from = 0; from < factors.length; from += FACTOR_BYTES_PER_WORD) {
            uint256 left = factors.length - from;
            uint256 word;
            assembly ("memory-safe") {
                word := shr(16, calldataload(add(factors.offset, from)))
            }
            if (left < FACTOR_BYTES_PER_WORD) {
                // What follows the factors in the calldata is not theirs.
                uint256 excess = 8 * (FACTOR_BYTES_PER_WORD - left);
                word = (word >> excess) << excess;
            }
            buffer[next++] = word;
        }
    }

    /// @notice Fills the slots, in the order of the updates' commitments.
    /// @param entries 116 bytes an update: trainer, update, commitment, root of the sums. A
    /// commitment of zero stands for an update that was refused before the filter; its slot is not
    /// active.
    /// @param payouts 36 bytes a payout: account, amount. In the order of the slots; active slots
    /// whose trainer is not the next payout's account get nothing. None may be left over.
    function fill(
        uint256[] memory buffer,
        uint256 slots,
        bytes calldata entries,
        bytes calldata payouts
    ) internal pure {
        if (entries.length > ENTRY_BYTES * slots || entries.length % ENTRY_BYTES != 0) {
            revert WrongEntries(slots, entries.length);
        }
        if (payouts.length % PAYOUT_BYTES != 0) revert WrongPayouts(payouts.length);
        uint256 value = _slotsAt(slots);
        uint256 tooLarge;
        uint256 halves;
        uint256 left;
        assembly ("memory-safe") {
            value := add(buffer, mul(0x20, add(1, value)))
            let flags := add(buffer, mul(0x20, add(1, FLAGS_AT)))
            let entry := entries.offset
            let end := add(entry, entries.length)
            let payout := payouts.offset
            left := payouts.length
            for { let i := 0 } lt(entry, end) { i := add(i, 1) } {
                let trainer := shr(96, calldataload(entry))
                let commitment := calldataload(add(entry, COMMITMENT_AT))
                let sums := calldataload(add(entry, SUMS_AT))
                mstore(add(value, 0x20), trainer)
                if xor(iszero(commitment), iszero(sums)) { halves := add(i, 1) }
                if commitment {
                    if iszero(lt(commitment, R)) { tooLarge := commitment }
                    let word := add(flags, mul(0x20, div(i, FLAGS_PER_WORD)))
                    mstore(word, or(mload(word), shl(mod(i, FLAGS_PER_WORD), 1)))
                    mstore(value, commitment)
                    if left {
                        if eq(shr(96, calldataload(payout)), trainer) {
                            mstore(add(value, 0x40), shr(128, calldataload(add(payout, 20))))
                            payout := add(payout, PAYOUT_BYTES)
                            left := sub(left, PAYOUT_BYTES)
                        }
                    }
                }
                entry := add(entry, ENTRY_BYTES)
                value := add(value, 0x60)
            }
        }
        if (halves != 0) revert HalfAnEntry(halves - 1);
        if (tooLarge != 0) revert CommitmentTooLarge(tooLarge);
        if (left != 0) revert PayoutWithoutSlot(payouts.length - left);
    }

    /// @notice The public inputs.
    function close(uint256[] memory buffer) internal pure returns (uint256 x, uint256 y) {
        assembly ("memory-safe") {
            let first := add(buffer, 0x20)
            let size := mul(mload(buffer), 0x20)
            x := mod(keccak256(first, size), R)
            // Horner, from the last value to the context.
            let last := add(first, 0x60)
            for { let value := add(first, size) } gt(value, last) {} {
                value := sub(value, 0x20)
                y := addmod(mulmod(y, x, R), mload(value), R)
            }
        }
    }

    function _factorsAt(uint256 slots) private pure returns (uint256) {
        return FLAGS_AT + (slots + FLAGS_PER_WORD - 1) / FLAGS_PER_WORD;
    }

    function _slotsAt(uint256 slots) private pure returns (uint256) {
        return _factorsAt(slots) + (slots + FACTORS_PER_WORD - 1) / FACTORS_PER_WORD;
    }
}
// slither-disable-end assembly,cyclomatic-complexity,divide-before-multiply,incorrect-shift
