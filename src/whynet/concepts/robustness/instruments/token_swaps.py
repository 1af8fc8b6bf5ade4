"""Accuracy when one token of an example is swapped: by its gradient, and at random."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from whynet.concepts.robustness.instruments.input_gradient import leads
from whynet.core.instrument import Instrument
from whynet.core.measurement import Measurement, Quantity
from whynet.core.outcome import NotApplicable
from whynet.core.seeds import seed_from
from whynet.models.data.token_counts import tokens_of
from whynet.models.scores import IGNORED, has_one_label, labels_of
from whynet.models.subject import Split, Subject
from whynet.models.threads import affordable_rows
from whynet.models.token_vectors import TokenVectors, token_vectors, with_tokens
from whynet.numerics import intervals

INSTRUMENT = Instrument(
    title="accuracy when one token is swapped for another: toward the wrong answer, and at random",
    unit="fraction",
    needs=("test-data", "classification", "token-inputs", "deterministic"),
    cost="19 forward passes over at most 300 rows; fewer rows of a large network",
    cites=("ebrahimi2018", "clopper1934"),
    closed_form="token-bag",
    draws=True,
)

MOST_ROWS = 300
TRIED = 8
"""Swaps that are tried on a row, once those the gradient names and once random ones."""

PER_POSITION = 4
"""Tokens that the gradient may name for one position."""

BLOCK = 2**24
"""Pairs of a position and a token in memory at a time."""


@dataclass(frozen=True)
class State:
    """What stands before and after the one round.

    Attributes:
        subject: the network.
        seed: of rows and random swaps.
        rows: which test rows.
        vocabulary: tokens that may be put in, ascending.
        fixed: tokens that stand as often in each row, which are left alone.
        right: `[rows]`, whether a row is right as it is.
        named: `[rows]`, whether one of the swaps that the gradient names makes it wrong.
        random: `[rows]`, whether one of the random swaps does.

    """

    subject: Subject
    seed: int
    rows: np.ndarray
    vocabulary: Tensor
    fixed: Tensor
    right: np.ndarray | None = None
    named: np.ndarray | None = None
    random: np.ndarray | None = None


def start(subject: Subject, seed: int) -> State | NotApplicable:
    """Choose rows and the tokens that may be swapped."""
    outputs, targets = subject.outputs("test")
    if not has_one_label(subject.loss, outputs):
        return NotApplicable("This does not apply: an example carries more than one label.")
    labels = labels_of(targets, outputs, subject.loss).reshape(-1)
    scored = np.flatnonzero(labels.numpy() != IGNORED)
    if len(scored) == 0:
        return NotApplicable("This does not apply: no test example is scored.")
    generator = np.random.default_rng(seed_from("token-swaps", "rows", seed))
    most = affordable_rows(subject, 3 + 2 * TRIED, MOST_ROWS)
    rows = np.sort(generator.permutation(scored)[:most])
    vocabulary, fixed = swappable(subject)
    if len(vocabulary) < 2:
        return NotApplicable(
            "This does not apply: all tokens of the data stand as often in each row, so that there "
            "are none to swap."
        )
    return State(subject, seed, rows, vocabulary, fixed)


def swappable(subject: Subject) -> tuple[Tensor, Tensor]:
    """Return the tokens of the data, ascending, without and with those that are left alone.

    Left alone are tokens that stand equally often in each row, such as marks of its two ends.
    """
    splits: list[Split] = ["test"] if subject.train is None else ["train", "test"]
    pairs, total = [], 0
    for split in splits:
        for inputs, _ in subject.batches(split):
            found = tokens_of(inputs)
            assert found is not None
            tokens = found[0].cpu().numpy()
            kept = np.ones(tokens.shape, bool) if found[1] is None else found[1].cpu().numpy()
            row, place = np.nonzero(kept)
            owned = np.stack([tokens[row, place], row])
            (token, _), times = np.unique(owned, axis=1, return_counts=True)
            pairs.append((token, times))
            total += len(tokens)
    token, times = (np.concatenate(part) for part in zip(*pairs, strict=True))
    values, place, rows = np.unique(token, return_inverse=True, return_counts=True)
    fewest, most = np.full(len(values), np.iinfo(np.int64).max), np.zeros(len(values), np.int64)
    np.minimum.at(fewest, place, times)
    np.maximum.at(most, place, times)
    alike = (rows == total) & (fewest == most)
    return torch.as_tensor(values[~alike]), torch.as_tensor(values[alike])


def advance(state: State) -> State:
    """Try the swaps that the gradient names, and as many random ones."""
    subject = state.subject
    held = token_vectors(subject)
    assert isinstance(held, TokenVectors)
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    size = max(1, subject.batch_size)
    for begin in range(0, len(state.rows), size):
        rows = state.rows[begin : begin + size]
        inputs, targets = subject.examples("test").take(
            rows, device=subject.device, dtype=subject.dtype
        )
        parts.append(_tried(state, held, rows, inputs, targets))
    right, named, random = (np.concatenate(part) for part in zip(*parts, strict=True))
    return replace(state, right=right, named=named, random=random)


def _tried(
    state: State, held: TokenVectors, rows: np.ndarray, inputs: object, targets: Tensor
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which rows are right, and which of them a named or a random swap makes wrong."""
    subject = state.subject
    found = tokens_of(inputs)
    assert found is not None
    tokens, counted = found
    free = ~torch.isin(tokens, state.fixed.to(tokens.device))
    if counted is not None:
        free &= counted
    with torch.enable_grad():
        start, forward = held.of(subject, inputs)
        vectors = start.requires_grad_()
        outputs = forward(vectors)
        labels = labels_of(targets, outputs, subject.loss).reshape(-1)
        lead = leads(subject, outputs, targets)
        (slope,) = torch.autograd.grad(lead.sum(), vectors)
    right = (subject.loss.predictions(outputs.detach()).reshape(-1) == labels).cpu().numpy()
    flat = slope.reshape(*tokens.shape, -1), start.detach().reshape(*tokens.shape, -1)

    def wrong(places: Tensor, put: Tensor) -> np.ndarray:
        """Which rows are wrong with another token at a place, each `[rows]`; -1 for none."""
        swapped = tokens.clone()
        every = torch.arange(len(tokens), device=tokens.device)
        can = places >= 0
        swapped[every[can], places[can]] = put[can]
        with torch.no_grad():
            answers = subject.forward(subject.parameters, with_tokens(inputs, swapped))
        return (subject.loss.predictions(answers).reshape(-1) != labels).cpu().numpy()

    named = named_swaps(*flat, tokens, free, state.vocabulary.to(tokens.device), held.table)
    drawn = _random_swaps(state, rows, tokens, free)
    fell = []
    for places, put in (named, drawn):
        each = [wrong(places[:, i], put[:, i]) for i in range(places.shape[1])]
        fell.append(right & np.any(each, axis=0))
    return right, fell[0], fell[1]


