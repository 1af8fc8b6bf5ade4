"""The trace of the Hessian at a step of training."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from torch import Tensor

from whynet.core.estimate import Estimate
from whynet.core.seeds import seed_from
from whynet.derivatives.products import CurvatureOperator
from whynet.numerics.exchangeable_trace import exchangeable_samples, exchangeable_trace

PRODUCTS: Final = 30


def trace_of(operator: CurvatureOperator, decay: Tensor, seed: int) -> Estimate:
    """Return the trace of a Hessian with weight decay on its diagonal, by XTrace.

    Args:
        operator: the Hessian, [P, P].
        decay: [P], what weight decay adds.
        seed: of the recording; the same test vectors are used at every step.

    Cost: 30 products.

    """
    samples = exchangeable_samples(
        operator.matmat,
        operator.size,
        products=PRODUCTS,
        seed=seed_from("recorder trace", seed),
        dtype=operator.dtype,
        device=operator.device,
    )
    found, more = exchangeable_trace(samples), float(decay.double().sum())
    low, value, high = (end + more for end in (found.low, found.value, found.high))
    return replace(found, value=value, low=low, high=high)
