#!/bin/sh
# SmolLM2-135M, four trainers with six speakers of the First Folio each, two validators: a whole
# federation on this machine. Weights and texts are fetched from the registries at the first run.
set -eu
cd "$(dirname "$0")/../.."
[ -d examples/first-folio/data/held-back ] || python3 examples/first-folio/prepare.py
exec cargo run --release --quiet -- demo --task examples/first-folio/task.toml \
    --data examples/first-folio/data "$@"
