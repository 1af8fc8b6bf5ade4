"""From tables to verdicts: the claim as it stands, and each of its controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import xarray as xr

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

    """

    judgement: Judgement
    controls: Mapping[str, Judgement]
    faults: tuple[str, ...] = ()

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
        names = ", ".join(self.faults)
        return (
            f"{self.judgement.sentence} But the experiment cannot tell: not refuted under {names}."
        )


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
    return Verdict(found[CLAIM], controls, faults)


def judged(module: ClaimModule, measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge one variant; cells that are missing make it inconclusive, whatever the rest says."""
    states = measured[STATE].values.ravel()
    missing = int((states != "done").sum())
    if missing:
        failed = int((states == "failed").sum())
        return Judgement(
            "inconclusive",
            f"{missing:,} of {states.size:,} cells have no result ({failed:,} of them failed).",
        )
    return module.judge(measured.drop_vars(STATE), predicted.drop_vars(STATE))
