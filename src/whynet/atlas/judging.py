"""From tables to verdicts: the claim as it stands, and each of its controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from whynet.atlas.tables import STATE
from whynet.core.claim import Claim, ClaimModule, Judgement

CLAIM = ""
"""Name of the variant that breaks no assumption."""


@dataclass(frozen=True)
class Verdict:
    """What a run says about a claim.

    Attributes:
        judgement: of the claim itself.
        controls: name of a control to its judgement.
        faults: controls that were not refuted: while there are any, the experiment does not
            test the claim and its verdict is inconclusive.
        unfinished: those among them that have cells without a result.

    """

    judgement: Judgement
    controls: Mapping[str, Judgement]
    faults: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """Supported, refuted, inconclusive or not applicable, controls taken into account."""
        if self.judgement.state == "supported" and self.faults:
            return "inconclusive"
        return self.judgement.state

    @property
    def sentence(self) -> str:
        """Why, in a sentence or two."""
        if not self.faults:
            return self.judgement.sentence
        told = [name for name in self.faults if name not in self.unfinished]
        parts = [f"not refuted under {', '.join(told)}"] if told else []
        if self.unfinished:
            parts.append(f"cells have no result under {', '.join(self.unfinished)}")
        return f"{self.judgement.sentence} But the experiment cannot tell: {'; '.join(parts)}."


def verdict_of(
    module: ClaimModule, claim: Claim, tables: Mapping[str, tuple[xr.Dataset, xr.Dataset]]
) -> Verdict:
    """Judge a claim and its controls.

    Args:
        module: the claim's file.
        claim: its metadata.
        tables: variant (`""` for the claim, else a control's name) to measured and predicted.

    """
    found = {name: judged(module, *pair) for name, pair in tables.items()}
    controls = {c.name: found[c.name] for c in claim.controls if c.name in found}
    faults = tuple(name for name, judgement in controls.items() if judgement.state != "refuted")
    unfinished = tuple(name for name in faults if _missing(tables[name][0]).any())
    return Verdict(found[CLAIM], controls, faults, unfinished)


def _missing(measured: xr.Dataset) -> NDArray[np.bool_]:
    """Return which cells have no result, `[cells]`."""
    return np.asarray(measured[STATE].values.ravel() != "done")


def judged(module: ClaimModule, measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge one variant; cells that are missing make it inconclusive, whatever the rest says."""
    missing = int(_missing(measured).sum())
    if missing:
        states = measured[STATE].values.ravel()
        failed = int((states == "failed").sum())
        return Judgement(
            "inconclusive",
            f"{missing:,} of {states.size:,} cells have no result ({failed:,} of them failed).",
        )
    return module.judge(measured.drop_vars(STATE), predicted.drop_vars(STATE))
