"""Products with the Hessian and the Gauss-Newton matrix, in gradients of the same loss.

Promises: a Hessian product at most 1.9 gradients where the first-order graph is kept and 2.6 where
not, a Gauss-Newton product at most 2, a block of eight of these at most 1.3 a column. A gradient is
PyTorch's on the same rows in memory: all 1,797 digits at once, as the promises were measured, or
batches of `--rows`. CPU seconds of one thread, in turn; the peers, in a Python of their own, are
measured in the same run against a gradient of their own.

Beside each stand a count, multiplications of its matrix products over those of a gradient, and what
these alone take, in gradients, at the speed of a gradient's own, which the run measures. For a
block of the Hessian that is 1.2 to 1.6: it is reported, without a promise.

    MALLOC_MMAP_THRESHOLD_=2000000000 MALLOC_TRIM_THRESHOLD_=2000000000 OMP_NUM_THREADS=1 \\
        python benchmarks/curvature_products.py [--rows 512] [--peer PYTHON] [NAME ...]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from curvature_networks import cpu_seconds, networks, plain_gradient
from whynet.core.outcome import NotApplicable
from whynet.derivatives.fisher import gauss_newton_way, squares_of
from whynet.derivatives.jacobian import JacobianOperator
from whynet.derivatives.objective import Objective
from whynet.derivatives.plan import Plan
from whynet.derivatives.products import gauss_newton, hessian
from whynet.derivatives.stored_signals import plan_signals
from whynet.derivatives.subject_objective import objective_from, plan_for
from whynet.models.subject import Subject

ROWS = 1797
PROMISES: dict[str, float | None] = {
    "Hessian, kept": 1.9,
    "Hessian, not kept": 2.6,
    "Gauss-Newton, kept": 2.0,
    "Gauss-Newton, not kept": 2.0,
    "Hessian, block of 8": None,
    "Gauss-Newton, block of 8": 1.3,
}


JACOBIAN = ("graph kept", "signals kept", "graph kept, 8 at once", "signals kept, 8 at once")
"""Reported, a vector pushed and one pulled back together."""

COUNTS = {
    "gradient": (3, 2),
    "Hessian, kept": (6, 2),
    "Hessian, not kept": (8, 3),
    "Gauss-Newton, kept": (2, 2),
    "Gauss-Newton, not kept": (5, 3),
    "Hessian, block of 8": (6, 2),
    "Gauss-Newton, block of 8": (2, 2),
}
"""Matrix products of a layer, and of the first, whose input needs no derivative; without the sums
over outputs of Gauss-Newton products by stored signals."""


def counted(module: torch.nn.Module, inputs: torch.Tensor) -> dict[str, float]:
    """Return the multiplications of each product in those of a gradient."""
    sizes: list[int] = []

    def count(part: torch.nn.Module, given: object, leaving: torch.Tensor) -> None:
        weight = part.get_parameter("weight")
        units = leaving.shape[1 if weight.ndim > 2 else -1]
        sizes.append(leaving.numel() * (weight.numel() // units))

    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    parts = [part for part in module.modules() if isinstance(part, kinds)]
    hooks = [part.register_forward_hook(count) for part in parts]
    with torch.no_grad():
        module(inputs[:2])
    for hook in hooks:
        hook.remove()
    first, *others = sizes
    every = {words: layer * sum(others) + start * first for words, (layer, start) in COUNTS.items()}
    return {words: work / every["gradient"] for words, work in every.items()}


def products_alone(module: torch.nn.Module, inputs: torch.Tensor) -> Callable[[], object]:
    """Return the matrix products of a gradient, of the same shapes and kernels, and no more."""
    calls: list[Callable[[], object]] = []

    def note(part: torch.nn.Module, given: tuple[torch.Tensor], leaving: torch.Tensor) -> None:
        x, weight, back = given[0], part.get_parameter("weight"), torch.randn_like(leaving)
        wanted = (bool(calls), True, False)
        if isinstance(part, torch.nn.Conv2d):
            how: tuple[Any, ...] = (
                part.stride,
                part.padding,
                part.dilation,
                False,
                (0, 0),
                part.groups,
            )
            calls.append(partial(torch.convolution, x, weight, None, *how))
            convolution_back = torch.ops.aten.convolution_backward
            calls.append(partial(convolution_back, back, x, weight, None, *how, wanted))
            return
        rows, signals = x.flatten(0, -2), back.flatten(0, -2)
        calls.append(partial(torch.mm, rows, weight.T))
        if wanted[0]:
            calls.append(partial(torch.mm, signals, weight))
        calls.append(partial(torch.mm, signals.T, rows))

    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    hooks = [p.register_forward_hook(note) for p in module.modules() if isinstance(p, kinds)]
    with torch.no_grad():
        module(inputs)
    for hook in hooks:
        hook.remove()

    def run() -> None:
        with torch.no_grad():
            for call in calls:
                call()

    return run


def jacobian_calls(
    objective: Objective, plan: Plan, vector: torch.Tensor, block: torch.Tensor
) -> dict[str, Callable[[], object]]:
    """Return J v and J' u together, by graphs and by signals of all batches."""
    way = gauss_newton_way(squares_of(objective, 1.0), plan)
    assert not isinstance(way, NotApplicable)
    calls: dict[str, Callable[[], object]] = {}
    for words, signals in (("graph kept", False), ("signals kept", True)):
        operator = JacobianOperator(objective, replace(way, signals=signals), plan, kept=99)

        def both(columns: torch.Tensor, operator: JacobianOperator = operator) -> torch.Tensor:
            return operator.adjoint @ (operator @ columns)

        calls[words] = partial(both, vector)
        calls[f"{words}, 8 at once"] = partial(both, block)
    return calls


