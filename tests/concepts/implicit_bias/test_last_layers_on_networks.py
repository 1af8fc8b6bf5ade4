"""Maximum margin and minimum norm, tried on the last layers of networks that were trained."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from tests.concepts.recipes import (
    Pair,
    begun,
    descent,
    distance,
    failing,
    frozen_features,
    gaussian,
    toward_margin,
    trained,
    tried,
)
from torch import Tensor, nn
from torch.nn import functional

from whynet.concepts.field_testing import CONTROL, THEORY, run_field_test
from whynet.concepts.field_verdicts import control_state
from whynet.concepts.implicit_bias.field_tests.max_margin_logistic import RIVAL
from whynet.concepts.implicit_bias.theory.class_margins import class_margins
from whynet.concepts.implicit_bias.theory.maximum_margin import maximum_margin
from whynet.core.errors import InputError
from whynet.core.outcome import NotApplicable
from whynet.models.subject import Subject

MARGIN, NORM = "max-margin-logistic", "min-norm-interpolation"
BOTH = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


# ---- the multi-class SVM ----------------------------------------------------------------


def rows_of_classes(seed: int, rows: int = 30) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.standard_normal((rows, 4))
    return x, (x @ random.standard_normal((4, 3))).argmax(1)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spread", [0.0, 1.5])
def test_class_margins_satisfy_the_conditions_of_the_optimum(seed: int, spread: float) -> None:
    x, y = rows_of_classes(seed)
    demanded = np.exp(spread * np.random.default_rng(9).standard_normal(len(x)))
    found = class_margins(x, y, 3, demanded)
    scores = x @ found.weights.T
    slack = scores[np.arange(len(x)), y][:, None] - scores - demanded[:, None]
    slack[np.arange(len(x)), y] = np.inf
    assert slack.min() > -1e-7
    assert np.abs(slack[found.rows, found.others]).max() < 1e-7
    assert (found.duals > 0).all()
    again = np.zeros_like(found.weights)
    np.add.at(again, y[found.rows], found.duals[:, None] * x[found.rows])
    np.add.at(again, found.others, -found.duals[:, None] * x[found.rows])
    np.testing.assert_allclose(again, found.weights, atol=1e-8 * np.abs(again).max())


def test_class_margins_agree_with_a_general_solver() -> None:
    x, y = rows_of_classes(7)
    places = np.arange(len(x))

    def slack(flat: np.ndarray) -> np.ndarray:
        scores = x @ flat.reshape(3, 4).T
        return np.asarray(
            np.delete((scores[places, y][:, None] - scores - 1).ravel(), 3 * places + y)
        )

    found = class_margins(x, y, 3).weights
    start = 3 * found.ravel() + 0.1
    general = minimize(
        lambda w: (w**2).sum(), start, jac=lambda w: 2 * w, method="SLSQP",
        constraints=[{"type": "ineq", "fun": slack}], options={"ftol": 1e-13, "maxiter": 1000},
    )  # fmt: skip
    np.testing.assert_allclose(general.x.reshape(3, 4), found, atol=1e-4)


def test_two_classes_are_the_binary_machine() -> None:
    x, _ = rows_of_classes(1)
    y = (x[:, 0] > 0).astype(int)
    binary = maximum_margin((2.0 * y - 1)[:, None] * x).weights
    both = class_margins(x, y, 2).weights
    np.testing.assert_allclose(both, np.stack([-binary, binary]) / 2, atol=1e-10)


def test_rows_that_nothing_separates_are_refused() -> None:
    x = np.random.default_rng(0).standard_normal((60, 2))
    with pytest.raises(InputError, match="no weights separate"):
        class_margins(x, np.random.default_rng(1).integers(0, 3, 60), 3)


# ---- maximum margin on networks ---------------------------------------------------------


def classes(rows: int, seed: int) -> Pair:
    """Return rows of three classes with room between them."""
    x = gaussian(6 * rows, 4, seed=seed)
    scores = x @ gaussian(4, 3, seed=77)
    best = scores.topk(2, dim=1).values
    kept = best[:, 0] - best[:, 1] > 0.5
    return x[kept][:rows], scores.argmax(1)[kept][:rows]


CLASSES = (classes(80, 3), classes(200, 4))


def classifier() -> nn.Module:
    return frozen_features(4, 40, 3)


def least_squares(model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
    """Set the last layer to the least-squares fit of one-hot labels."""
    assert isinstance(model, nn.Sequential)
    with torch.no_grad():
        read = model[1](model[0](inputs)).double()
        read = torch.cat([read, torch.ones(len(read), 1, dtype=torch.float64)], dim=1)
        weights = torch.linalg.lstsq(read, functional.one_hot(targets, 3).double() - 1 / 3).solution
        model[2].weight.copy_(weights[:-1].T)
        model[2].bias.copy_(weights[-1])


@BOTH
def test_a_last_layer_trained_for_long_is_the_maximum_margin_classifier(dtype: torch.dtype) -> None:
    held = trained(classifier, toward_margin, CLASSES, "cross_entropy", dtype)
    verdict, found = tried(MARGIN, held)
    assert verdict.state == "explains"
    assert control_state(found) == "does not explain"
    for other in (CONTROL, RIVAL, "seed 1", "seed 2"):
        assert distance(found, THEORY) < 0.3 * distance(found, other)


def test_a_last_layer_of_least_squares_is_not() -> None:
    held = trained(classifier, least_squares, CLASSES, "cross_entropy", torch.float64)
    verdict, found = tried(MARGIN, held)
    assert verdict.state == "does not explain"
    assert RIVAL in verdict.sentence
    assert distance(found, RIVAL) < 1e-9


def test_one_logit_is_judged_like_two_classes() -> None:
    (x, y), (new, z) = CLASSES
    recipe = descent(functional.cross_entropy, 0.1, 3000)
    data = ((x, (y > 0).long()), (new, (z > 0).long()))
    two = trained(lambda: frozen_features(4, 40, 2), recipe, data, "cross_entropy", torch.float64)
    one = copy.deepcopy(two.module)
    one[2] = nn.Linear(40, 1).double()
    with torch.no_grad():
        one[2].weight.copy_(two.module[2].weight[1:] - two.module[2].weight[:1])
        one[2].bias.copy_(two.module[2].bias[1:] - two.module[2].bias[:1])
    rows, other = ((a.double(), (b > 0).double()) for a, b in CLASSES)
    logit = Subject(one, train=rows, test=other, loss="bce", dtype=torch.float64)
    first, second = (begun(MARGIN, held) for held in (two, logit))
    for name in (THEORY, CONTROL, RIVAL):
        assert first.said[name][:, 1:] * 2**0.5 == pytest.approx(second.said[name], abs=1e-8)


def test_rows_on_the_wrong_side_do_not_apply() -> None:
    (x, y), test = CLASSES
    shuffled = (x, y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))])
    recipe = descent(functional.cross_entropy, 0.1, 50)
    held = trained(classifier, recipe, (shuffled, test), "cross_entropy", torch.float32)
    key, found = failing(MARGIN, held)
    assert key == "separable"
    assert "of 80 training rows" in found


def test_another_loss_or_no_last_layer_does_not_apply() -> None:
    def smooth(outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets, label_smoothing=0.1)

    smooth.task = "classification"  # type: ignore[attr-defined]
    module = classifier()
    held = Subject(module, train=CLASSES[0], test=CLASSES[1], loss=smooth)
    assert failing(MARGIN, held)[0] == "tail"
    module.append(nn.Tanh())
    held = Subject(module, train=CLASSES[0], test=CLASSES[1])
    assert failing(MARGIN, held)[0] == "linear"


def test_the_trained_last_layer_is_not_looked_at() -> None:
    held = trained(classifier, toward_margin, CLASSES, "cross_entropy", torch.float64)
    module = copy.deepcopy(held.module)
    with torch.no_grad():
        module[2].weight.mul_(3)
        module[2].bias.mul_(3)
    one, two = (begun(MARGIN, s) for s in (held, held.replaced(module)))
    np.testing.assert_array_equal(one.said[THEORY], two.said[THEORY])
    np.testing.assert_allclose(one.measured, two.measured, atol=1e-12)


# ---- minimum norm on networks -----------------------------------------------------------


def noise(features: int, rows: int, tested: int) -> tuple[Pair, Pair]:
    """Return training and test rows whose targets have nothing to do with them."""
    parts = [(count, gaussian(count, features, seed=count)) for count in (rows, tested)]
    first, other = ((x, gaussian(count, 1, seed=count + 1)) for count, x in parts)
    return first, other


NOISE = noise(4, 25, 100)
FOR_LONG = descent(functional.mse_loss, 0.01, 6000, momentum=0.9)


def regressor(width: int = 400) -> nn.Module:
    return frozen_features(4, width, 1)


@BOTH
def test_descent_from_a_known_start_ends_at_the_nearest_interpolator(dtype: torch.dtype) -> None:
    verdict, found = tried(NORM, trained(regressor, FOR_LONG, NOISE, "mse", dtype))
    assert verdict.state == "explains"
    assert control_state(found) != "explains"
    assert distance(found, THEORY) < 0.05
    for other in (CONTROL, "seed 1", "seed 2"):
        assert distance(found, THEORY) < 0.2 * distance(found, other)


def test_the_control_interpolates_as_well() -> None:
    held = trained(regressor, FOR_LONG, NOISE, "mse", torch.float64)
    (x, y), (new, z) = NOISE
    seen = Subject(
        held.module, train=held.train, test=(torch.cat([x, new]), torch.cat([y, z])), loss="mse",
        dtype=torch.float64,
        initial=held.initial.module if held.initial else None,
    )  # fmt: skip
    state = begun(NORM, seen)
    targets = NOISE[0][1].double().numpy()
    np.testing.assert_allclose(state.said[THEORY][:25], targets, atol=1e-8)
    np.testing.assert_allclose(state.said[CONTROL][:25], targets, atol=1e-8)
    assert np.abs(state.said[CONTROL] - state.said[THEORY])[25:].mean() > 0.1


def test_a_network_that_started_elsewhere_is_not_explained() -> None:
    held = trained(regressor, FOR_LONG, NOISE, "mse", torch.float64)
    elsewhere = copy.deepcopy(held.module)
    with torch.no_grad():
        elsewhere[2].weight.copy_(gaussian(1, 400, seed=9))
    verdict, found = tried(NORM, held.started(elsewhere))
    assert verdict.state == "does not explain"
    assert distance(found, THEORY) > distance(found, "seed 1")


@pytest.mark.parametrize(
    ("width", "recipe", "key", "words"),
    [
        (10, FOR_LONG, "overparametrized", "25 training rows have rank 1"),
        (400, descent(functional.mse_loss, 0.01, 3), "interpolates", "of their spread"),
    ],
)
def test_what_fails_is_named(width: int, recipe: object, key: str, words: str) -> None:
    held = trained(lambda: regressor(width), recipe, NOISE, "mse", torch.float32)  # type: ignore[arg-type]
    assert failing(NORM, held)[0] == key
    assert words in failing(NORM, held)[1]


def test_features_that_moved_do_not_apply() -> None:
    def all_trained() -> nn.Module:
        module = nn.Sequential(nn.Linear(4, 100), nn.ReLU(), nn.Linear(100, 1))
        with torch.no_grad():
            module[2].weight.mul_(0.01)
        return module

    recipe = descent(functional.mse_loss, 0.01, 4000, torch.optim.Adam)
    held = trained(all_trained, recipe, NOISE, "mse", torch.float32)
    assert failing(NORM, held)[0] == "still"


def test_a_linear_model_is_a_last_layer_that_reads_its_inputs() -> None:
    recipe = descent(functional.mse_loss, 0.05, 3000)
    held = trained(lambda: nn.Linear(60, 1), recipe, noise(60, 20, 50), "mse", torch.float64)
    verdict, found = tried(NORM, held)
    assert verdict.state == "explains"
    assert distance(found, THEORY) < 1e-6


def test_too_many_rows_are_refused_with_what_is_allowed() -> None:
    x, y = gaussian(5001, 4), gaussian(5001, 1, seed=1)
    module = regressor()
    found = run_field_test(
        NORM, Subject(module, train=(x, y), test=NOISE[1], loss="mse", initial=module)
    )
    assert isinstance(found, NotApplicable)
    assert "5,001 training rows" in found.reason
