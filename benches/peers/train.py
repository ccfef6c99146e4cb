"""The same training steps by Convoke and by PyTorch, in one run.

    python3 -m venv /tmp/peers && /tmp/peers/bin/pip install -r benches/peers/requirements-train.txt
    cargo build --release
    /tmp/peers/bin/python benches/peers/train.py --convoke target/release/convoke

Both train the same model with the same optimizer on made-up data that stays in memory, a batch of
the same size a step, on the same number of threads, for the same number of steps after a few to
warm up; the passes of the two take turns, and the fastest of each counts. Prints a table, or one
JSON object with `--format json`: rates, and Convoke's rate over PyTorch's (above 1 is faster).
`--compile` measures PyTorch's compiler (it needs a C++ compiler), `--without-convoke` PyTorch alone.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

MODELS = ("cnn", "mlp", "transformer", "llama")
BATCH = {"cnn": 64, "mlp": 64, "transformer": 8, "llama": 4}
STEPS = {"cnn": 60, "mlp": 600, "transformer": 12, "llama": 3}


class Cnn(nn.Module):
    """conv 3x3 16, relu, pool, conv 3x3 32, relu, pool, dense 128, relu, dense 10."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.fc1 = nn.Linear(32 * 7 * 7, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class Mlp(nn.Module):
    """784-200-10."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(784, 200)
        self.fc2 = nn.Linear(200, 10)

    def forward(self, x):
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class Block(nn.Module):
    """A pre-norm block of the decoder."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x):
        b, t, w = x.shape
        q, k, v = (
            y.view(b, t, self.heads, -1).transpose(1, 2) for y in self.qkv(self.norm1(x)).chunk(3, 2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, w))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Transformer(nn.Module):
    """d 256, 4 layers, 4 heads, vocabulary 4096, learnt positions, the embedding as the head."""

    def __init__(self, vocabulary=4096, width=256, layers=4, heads=4, time=128):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(time, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, ids):
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return (self.norm(x) @ self.tokens.weight.T).flatten(0, 1)


class Lora(nn.Module):
    """A frozen dense layer with an adapter of rank 8."""

    def __init__(self, inputs, outputs, rank=8, alpha=16.0):
        super().__init__()
        self.base = nn.Linear(inputs, outputs, bias=False).requires_grad_(False)
        self.a = nn.Parameter(torch.randn(inputs, rank) / math.sqrt(inputs))
        self.b = nn.Parameter(torch.zeros(rank, outputs))
        self.scale = alpha / rank

    def forward(self, x):
        return self.base(x) + (x @ self.a) @ self.b * self.scale


class LlamaBlock(nn.Module):
    """Grouped-query attention with rotary positions, RMS norms, SwiGLU; adapters on q and v."""

    def __init__(self, width, heads, heads_kv, hidden):
        super().__init__()
        self.heads, self.heads_kv, d = heads, heads_kv, width // heads
        self.norm1, self.norm2 = nn.RMSNorm(width, 1e-5), nn.RMSNorm(width, 1e-5)
        self.q, self.v = Lora(width, heads * d), Lora(width, heads_kv * d)
        self.k = nn.Linear(width, heads_kv * d, bias=False)
        self.o = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)
        for layer in (self.norm1, self.norm2, self.k, self.o, self.gate, self.up, self.down):
            layer.requires_grad_(False)

    def forward(self, x, cos, sin):
        b, t, w = x.shape
        y = self.norm1(x)
        q = self.q(y).view(b, t, self.heads, -1).transpose(1, 2)
        k = self.k(y).view(b, t, self.heads_kv, -1).transpose(1, 2)
        v = self.v(y).view(b, t, self.heads_kv, -1).transpose(1, 2)

        def turned(z):
            low, high = z.chunk(2, 3)
            return z * cos + torch.cat((-high, low), 3) * sin

        y = F.scaled_dot_product_attention(turned(q), turned(k), v, is_causal=True, enable_gqa=True)
        x = x + self.o(y.transpose(1, 2).reshape(b, t, w))
        y = self.norm2(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Llama(nn.Module):
    """The shapes of SmolLM2-135M; LoRA of rank 8 on queries and values."""

    def __init__(self, vocabulary=49152, width=576, layers=30, heads=9, heads_kv=3, hidden=1536, time=128):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width).requires_grad_(False)
        self.blocks = nn.ModuleList(LlamaBlock(width, heads, heads_kv, hidden) for _ in range(layers))
        self.norm = nn.RMSNorm(width, 1e-5).requires_grad_(False)
        d = width // heads
        angles = torch.arange(time)[:, None] * 100000.0 ** (-torch.arange(0, d, 2) / d)[None]
        angles = torch.cat((angles, angles), 1)
        self.cos, self.sin = angles.cos(), angles.sin()

    def forward(self, ids):
        x = self.tokens(ids)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return (self.norm(x) @ self.tokens.weight.T).flatten(0, 1)