def named_swaps(
    slope: Tensor, start: Tensor, tokens: Tensor, free: Tensor, vocabulary: Tensor, table: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the swaps of each row that lower its lead most, to first order.

    Args:
        slope: `[rows, positions, features]` of the lead, in the vectors of the tokens.
        start: these vectors.
        tokens: `[rows, positions]`.
        free: which positions may be swapped.
        vocabulary: tokens that may be put in.
        table: vectors of all tokens.

    Returns:
        Positions and tokens, `[rows, swaps]`, best first; position -1 where there is none.

    """
    vectors = table[vocabulary].to(slope.dtype)
    best, put = [], []
    per = max(1, BLOCK // (tokens.shape[1] * len(vocabulary)))
    for begin in range(0, len(tokens), per):
        part = slice(begin, begin + per)
        change = slope[part] @ vectors.T - (slope[part] * start[part]).sum(-1, keepdim=True)
        same = vocabulary == tokens[part][..., None]
        change = change.masked_fill(same | ~free[part][..., None], torch.inf)
        low, which = change.topk(min(PER_POSITION, len(vocabulary)), dim=-1, largest=False)
        best.append(low)
        put.append(vocabulary[which])
    low, which = torch.cat(best), torch.cat(put)
    names = low.shape[-1]
    least, place = low.flatten(1).topk(min(TRIED, low[0].numel()), dim=1, largest=False)
    positions = (place // names).masked_fill(least == torch.inf, -1)
    return positions, which.flatten(1).gather(1, place)


def _random_swaps(
    state: State, rows: np.ndarray, tokens: Tensor, free: Tensor
) -> tuple[Tensor, Tensor]:
    """Draw positions and tokens, `[rows, swaps]`; each row has a seed of its own."""
    places, put = np.full((2, len(rows), TRIED), -1, dtype=np.int64)
    vocabulary, held = state.vocabulary.numpy(), tokens.cpu().numpy()
    for i, row in enumerate(rows):
        random = np.random.default_rng(seed_from("token-swaps", "random", state.seed, int(row)))
        able = np.flatnonzero(free[i].cpu().numpy())
        if len(able) == 0:
            continue
        places[i] = random.choice(able, TRIED)
        # One of the others: what would be the token itself or later moves on by one.
        now = np.searchsorted(vocabulary, held[i, places[i]])
        drawn = random.integers(len(vocabulary) - 1, size=TRIED)
        put[i] = vocabulary[drawn + (drawn >= now)]
    return torch.as_tensor(places).to(tokens.device), torch.as_tensor(put).to(tokens.device)


def read(state: State) -> Measurement:
    """Return accuracies without a swap, under the best of all swaps, and under random ones."""
    right, named, random = state.right, state.named, state.random
    assert right is not None
    assert named is not None
    assert random is not None
    subject = state.subject
    outputs, targets = subject.outputs("test")
    labels = labels_of(targets, outputs, subject.loss).reshape(-1)[state.rows]
    count = len(state.rows)

    def share(flags: np.ndarray) -> Quantity:
        found = intervals.proportion(int(flags.sum()), count, over="examples")
        return Quantity.from_estimate(found)

    notes = [
        f"{TRIED} swaps that the gradient names and {TRIED} random ones were tried on each of "
        f"{count} test rows; more may find more. Only tokens of the data are put in.",
    ]
    if len(state.fixed):
        notes.append(
            f"Tokens that stand as often in each row were left alone ({len(state.fixed)})."
        )
    return Measurement.of(
        {
            "accuracy": share(right),
            "swapped_accuracy": share(right & ~named & ~random),
            "random_accuracy": share(right & ~random),
            "constant_accuracy": Quantity(
                float(torch.bincount(labels).max()) / count,
                unit="fraction",
                how="share of the most frequent label",
            ),
        },
        cites=INSTRUMENT.cites,
        notes=notes,
    )
