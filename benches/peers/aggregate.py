"""The same aggregation by Convoke, by Flower's functions and by plain NumPy, in one run.

    python3 -m venv /tmp/peers && /tmp/peers/bin/pip install -r benches/peers/requirements-aggregate.txt
    cargo build --release
    /tmp/peers/bin/python benches/peers/aggregate.py --convoke target/release/convoke

Every tool gets N updates of D values of f32 in memory, in the same distribution, and is timed from
there to the aggregated update. Prints a table, or one JSON object with `--format json`: seconds, and
how many times as long as Convoke each one takes. Flower's Krum and Bulyan need several times the
memory of the updates; with 24 GiB, take `--parameters 1000000` for Bulyan.
"""

import argparse
import json
import subprocess
import sys
import time

import numpy as np
from flwr.server.strategy import aggregate as flower

RULES = ("fedavg", "coordinate_median", "trimmed_mean", "krum", "multi_krum", "bulyan")


def flower_rule(rule, updates, attackers):
    """What calls Flower's function for a rule of ours."""
    results = [([update], 1_000) for update in updates]
    kept = len(updates) - attackers
    return {
        "fedavg": lambda: flower.aggregate(results),
        "coordinate_median": lambda: flower.aggregate_median(results),
        "trimmed_mean": lambda: flower.aggregate_trimmed_avg(results, attackers / len(updates)),
        "krum": lambda: flower.aggregate_krum(results, attackers, 0),
        "multi_krum": lambda: flower.aggregate_krum(results, attackers, kept),
        "bulyan": lambda: flower.aggregate_bulyan(
            results, min(attackers, (len(updates) - 3) // 4), flower.aggregate_krum, to_keep=0
        ),
    }[rule]


def numpy_rule(rule, updates, attackers):
    """The shortest NumPy that does the same, or none."""
    stacked, count = updates, len(updates)

    def krum(kept):
        gram = stacked @ stacked.T
        squares = np.diag(gram)
        distances = squares[:, None] + squares[None, :] - 2 * gram
        nearest = np.sort(distances, axis=1)[:, 1 : count - attackers - 1]
        chosen = np.argsort(nearest.sum(axis=1))[:kept]
        return stacked[chosen].mean(axis=0)

    def trimmed_mean():
        kept = np.sort(stacked, axis=0)[attackers : count - attackers]
        return kept.mean(axis=0)

    return {
        "fedavg": lambda: np.full(count, 1 / count, np.float32) @ stacked,
        "coordinate_median": lambda: np.median(stacked, axis=0),
        "trimmed_mean": trimmed_mean,
        "krum": lambda: krum(1),
        "multi_krum": lambda: krum(count - attackers),
    }.get(rule)


def seconds(work, passes):
    """Of the fastest pass."""
    best = float("inf")
    for _ in range(passes):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def convoke(args, rule):
    """What `convoke bench aggregate` says."""
    command = [args.convoke, "bench", "aggregate", "--format", "json", "--rule", rule]
    command += ["--updates", str(args.updates), "--parameters", str(args.parameters)]
    command += ["--threads", str(args.threads)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--convoke", default="target/release/convoke", help="the binary")
    parser.add_argument("--updates", type=int, default=32)
    parser.add_argument("--parameters", type=int, default=10_000_000)
    parser.add_argument("--threads", type=int, default=2, help="of Convoke")
    parser.add_argument("--passes", type=int, default=1, help="of the others")
    parser.add_argument("--rules", nargs="+", choices=RULES, default=RULES)
    parser.add_argument("--without", nargs="*", choices=("flower", "numpy"), default=())
    parser.add_argument("--format", choices=("text", "json"), default="text")
    args = parser.parse_args()

    # Ours first: it needs the memory to itself.
    ours = {rule: convoke(args, rule) for rule in args.rules}
    random = np.random.default_rng(7)
    shape = (args.updates, args.parameters)
    updates = random.random(shape, dtype=np.float32) * np.float32(2) - np.float32(1)
    attackers = args.updates // 5
    rows = []
    for rule in args.rules:
        row = {"rule": rule, "convoke": ours[rule]}
        peers = {"flower": flower_rule, "numpy": numpy_rule}
        for name, make in peers.items():
            work = None if name in args.without else make(rule, updates, attackers)
            if work is not None:
                taken = seconds(work, args.passes)
                row[f"{name}_seconds"] = taken
                row[f"{name}_ratio"] = taken / ours[rule]["seconds"]
        rows.append(row)
        if args.format == "text":
            figures = (f"{key} {value:.3f}" for key, value in row.items() if isinstance(value, float))
            print(f"{rule}: convoke {ours[rule]['seconds']:.4f}", *figures, sep=", ", flush=True)
    if args.format == "json":
        json.dump({"updates": args.updates, "parameters": args.parameters, "rules": rows}, sys.stdout)
        print()


if __name__ == "__main__":
    main()
