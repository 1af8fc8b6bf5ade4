"""Single directions: the harmonics of the target, and the rule on made-up tables."""

from __future__ import annotations

import numpy as np
from tests.concepts.kernels.hidden_tables import cases

from whynet.concepts.kernels.claims import single_index_beats_kernel as module
from whynet.concepts.kernels.theory.dimension_bound import harmonics

MADE_UP = cases()


def test_rotations_of_the_target_share_the_dimensions_of_any_span() -> None:
    """Many rotations on many points: a random span of n functions explains at most n/N on average.

    The span is of random even polynomials of degree two, so that the bound is nearly reached for
    the part of degree two, and is not for what is of higher degree.
    """
    generator = np.random.default_rng(4)
    points = module.sphere(generator, 20_000, 5)
    turns = np.linalg.qr(generator.standard_normal((200, 5, 5)))[0]
    targets = np.stack([module.bent(points @ turn) for turn in turns])
    products = np.einsum("ni,nj->nij", points, points).reshape(len(points), -1)
    functions = (products @ generator.standard_normal((25, 6))) - 0.0
    functions -= functions.mean(0)
    basis, _ = np.linalg.qr(functions)
    explained = ((targets @ basis) ** 2).sum(1) / (targets**2).sum(1)
    share = 6 / harmonics(5, 2)
    assert 0.6 * share < explained.mean() < share
