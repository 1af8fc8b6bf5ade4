"""Made-up tables for the rule of the claim; all else is in `test_hidden_targets.py`."""

from __future__ import annotations

from tests.concepts.kernels.hidden_target_tables import excess
from tests.concepts.verdict_rates import at_null, fails, holds

from whynet.concepts.kernels.theory.dimension_bound import harmonics


def size(dimension: int) -> int:
    return harmonics(dimension, 2)


MADE_UP = (
    at_null("the network's error 0.35, the band's edge", lambda g: excess(g, size, 0.35, 0.9)),
    at_null("the kernel's error at its bound", lambda g: excess(g, size, 0.2, 0.0)),
    holds("errors 0.2, and 0.3 above the bound", lambda g: excess(g, size, 0.2, 0.3), 0.8),
    fails("the network's error 0.8", lambda g: excess(g, size, 0.8, 0.3)),
)
