"""The folder of a slice of the loss: a figure, the numbers, a summary; written whole."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from whynet.concepts.landscape import figures
from whynet.concepts.landscape.slices import LossSlice
from whynet.core.question import Figure
from whynet.examination.folder import SUMMARY, check_out, write_whole
from whynet.examination.region_folder import DRAWING, save_drawing, write_summary

NUMBERS: Final = "slice.npz"
WRITTEN: Final = frozenset({NUMBERS, DRAWING, "figure.png", SUMMARY})
SCHEMA_VERSION: Final = "1.0"

AXES: Final = {
    "random": "random direction, in lengths of its filters",
    "eigenvectors": "eigenvector of the Hessian, in lengths of the weights",
}


def check_slice(path: str | Path, argument: str = "--out") -> Path:
    """Check, before anything is computed, that a slice can be written to a folder.

    Raises:
        InputError: it is a file, a mount point, a folder with other content, or cannot be written.

    """
    always = frozenset({SUMMARY, DRAWING})
    return check_out(path, argument, written=WRITTEN, always=always, writer="this command")


def figure_of(found: LossSlice) -> Figure:
    """Return the figure of a slice."""
    short = "random direction" if found.directions == "random" else "eigenvector of the Hessian"
    return Figure(
        "loss-slice",
        partial(
            figures.slice_of_loss,
            positions=found.positions,
            loss=found.loss,
            axis=AXES[found.directions] if found.loss.ndim == 1 else short,
        ),
        "The loss around the network: a picture, not a measure. Another draw of directions gives "
        "another picture, and neither flatness nor convexity can be read off it.",
        f"The loss is {found.center:.3g} at the network and reaches {np.nanmax(found.loss):.3g}.",
        height=2.7 if found.loss.ndim == 1 else 4.5,
    )


def save_slice(
    found: LossSlice, path: str | Path, *, about: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write figure, numbers and summary of a slice; returns the summary.

    Raises:
        InputError: the folder cannot be used.
        OSError: the disk is full or gone; what was in the folder before is still there.

    """
    finite = found.loss[np.isfinite(found.loss)]
    summary = {
        "schema_version": SCHEMA_VERSION,
        **(about or {}),
        "kind": "a picture, not a measure",
        "dimensions": found.loss.ndim,
        "points": len(found.positions),
        "span": float(found.positions[-1]),
        "directions": found.directions,
        "lengths": list(found.lengths),
        "rows": found.rows,
        "loss_here": found.center,
        "least_loss": float(finite.min()) if len(finite) else float("nan"),
        "largest_loss": float(finite.max()) if len(finite) else float("nan"),
        "points_not_finite": int(found.loss.size - len(finite)),
        "notes": list(found.notes),
    }

    def write(folder: Path) -> None:
        save_drawing(folder / DRAWING, figure_of(found))
        np.savez(folder / NUMBERS, positions=found.positions, loss=found.loss)
        write_summary(folder, summary)

    write_whole(check_slice(path, "path"), write)
    return summary