class Torch:
    """PyTorch, ready to take steps."""

    def __init__(self, name, batch, compiled):
        torch.manual_seed(7)
        self.name, self.batch = name, batch
        self.model = {"cnn": Cnn, "mlp": Mlp, "transformer": Transformer, "llama": Llama}[name]()
        if name in ("cnn", "mlp"):
            self.data = [(torch.randn(batch, 1, 28, 28), torch.randint(10, (batch,))) for _ in range(8)]
            self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
            self.units, self.unit = batch, "samples/s"
        else:
            vocabulary = self.model.tokens.num_embeddings
            ids = [torch.randint(vocabulary, (batch, 129)) for _ in range(4)]
            self.data = [(i[:, :-1].contiguous(), i[:, 1:].reshape(-1)) for i in ids]
            trained = [p for p in self.model.parameters() if p.requires_grad]
            self.optimizer = torch.optim.AdamW(trained, lr=1e-3, eps=1e-5)
            self.units, self.unit = batch * 128, "tokens/s"
        if compiled:
            self.model = torch.compile(self.model)

    def run(self, steps):
        """Seconds that so many steps take, and the last loss."""
        start = time.perf_counter()
        for step in range(steps):
            inputs, targets = self.data[step % len(self.data)]
            self.optimizer.zero_grad(set_to_none=True)
            loss = F.cross_entropy(self.model(inputs), targets)
            loss.backward()
            self.optimizer.step()
            last = loss.item()
        return time.perf_counter() - start, last


def convoke(args, name, batch, steps):
    """What `convoke bench train` says."""
    command = [args.convoke, "bench", "train", "--model", name, "--device", "cpu", "--format", "json"]
    command += ["--threads", str(args.threads), "--batch-size", str(batch), "--steps", str(steps)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def measured(args, name):
    """One row of the table."""
    batch, steps = args.batch_size or BATCH[name], args.steps or STEPS[name]
    peer = Torch(name, batch, args.compile)
    peer.run(max(1, steps // 10))
    row, best, loss, ours = {"model": name, "batch_size": batch, "steps": steps}, math.inf, 0.0, None
    for _ in range(args.passes):
        if not args.without_convoke:
            result = convoke(args, name, batch, steps)
            ours = result if ours is None or result["rate"] > ours["rate"] else ours
        seconds, loss = peer.run(steps)
        best = min(best, seconds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    row["pytorch"] = {
        "rate": peer.units * steps / best, "unit": peer.unit, "seconds": best, "loss": loss,
        "peak_rss_bytes": peak, "threads": args.threads, "version": torch.__version__,
    }
    if ours is not None:
        row["convoke"] = ours
        row["ratio"] = ours["rate"] / row["pytorch"]["rate"]
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--convoke", default="target/release/convoke", help="the binary")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--threads", type=int, default=2, help="of either")
    parser.add_argument("--batch-size", type=int, help="default: the model's own")
    parser.add_argument("--steps", type=int, help="default: the model's own")
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--without-convoke", action="store_true")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for name in args.models:
        row = measured(args, name)
        rows.append(row)
        if args.format == "text":
            line = f"{name}: PyTorch {row['pytorch']['rate']:.0f} {row['pytorch']['unit']}"
            if "convoke" in row:
                line += f", Convoke {row['convoke']['rate']:.0f}, ratio {row['ratio']:.2f}"
            print(line, flush=True)
    if args.format == "json":
        json.dump({"threads": args.threads, "models": rows}, sys.stdout)
        print()


if __name__ == "__main__":
    main()
