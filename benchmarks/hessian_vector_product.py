"""The cost of one Hessian-vector product in gradients of the same loss; promise: at most 3.

Both run on all training rows of a built-in network, in batches of 512. Repeats of the two are
interleaved, so that a change of the machine's load meets both; the ratio is formed a repeat. Each
network has two lines: with the graphs of batches kept between products, as the instruments do, and
with none kept, as a first product.

    python benchmarks/hessian_vector_product.py [--repeats 5] [--calls 5] [NAME ...]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import repeat

import torch

from whynet.core.outcome import NotApplicable
from whynet.derivatives.products import gradient, hessian
from whynet.derivatives.subject_objective import objective_from, plan_for
from whynet.models.subject import Subject
from whynet.training.builtin import load_builtin

NAMES = ("digits-mlp", "digits-cnn", "digits-transformer")
PROMISE = 3.0


def subject_of(name: str) -> Subject:
    """Train a built-in network and wrap it."""
    built = load_builtin(name)
    return Subject(built.module, train=built.train, test=built.test, loss=built.loss, name=name)


def seconds(call: Callable[[], object], calls: int) -> float:
    """Return the mean seconds of a call."""
    started = time.perf_counter()
    for _ in repeat(None, calls):
        call()
    return (time.perf_counter() - started) / calls


def ratios(
    subject: Subject, kept: int | None, repeats: int, calls: int
) -> tuple[list[float], list[float], str]:
    """Return the ratio and the seconds of a gradient in each repeat, and the plan's way."""
    plan = plan_for(subject)
    if isinstance(plan, NotApplicable):
        raise SystemExit(f"{subject.name}: {plan.reason}")
    objective = objective_from(subject)
    operator = hessian(objective, plan, kept=kept)
    vector = torch.randn(operator.size, generator=torch.Generator().manual_seed(0))
    operator.matvec(vector)
    gradient(objective)
    found, floors = [], []
    for _ in range(repeats):
        floor = seconds(lambda: gradient(objective), calls)
        product = seconds(lambda: operator.matvec(vector), calls)
        found.append(product / floor)
        floors.append(floor)
    return found, floors, plan.way


def main() -> int:
    """Print one line a network; returns 1 where a median breaks the promise."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(NAMES), metavar="NAME")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--calls", type=int, default=5)
    asked = parser.parse_args()
    holds = True
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for name in asked.names:
        subject = subject_of(name)
        for kept, words in ((None, "graphs kept"), (0, "none kept")):
            found, floors, way = ratios(subject, kept, asked.repeats, asked.calls)
            middle = statistics.median(found)
            holds &= middle <= PROMISE
            print(
                f"{name:19s} {words:12s} {middle:.2f} gradients a product, {min(found):.2f} to "
                f"{max(found):.2f} over {len(found)} repeats; {way}; a gradient takes "
                f"{1e3 * statistics.median(floors):.1f} ms"
            )
    return 0 if holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
