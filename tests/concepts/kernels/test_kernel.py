"""The question of kernels: lazy and rich networks get unlike sentences, an untrained one none."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from matplotlib.figure import Figure as Canvas
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from whynet.concepts.kernels.questions import kernel
from whynet.concepts.measuring import measure
from whynet.core.measurement import Measurement
from whynet.core.question import Panel, Results
from whynet.models.retraining import Trainer, Variation
from whynet.models.subject import Subject

FEATURES, WIDTH, LAZY = 8, 64, 100.0
Data = tuple[Tensor, Tensor]


class Scaled(nn.Module):
    """Two layers minus themselves at the start, times a number; a large one makes training lazy."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.layers = nn.Sequential(nn.Linear(FEATURES, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2))
        self.start = copy.deepcopy(self.layers).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.scale * (self.layers(x) - self.start(x))
        return out


def made(scale: float) -> Scaled:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Scaled(scale)


def parity(rows: int, seed: int) -> Data:
    """The sign of the product of two entries, among six others."""
    x = torch.randn(rows, FEATURES, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, 0] * x[:, 1] > 0).long()


TRAIN, TEST = parity(400, 0), parity(800, 1)


def descended(module: nn.Module, data: Data, steps: int = 300) -> nn.Module:
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    with torch.enable_grad():
        for _ in range(steps):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(module(data[0]), data[1])
            torch.autograd.backward(loss)
            optimizer.step()
    return module.eval()


def stepped(module: nn.Module, data: Data, ridge: float) -> nn.Module:
    """Train by one damped Gauss-Newton step on squared loss."""
    wide = copy.deepcopy(module).double()
    start = {name: p.detach() for name, p in wide.named_parameters() if p.requires_grad}
    inputs = data[0].double()
    jacobian = jacrev(lambda p: functional_call(wide, p, (inputs,)))(start)
    rows = torch.cat(
        [part.detach().reshape(2 * len(inputs), -1) for part in jacobian.values()], dim=1
    )
    left = nn.functional.one_hot(data[1], 2).double() - 0.5 - wide(inputs).detach()
    gram = rows @ rows.T
    damping = ridge * gram.trace() / len(gram) * torch.eye(len(gram), dtype=gram.dtype)
    step = rows.T @ torch.linalg.solve(gram + damping, left.reshape(-1))
    sizes = [value.numel() for value in start.values()]
    pieces = step.split(sizes)
    state = {n: v + d.reshape(v.shape) for (n, v), d in zip(start.items(), pieces, strict=True)}
    wide.load_state_dict(state, strict=False)
    return wide.float()


def asked(subject: Subject, *more: str) -> Panel:
    found = {name: measure(name, subject) for name in ("lazy-or-rich", *more)}
    measured = {n: m for n, m in found.items() if isinstance(m, Measurement)}
    return kernel.ask(Results(subject.facts, measured, {}))


def draw(panel: Panel) -> None:
    for figure in panel.figures:
        canvas = Canvas(figsize=(5.4, figure.height), layout="constrained")
        figure.draw(canvas)
        canvas.draw_without_rendering()


@cache
def rich() -> Subject:
    start = made(1.0)
    module = descended(copy.deepcopy(start), TRAIN)
    return Subject(module, train=TRAIN, test=TEST, initial=start)


@cache
def lazy() -> Subject:
    start = made(LAZY)
    module = stepped(start, TRAIN, ridge=0.03)
    return Subject(module, train=TRAIN, test=TEST, initial=start)


def test_a_rich_network_did_more_than_its_kernel() -> None:
    panel = asked(rich(), "baselines")
    (finding,) = panel.findings
    assert finding.headline == "It did more than its initial kernel can."
    assert finding.estimate.low > max(r.high for r in finding.references)
    assert finding.references[0].name == "linearized"
    assert {"linear model", "nearest neighbor"} < {r.name for r in finding.references}
    assert "(1 − CKA)" in finding.numbers
    draw(panel)


def test_a_lazy_network_on_the_same_data_is_a_kernel_method() -> None:
    panel = asked(lazy(), "baselines")
    (finding,) = panel.findings
    assert finding.headline == "A kernel method would do the same."
    assert "larger step size or smaller initial weights" in finding.advice
    draw(panel)


