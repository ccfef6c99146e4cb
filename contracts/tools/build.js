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
const CONTRACTS = {
  ConvokeToken: "src/ConvokeToken.sol",
  StakeManager: "src/StakeManager.sol",
  TaskManager: "src/TaskManager.sol",
  RoundManager: "src/RoundManager.sol",
  PenaltyManager: "src/PenaltyManager.sol",
  Groth16Verifier: "src/Groth16Verifier.sol",
  RoundProofVerifier: "src/RoundProofVerifier.sol",
  SketchAudit: "src/SketchAudit.sol",
  UncheckedVerifier: "src/UncheckedVerifier.sol",
  Settlement: "src/libraries/Settlement.sol",
  TimelockController: "@openzeppelin/contracts/governance/TimelockController.sol",
};

// Keep in step with foundry.toml.
const SETTINGS = {
  optimizer: { enabled: true, runs: 200 },
  evmVersion: "shanghai",
  metadata: { bytecodeHash: "none", appendCBOR: false },
  outputSelection: {
    "*": {
      "*": [
        "abi",
        "evm.bytecode.object",
        "evm.bytecode.linkReferences",
        "evm.deployedBytecode.object",
      ],
    },
  },
};

function main() {
  const out = path.resolve(process.argv[2] ?? path.join(ROOT, "artifacts"));
  fs.mkdirSync(out, { recursive: true });
  const compiled = compile();
  for (const [name, file] of Object.entries(CONTRACTS)) {
    const { abi, evm } = compiled[file][name];
    const artifact = {
      contractName: name,
      compiler: solc.version(),
      abi,
      bytecode: unlinked(evm.bytecode),
      deployedBytecode: unlinked(evm.deployedBytecode),
      // Where in the bytecode, in bytes, a library's address belongs; zeros are there now.
      linkReferences: links(evm.bytecode),
    };
    fs.writeFileSync(path.join(out, `${name}.json`), `${JSON.stringify(artifact, null, 1)}\n`);
  }
}

// solc writes a hash of the library's name where its address belongs.
function unlinked(code) {
  return `0x${code.object.replace(/__\$[0-9a-f]{34}\$__/g, "00".repeat(20))}`;
}

function links(code) {
  const libraries = Object.values(code.linkReferences ?? {}).flatMap(Object.entries);
  return Object.fromEntries(
    libraries.map(([name, places]) => [name, places.map((place) => place.start)]),
  );
}

function compile() {
  const sources = Object.fromEntries(
    Object.values(CONTRACTS).map((file) => [file, { content: source(file) }]),
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
    return { contents: source(name) };
  } catch (error) {
    return { error: error.message };
  }
}

function source(name) {
  return read(name.startsWith("@") ? `node_modules/${name}` : name);
}

function read(name) {
  return fs.readFileSync(path.join(ROOT, name), "utf8");
}

main();
