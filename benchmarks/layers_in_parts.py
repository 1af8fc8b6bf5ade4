"""What it brings to watch PyTorch's attention and recurrent layers part by part.

    OMP_NUM_THREADS=1 python benchmarks/layers_in_parts.py [--repeats 5]

Gauss-Newton products in gradients of the same loss, by kept graphs and by stored signals, and the
tangent kernel of 64 rows with 10 outputs in CPU seconds, with the layer's function watched as a
whole (as before: its parameters are then used in an unknown way) and part by part.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from unittest import mock

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from curvature_networks import cpu_seconds, plain_gradient
from whynet.core.outcome import NotApplicable
from whynet.derivatives.empirical_ntk import empirical_ntk, plan_ntk
from whynet.derivatives.parameter_uses import Watch
from whynet.derivatives.plan import Plan
from whynet.derivatives.products import CurvatureOperator, gauss_newton
from whynet.derivatives.subject_objective import objective_from, plan_for
from whynet.models.subject import Subject

ROWS, KERNEL_ROWS, WIDTH = 512, 64, 64


class Encoder(nn.Module):
    """Two blocks of PyTorch's transformer encoder."""

    def __init__(self) -> None:
        super().__init__()
        block = nn.TransformerEncoderLayer(
            WIDTH, 4, 2 * WIDTH, 0.0, batch_first=True, activation="gelu", norm_first=True
        )
        self.read = nn.Linear(4, WIDTH)
        self.body = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.body(self.read(x)).mean(1))
        return found


class Recurrent(nn.Module):
    """A recurrent layer over 16 steps."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.body = kind(4, WIDTH, batch_first=True)
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.body(x)[0].mean(1))
        return found


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "TransformerEncoder": Encoder,
    "LSTM": partial(Recurrent, nn.LSTM),
    "GRU": partial(Recurrent, nn.GRU),
}


def products(subject: Subject, signals: bool) -> CurvatureOperator:
    """Return the Gauss-Newton matrix by one of the ways."""
    plan = plan_for(subject)
    assert isinstance(plan, Plan)
    way = plan.gauss_newton
    assert not isinstance(way, NotApplicable)
    assert way.signals
    chosen = replace(way, signals=signals)
    found = gauss_newton(objective_from(subject), plan, kept=9, way=chosen)
    assert not isinstance(found, NotApplicable)
    return found


def kernel_seconds(subject: Subject, inputs: Tensor, repeats: int) -> float:
    """Return the least CPU seconds of a kernel."""
    plan, found = plan_ntk(subject, inputs), []
    for _ in range(repeats):
        started = time.process_time()
        empirical_ntk(subject, inputs, form="full", plan=plan)
        found.append(time.process_time() - started)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats: int = parser.parse_args().repeats
    torch.set_num_threads(1)
    digits = load_digits()
    x = torch.tensor(digits.data / 16).float().reshape(-1, 16, 4)[:ROWS]
    y = torch.tensor(digits.target)[:ROWS]
    print("| layer | graphs | signals | graphs, 8 | signals, 8 | kernel, whole | in parts |")
    print("|---|---|---|---|---|---|---|")
    for name, make in NETWORKS.items():
        torch.manual_seed(0)
        module = make()
        subject = Subject(module, train=(x, y), batch_size=ROWS)
        calls = {"gradient": plain_gradient(module, (x, y), ROWS)}
        ways = {words: products(subject, words == "signals") for words in ("graphs", "signals")}
        block = torch.randn(ways["graphs"].size, 8)
        for count, given in (("1", block[:, 0]), ("8", block)):
            for words, operator in ways.items():
                calls[f"{words} {count}"] = partial(operator, given)
        found = cpu_seconds(calls, repeats)
        gradient = found.pop("gradient")
        cells = [
            statistics.median(a / b for a, b in zip(each, gradient, strict=True)) / int(words[-1])
            for words, each in found.items()
        ]
        with mock.patch.object(Watch, "_apart", lambda *given: None):
            cells.append(kernel_seconds(subject, x[:KERNEL_ROWS], repeats))
        cells.append(kernel_seconds(subject, x[:KERNEL_ROWS], repeats))
        print(f"| {name} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