def test_a_network_that_stopped_too_early_is_told_what_its_start_offers() -> None:
    start = made(1.0)
    module = descended(copy.deepcopy(start), TRAIN, steps=12)
    panel = asked(Subject(module, train=TRAIN, test=TEST, initial=start))
    assert [f.headline for f in panel.findings] == [
        "A kernel method built from its own start does better."
    ]


def test_an_untrained_network_gets_no_sentence() -> None:
    panel = asked(Subject(made(1.0), train=TRAIN, test=TEST, initial=made(1.0)))
    assert panel.findings == ()
    assert "there is nothing to compare" in panel.lead
    draw(panel)


def test_a_network_on_random_labels_gets_no_praise() -> None:
    labels = torch.randint(2, (1200,), generator=torch.Generator().manual_seed(5))
    train, test = (TRAIN[0], labels[:400]), (TEST[0], labels[400:])
    start = made(1.0)
    module = descended(copy.deepcopy(start), train)
    assert asked(Subject(module, train=train, test=test, initial=start), "baselines").findings == ()


def test_a_linear_model_is_its_own_linearization() -> None:
    x = TRAIN[0]
    train, test = (x, (x[:, 0] > 0).long()), (TEST[0], (TEST[0][:, 0] > 0).long())
    start = nn.Linear(FEATURES, 2)
    module = descended(copy.deepcopy(start), train)
    panel = asked(Subject(module, train=train, test=test, initial=start))
    assert panel.findings == ()
    draw(panel)


def test_a_lead_over_a_kernel_of_fewer_rows_is_no_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whynet.concepts.kernels.instruments.lazy_or_rich.MOST_ROWS", 300)
    panel = asked(rich())
    assert panel.findings == ()
    statuses = {a.text: a.status for a in panel.assumptions}
    assert statuses["The linearized network saw the same training rows as the network"] == "not met"


def test_regression_has_its_own_words() -> None:
    def curve(data: Data) -> Data:
        return data[0], torch.sin(2 * data[0][:, :1])

    train, test = curve(TRAIN), curve(TEST)
    torch.manual_seed(3)
    start = nn.Sequential(nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, 1))
    module = copy.deepcopy(start)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.mse_loss(module(train[0]), train[1]))
        optimizer.step()
    panel = asked(Subject(module, train=train, test=test, loss="mse", initial=start))
    assert "an R² of" in panel.lead
    draw(panel)


def test_another_seed_is_the_reference_of_agreement() -> None:
    """What the linearized network does as well as another seed is explained; else it is not."""

    def train_it(module: nn.Module, x: Tensor, y: Tensor) -> nn.Module:
        return descended(module, (x, y))

    held = rich()
    subject = Subject(
        held.module, train=TRAIN, test=TEST, initial=held._initial_state,
        trainer=Trainer(lambda: Scaled(1.0), train_it),
    )  # fmt: skip
    found = measure("lazy-or-rich", subject)
    assert isinstance(found, Measurement)
    outputs = [s.outputs("test")[0].argmax(1) for s in (subject, subject.retrained(Variation(1)))]
    same = float((outputs[0] == outputs[1]).double().mean())
    assert found.estimate("agreement_other_seed").value == pytest.approx(same)
    panel = kernel.ask(Results(subject.facts, {"lazy-or-rich": found}, {}))
    (finding,) = panel.findings
    assert finding.headline == "It did more than its initial kernel can."
    assert "Another seed reaches" in finding.numbers
    assert "another seed" in {r.name for r in finding.references}
    assert len(panel.tables[0].rows) == 4
    draw(panel)
    wrong = found.dataset.copy(deep=True)
    for end in ("", "_low", "_high"):
        wrong[f"agreement_regularized_beyond_seed{end}"] += 0.5
    turned = kernel.ask(Results(subject.facts, {"lazy-or-rich": Measurement(wrong)}, {}))
    assert turned.findings == ()


def test_another_seed_that_diverges_is_said_and_left_out() -> None:
    def spoiled(module: nn.Module, x: Tensor, y: Tensor) -> None:
        for parameter in module.parameters():
            parameter.data.fill_(float("nan"))

    held = rich()
    subject = Subject(
        held.module, train=TRAIN, test=TEST, initial=held._initial_state,
        trainer=Trainer(lambda: Scaled(1.0), spoiled),
    )  # fmt: skip
    found = measure("lazy-or-rich", subject)
    assert isinstance(found, Measurement)
    assert "agreement_other_seed" not in found.names
    assert any("not finite" in note for note in found.notes)
