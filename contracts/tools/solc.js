#!/usr/bin/env node
// Answers as the native compiler does, through the JavaScript build of it, so that forge
// needs no download: `--version`, and standard JSON from standard input to standard output.
"use strict";
const solc = require("solc");

if (process.argv.includes("--version")) {
  console.log("solc, the solidity compiler commandline interface");
  console.log(`Version: ${solc.version().replace(/\.Emscripten.*$/, ".Linux.g++")}`);
} else if (process.argv.includes("--standard-json")) {
  process.stdout.write(solc.compile(require("fs").readFileSync(0, "utf8")));
} else {
  console.error(`solc.js knows --version and --standard-json, got ${process.argv.slice(2)}`);
  process.exit(1);
}
