"""Accuracy under small changes of the inputs: the best of many attacks, and random noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from whynet.core.estimate import Estimate
from whynet.core.instrument import Instrument
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import NotApplicable
from whynet.core.seeds import seed_from
from whynet.models.losses import Loss
from whynet.models.scores import IGNORED, has_one_label, labels_of
from whynet.models.subject import Split, Subject
from whynet.numerics import intervals

INSTRUMENT = Instrument(
    title="accuracy when inputs are changed a little: by attacks, and at random",
    unit="fraction",
    needs=("test-data", "classification", "float-inputs", "deterministic"),
    cost="at most 1,000 gradients of 300 rows a round, far fewer once attacks succeed",
    cites=("goodfellow2015", "madry2018", "clopper1934"),
    closed_form="linear-classifier",
    rounds=20,
    draws=True,
)

MOST_ROWS = 300
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Radii in units of the data's scale, before rounding."""

STEPS = 40
RESTARTS = 5
NOISE_DRAWS = 5
MOST_TARGETS = 20
"""Wrong classes, best first, toward which one step is tried."""


@dataclass(frozen=True)
class Setting:
    """What the attacks may do: rows and labels, and where the changed inputs may lie.

    Attributes:
        inputs: `[rows, ...]`.
        labels: `[rows]`.
        radii: largest absolute change of an entry, ascending.
        scale: four times the median deviation of a feature; the radii are shares of it.
        low: least entry of the data that give the scale, and of the rows.
        high: largest entry of them.

    """

    inputs: Tensor
    labels: Tensor
    radii: tuple[float, ...]
    scale: float
    low: float
    high: float


@dataclass(frozen=True)
class State:
    """What stands after some rounds.

    Attributes:
        subject: the network.
        seed: of rows, starts and noise.
        setting: rows, radii and range.
        falls: `[rows]`, index of the least radius at which any attack has succeeded; -1 where
            the row is wrong as it is, `len(radii)` where it stands.
        falls_fgsm: the same for the one-step attack alone.
        falls_noise: the same for random noise.
        rounds: rounds that have run.

    """

    subject: Subject
    seed: int
    setting: Setting
    falls: np.ndarray
    falls_fgsm: np.ndarray
    falls_noise: np.ndarray
    rounds: int = 0


def start(subject: Subject, seed: int) -> State | NotApplicable:
    """Choose rows and radii, or say why inputs cannot be moved."""
    outputs, targets = subject.outputs("test")
    if not has_one_label(subject.loss, outputs):
        return NotApplicable("This does not apply: an example carries more than one label.")
    labels = labels_of(targets, outputs, subject.loss).reshape(-1)
    generator = np.random.default_rng(seed_from("adversarial-accuracy", "rows", seed))
    rows = np.sort(generator.permutation(np.flatnonzero(labels.numpy() != IGNORED))[:MOST_ROWS])
    if len(rows) == 0:
        return NotApplicable("This does not apply: no test example is scored.")
    inputs, _ = subject.examples("test").take(rows, device=subject.device, dtype=subject.dtype)
    assert isinstance(inputs, Tensor)
    if is_one_hot(inputs):
        return NotApplicable(
            "This does not apply: the inputs are one-hot, and a slightly changed one means nothing."
        )
    data = subject.train if subject.train is not None else subject.examples("test")
    scale = data_scale(subject)
    if not scale > 0:
        return NotApplicable(
            "This does not apply: all inputs are equal, so that no scale is known."
        )
    low, high = data.feature_range()
    low, high = min(low, float(inputs.min())), max(high, float(inputs.max()))
    radii = tuple(float(f"{share * scale:.0e}") for share in SHARES)
    setting = Setting(inputs, labels[rows].to(subject.device), radii, scale, low, high)
    none = np.full(len(rows), len(radii))
    return State(subject, seed, setting, none, none, none)


def is_one_hot(inputs: Tensor) -> bool:
    """Whether entries are 0 and 1 and sum to 1 along some axis of every row."""
    if not bool(((inputs == 0) | (inputs == 1)).all()):
        return False
    return any(
        inputs.shape[axis] > 1 and bool((inputs.sum(axis) == 1).all())
        for axis in range(1, inputs.ndim)
    )


