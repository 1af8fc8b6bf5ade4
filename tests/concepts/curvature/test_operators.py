"""Operators against dense matrices of float64, their blocks, adjoints and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import eigsh
from tests.cases import CASES
from tests.concepts.curvature.dense import (
    Smoothed,
    dense_gauss_newton,
    dense_hessian,
    dense_jacobian,
    example_gradients,
    function_of,
    miss,
    subject,
)
from torch import Tensor, nn

import whynet
from whynet.concepts.curvature import operators
from whynet.concepts.curvature.instruments import hessian_spectrum
from whynet.core.errors import InputError
from whynet.core.outcome import NotApplicable
from whynet.derivatives.linear_operator import LinearOperator
from whynet.derivatives.objective import Objective
from whynet.models.subject import Subject

EXACT = 1e-10
NETWORKS = (
    "tanh-mlp",
    "convolution",
    "attention",
    "tied-weights",
    "frozen-parameters",
    "gru",
    "lstm",
    "batch-norm",
    "masked-tokens",
    "sequence",
    "dict-output",
    "regression",
    "binary",
)
EVERY = {
    "hessian": operators.hessian,
    "gauss_newton": operators.gauss_newton,
    "fisher": operators.fisher,
    "jacobian": operators.jacobian,
    "gradient_covariance": operators.gradient_covariance,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_they_agree_with_dense_matrices(name: str) -> None:
    ours = subject(name)
    assert miss(whynet.curvature.hessian(ours).to_dense(), dense_hessian(name)) < EXACT
    wanted = dense_gauss_newton(name)
    assert miss(whynet.curvature.gauss_newton(ours).to_dense(), wanted) < EXACT
    assert miss(whynet.curvature.fisher(ours).to_dense(), wanted) < EXACT
    jacobian = whynet.curvature.jacobian(ours)
    matrix = dense_jacobian(name).flatten(0, -2)
    assert jacobian.shape == tuple(matrix.shape)
    assert jacobian.output_shape == tuple(dense_jacobian(name).shape[:-1])
    assert miss(jacobian.to_dense(), matrix) < EXACT
    assert miss(jacobian.adjoint.to_dense(), matrix.T) < EXACT
    gradients = example_gradients(name)
    moment = gradients.T @ gradients / len(gradients)
    assert miss(whynet.curvature.fisher(ours, kind="empirical").to_dense(), moment) < EXACT
    covariance = torch.cov(gradients.T, correction=0)
    assert miss(whynet.curvature.gradient_covariance(ours).to_dense(), covariance) < EXACT


@pytest.mark.parametrize("name", ["sequence", "binary", "regression"])
def test_the_exact_fisher_matrix_is_the_mean_over_drawn_targets(name: str) -> None:
    """The Monte-Carlo matrix comes near it as one over the root of the draws, and is unbiased."""
    ours, wanted = subject(name), dense_gauss_newton(name)
    size = len(wanted)
    direction = torch.linspace(-1, 1, size, dtype=torch.float64)
    truth = float(direction @ wanted @ direction)
    found = [
        float(direction @ (operators.fisher(ours, kind="monte-carlo", seed=seed) @ direction))
        for seed in range(16)
    ]
    error = float(np.std(found, ddof=1)) / 16**0.5
    assert abs(np.mean(found) - truth) < 4 * error
    assert error < 0.3 * truth
    many = operators.fisher(ours, kind="monte-carlo", draws=100).to_dense()
    assert miss(many, wanted) < 0.3
    again = operators.fisher(ours, kind="monte-carlo", draws=100)
    assert torch.equal(again.to_dense(), many), "the same seed draws the same targets"


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize(
    ("name", "dtype"),
    [("relu-mlp", torch.float32), ("relu-mlp", torch.float64), ("attention", torch.float32)],
)
def test_adjoints_symmetry_and_blocks_of_vectors(kind: str, name: str, dtype: torch.dtype) -> None:
    operator = EVERY[kind](CASES[name].subject(dtype=dtype, batch_size=20))
    generator = torch.Generator().manual_seed(1)
    rows, columns = operator.shape
    v = torch.randn(columns, 3, generator=generator, dtype=torch.float64).to(dtype)
    u = torch.randn(rows, 3, generator=generator, dtype=torch.float64).to(dtype)
    pushed, pulled = operator @ v, operator.adjoint @ u
    assert operator.dtype == pushed.dtype == pulled.dtype == dtype
    assert pushed.shape == (rows, 3)
    assert pulled.shape == (columns, 3)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-11
    gram, other = u.T @ pushed, pulled.T @ v
    assert (gram - other).abs().max() < tolerance * pushed.norm() * u.norm()
    for i in range(3):
        torch.testing.assert_close(operator @ v[:, i], pushed[:, i], rtol=tolerance, atol=tolerance)
    assert operator.adjoint.adjoint is operator
    assert operator.symmetric == (kind != "jacobian")
    if operator.symmetric:
        assert (v * (operator @ v)).sum(0).min() > -1e-6 or kind == "hessian"


@pytest.mark.parametrize("kind", EVERY)
def test_blocks_are_parts_of_the_whole(kind: str) -> None:
    ours = subject("tanh-mlp")
    whole = EVERY[kind](ours)
    matrix = whole.to_dense()
    for pattern in ("2", "*.weight", ("0.bias", "4")):
        part = whole.block(pattern)
        entries = operators.hessian(ours).entries(pattern)
        wanted = matrix[:, entries] if kind == "jacobian" else matrix[entries][:, entries]
        assert miss(part.to_dense(), wanted) < EXACT
        chosen = EVERY[kind](ours, parameters=pattern)
        assert chosen.layout.names == part.layout.names
        assert miss(chosen.to_dense(), wanted) < EXACT


def test_a_tied_parameter_answers_to_each_of_its_names() -> None:
    ours = subject("tied-weights")
    names = [n for n, _ in ours.module.named_parameters(remove_duplicate=False)]
    (alias,) = set(names) - set(ours.parameters)
    (name,) = operators.hessian(ours, parameters=alias).layout.names
    assert name in ours.parameters


def test_scipy_finds_the_eigenvalues() -> None:
    operator = operators.hessian(subject("tanh-mlp"))
    top = eigsh(operator.to_scipy(), 3, which="LA", return_eigenvectors=False)
    wanted = np.linalg.eigvalsh(dense_hessian("tanh-mlp").numpy())[-3:]
    np.testing.assert_allclose(np.sort(top), wanted, rtol=1e-9)
    jacobian = operators.jacobian(subject("tanh-mlp"))
    array = np.ones((jacobian.shape[0], 2))
    back = jacobian.to_scipy().rmatmat(array)
    assert back.shape == (jacobian.shape[1], 2)
    np.testing.assert_allclose(back[:, 0], jacobian.to_scipy().rmatvec(array[:, 0]))


def test_smoothed_labels_and_other_callables() -> None:
    """The model of the outputs is the same whatever the labels; the Hessian is not."""
    case = CASES["tanh-mlp"]
    known = nn.CrossEntropyLoss(label_smoothing=0.1)
    found = {}
    for key, loss in (("known", known), ("own", Smoothed())):
        ours = Subject(case.build(), train=case.train, loss=loss, dtype=torch.float64)
        found[key] = operators.hessian(ours).to_dense()
        assert miss(operators.gauss_newton(ours).to_dense(), dense_gauss_newton("tanh-mlp")) < EXACT
    assert miss(found["own"], found["known"]) < EXACT
    assert miss(found["own"], dense_hessian("tanh-mlp")) > 1e-3
    ours = Subject(case.build(), train=case.train, loss=known, dtype=torch.float64)
    assert miss(operators.fisher(ours).to_dense(), dense_gauss_newton("tanh-mlp")) < EXACT
    ours = Subject(case.build(), train=case.train, loss=Smoothed(), dtype=torch.float64)
    with pytest.raises(InputError, match="not known to be a negative log-likelihood"):
        operators.fisher(ours)
    outputs, point, targets = function_of("tanh-mlp")

    def each(scores: Tensor) -> Tensor:
        pairs = zip(scores, targets, strict=True)
        return torch.stack([Smoothed()(row[None], label[None]) for row, label in pairs])

    slopes = torch.func.jacrev(each)(outputs(point)).detach()
    gradients = torch.einsum("nmk,mkp->np", slopes, dense_jacobian("tanh-mlp"))
    wanted = gradients.T @ gradients / len(gradients)
    assert miss(operators.fisher(ours, kind="empirical").to_dense(), wanted) < EXACT


def test_refusals_name_the_argument() -> None:
    ours = subject("frozen-parameters")
    frozen = next(n for n, p in ours.module.named_parameters() if not p.requires_grad)
    with pytest.raises(InputError, match="parameters: found 'nope'; wanted a pattern that one of"):
        operators.hessian(ours, parameters="nope")
    with pytest.raises(InputError, match="names frozen parameters only"):
        operators.hessian(ours, parameters=frozen)
    with pytest.raises(InputError, match="kind: found 'true'; wanted one of exact, monte-carlo"):
        operators.fisher(ours, kind="true")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="draws: found 0"):
        operators.fisher(ours, kind="monte-carlo", draws=0)
    with pytest.raises(InputError, match=r"train: found no data"):
        operators.hessian(subject("relu-mlp", train=None))
    with pytest.raises(InputError, match=r"the vector: found shape \(3,\); wanted a tensor \["):
        operators.hessian(ours) @ torch.zeros(3)
    with pytest.raises(InputError, match=r"the vector: found <class 'int'>"):
        operators.hessian(ours) @ 3  # type: ignore[operator]


class Hungry(nn.Module):
    """A network whose memory ends at some number of rows."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 3)
        self.most = most

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.most:
            raise torch.OutOfMemoryError("the device is out of memory")
        return self.inner(x).tanh()


