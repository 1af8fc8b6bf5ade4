"""A bag of tokens with a linear score, where the worst swap of one token is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from whynet.concepts.robustness.instruments.token_swaps import TRIED
from whynet.core.seeds import seed_from
from whynet.models.subject import Subject
from whynet.testing.closed_forms import ClosedForm, Key

TOKENS, POSITIONS, FEATURES, POPULATION, ROWS = 14, 6, 3, 1501, 250

APART = 1e-3
"""No score of the population, with any token swapped, is this close to zero."""


class Bag(nn.Module):
    """Sums the vectors of the tokens and scores the sum: one logit."""

    def __init__(self, vectors: np.ndarray, weight: np.ndarray, bias: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(*vectors.shape)
        self.score = nn.Linear(len(weight), 1)
        with torch.no_grad():
            self.embed.weight.copy_(torch.tensor(vectors))
            self.score.weight.copy_(torch.tensor(weight)[None])
            self.score.bias.fill_(bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return `[rows, 1]`."""
        scores: Tensor = self.score(self.embed(tokens).sum(1))
        return scores


@dataclass(frozen=True)
class Population:
    """A network and all rows it can meet.

    Attributes:
        vectors: `[tokens, features]`.
        weight: `[features]`.
        bias: of the score.
        rows: tokens, `[rows, positions]`.
        labels: `[rows]`.

    """

    vectors: np.ndarray
    weight: np.ndarray
    bias: float
    rows: np.ndarray
    labels: np.ndarray

    def leads(self) -> np.ndarray:
        """Lead of the right answer with each token at each place, `[rows, positions, tokens]`."""
        votes = self.vectors @ self.weight
        held = votes[self.rows]
        score = held.sum(1) + self.bias
        moved = score[:, None, None] - held[:, :, None] + votes
        return np.asarray((2 * self.labels - 1)[:, None, None] * moved)


def token_bag() -> ClosedForm:
    """One logit of a sum of token vectors, some labels wrong, on rows drawn from a finite set.

    The score is linear in the vectors, so that the gradient names the worst swap exactly: accuracy
    with the worst swap is a count. A random swap turns a row with the share p of its swaps that do;
    none of eight does with probability (1 - p)^8. The training data are the whole population.
    """
    population = _population()

    def subject(dtype: torch.dtype, draw: int) -> Subject:
        drawn = np.random.default_rng(seed_from("token-bag", draw)).integers(POPULATION, size=ROWS)
        module = Bag(population.vectors, population.weight, population.bias)
        x, y = torch.tensor(population.rows), torch.tensor(population.labels, dtype=torch.float64)
        return Subject(
            module,
            train=(x, y),
            test=(x[drawn], y[drawn]),
            loss="bce",
            dtype=dtype,
            name="bag of tokens",
        )

    return ClosedForm(subject, {"token-swaps": _swapped(population)}, over_examples=True)


def _population() -> Population:
    random = np.random.default_rng(seed_from("token-bag"))
    # Rounded, so that a network in float32 has exactly these.
    vectors = random.standard_normal((TOKENS, FEATURES)).astype(np.float32).astype(float)
    weight = random.standard_normal(FEATURES).astype(np.float32).astype(float)
    rows = random.integers(TOKENS, size=(2 * POPULATION, POSITIONS))
    score = (vectors @ weight)[rows].sum(1)
    labels = (score + 0.5 * random.standard_normal(len(rows)) > 0).astype(int)
    drawn = Population(vectors, weight, 0.125, rows, labels)
    clear = np.flatnonzero((np.abs(drawn.leads()) > APART).all((1, 2)))[:POPULATION]
    assert len(clear) == POPULATION
    return Population(vectors, weight, 0.125, rows[clear], labels[clear])


def _swapped(population: Population) -> dict[Key, float]:
    leads = population.leads()
    same = population.rows[:, :, None] == np.arange(TOKENS)
    right = leads[same].reshape(population.rows.shape)[:, 0] > 0
    turned = ((leads < 0) & ~same).sum((1, 2)) / (POSITIONS * (TOKENS - 1))
    return {
        ("accuracy", ()): float(right.mean()),
        ("swapped_accuracy", ()): float((right & (turned == 0)).mean()),
        ("random_accuracy", ()): float((right * (1 - turned) ** TRIED).mean()),
    }
