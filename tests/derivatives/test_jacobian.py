"""Products with the Jacobian of the outputs, by differentiation and by stored signals."""

from __future__ import annotations

import pytest
import torch
from tests.derivatives.making import cross_entropy, filled, labels, normal, objective, planned
from tests.derivatives.test_stored_signals import TOLERANCE, Bent, made, miss
from tests.derivatives.watched_networks import NETWORKS
from torch import Tensor

from whynet.core.outcome import NotApplicable
from whynet.derivatives import signal_products
from whynet.derivatives.exact_kernels import exact_kernels
from whynet.derivatives.jacobian import JacobianOperator, jacobian
from whynet.derivatives.objective import Objective
from whynet.derivatives.signal_products import first_columns
from whynet.derivatives.stored_signals import plan_signals


def jacobian_of(of: Objective) -> JacobianOperator:
    found = jacobian(of, planned(of))
    assert not isinstance(found, NotApplicable), found.reason
    return found


def dense_jacobian(of: Objective) -> Tensor:
    """All outputs by all parameters, in float64, by reverse mode of PyTorch."""
    wide = of.wide()
    names, point = tuple(wide.parameters), tuple(wide.parameters.values())
    found = []
    for inputs, _ in of.batches():
        given = inputs.double() if inputs.is_floating_point() else inputs

        def outputs(values: tuple[Tensor, ...], given: Tensor = given) -> Tensor:
            return wide.forward(dict(zip(names, values, strict=True)), given).flatten()

        with exact_kernels():
            parts = torch.func.jacrev(outputs, chunk_size=1)(point)
        found.append(torch.cat([part.flatten(1) for part in parts], dim=1))
    return torch.cat(found)


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("name", NETWORKS)
def test_products_with_the_jacobian_take_them_too(name: str, dtype: torch.dtype) -> None:
    """First by differentiation, then by signals, once that pays; both ways, also of blocks."""
    of = made(name, dtype)
    matrix, ours = dense_jacobian(of), jacobian_of(of)
    assert ours.shape == tuple(matrix.shape)
    columns = normal(ours.size, 20, seed=4, dtype=dtype)
    weights = normal(len(matrix), 20, seed=5, dtype=dtype)
    for attempt in range(3):
        assert bool(ours._batches.stored) == (attempt > 0)
        assert miss(ours @ columns[:, 0], matrix @ columns[:, 0].double()) < TOLERANCE[dtype]
        assert miss(ours @ columns, matrix @ columns.double()) < TOLERANCE[dtype]
        pulled = ours.adjoint @ weights
        assert miss(pulled, matrix.T @ weights.double()) < TOLERANCE[dtype]
        assert miss(ours.adjoint @ weights[:, 0], pulled[:, 0]) < TOLERANCE[dtype]
    assert len(ours._batches.stored) == 2
    first = next(iter(of.parameters))
    part = ours.block(first)
    size = of.parameters[first].numel()
    assert (
        miss(part @ columns[:size], matrix[:, :size] @ columns[:size].double()) < TOLERANCE[dtype]
    )


def test_pushing_and_pulling_count_half_a_product_each() -> None:
    of = made("frames")
    inputs, _ = next(iter(of.batches()))
    plan = plan_signals(of, inputs)
    assert plan is not None
    ours = jacobian_of(of)
    for already in range(1, 20):
        if already % 2:
            ours.matvec(torch.ones(ours.size).double())
        else:
            ours.adjoint.matvec(torch.ones(ours.shape[0]).double())
        assert bool(ours._batches.stored) == (already / 2 >= first_columns(plan))


def test_jacobians_of_rows_that_use_parameters_otherwise_and_of_halved_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inputs = normal(30, 4).clamp(-1, 1)
    inputs[-1] = 3.0
    of = objective(filled(Bent()), inputs, labels(30, 3), cross_entropy, cuts=(20,))
    matrix, ours = dense_jacobian(of), jacobian_of(of)
    columns, weights = normal(ours.size, 30), normal(90, 30)
    assert miss(ours @ columns, matrix @ columns) < 1e-12
    assert miss(ours.adjoint @ weights, matrix.T @ weights) < 1e-12
    assert [blocks[0][1].most is None for blocks in ours._batches.stored] == [False, True]
    assert ours.notes == ()
    short = jacobian_of(of)

    def never(*given: object) -> object:
        raise MemoryError

    monkeypatch.setattr(signal_products, "store_signals", never)
    assert miss(short @ columns, matrix @ columns) < 1e-12
    assert miss(short.adjoint @ weights, matrix.T @ weights) < 1e-12
    assert "batches were cut to 10 rows" in short.notes[0]