def print_jacobian(found: dict[str, list[float]], gradient: list[float]) -> None:
    """Print the seconds of `jacobian_calls` over those of a gradient, a vector each."""
    for words in JACOBIAN:
        per = 8 if "8" in words else 1
        ratios = [a / b / per for a, b in zip(found[words], gradient, strict=True)]
        print(
            f"  J v and J' u, {words:24s} {statistics.median(ratios):.2f}"
            f" [{min(ratios):.2f}, {max(ratios):.2f}]"
        )


def main() -> int:
    """Print a line a product; returns 1 where a median breaks its promise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--peer", help="a Python with curvlinops and hessian-eigenthings")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    holds = True
    for name, module, data in networks():
        if asked.names and name not in asked.names:
            continue
        subject = Subject(module, train=data, batch_size=asked.rows)
        plan = plan_for(subject)
        assert isinstance(plan, Plan)
        objective = objective_from(subject)
        size = sum(p.numel() for p in module.parameters())
        vector, block = torch.randn(size), torch.randn(size, 8)
        calls = {"gradient": plain_gradient(module, data, asked.rows)}
        for words, make in (("Hessian", hessian), ("Gauss-Newton", gauss_newton)):
            kept, anew = make(objective, plan, kept=99), make(objective, plan, kept=0)
            calls[f"{words}, kept"] = partial(kept.matvec, vector)
            calls[f"{words}, not kept"] = partial(anew.matvec, vector)
            calls[f"{words}, block of 8"] = partial(kept.matmat, block)
        calls |= jacobian_calls(objective, plan, vector, block)
        calls["products alone"] = products_alone(module, data[0])
        found = cpu_seconds(calls, asked.repeats)
        gradient = found.pop("gradient")
        alone = found.pop("products alone")
        share = statistics.median(a / b for a, b in zip(alone, gradient, strict=True))
        stored = plan_signals(objective, data[0])
        assert stored is not None
        print(f"{name}: {size:,} parameters, gradient {1e3 * min(gradient):.1f} ms")
        print(f"  {4 * stored.numbers / 1024:.0f} KB of signals a row")
        counts = counted(module, data[0])
        for words, promise in PROMISES.items():
            per = 8 if "block" in words else 1
            ratios = [a / b / per for a, b in zip(found[words], gradient, strict=True)]
            middle = statistics.median(ratios)
            held = promise is None or middle <= promise
            holds &= held
            print(
                f"  {words:26s} {middle:.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
                f" counted {counts[words]:.2f}, these alone {share * counts[words]:.2f}"
                f"{'' if held else f'   above {promise}'}"
            )
        print_jacobian(found, gradient)
        if asked.peer:
            here = Path(__file__).parent
            command = [
                asked.peer,
                here / "curvature_peers.py",
                name,
                str(asked.repeats),
                str(asked.rows),
            ]
            path = os.pathsep.join([str(here), str(here.parent / "src")])
            subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": path})
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
