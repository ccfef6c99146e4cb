#!/usr/bin/env node
// Writes src/libraries/PoseidonConstants.sol: the parameters of the Poseidon permutation that
// sketches are committed with, as the Rust side has them (`Poseidon::narrow` of crates/proofs).
// They come from the reference Grain generator, and are checked by commitments of the Rust side.
//
//   node tools/poseidon.js
"use strict";
const fs = require("fs");
const path = require("path");

const R = 21888242871839275222246405745257275088548364400416034343698204186575808495617n;
const BITS = 254;
const WIDTH = 7;
const FULL_ROUNDS = 8;
const PARTIAL_ROUNDS = 63;

// The Poseidon paper's generator: 80 bits that say what for, then pairs of bits, of which the
// second counts if the first is set.
function grain() {
  const state = [
    ...bits(1, 2), // a prime field
    ...bits(0, 4), // the S-box is x^5
    ...bits(BITS, 12),
    ...bits(WIDTH, 12),
    ...bits(FULL_ROUNDS, 10),
    ...bits(PARTIAL_ROUNDS, 10),
    ...Array(30).fill(1),
  ];
  const step = () => {
    const bit = state[62] ^ state[51] ^ state[38] ^ state[23] ^ state[13] ^ state[0];
    state.shift();
    state.push(bit);
    return bit;
  };
  for (let i = 0; i < 160; i++) step();
  const next = () => {
    while (!step()) step();
    return step();
  };
  return () => {
    let number = 0n;
    for (let i = 0; i < BITS; i++) number = (number << 1n) | BigInt(next());
    return number;
  };
}

function bits(value, count) {
  return Array.from({ length: count }, (_, i) => (value >> (count - 1 - i)) & 1);
}

function parameters() {
  const draw = grain();
  const below = () => {
    for (;;) {
      const number = draw();
      if (number < R) return number;
    }
  };
  const list = (make) => Array.from({ length: WIDTH }, make);
  const rounds = FULL_ROUNDS + PARTIAL_ROUNDS;
  const constants = Array.from({ length: rounds }, () => list(below));
  const [xs, ys] = [list(() => draw() % R), list(() => draw() % R)];
  const matrix = xs.map((x) => ys.map((y) => inverse((x + y) % R)));
  return { constants, matrix };
}

// In a partial round only the first element goes through the S-box: what is added to the others
// can as well be added after the matrix. So such a round needs one constant.
function sparse({ constants, matrix }) {
  const out = [];
  let carry = Array(WIDTH).fill(0n);
  constants.forEach((row, round) => {
    const sum = row.map((constant, i) => (constant + carry[i]) % R);
    const first = FULL_ROUNDS / 2;
    if (round < first || round >= first + PARTIAL_ROUNDS) {
      out.push(...sum);
      carry = carry.fill(0n);
    } else {
      out.push(sum[0]);
      const rest = [0n, ...sum.slice(1)];
      carry = matrix.map((line) => line.reduce((s, m, i) => (s + m * rest[i]) % R, 0n));
    }
  });
  return out;
}

function inverse(value) {
  let [result, base, exponent] = [1n, value, R - 2n];
  for (; exponent > 0n; exponent >>= 1n) {
    if (exponent & 1n) result = (result * base) % R;
    base = (base * base) % R;
  }
  return result;
}

function main() {
  const { constants, matrix } = parameters();
  const words = [...matrix.flat(), ...sparse({ constants, matrix })];
  const lines = words.map((word) => `        hex"${word.toString(16).padStart(64, "0")}"`);
  const source = `// SPDX-License-Identifier: MIT OR Apache-2.0
// Written by tools/poseidon.js.
pragma solidity 0.8.37;

/// @title Parameters of Poseidon over the scalar field of BN254, ${WIDTH} elements wide
/// @notice x^5, ${FULL_ROUNDS} full and ${PARTIAL_ROUNDS} partial rounds, from the reference Grain generator. First the matrix by
/// rows, then the rounds' constants: ${WIDTH} for a full round, one for a partial round, whose others are
/// moved past the matrix into the next round.
library PoseidonConstants {
    bytes internal constant WORDS =
${lines.join("\n")};
}
`;
  const file = path.resolve(__dirname, "../src/libraries/PoseidonConstants.sol");
  fs.writeFileSync(file, source);
}

main();
