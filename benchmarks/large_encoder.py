"""A whole examination of a transformer encoder of 22 million parameters on a CPU: time and memory.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/large_encoder.py [--folder FOLDER]

A BERT of 6 layers of width 384 with 12 heads (the sizes of all-MiniLM-L6-v2) is built from its
configuration with `transformers`, trained briefly here on sentences made up from a seed, and saved;
nothing is downloaded. A process of its own then runs `whynet examine` on it. Promise: less than 10
minutes on two cores and less than 8 GB, and intervals on what the panels show. Seconds are those of
the processor, of one thread, besides those of the clock, so that a busy machine can tell as well.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

MINUTES, GIGABYTES = 10, 8.0
TRAIN, TEST, LENGTH, WORDS = 2048, 1024, 16, 30_522
STEPS, BATCH = 60, 32

MODEL: Final = f"""
from transformers import BertConfig, BertForSequenceClassification


def build():
    return BertForSequenceClassification(BertConfig(
        vocab_size={WORDS}, hidden_size=384, num_hidden_layers=6, num_attention_heads=12,
        intermediate_size=1536, max_position_embeddings=512, num_labels=2,
        attn_implementation="eager",
    ))
"""


def sentences(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return tokens and masks `[rows, LENGTH]`, and labels.

    A sentence has 8 to 16 words, 200 to 999; the label says whether odd words below 400 outnumber
    even ones, and 5 % of the labels are flipped.
    """
    generator = np.random.default_rng(seed)
    ids = np.where(
        generator.random((rows, LENGTH)) < 0.5,
        generator.integers(200, 400, (rows, LENGTH)),
        generator.integers(400, 1000, (rows, LENGTH)),
    )
    lean = generator.random((rows, 1)) < 0.5
    marked = ids < 400
    swap = generator.random(ids.shape) < 0.6
    ids = np.where(marked & swap, ids - ids % 2 + lean, ids)
    mask = np.arange(LENGTH) < generator.integers(8, LENGTH + 1, (rows, 1))
    score = (np.where(ids % 2 == 1, 1, -1) * marked * mask).sum(1)
    labels = (score > 0) ^ (generator.random(rows) < 0.05)
    return ids * mask, mask.astype(np.int64), labels.astype(np.int64)


def prepare(folder: Path) -> int:
    """Write model, weights and data; return the number of parameters."""
    import torch
    from safetensors.torch import save_file

    (folder / "model.py").write_text(MODEL)
    for name, rows, seed in (("train", TRAIN, 0), ("test", TEST, 1)):
        ids, mask, labels = sentences(rows, seed)
        np.savez(folder / f"{name}.npz", input_ids=ids, attention_mask=mask, labels=labels)
    scope: dict[str, Any] = {}
    exec(MODEL, scope)
    torch.manual_seed(0)
    network = scope["build"]()
    with np.load(folder / "train.npz") as held:
        data = {name: torch.from_numpy(held[name]) for name in held.files}
    optimizer = torch.optim.AdamW(network.parameters(), 2e-4)
    generator = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        rows_ = torch.randint(TRAIN, (BATCH,), generator=generator)
        loss = network(**{name: value[rows_] for name, value in data.items()}).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"trained: loss of the last batch {float(loss.detach()):.3f}", flush=True)
    save_file(dict(network.state_dict()), folder / "model.safetensors")
    return sum(p.numel() for p in network.parameters())


def examined(folder: Path, options: list[str]) -> tuple[float, float, float]:
    """Run the examination; return seconds on the clock, CPU seconds, and peak memory in GB."""
    command = [
        sys.executable, "-m", "whynet", "examine", f"{folder / 'model.py'}:build",
        "--weights", str(folder / "model.safetensors"), "--train", str(folder / "train.npz"),
        "--test", str(folder / "test.npz"), "--loss", "cross_entropy",
        "--out", str(folder / "report"), *options,
    ]  # fmt: skip
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=False)
    clock, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 3):
        raise SystemExit(f"whynet examine ended with {done.returncode}")
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return clock, spent, after.ru_maxrss / 2**20


def main() -> None:
    """Print time, memory and panels; exit with 1 where the promise is broken."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, help="is kept; a temporary one by default")
    parser.add_argument("--rest", nargs=argparse.REMAINDER, default=[], help="for whynet examine")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "model.safetensors").exists():
            print(f"{prepare(folder):,} parameters", flush=True)
        clock, spent, memory = examined(folder, given.rest)
        summary = json.loads((folder / "report" / "summary.json").read_text())
    print(f"clock {clock:.0f} s, processor {spent:.0f} s, peak memory {memory:.2f} GB")
    for instrument, outcome in summary["instruments"].items():
        numbers = [e for key, e in summary["numbers"].items() if key.split(".")[0] == instrument]
        bars = sum(e["low"] is not None and e["high"] is not None and e["low"] < e["high"]
                   for e in numbers)  # fmt: skip
        print(f"{instrument:24} {outcome['state']}, {bars} of {len(numbers)} numbers have bars")
    raise SystemExit(0 if spent < 120 * MINUTES and memory < GIGABYTES else 1)


if __name__ == "__main__":
    main()
