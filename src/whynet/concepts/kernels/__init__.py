"""Kernels: what the gradients of a network say of the functions it can reach, `whynet.kernels`.

Names are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from whynet.concepts.kernels.empirical import ntk as ntk
    from whynet.concepts.kernels.empirical import ntk_product as ntk_product
    from whynet.derivatives.empirical_ntk import NtkPlan as NtkPlan
    from whynet.derivatives.empirical_ntk import plan_ntk as plan_ntk
    from whynet.derivatives.ntk_operator import NtkOperator as NtkOperator

_HOMES = {
    "ntk": "whynet.concepts.kernels.empirical",
    "ntk_product": "whynet.concepts.kernels.empirical",
    "plan_ntk": "whynet.derivatives.empirical_ntk",
    "NtkPlan": "whynet.derivatives.empirical_ntk",
    "NtkOperator": "whynet.derivatives.ntk_operator",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'whynet.kernels' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, *globals()])
