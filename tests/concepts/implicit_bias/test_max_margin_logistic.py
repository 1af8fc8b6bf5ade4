"""The direction of gradient flow on separable data: theory, experiment, verdict."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from tests.concepts.verdict_rates import MadeUp, Tables, at_null, fails, holds

from whynet.atlas.run import claim
from whynet.concepts.implicit_bias import separable_data
from whynet.concepts.implicit_bias.claims import max_margin_logistic as module
from whynet.concepts.implicit_bias.theory.maximum_margin import maximum_margin
from whynet.core.claim import grid_of
from whynet.core.errors import InputError


def test_the_catalogues_closed_forms() -> None:
    found = maximum_margin(np.array([[1.0, 1.0], [1.0, -1.0]]))
    np.testing.assert_allclose(found.weights, (1, 0), atol=1e-12)
    np.testing.assert_allclose(found.duals, (0.5, 0.5), atol=1e-12)
    assert found.margin == pytest.approx(1.0)
    row = np.array([[3.0, 4.0]])
    np.testing.assert_allclose(maximum_margin(row).weights, row[0] / 25, atol=1e-14)


@pytest.mark.parametrize("features", [2, 5, 40])
def test_the_solution_has_the_properties_of_the_svm(features: int) -> None:
    generator = np.random.default_rng(features)
    rows = generator.standard_normal((30, features))
    rows *= np.sign(rows[:, :1])  # separable by the first axis
    found = maximum_margin(rows)
    margins = rows @ found.weights
    assert margins.min() == pytest.approx(1.0, abs=1e-8) and (found.duals >= 0).all()
    np.testing.assert_allclose(rows.T @ found.duals, found.weights, atol=1e-8)
    np.testing.assert_allclose(found.duals * (margins - 1), 0, atol=1e-6)
    assert found.duals.sum() == pytest.approx(float(found.weights @ found.weights), rel=1e-8)


def test_an_independent_solver_agrees() -> None:
    from sklearn.svm import SVC

    generator = np.random.default_rng(1)
    x = generator.standard_normal((40, 3))
    x = x[np.abs(x @ (1, 2, 3)) > 1]
    signs = np.sign(x @ (1, 2, 3))
    mirrored = np.concatenate([x * signs[:, None], -x * signs[:, None]])
    labels = np.repeat([1, -1], len(x))
    other = SVC(kernel="linear", C=1e8, tol=1e-9).fit(mirrored, labels).coef_[0]
    np.testing.assert_allclose(maximum_margin(x * signs[:, None]).weights, other, rtol=1e-4)


def test_rows_that_nothing_separates_are_refused() -> None:
    with pytest.raises(InputError, match="rows that no direction separates"):
        maximum_margin(np.array([[1.0, 0.0], [-1.0, 0.0]]))


def test_the_flow_grows_along_the_svm_and_the_control_does_not() -> None:
    record = claim("max-margin-logistic").run("smoke")
    assert record.verdict.state == "supported"
    assert {j.state for j in record.verdict.controls.values()} == {"refuted"}


def test_the_control_has_the_data_of_the_claim() -> None:
    grid = grid_of("max-margin-logistic", module.CLAIM, "smoke")
    control = module.CLAIM.controls[0]
    for one, two in zip(grid.cells(), grid.under(control).cells(), strict=True):
        for a, b in zip(
            separable_data.separable_rows(one, shared=module.CHANGED),
            separable_data.separable_rows(two, shared=module.CHANGED),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)


def growth_errors(generator: np.random.Generator, true: float, spread: float) -> Tables:
    """Relative errors of the growth, of 10 seeds."""
    errors = true * np.exp(spread * generator.standard_normal(10))
    return xr.Dataset({"growth_error": ("seed", errors)}), xr.Dataset(
        {"growth_error": ("seed", 0 * errors)}
    )


MADE_UP = (
    at_null("median error 0.021, past the band", lambda g: growth_errors(g, 0.021, 0.2)),
    MadeUp(
        "median error 0.049, short of refutation",
        lambda g: growth_errors(g, 0.049, 0.2),
        "refuted",
        most=0.5,
    ),
    holds("median error 0.003, inside", lambda g: growth_errors(g, 0.003, 0.5), 0.95),
    fails("median error 0.2", lambda g: growth_errors(g, 0.2, 0.5), 0.95),
)


def test_a_wrong_path_flips_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    true = separable_data.paths

    def wrong(*args: object, **options: object) -> np.ndarray:
        return 1.1 * true(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "paths", wrong)
    record = claim("max-margin-logistic").run("smoke", controls=False)
    assert record.verdict.state == "refuted"
