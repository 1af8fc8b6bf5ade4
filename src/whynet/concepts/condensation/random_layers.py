"""Random layers of the shape of a given one, on the inputs that it reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from whynet.models.neuron_moments import GateLaw, Record, input_spectrum, seen_by
from whynet.numerics.directions import random_cosines, random_products

MOST_ROWS: Final = 512
"""Rows of inputs on which products of gates and values are drawn."""


@dataclass(frozen=True)
class RandomLaw:
    """How layers are drawn whose directions are independent and isotropic.

    Of a gated layer, gates and values have such directions, and gates the size of the layer's.

    Attributes:
        spectrum: eigenvalues of the second moment of the layer's inputs.
        rows: `[rows, features]`, inputs of a gated layer; None of another.
        gates: what makes its gates; None of another layer.

    """

    spectrum: np.ndarray
    rows: np.ndarray | None
    gates: GateLaw | None

    def cosines(
        self, width: int, draws: int, generator: np.random.Generator
    ) -> Iterator[np.ndarray]:
        """Yield `[width, width]` cosines a layer."""
        if self.rows is None or self.gates is None:
            yield from random_cosines(self.spectrum, width, draws, generator)
            return
        activate = self.gates.activate

        def applied(gates: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                return np.asarray(activate(torch.from_numpy(gates)).numpy())

        yield from random_products(self.rows, width, self.gates.size, applied, draws, generator)


def random_law(rec: Record) -> RandomLaw | None:
    """Return how layers like a recorded one are drawn; None where its inputs are not known."""
    if rec.inputs is None:
        return None
    spectrum = input_spectrum(rec.inputs, rec.layer)
    if rec.gates is None:
        return None if rec.layer.gated else RandomLaw(spectrum, None, None)
    return RandomLaw(spectrum, seen_by(rec.inputs[:MOST_ROWS], rec.layer), rec.gates)
