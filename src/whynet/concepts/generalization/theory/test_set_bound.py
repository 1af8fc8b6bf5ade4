"""What test data guarantee of one fixed network: the test-set bound."""

from __future__ import annotations

from whynet.core.errors import InputError
from whynet.core.measurement import Prediction, Quantity
from whynet.numerics import intervals


def upper(errors: int, examples: int, delta: float) -> float:
    """Largest error that explains so few mistakes with a probability of at least delta.

    The one-sided bound of Clopper and Pearson (1934): the p at which at most `errors` mistakes
    among `examples` draws have probability delta. The true error exceeds it with probability at
    most delta.

    Args:
        errors: mistakes on the test data.
        examples: rows of test data, independent draws that chose nothing about the network.
        delta: chance that the bound is wrong, above 0 and below 0.5.

    Raises:
        InputError: counts or delta out of range.

    """
    if not 0 < delta < 0.5:
        raise InputError("delta", str(delta), "a number above 0 and below 0.5")
    return intervals.proportion(errors, examples, level=1 - 2 * delta).high


def predict(errors: int, examples: int, delta: float) -> Prediction:
    """Bound the error of this network on the population of the test data.

    Args:
        errors: mistakes on the test data.
        examples: rows of test data.
        delta: chance that the bound is wrong.

    Returns:
        `error`: the share of mistakes, its upper end the bound; there is no lower one.

    Raises:
        InputError: counts or delta out of range.

    """
    bound = upper(errors, examples, delta)
    return Prediction.of(
        {
            "error": Quantity(
                errors / examples,
                0.0,
                bound,
                unit="fraction",
                kind="certified",
                level=1 - delta,
                how="one-sided Clopper-Pearson",
                over="test examples",
            )
        },
        cites=("clopper1934", "langford2005"),
    )
