"""Kernels: what the gradients of a network say of the functions it can reach, `whynet.kernels`.

Names are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from whynet.core.lazy_names import lazy_names

if TYPE_CHECKING:
    from whynet.concepts.kernels.empirical import layer_shares as layer_shares
    from whynet.concepts.kernels.empirical import ntk as ntk
    from whynet.concepts.kernels.empirical import ntk_product as ntk_product
    from whynet.concepts.kernels.lazy_training import Lazy as Lazy
    from whynet.concepts.kernels.lazy_training import lazy as lazy
    from whynet.concepts.kernels.theory.gaussian_process import Posterior as Posterior
    from whynet.concepts.kernels.theory.gaussian_process import posterior as posterior
    from whynet.concepts.kernels.theory.infinite_network import InfiniteNetwork as InfiniteNetwork
    from whynet.concepts.kernels.theory.infinite_network import infinite_width as infinite_width
    from whynet.derivatives.empirical_ntk import plan_ntk as plan_ntk
    from whynet.derivatives.ntk_operator import NtkOperator as NtkOperator
    from whynet.derivatives.ntk_plan import NtkPlan as NtkPlan

_HOMES = {
    "ntk": "whynet.concepts.kernels.empirical",
    "ntk_product": "whynet.concepts.kernels.empirical",
    "layer_shares": "whynet.concepts.kernels.empirical",
    "lazy": "whynet.concepts.kernels.lazy_training",
    "Lazy": "whynet.concepts.kernels.lazy_training",
    "infinite_width": "whynet.concepts.kernels.theory.infinite_network",
    "InfiniteNetwork": "whynet.concepts.kernels.theory.infinite_network",
    "posterior": "whynet.concepts.kernels.theory.gaussian_process",
    "Posterior": "whynet.concepts.kernels.theory.gaussian_process",
    "plan_ntk": "whynet.derivatives.empirical_ntk",
    "NtkPlan": "whynet.derivatives.ntk_plan",
    "NtkOperator": "whynet.derivatives.ntk_operator",
}

__all__ = [*_HOMES]

__getattr__, __dir__ = lazy_names("whynet.kernels", _HOMES)
