"""Every operation that was tried: a right product, or a stated refusal. Never a wrong number."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from tests.derivatives.torch_ops.oracle import STEPS, gauss_newton_form, hessian_form
from tests.derivatives.torch_ops.table import CASES, objective

from whynet.core.outcome import NotApplicable
from whynet.derivatives.objective import Objective
from whynet.derivatives.plan import Plan, choose_plan
from whynet.derivatives.products import fixed_entries, gauss_newton, hessian

pytestmark = pytest.mark.filterwarnings("ignore")

TABLE = Path(__file__).with_name("expected.csv")
ROWS = list(csv.DictReader(TABLE.read_text(encoding="utf-8").splitlines()))
TOLERANCE = {"float64": 1e-3, "float32": 1e-2}
LOOSE = {"autocast_bf16": 3e-2}
"""A network that rounds to bfloat16 on its way is honest only to that."""
PAIRS = 2


def test_the_table_names_every_case_once() -> None:
    assert [row["case"] for row in ROWS] == list(CASES)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["case"])
def test_right_number_or_stated_refusal(row: dict[str, str], dtype: str) -> None:
    made = objective(row["case"], getattr(torch, dtype))
    plan = choose_plan(made, 0)
    expected = row[dtype]
    if isinstance(plan, NotApplicable):
        assert expected.startswith("refused: "), plan.reason
        assert expected.removeprefix("refused: ") in plan.reason
        return
    assert plan.way in expected.split("|"), plan
    check_numbers(made, row["case"], dtype, plan)


def check_numbers(made: Objective, name: str, dtype: str, plan: Plan) -> None:
    wide = made.wide()
    curved = hessian(made, plan)
    around = gauss_newton(made, plan)
    generator = torch.Generator().manual_seed(7)
    draws = torch.randn(curved.size, 2 * PAIRS, generator=generator, dtype=torch.float64)
    if (fixed := fixed_entries(made, curved.layout)) is not None:
        draws[fixed] = 0
    left, right = draws[:, :PAIRS], draws[:, PAIRS:]
    tolerance = LOOSE.get(name, TOLERANCE[dtype])
    forms = [(curved, hessian_form)]
    if not isinstance(around, NotApplicable):
        forms.append((around, gauss_newton_form))
    for operator, form in forms:
        images = operator.matmat(right.to(operator.layout.dtype)).double()
        scale = images.norm(dim=0).max() * left.norm(dim=0).max() / curved.size**0.5
        for i in range(PAIRS):
            found = float(left[:, i] @ images[:, i])
            gaps = (abs(found - form(wide, left[:, i], right[:, i], h)) for h in STEPS)
            assert any(gap <= tolerance * float(scale) + 1e-6 for gap in gaps)
