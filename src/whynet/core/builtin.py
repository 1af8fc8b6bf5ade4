"""The shape of a built-in subject: real data and a network trained on them by whynet."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BuiltIn:
    """What a list of built-in subjects shows; all fields are literals in the subject's file.

    Attributes:
        title: network and data, a phrase.
        family: id of the network's family, a file of `whynet.models.families`.
        loss: `cross_entropy`, `bce` or `mse`.
        data: where the data are from, how many rows train and test, how they were scaled.
        notes: sentences a reader of results on this subject must know.

    """

    title: str
    family: str
    loss: str
    data: str
    notes: tuple[str, ...] = ()