def data_scale(subject: Subject) -> float:
    """Four times the median, over features that vary, of the standard deviation of a feature."""
    split: Split = "train" if subject.train is not None else "test"
    count = 0
    mean = square = torch.zeros(())
    for inputs, _ in subject.batches(split):
        rows = inputs.reshape(len(inputs), -1).to("cpu", torch.float64)
        shift = rows.mean(0) - mean
        total = count + len(rows)
        square = square + ((rows - rows.mean(0)) ** 2).sum(0) + shift**2 * count * len(rows) / total
        mean = mean + shift * len(rows) / total
        count = total
    deviation = (square / count).sqrt()
    varying = deviation[deviation > 1e-6 * deviation.max()]
    return 4 * float(np.median(varying.numpy())) if len(varying) else 0.0


def advance(state: State) -> State:
    """Try another set of restarts on all rows that still stand; the first round tries all else."""
    subject, setting = state.subject, state.setting
    if state.rounds == 0:
        state = _first(state)
    falls = state.falls.copy()
    for index, radius in enumerate(setting.radii):
        for rows in _chunks(np.flatnonzero(falls > index), subject.batch_size // RESTARTS):
            starts = _draws(state, "start", index, rows, RESTARTS)
            broken = _descend(subject, setting, rows, radius, starts)
            falls[rows[broken]] = index
    return replace(state, falls=falls, rounds=state.rounds + 1)


def _first(state: State) -> State:
    """Find rows that are wrong as they are, and try one step and random noise."""
    subject, setting = state.subject, state.setting
    count = len(setting.radii)
    falls, fgsm, noise = (np.full(len(setting.labels), count) for _ in range(3))
    for rows in _chunks(np.arange(len(setting.labels)), subject.batch_size):
        x, labels = setting.inputs[rows], setting.labels[rows]
        wrong = _wrong(subject, x, labels)
        for index, direction in enumerate(_directions(subject, x, labels)):
            for place, radius in reversed(list(enumerate(setting.radii))):
                hit = _wrong(subject, _clipped(setting, x, x + radius * direction, radius), labels)
                falls[rows[hit]] = np.minimum(falls[rows[hit]], place)
                if index == 0:
                    fgsm[rows[hit]] = place
        for place, radius in reversed(list(enumerate(setting.radii))):
            drawn = _draws(state, "noise", place, rows, NOISE_DRAWS)
            for change in drawn.unbind(1):
                hit = _wrong(subject, _clipped(setting, x, x + radius * change, radius), labels)
                noise[rows[hit]] = place
                falls[rows[hit]] = np.minimum(falls[rows[hit]], place)
        for one in (falls, fgsm, noise):
            one[rows[wrong]] = -1
    return replace(state, falls=falls, falls_fgsm=fgsm, falls_noise=noise)


def class_scores(loss: Loss, outputs: Tensor) -> Tensor:
    """Return one score a class, `[rows, classes]`, whose largest is the prediction."""
    if loss.task == "binary classification":
        logit = outputs.reshape(len(outputs), 1)
        return torch.cat([torch.zeros_like(logit), logit], dim=1)
    return outputs


def _scores(subject: Subject, x: Tensor) -> Tensor:
    return class_scores(subject.loss, subject.forward(subject.parameters, x))


def _wrong(subject: Subject, x: Tensor, labels: Tensor) -> np.ndarray:
    with torch.no_grad():
        return (_scores(subject, x).argmax(1) != labels).cpu().numpy()


def _directions(subject: Subject, x: Tensor, labels: Tensor) -> Iterator[Tensor]:
    """Yield signs of gradients: of the cross-entropy (FGSM), then toward each wrong class.

    One step toward a wrong class is the best attack on a linear network.
    """
    with torch.enable_grad():
        moved = x.detach().requires_grad_()
        scores = _scores(subject, moved)
        ranked = scores.detach().scatter(1, labels[:, None], -torch.inf).argsort(1, descending=True)
        cross = torch.nn.functional.cross_entropy(scores, labels, reduction="sum")
        yield torch.autograd.grad(cross, moved, retain_graph=True)[0].nan_to_num().sign()
        right = scores.gather(1, labels[:, None])
        for place in range(min(MOST_TARGETS, scores.shape[1] - 1)):
            lead = (scores.gather(1, ranked[:, place, None]) - right).sum()
            yield torch.autograd.grad(lead, moved, retain_graph=True)[0].nan_to_num().sign()


def _descend(
    subject: Subject, setting: Setting, rows: np.ndarray, radius: float, starts: Tensor
) -> np.ndarray:
    """Follow the sign of a loss's gradient from several starts; rows that fall are dropped.

    Even starts raise the best wrong score over the right one, odd ones the cross-entropy.

    Args:
        subject: the network.
        setting: rows and range.
        rows: which rows to attack.
        radius: largest absolute change of an entry.
        starts: `[rows, restarts, ...]`, from -1 to 1.

    Returns:
        `[rows]`, which of them fell.

    """
    fell = np.zeros(len(rows), dtype=bool)
    restarts = starts.shape[1]
    owner = torch.arange(len(rows)).repeat_interleave(restarts)
    by_margin = (torch.arange(len(owner)) % restarts % 2 == 0).to(starts.device)
    origin = setting.inputs[rows][owner]
    labels = setting.labels[rows][owner]
    x = _clipped(setting, origin, origin + radius * starts.flatten(0, 1), radius)
    step = 2.5 * radius / STEPS
    for _ in range(STEPS + 1):
        wrong, slope = _slope(subject, x, labels, by_margin)
        fell[owner[wrong.cpu()].numpy()] = True
        keep = torch.as_tensor(~fell)[owner]
        if not bool(keep.any()):
            break
        owner, kept = owner[keep], keep.to(x.device)
        origin, labels, by_margin = origin[kept], labels[kept], by_margin[kept]
        x = _clipped(setting, origin, x[kept] + step * slope[kept].sign(), radius)
    return fell


def _slope(subject: Subject, x: Tensor, labels: Tensor, by_margin: Tensor) -> tuple[Tensor, Tensor]:
    """Return which rows are wrong, and the gradient of what each row raises."""
    with torch.enable_grad():
        moved = x.detach().requires_grad_()
        scores = _scores(subject, moved)
        wrong = scores.detach().argmax(1) != labels
        right = scores.gather(1, labels[:, None])[:, 0]
        others = scores.scatter(1, labels[:, None], -torch.inf)
        raised = torch.where(by_margin, others.amax(1) - right, others.logsumexp(1) - right)
        return wrong, torch.autograd.grad(raised.sum(), moved)[0].nan_to_num()


def _clipped(setting: Setting, origin: Tensor, x: Tensor, radius: float) -> Tensor:
    """Keep a changed input within the radius and within the range of the data."""
    low = (origin - radius).clamp(min=setting.low)
    high = (origin + radius).clamp(max=setting.high)
    return x.clamp(low, high)


def _draws(state: State, what: str, index: int, rows: np.ndarray, count: int) -> Tensor:
    """Draw `[rows, count, ...]` uniform on -1 to 1; each row has a seed of its own."""
    inputs = state.setting.inputs
    drawn = [
        np.random.default_rng(
            seed_from("adversarial-accuracy", what, state.seed, state.rounds, index, int(row))
        ).uniform(-1, 1, (count, *inputs.shape[1:]))
        for row in rows
    ]
    return torch.as_tensor(np.stack(drawn), dtype=inputs.dtype, device=inputs.device)


def _chunks(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for begin in range(0, len(rows), max(1, size)):
        yield rows[begin : begin + max(1, size)]


def read(state: State) -> Measurement:
    """Return accuracies at each radius under attack, one step and noise, and without any."""
    setting = state.setting
    count = len(setting.labels)
    most_frequent = float(torch.bincount(setting.labels.cpu()).max()) / count
    quantities = {
        "accuracy": Quantity.from_estimate(_share(state.falls >= 0)),
        "constant_accuracy": Quantity(
            most_frequent, unit="fraction", how="share of the most frequent label"
        ),
        "scale": Quantity(setting.scale, how="4 times the median deviation of a feature"),
    }
    for name, falls in (
        ("attacked_accuracy", state.falls),
        ("fgsm_accuracy", state.falls_fgsm),
        ("noise_accuracy", state.falls_noise),
    ):
        each = [_share(falls > index) for index in range(len(setting.radii))]
        quantities[name] = Quantity.stacked(each, "radius")
    notes = [
        f"Changed inputs stay in the range of the data, {setting.low:.3g} to {setting.high:.3g}.",
        "Accuracy under attack is an upper bound: a better attack may find more.",
    ]
    if count < state.subject.examples("test").count:
        notes.append(f"{count} test rows drawn at random were attacked.")
    return Measurement.of(
        quantities,
        coords={"radius": list(setting.radii)},
        cites=INSTRUMENT.cites,
        notes=notes,
    )


def _share(stands: np.ndarray) -> Estimate:
    return intervals.proportion(int(stands.sum()), len(stands), over="examples")
