#!/usr/bin/env python3
"""A round of Flower's, beside one of Convoke's, on this machine and in this run.

Flower's side is its deployment: a SuperLink, which starts the ServerApp (FedAvg), and as many
SuperNodes, whose ClientApps return a constant array. Everything has the defaults but TLS, which
is off for Flower (`--insecure`); Convoke's connections are encrypted, and its updates signed,
hashed, filtered and written to disk. Neither side trains. Convoke's round settles on a chain that
takes any proof.

    python3 -m venv venv && venv/bin/pip install -r benches/peers/requirements-round.txt
    venv/bin/python benches/peers/round.py --convoke target/release/convoke \\
        --nodes 16 --parameters 1000000

Prints one JSON object. Memory is the largest sum of the resident sets of the SuperLink and the
processes below it (the ServerApp among them), looked at every 50 ms; Convoke's is the aggregator's
peak. Linux only.
"""

import argparse
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "bench-round"
version = "1.0.0"
description = "Rounds without training"
license = "Apache-2.0"
dependencies = ["flwr"]

[tool.flwr.app]
publisher = "bench"

[tool.flwr.app.components]
serverapp = "bench_round.server_app:app"
clientapp = "bench_round.client_app:app"

[tool.flwr.app.config]
parameters = 1
nodes = 1
rounds = 1
out = ""
"""

SERVER_APP = """
import json
import time

import numpy as np
from flwr.app import ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


class Timed(FedAvg):
    begun = []

    def configure_train(self, *args, **kwargs):
        self.begun.append(time.monotonic())
        return super().configure_train(*args, **kwargs)


@app.main()
def main(grid, context):
    config = context.run_config
    nodes = int(config["nodes"])
    strategy = Timed(
        fraction_evaluate=0.0, min_train_nodes=nodes, min_available_nodes=nodes
    )
    arrays = ArrayRecord([np.zeros(int(config["parameters"]), dtype=np.float32)])
    strategy.start(grid=grid, initial_arrays=arrays, num_rounds=int(config["rounds"]))
    with open(config["out"] + ".part", "w") as out:
        json.dump(strategy.begun + [time.monotonic()], out)
    import os

    os.rename(config["out"] + ".part", config["out"])
"""

CLIENT_APP = """
import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(msg, context):
    count = int(context.run_config["parameters"])
    arrays = ArrayRecord([np.full(count, 0.5, dtype=np.float32)])
    metrics = MetricRecord({"num-examples": 1000})
    return Message(content=RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=msg)
"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def resident(root: int) -> int:
    """Bytes resident in a process and all below it."""
    children, sizes = {}, {}
    page = os.sysconf("SC_PAGE_SIZE")
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            fields = pathlib.Path("/proc", entry, "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(entry))
        sizes[int(entry)] = int(fields[21]) * page
    total, todo = 0, [root]
    while todo:
        process = todo.pop()
        total += sizes.get(process, 0)
        todo += children.get(process, [])
    return total


class Peak(threading.Thread):
    """The largest sum seen."""

    def __init__(self, root: int):
        super().__init__(daemon=True)
        self.root, self.bytes, self.ended = root, 0, threading.Event()

    def run(self):
        while not self.ended.wait(0.05):
            self.bytes = max(self.bytes, resident(self.root))


def flower(nodes: int, parameters: int, rounds: int, patience: float) -> dict:
    scripts = pathlib.Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        package = folder / "app" / "bench_round"
        package.mkdir(parents=True)
        (folder / "app" / "pyproject.toml").write_text(PYPROJECT)
        (package / "__init__.py").write_text("")
        (package / "server_app.py").write_text(SERVER_APP)
        (package / "client_app.py").write_text(CLIENT_APP)
        port = free_port()
        home = folder / "home"
        home.mkdir()
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "bench"\n\n[superlink.bench]\n'
            f'address = "127.0.0.1:{port}"\ninsecure = true\n'
        )
        environment = os.environ | {
            "FLWR_HOME": str(home),
            "FLWR_TELEMETRY_ENABLED": "0",
            "PATH": f"{scripts}:{os.environ['PATH']}",
        }
        running = []

        def start(log: str, *line: str) -> subprocess.Popen:
            with open(folder / log, "w") as out:
                process = subprocess.Popen(
                    [str(scripts / line[0]), *line[1:]],
                    env=environment, stdout=out, stderr=subprocess.STDOUT,
                )
            running.append(process)
            return process

        try:
            superlink = start(
                "superlink.log", "flower-superlink", "--insecure",
                "--disable-runtime-dependency-installation",
                "--port", str(port),
            )
            peak = Peak(superlink.pid)
            peak.start()
            time.sleep(5)
            for node in range(nodes):
                start(
                    f"supernode-{node}.log", "flower-supernode", "--insecure",
                    "--superlink", f"127.0.0.1:{port}", "--port", str(free_port()),
                )
            out = folder / "times.json"
            config = f"parameters={parameters} nodes={nodes} rounds={rounds} out='{out}'"
            submitted = subprocess.run(
                [str(scripts / "flwr"), "run", str(folder / "app"), "bench", "--run-config", config],
                env=environment, capture_output=True, text=True, timeout=patience,
            )
            end = time.monotonic() + patience
            while not out.exists() and time.monotonic() < end and superlink.poll() is None:
                time.sleep(0.1)
            if not out.exists():
                print(submitted.stdout[-2000:], submitted.stderr[-2000:], file=sys.stderr)
                for log in ("superlink.log", "supernode-0.log"):
                    print((folder / log).read_text()[-3000:], file=sys.stderr)
                sys.exit("Flower has not finished")
            times = json.loads(out.read_text())
            peak.ended.set()
        finally:
            for process in running:
                process.terminate()
            for process in running:
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
    # The first round is not measured, as in Convoke's benchmark.
    measured = (times[-1] - times[1]) / (len(times) - 2)
    return {"seconds_per_round": measured, "peak_rss_bytes": peak.bytes}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--convoke", help="the binary; without it only Flower is measured")
    parser.add_argument("--nodes", type=int, default=16)
    parser.add_argument("--parameters", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=2, help="measured, after one that is not")
    parser.add_argument("--patience", type=float, default=900, help="seconds")
    args = parser.parse_args()
    import flwr

    peer = flower(args.nodes, args.parameters, args.rounds + 1, args.patience)
    result = {
        "nodes": args.nodes,
        "parameters": args.parameters,
        "rounds": args.rounds,
        "flower": {"version": flwr.__version__, **peer},
    }
    if args.convoke:
        line = [
            args.convoke, "bench", "round", "--format", "json",
            "--trainers", str(args.nodes), "--parameters", str(args.parameters),
            "--rounds", str(args.rounds),
        ]
        ours = json.loads(subprocess.run(line, check=True, capture_output=True).stdout)
        result["convoke"] = ours
        result["times_faster"] = peer["seconds_per_round"] / ours["seconds_per_round"]
        result["share_of_memory"] = ours["peak_rss_bytes"] / peer["peak_rss_bytes"]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
