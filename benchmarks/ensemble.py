"""Seconds of 10,000 steps of 256 networks at once; promise: at most 3.5 on a core, compiled.

On a machine that is slower or busy the promise is the ratio: the loop took 290 s where the 3.5 s
are promised, so it must take 83 times what the engine takes, in the same run.

The case of `notes/peers.md` f: two-layer ReLU networks of width 100 on 40 points of a line, full
batch, gradient descent, float32, one thread, recording the loss and a norm on the logarithmic
schedule. The peer is what everyone writes first: a loop over networks of nn.Module and
torch.optim.SGD. Each is timed over fewer steps and scaled to 10,000 steps of all networks; the
engine's figure is the difference of a longer and a shorter run, without compilation. Repeats are
interleaved. What recording costs is the same run with and without it; promise: at most 10 %.

    MALLOC_TRIM_THRESHOLD_=2000000000 MALLOC_MMAP_THRESHOLD_=2000000000 \
        python benchmarks/ensemble.py [--repeats 5]

The variables keep the C library from mapping its temporary memory anew in every step.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from whynet.training.ensemble import Below, Optimization, stacked, train_ensemble

MEMBERS, WIDTH, ROWS, STEPS, RATE = 256, 100, 40, 10_000, 0.05
PROMISE, RECORDING = 3.5, 0.10
QUIET_LOOP = 290.0  # seconds of the loop on the quiet machine of the promise


def networks(count: int) -> list[nn.Module]:
    torch.manual_seed(0)
    return [
        nn.Sequential(nn.Linear(1, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1)) for _ in range(count)
    ]


def data() -> tuple[Tensor, Tensor]:
    inputs = torch.linspace(-1, 1, ROWS)[:, None]
    return inputs, torch.sin(3 * inputs)


def half_mean_square(outputs: Tensor, targets: Tensor) -> Tensor:
    return 0.5 * (outputs - targets).square().mean()


def forward(parameters: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    hidden = torch.relu(inputs @ parameters["0.weight"].T + parameters["0.bias"])
    return hidden @ parameters["2.weight"].T + parameters["2.bias"]


def norm(parameters: Mapping[str, Tensor]) -> Tensor:
    return parameters["0.weight"].flatten(1).norm(dim=1)


def loop(steps: int) -> None:
    """Train one network as everyone does."""
    (network,), (inputs, targets) = networks(1), data()
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE)
    for _ in range(steps):
        optimizer.zero_grad()
        half_mean_square(network(inputs), targets).backward()
        optimizer.step()


def engine(
    name: Literal["eager", "compiled"], parameters: dict[str, Tensor], steps: int, recording: bool
) -> Tensor:
    """Train all networks."""
    inputs, targets = data()
    return train_ensemble(
        forward,
        parameters,
        inputs,
        targets,
        half_mean_square,
        Optimization("gradient-descent", RATE),
        steps=steps,
        stop=Below("loss", 1e-12),
        record={"norm": norm} if recording else None,
        schedule=None if recording else (),
        engine=name,
    ).losses


def seconds(call: Callable[[], object], clock: Callable[[], float]) -> float:
    started = clock()
    call()
    return clock() - started


def slope(
    name: Literal["eager", "compiled"],
    parameters: dict[str, Tensor],
    steps: int,
    clock: Callable[[], float],
) -> float:
    """Return seconds of 10,000 steps from a long run less a short one."""
    short = seconds(lambda: engine(name, parameters, steps // 5, False), clock)
    long = seconds(lambda: engine(name, parameters, steps, False), clock)
    return (long - short) / (steps - steps // 5) * STEPS


def line(words: str, values: list[float], unit: str = "s") -> None:
    print(
        f"{words:44s} {statistics.median(values):7.2f} {unit} "
        f"[{min(values):.2f}, {max(values):.2f}] over {len(values)} repeats",
        flush=True,
    )


def main() -> int:
    """Print one line a way to train; returns 1 where a median breaks a promise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1000, help="of a compiled run")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    _, parameters, _ = stacked(networks(MEMBERS))
    first = seconds(lambda: engine("compiled", parameters, 1, True), time.perf_counter)
    both = [engine(name, parameters, 200, False) for name in ("eager", "compiled")]
    apart = float(((both[0] - both[1]).abs() / both[0]).max())
    loop(50)
    clock = time.process_time
    found: dict[str, list[float]] = {"loop": [], "eager": [], "compiled": [], "recording": []}
    for _ in range(asked.repeats):
        found["loop"].append(seconds(lambda: loop(400), clock) / 400 * STEPS * MEMBERS)
        found["eager"].append(slope("eager", parameters, 50, clock))
        found["compiled"].append(slope("compiled", parameters, asked.steps, clock))
        plain = seconds(lambda: engine("compiled", parameters, STEPS, False), clock)
        watched = seconds(lambda: engine("compiled", parameters, STEPS, True), clock)
        found["recording"].append(100 * (watched / plain - 1))
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"CPU seconds of {STEPS} steps of {MEMBERS} networks, torch {torch.__version__},")
    print(f"load {load} on {os.cpu_count()} cores")
    line("loop over networks, nn.Module and SGD", found["loop"])
    line("engine, eager", found["eager"])
    line("engine, compiled (3.5 on a quiet core)", found["compiled"])
    line("recording, compiled (promise 10 %)", found["recording"], "%")
    print(f"compilation {first:.1f} s of wall time; the losses of the two engines after 200 steps")
    print(f"differ by {apart:.1e} at most, relative")
    pairs = zip(found["loop"], found["compiled"], strict=True)
    ratios = [one / other for one, other in pairs]
    line(f"the loop over the compiled engine (promise {QUIET_LOOP / PROMISE:.0f})", ratios, "x")
    late = statistics.median(ratios) < QUIET_LOOP / PROMISE
    return int(late or statistics.median(found["recording"]) > 100 * RECORDING)


if __name__ == "__main__":
    raise SystemExit(main())
