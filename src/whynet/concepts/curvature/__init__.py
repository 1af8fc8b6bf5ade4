"""Curvature: second derivatives of the loss as operators and as spectra, as `whynet.curvature`.

Names are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from whynet.concepts.curvature.operators import fisher as fisher
    from whynet.concepts.curvature.operators import gauss_newton as gauss_newton
    from whynet.concepts.curvature.operators import gradient_covariance as gradient_covariance
    from whynet.concepts.curvature.operators import hessian as hessian
    from whynet.concepts.curvature.operators import jacobian as jacobian

_HOMES = {
    "hessian": "whynet.concepts.curvature.operators",
    "gauss_newton": "whynet.concepts.curvature.operators",
    "fisher": "whynet.concepts.curvature.operators",
    "jacobian": "whynet.concepts.curvature.operators",
    "gradient_covariance": "whynet.concepts.curvature.operators",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'whynet.curvature' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, *globals()])
