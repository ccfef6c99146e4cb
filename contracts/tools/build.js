#!/usr/bin/env node
// Compiles src/ and writes one artifact (ABI and bytecode) per contract.
// The output depends on the sources and on the pinned compiler alone: no metadata hash, no paths.
//
//   node tools/build.js [OUT_DIR]      default: artifacts
"use strict";
const fs = require("fs");
const path = require("path");
const solc = require("solc");

const ROOT = path.resolve(__dirname, "..");
const CONTRACTS = ["ConvokeToken", "StakeManager", "TaskManager"];

// Keep in step with foundry.toml.
const SETTINGS = {
  optimizer: { enabled: true, runs: 1000 },
  evmVersion: "shanghai",
  metadata: { bytecodeHash: "none", appendCBOR: false },
  outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } },
};

function main() {
  const out = path.resolve(process.argv[2] ?? path.join(ROOT, "artifacts"));
  fs.mkdirSync(out, { recursive: true });
  const compiled = compile();
  for (const name of CONTRACTS) {
    const { abi, evm } = compiled[`src/${name}.sol`][name];
    const artifact = {
      contractName: name,
      compiler: solc.version(),
      abi,
      bytecode: `0x${evm.bytecode.object}`,
      deployedBytecode: `0x${evm.deployedBytecode.object}`,
    };
    fs.writeFileSync(path.join(out, `${name}.json`), `${JSON.stringify(artifact, null, 1)}\n`);
  }
}

function compile() {
  const sources = Object.fromEntries(
    CONTRACTS.map((name) => [`src/${name}.sol`, { content: read(`src/${name}.sol`) }]),
  );
  const input = { language: "Solidity", sources, settings: SETTINGS };
  const output = JSON.parse(solc.compile(JSON.stringify(input), { import: find }));
  const problems = output.errors ?? [];
  for (const problem of problems) console.error(problem.formattedMessage);
  if (problems.some((problem) => problem.severity !== "info")) process.exit(1);
  return output.contracts;
}

function find(name) {
  try {
    return { contents: read(name.startsWith("@") ? `node_modules/${name}` : name) };
  } catch (error) {
    return { error: error.message };
  }
}

function read(name) {
  return fs.readFileSync(path.join(ROOT, name), "utf8");
}

main();
