"""A certificate says the truth, and is recomputed from the two networks alone."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from tests.concepts.condensation.planting import network, widened
from torch import nn

from whynet import InputError, Subject, condense
from whynet.concepts.condensation.certificate import Balls, certify
from whynet.concepts.condensation.difference import attacked, difference_bounds
from whynet.concepts.condensation.exact_difference import ExactMaximum, exact_maximum
from whynet.concepts.condensation.split_balls import split_bounds


def labelled(module: nn.Module, inputs: torch.Tensor) -> Subject:
    with torch.no_grad():
        labels = module(inputs).argmax(1)
    return Subject(module, train=(inputs, labels), test=(inputs, labels), loss="cross_entropy")


@pytest.fixture(scope="module")
def plain() -> tuple[Subject, nn.Module, dict[str, tuple[int, ...]]]:
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(2, 24), nn.ReLU(), nn.Linear(24, 3)).double()
    inputs = torch.randn(60, 2, dtype=torch.float64)
    subject = labelled(module, inputs)
    with pytest.MonkeyPatch.context() as patch:  # units that stay are those of the large network
        patch.setattr("whynet.concepts.condensation.direction_fit.MOST_PARAMETERS", 0)
        found = condense(subject, tolerance=0.1)
    assert found.reduced and not found.chosen.turned
    return subject, found.module, found.kept


def test_exact_moves_are_recognized_and_equal_far_off_the_data() -> None:
    narrow, inputs = network("cnn", 1)
    wide = widened(narrow, inputs, 1)
    subject = labelled(wide, inputs)
    found = condense(subject, exact_only=True)
    content = certify(subject, found.module, found.kept, balls=Balls(points=2))
    assert content["exact"]["holds"]
    assert content["exact"]["on_data"] < 1e-12
    assert content["exact"]["far_off"] < 1e-12
    assert "equal for all inputs" in content["balls"]["not_applicable"]
    assert content["scores"]["test"]["accuracy"] == [1.0, 1.0]
    sizes = content["size"]
    assert sizes["after"]["parameters"] == sum(p.numel() for p in narrow.parameters())
    assert sizes["before"]["bytes"] > sizes["after"]["bytes"]


def test_numbers_of_an_approximate_network(plain: tuple) -> None:
    subject, module, kept = plain
    content = certify(subject, module, kept, balls=Balls("linf", 0.05, 40), seed=3)
    assert not content["exact"]["holds"]
    before = subject.outputs("train")[0]
    balls = content["balls"]
    assert content["errors"]["train"]["largest"] <= 0.1
    assert balls["radius"] == 0.05 and balls["points"] == 40
    # What is certified by cells lies above what an attack reaches, and here close to it.
    assert balls["attacked"] <= balls["certified"] * (1 + 1e-9) < 1.1 * balls["attacked"]
    assert balls["certified"] == pytest.approx(balls["cells"]["largest"], rel=1e-9)
    assert balls["certified"] <= balls["proven"] * (1 + 1e-9)
    assert balls["cells"]["complete"] and balls["cells"]["balls"] < 40
    assert not balls["loose"]
    assert 0 <= balls["labels"]["least_radius"] <= balls["labels"]["median_radius"]
    assert len(before) == content["errors"]["train"]["examples"] == 60


def test_bounds_hold_against_the_exact_maximum_over_a_fine_grid(plain: tuple) -> None:
    """Two inputs, so that a grid comes close to the maximum over every ball."""
    subject, module, kept = plain
    smaller, radius = subject.alone(module), 0.2
    found = difference_bounds(subject, smaller, kept, subject.examples("test"), radius, "linf")
    line = torch.linspace(-radius, radius, 81, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    points = found.centers[:, None] + grid
    with torch.no_grad():
        gap = (subject.module(points) - module(points)).abs().amax((1, 2)).numpy()
        labels, others = (one(points).argmax(2) for one in (subject.module, module))
        at_center = subject.module(found.centers).argmax(1)
    reached = attacked(subject, smaller, found.centers, radius, "linf", 0)
    assert (found.highest >= gap - 1e-12).all()
    assert (reached <= found.highest + 1e-12).all()
    assert (reached >= 0.9 * gap).mean() > 0.8  # the attack finds what the grid finds
    exact = exact_maximum(subject, smaller, found.centers[:5], radius, "linf", np.full(5, 9.0))
    assert isinstance(exact, ExactMaximum) and exact.complete
    assert (exact.values >= gap[:5] - 1e-12).all()
    assert (exact.values <= found.highest[:5] + 1e-12).all()
    assert (exact.values <= 1.02 * gap[:5]).all()  # a step of the grid is 1/40 of the radius
    assert np.median(found.highest / gap) < 1.6
    # Split balls: still above every value, never above the whole ball, and closer.
    lowered = split_bounds(found.of_balls, found.centers, radius, found.highest, 0.0, 3000)
    assert (lowered >= gap - 1e-12).all()
    assert (lowered <= found.highest).all()
    assert np.median(found.highest / gap) > 1.1 > 1.05 > np.median(lowered / gap)
    for goal, most in ((0.0, 3), (1.0, 3000)):
        unsplit = split_bounds(found.of_balls, found.centers, radius, found.highest, goal, most)
        assert (unsplit == found.highest).all()
    # Inside a certified radius no label of either network differs from that of the center.
    inside = grid.abs().amax(1)[None] <= torch.as_tensor(found.label_radii)[:, None]
    same = (labels == at_center[:, None]) & (others == at_center[:, None])
    assert bool(same[inside].all())
    assert bool(inside.any(1).double().mean() > 0.8)


def test_cells_stop_where_no_other_ball_can_be_higher(
    plain: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, module, kept = plain
    smaller, examples = subject.alone(module), subject.examples("test")
    found = difference_bounds(subject, smaller, kept, examples, 0.1, "linf")
    every = np.array(
        [
            exact_maximum(subject, smaller, c[None], 0.1, "linf", np.ones(1)).values[0]
            for c in found.centers[:20]
        ]
    )
    few = exact_maximum(subject, smaller, found.centers[:20], 0.1, "linf", found.highest[:20])
    assert few.complete and np.isnan(few.values).any()
    assert np.nanmax(few.values) == pytest.approx(every.max(), rel=1e-9)
    monkeypatch.setattr("whynet.concepts.condensation.exact_difference.MOST_CELLS", 30)
    cut = exact_maximum(subject, smaller, found.centers[:20], 0.1, "linf", np.full(20, 9.0))
    assert not cut.complete
    refused = exact_maximum(subject, smaller, found.centers, 0.1, "l2", found.highest)
    assert "linf balls only" in refused.reason


def test_a_false_map_of_channels_loosens_bounds_and_never_breaks_them(plain: tuple) -> None:
    subject, module, kept = plain
    smaller, examples = subject.alone(module), subject.examples("test")
    true = difference_bounds(subject, smaller, kept, examples, 0.05, "linf")
    others = sorted(set(range(24)) - set(kept["0"]))
    false = {"0": sorted([*others, *kept["0"]][: len(kept["0"])])}
    found = difference_bounds(subject, smaller, false, examples, 0.05, "linf")
    reached = attacked(subject, smaller, found.centers, 0.05, "linf", 0)
    assert (reached <= found.highest + 1e-12).all()
    assert np.median(found.highest) >= np.median(true.highest)


@pytest.mark.parametrize("name", ["transformer", "gated"])
def test_a_curved_network_is_bounded_close_to_the_attack(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, inputs = network(name, 0)
    if name == "gated":  # one vector an example
        module = nn.Sequential(module, nn.Flatten(), nn.Linear(12, 3).double())
    subject = labelled(module, inputs)
    other = copy.deepcopy(module)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        for parameter in other.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter += 1e-3 * noise
    for name, value in (("_HALVINGS", 1), ("_FARTHEST", 1.0)):
        monkeypatch.setattr(f"whynet.concepts.condensation.difference.{name}", value)
    content = certify(subject, other, {}, balls=Balls("linf", 0.01, 1))["balls"]
    assert content["attacked"] * (1 - 1e-9) <= content["proven"] < 1.1 * content["attacked"]
    assert "product" in content["curved"] and "rsqrt" in content["curved"]
    assert not content["loose"] and content["labels"]["median_radius"] == 0.01
    wide = certify(subject, other, {}, balls=Balls("linf", 30.0, 1))["balls"]
    assert "No finite bound" in wide["not_applicable"]


def test_an_operation_without_bound_is_named() -> None:
    module = nn.Sequential(nn.Linear(2, 4), nn.Hardshrink(), nn.Linear(4, 2)).double()
    subject = labelled(module, torch.randn(8, 2, dtype=torch.float64))
    other = copy.deepcopy(module)
    with torch.no_grad():
        other[2].bias += 0.1  # type: ignore[operator]
    content = certify(subject, other, {})
    assert "`1` is a Hardshrink" in content["balls"]["not_applicable"]
    assert content["errors"]["train"]["largest"] > 0


@pytest.mark.parametrize(
    ("balls", "name"),
    [(Balls("l1"), "norm"), (Balls("l2", -1.0), "radius"), (Balls("l2", 1.0, 0), "points")],  # type: ignore[arg-type]
)
def test_bad_settings_are_refused(plain: tuple, balls: Balls, name: str) -> None:
    with pytest.raises(InputError, match=name):
        certify(*plain, balls=balls)
