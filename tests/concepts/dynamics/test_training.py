"""The question on training: what it says of runs made so that the answer is known."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional

from whynet.concepts.dynamics.questions.training import QUESTION, ask, falling
from whynet.concepts.measuring import measure
from whynet.concepts.registry import load_instrument
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import NotApplicable
from whynet.core.question import Panel, Results
from whynet.models.retraining import Trainer, Variation
from whynet.models.subject import Subject
from whynet.models.trajectory import Trajectory
from whynet.testing.conformance import CHECKS
from whynet.testing.training_forms import descend, linear, rows_of
from whynet.training.recorder import Recorder


def line(dtype: torch.dtype = torch.float64, batch_size: int = 512, **options: Any) -> Subject:
    x, y = rows_of(0)
    data = torch.tensor(x, dtype=dtype), torch.tensor(y, dtype=dtype)
    settings = {"trainer": Trainer(lambda: linear(torch.float64), descend), **options}
    return Subject(
        linear(dtype), train=data, loss="mse", dtype=dtype, batch_size=batch_size, **settings
    )


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_conformance_where_there_is_a_record_to_make(check: str, dtype: torch.dtype) -> None:
    CHECKS[check](load_instrument("training-record"), line, dtype)


def panel(measured: Measurement, subject: Subject) -> Panel:
    return ask(Results(subject.facts, {"training-record": measured}, {}))


def descent(
    rate: float, steps: int = 60, optimizer: Any = torch.optim.SGD, momentum: float = 0.0
) -> tuple[Measurement, Subject]:
    """Train two layers on all rows at once, and look at the record."""

    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()

    def train(model: nn.Module, inputs: Tensor, targets: Tensor, log: Any = None) -> None:
        chosen = optimizer(model.parameters(), lr=rate, momentum=momentum)
        for step in range(1, steps + 1):
            chosen.zero_grad()
            functional.mse_loss(model(inputs), targets).backward()
            chosen.step()
            if log is not None:
                log(step, {"optimizer": chosen, "batch_size": len(targets)})

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(80, 4, generator=generator, dtype=torch.float64)
    y = torch.sin(2 * x[:, :1]) + x[:, 1:2] * x[:, 2:3]
    trainer = Trainer(build, train)
    subject = Subject(
        trainer.run(Variation(seed=0), Subject(build(), train=(x, y), loss="mse").examples("train"))
        .module,
        train=(x, y), loss="mse", trainer=trainer,
    )  # fmt: skip
    found = measure("training-record", subject)
    assert isinstance(found, Measurement)
    return found, subject


def keys(measured: Measurement, subject: Subject) -> set[str]:
    return {finding.key for finding in panel(measured, subject).findings}


def test_gradient_descent_with_large_steps_ends_at_the_edge() -> None:
    measured, subject = descent(0.5, 2048)
    assert "edge_of_stability" in keys(measured, subject)
    assert measured.estimate("sharpness_over_limit", step=2048).value == pytest.approx(1, abs=0.2)


def test_small_steps_have_room_and_end_while_the_loss_falls() -> None:
    measured, subject = descent(0.02)
    assert keys(measured, subject) == {"step_size_has_room", "loss_still_falling"}


def test_a_record_of_the_two_ends_says_nothing_of_the_last_half() -> None:
    measured, subject = descent(0.02)
    ends = Measurement(measured.dataset.isel(step=[0, -1]))
    assert "loss_still_falling" not in keys(ends, subject)
    with_a_middle = Measurement(measured.dataset.isel(step=[0, -3, -1]))
    assert "loss_still_falling" in keys(with_a_middle, subject)


def test_the_same_seed_is_the_same_run() -> None:
    measured, subject = descent(0.02)
    norm = float(sum(float((p**2).sum()) for p in subject.parameters.values()) ** 0.5)
    assert measured.estimate("weight_norm", step=60).value == pytest.approx(norm, rel=1e-12)
    assert not any("another network" in note for note in measured.notes)
    assert measured.dataset["step"].values.tolist() == [0, 1, 2, 4, 8, 16, 32, 60]


def replaced(measured: Measurement, **values: Any) -> Measurement:
    """Replace quantities by others, with bounds 10 % away."""
    dataset = measured.dataset.copy(deep=True)
    for name, value in values.items():
        full = np.broadcast_to(np.asarray(value, float), dataset["step"].shape)
        for suffix, part in (("", 0.0), ("_low", -0.1), ("_high", 0.1)):
            dataset[name + suffix] = dataset[name + suffix].copy(data=full + part * abs(full))
        dataset[name].attrs["kind"] = "interval"
        dataset[name].attrs["missing"] = "No number."
    return Measurement(dataset)


def test_findings_follow_the_numbers() -> None:
    measured, subject = descent(0.02)
    assert "edge_of_stability" in keys(replaced(measured, sharpness_over_limit=1.0), subject)
    middle = replaced(measured, sharpness_over_limit=0.6)
    assert not {"edge_of_stability", "step_size_has_room"} & keys(middle, subject)
    small = replaced(measured, batch_size=8, sharpness_over_limit=0.1, noise_scale=10)
    assert not {"step_size_has_room", "batch_could_grow"} & keys(small, subject)
    beyond = replaced(measured, batch_size=8, sharpness_over_limit=1.5)
    assert "edge_of_stability" in keys(beyond, subject)
    assert "batch_could_grow" in keys(replaced(small, noise_scale=100), subject)
    assert "batch_larger_than_noise" in keys(replaced(small, noise_scale=1), subject)
    settled = replaced(measured, loss_change=-1e-6)
    assert "loss_still_falling" not in keys(settled, subject)


def test_the_noise_scale_is_read_while_the_loss_falls() -> None:
    measured, subject = descent(0.02)
    late = np.array([1, 1, 1, 0.9, 0.8, 0.01, 0.01, 0.01])
    scales = np.where(late > 0.5, 10.0, 1e6)
    changed = replaced(measured, loss=late, noise_scale=scales, batch_size=8)
    assert [one.value for one in falling(changed)] == [10] * 4
    assert "batch_could_grow" not in keys(changed, subject)


def test_an_unknown_batch_size_gives_no_advice_on_it() -> None:
    measured, subject = descent(0.02)
    unknown = replaced(measured, batch_size=math.nan, noise_scale=1e4)
    assert not keys(unknown, subject) & {"batch_could_grow", "step_size_has_room"}


def test_what_was_not_trained_gets_no_finding() -> None:
    model = linear()
    x, y = rows_of(0)
    record = Recorder(model, train=(x, y), loss="mse", steps=[]).trajectory()
    subject = line(trajectory=record)
    measured = measure("training-record", subject)
    assert isinstance(measured, Measurement)
    answer = panel(measured, subject)
    assert answer.findings == ()
    assert "nothing was trained" in answer.lead
    still, trained = descent(0.02)
    assert keys(replaced(still, distance_from_start=0.0), trained) == set()


def test_figures_and_table_can_be_drawn() -> None:
    measured, subject = descent(0.02)
    answer = panel(measured, subject)
    assert [figure.name for figure in answer.figures] == ["training", "training-inside"]
    for figure in answer.figures:
        drawn = Figure(figsize=(5.4, figure.height))
        figure.draw(drawn)
        assert len(drawn.axes) >= 2
    assert answer.tables[0].columns == ("", "step 0", "step 32", "step 60")


@pytest.mark.parametrize("name", ["noise_scale", "sharpness_over_limit", "loss", "feature_rank"])
def test_a_record_without_a_quantity_still_has_a_panel(name: str) -> None:
    measured, subject = descent(0.02)
    lost = [name, f"{name}_low", f"{name}_high"]
    answer = panel(Measurement(measured.dataset.drop_vars(lost)), subject)
    for figure in answer.figures:
        figure.draw(Figure())
    empty = panel(replaced(measured, **{name: math.nan}), subject)
    for figure in empty.figures:
        figure.draw(Figure())


def test_a_given_record_is_taken_and_compared_with_the_weights(tmp_path: Path) -> None:
    x, y = rows_of(0)
    model = linear()
    recorder = Recorder(model, train=(x, y), loss="mse", steps=[2, 4])
    descend(model, torch.tensor(x), torch.tensor(y), recorder)
    recorder.trajectory().save(tmp_path / "run.json")
    record = Trajectory.load(tmp_path / "run.json")
    other = measure("training-record", line(trajectory=record, trainer=None))
    assert isinstance(other, Measurement)
    assert other.dataset["step"].values.tolist() == [0, 2, 4, 5]
    assert "another network" in other.notes[0]
    data = torch.tensor(x), torch.tensor(y)
    same = measure("training-record", Subject(model, train=data, loss="mse", trajectory=record))
    assert isinstance(same, Measurement)
    assert not any("another network" in note for note in same.notes)


def test_without_a_record_or_a_logging_function_it_does_not_apply() -> None:
    def silent(model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
        pass

    for trainer in (None, Trainer(linear, silent)):
        found = measure("training-record", line(trainer=trainer))
        assert isinstance(found, NotApplicable)
        assert "give --trajectory" in found.reason
    coords = {"step": np.array([0, 1])}
    foreign = Measurement.of({"other": Quantity(np.ones(2), dims=("step",))}, coords)
    found = measure("training-record", line(trajectory=Trajectory(foreign.dataset)))
    assert isinstance(found, NotApplicable)
    assert "none of the quantities" in found.reason


def test_a_run_that_diverges_is_recorded_as_far_as_it_went() -> None:
    def wild(model: nn.Module, inputs: Tensor, targets: Tensor, log: Any = None) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=1e150)
        for step in range(1, 9):
            optimizer.zero_grad()
            functional.mse_loss(model(inputs), targets).backward()
            optimizer.step()
            if log is not None:
                log(step, {"optimizer": optimizer})

    subject = line(trainer=Trainer(linear, wild))
    found = measure("training-record", subject)
    assert isinstance(found, Measurement)
    assert any("diverged" in note for note in found.notes)
    assert np.isfinite(found.values("loss")[0])
    assert math.isnan(found.values("loss")[-1])
    assert keys(found, subject) == set()


def test_metadata() -> None:
    assert QUESTION.uses == ("training-record",)
    assert dataclasses.is_dataclass(QUESTION)


def test_the_panel_shows_the_cells_at_steps_of_the_training() -> None:
    def build() -> nn.Module:
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).double()

    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0)).double()
    for loss, targets, words in (
        ("cross_entropy", (x[:, 0] > 0).long(), "the predicted class"),
        ("mse", x[:, :3] ** 2, "the first output"),
    ):
        model = build()
        recorder = Recorder(
            model, train=(x, targets), loss=loss, steps=[1, 2, 4], quantities=["loss", "pieces"]
        )
        for step in range(1, 5):
            with torch.no_grad():
                model[0].weight.mul_(1.3)
            recorder(step)
        record = recorder.trajectory()
        subject = Subject(model, train=(x, targets), loss=loss, trajectory=record)
        measured = measure("training-record", subject)
        assert isinstance(measured, Measurement)
        (film,) = [one for one in panel(measured, subject).figures if one.name == "training-cells"]
        assert words in film.caption
        for step in record.steps:
            cells = int(record.estimate("cells_of_triangle", step).value)
            assert f"step {step}: {cells:,}" in film.alt
        canvas = Figure()
        film.draw(canvas)
        assert len(canvas.axes) == len(record.steps)
        shapes = [len(axes.collections[0].get_paths()) for axes in canvas.axes]
        parts = [len(picture.classes) for _, picture in record.pictures]
        assert shapes == parts