def hungry(most: int) -> Subject:
    """A subject made with memory enough, whose memory then ends."""
    torch.manual_seed(0)
    ours = Subject(Hungry(1000), train=CASES["relu-mlp"].train, dtype=torch.float64)
    operators.hessian(ours)
    ours.module.most = most
    return ours


def test_out_of_memory_is_met_by_halving_the_batch() -> None:
    plenty = operators.hessian(hungry(1000))
    wanted = plenty.to_dense()
    assert plenty.notes == ()
    scarce = operators._prepared(hungry(1000), "*", "train", None)
    objective, plan = scarce
    objective.module.most = 7
    operator = operators.products.hessian(objective, plan)
    assert miss(operator.to_dense(), wanted) < 1e-12
    note = "Memory ran out on 48 rows at once: batches were cut to 6 rows."
    assert operator.notes == (note,)
    gradient = operators.products.gradient(objective)
    objective.module.most = 1000
    assert miss(gradient, operators.products.gradient(objective)) < 1e-12
    objective.module.most = 0
    with pytest.raises(MemoryError, match="on a single row"):
        operators.products.hessian(objective, plan) @ torch.zeros(21)


def test_an_instrument_says_that_memory_ran_out() -> None:
    state = hessian_spectrum.start(hungry(20), 0)
    assert not isinstance(state, NotApplicable)
    found = hessian_spectrum.read(hessian_spectrum.advance(state))
    note = "Memory ran out on 48 rows at once: batches were cut to 12 rows."
    assert note in found.notes


def test_batches_that_belong_together_are_not_cut() -> None:
    objective, plan = operators._prepared(hungry(1000), "*", "train", None)
    objective.module.most = 7
    together = Objective(**{**vars(objective), "separable": False})
    with pytest.raises(MemoryError, match="batch normalization uses the statistics"):
        operators.products.hessian(together, plan) @ torch.zeros(21)


def test_an_operator_is_one_of_the_thin_form() -> None:
    for make in EVERY.values():
        assert isinstance(make(subject("linear")), LinearOperator)
