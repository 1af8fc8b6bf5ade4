"""Attacks on linear networks against the exact answer, and what every network must satisfy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from whynet.concepts.measuring import measure
from whynet.concepts.robustness.instruments import adversarial_accuracy as instrument
from whynet.core.measurement import Measurement
from whynet.core.outcome import NotApplicable
from whynet.models.preservation import fingerprint, global_state
from whynet.models.subject import Subject
from whynet.training.supervised import Recipe, seeded, train

FEATURES = 6


def blobs(classes: int, rows: int = 120, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(classes, FEATURES, generator=torch.Generator().manual_seed(42))
    labels = torch.arange(rows) % classes
    return centers[labels] + 0.7 * torch.randn(rows, FEATURES, generator=generator), labels


def linear(classes: int) -> nn.Linear:
    """Nearest center, which is a linear network."""
    centers = torch.randn(classes, FEATURES, generator=torch.Generator().manual_seed(42))
    module = nn.Linear(FEATURES, classes)
    with torch.no_grad():
        module.weight.copy_(centers)
        module.bias.copy_(-(centers**2).sum(1) / 2)
    return module


def exact_stands(
    weight: np.ndarray, bias: np.ndarray, x: np.ndarray, labels: np.ndarray, radius: float,
    box: tuple[float, float],
) -> np.ndarray:  # fmt: skip
    """Say which rows no change within radius and box can move: corner by corner, exactly."""
    low, high = np.maximum(x - radius, box[0]), np.minimum(x + radius, box[1])
    stands = np.ones(len(x), dtype=bool)
    for wrong in range(len(weight)):
        slope = weight[wrong] - weight[labels]
        worst = np.where(slope > 0, high, low)
        lead = (slope * worst).sum(1) + bias[wrong] - bias[labels]
        stands &= (lead < 0) | (labels == wrong)
    return stands


def measured(held: Subject, **options: Any) -> Measurement:
    found = measure("adversarial-accuracy", held, **options)
    assert isinstance(found, Measurement)
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_attacks_on_a_linear_network_are_exact(dtype: torch.dtype, classes: int) -> None:
    x, labels = blobs(classes)
    module = linear(classes)
    found = measured(Subject(module, test=(x, labels), dtype=dtype))
    weight, bias = (p.detach().double().numpy() for p in (module.weight, module.bias))
    rows, box = x.double().numpy(), (float(x.min()), float(x.max()))
    shares = [
        exact_stands(weight, bias, rows, labels.numpy(), float(radius), box).mean()
        for radius in found.dataset["radius"].values
    ]
    np.testing.assert_allclose(found.values("attacked_accuracy"), shares, atol=1e-12)
    assert 0.01 < shares[-1] < shares[0] - 0.1
    if classes == 2:
        np.testing.assert_allclose(found.values("fgsm_accuracy"), shares, atol=1e-12)


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_one_logit_of_a_binary_task(shape: tuple[int, ...]) -> None:
    x, labels = blobs(2)

    class Logit(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.two = linear(2)

        def forward(self, rows: Tensor) -> Tensor:
            scores = self.two(rows)
            return (scores[:, 1] - scores[:, 0]).reshape(shape)

    one = measured(Subject(Logit(), test=(x, labels.float().reshape(shape)), loss="bce"))
    two = measured(Subject(linear(2), test=(x, labels)))
    np.testing.assert_array_equal(one.values("attacked_accuracy"), two.values("attacked_accuracy"))
    np.testing.assert_array_equal(one.values("noise_accuracy"), two.values("noise_accuracy"))


@pytest.fixture(scope="module")
def trained() -> Subject:
    x, labels = blobs(4, 200)
    with seeded(0):
        module = nn.Sequential(nn.Linear(FEATURES, 24), nn.ReLU(), nn.Linear(24, 4))
    train(module, x, labels, nn.functional.cross_entropy, Recipe(epochs=20))
    return Subject(module, train=(x, labels), test=blobs(4, 150, seed=1))


def test_order_of_the_curves_and_of_rounds(trained: Subject) -> None:
    before, state = fingerprint(trained.module), global_state()
    one = measured(trained)
    two = measured(trained, rounds=2)
    assert fingerprint(trained.module) == before
    assert global_state() == state
    clean = one.estimate("accuracy").value
    for found in (one, two):
        best, fgsm, noise = (
            found.values(name) for name in ("attacked_accuracy", "fgsm_accuracy", "noise_accuracy")
        )
        assert (best <= fgsm).all() and (best <= noise).all() and (fgsm <= clean).all()
        assert (np.diff(best) <= 0).all() and (np.diff(fgsm) <= 0).all()
    assert (two.values("attacked_accuracy") <= one.values("attacked_accuracy")).all()
    np.testing.assert_array_equal(two.values("fgsm_accuracy"), one.values("fgsm_accuracy"))
    assert one.dataset.identical(measured(trained).dataset)


class Bent(nn.Module):
    """A decision whose gradient at the data does not show the one direction that matters."""

    def forward(self, x: Tensor) -> Tensor:
        score = 1 + 0.1 * x[:, 1:2] - 3 * (x[:, :1] - 0.2).relu()
        return torch.cat([-score, score], dim=1)


def test_forty_steps_from_random_starts_find_what_one_step_cannot() -> None:
    x = torch.randn(150, 3, generator=torch.Generator().manual_seed(0))
    x[:, 0] = 0.1 * x[:, 0].tanh()
    found = measured(Subject(Bent(), test=(x, torch.ones(150, dtype=torch.long))))
    assert found.values("fgsm_accuracy").tolist() == [1] * 5
    assert found.values("attacked_accuracy")[-1] < 0.3


def test_radii_are_rounded_shares_of_the_scale_of_the_training_data() -> None:
    x, labels = blobs(3)
    x[:, 0] = 5.0  # a constant feature has no part in the scale
    train_x = 3 * x
    held = Subject(linear(3), train=(train_x, labels), test=(x, labels), batch_size=13)
    scale = 4 * float(np.median(train_x[:, 1:].double().numpy().std(0)))
    found = measured(held)
    assert found.estimate("scale").value == pytest.approx(scale)
    for share, radius in zip(instrument.SHARES, found.dataset["radius"].values, strict=True):
        assert radius == float(f"{share * scale:.0e}")
        assert f"{radius:g}".strip("0.").isdigit() and len(f"{radius:g}".strip("0.")) == 1
    assert found.notes[0].startswith("Changed inputs stay in the range of the data, ")


def test_more_rows_than_300_are_sampled_and_said() -> None:
    found = measured(Subject(linear(3), test=blobs(3, 400)))
    assert "300 test rows drawn at random were attacked." in found.notes
    assert found.dataset["accuracy"].attrs["kind"] == "certified"


def test_batch_size_changes_nothing(trained: Subject) -> None:
    assert trained.test is not None
    small = Subject(trained.module, train=trained.train, test=trained.test, batch_size=33)
    first, second = measured(trained), measured(small)
    for name in first.names:
        np.testing.assert_allclose(first.values(name), second.values(name), atol=1e-7)


def test_a_gradient_that_is_not_a_number_breaks_no_row() -> None:
    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(FEATURES, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x) + 0 * (0 * x).sqrt().sum(1, keepdim=True)

    module = Root()
    x, labels = blobs(2)
    with torch.no_grad():
        module.head.weight.zero_()
        module.head.bias.copy_(torch.tensor([1.0, 0.0]))
    found = measured(Subject(module, test=(x, labels)))
    np.testing.assert_array_equal(found.values("attacked_accuracy"), [0.5] * 5)


def refusal(held: Subject) -> str:
    answer = measure("adversarial-accuracy", held)
    assert isinstance(answer, NotApplicable)
    return answer.reason


def test_refusals() -> None:
    x, labels = blobs(3)
    one_hot = torch.eye(FEATURES)[torch.arange(60) % FEATURES]
    assert refusal(Subject(linear(3), test=(one_hot, torch.arange(60) % 3))) == (
        "This does not apply: the inputs are one-hot, and a slightly changed one means nothing."
    )
    assert refusal(Subject(linear(3), test=(torch.ones(30, FEATURES), torch.arange(30) % 3))) == (
        "This does not apply: all inputs are equal, so that no scale is known."
    )
    several = torch.stack([labels == 0, labels == 1, labels == 2], 1).float()
    assert refusal(Subject(linear(3), test=(x, several), loss="bce")) == (
        "This does not apply: an example carries more than one label."
    )
    assert refusal(Subject(linear(3), test=(x, torch.randn(120, 3)), loss="mse")) == (
        "This does not apply: it is about class labels, and this task has none."
    )
    assert refusal(Subject(linear(3), train=(x, labels))) == (
        "This does not apply: it needs test data, and none were given."
    )
