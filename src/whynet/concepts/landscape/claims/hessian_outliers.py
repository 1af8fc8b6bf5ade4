"""The outlying eigenvalues of a classifier belong to the means of gradients over its classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from whynet.concepts.bands import Band, judge_bands
from whynet.concepts.landscape import claim_figures
from whynet.concepts.landscape.clustered_networks import overlaps_of
from whynet.core.claim import Cell, Claim, Control, Judgement, Parameter, Values

CLAIM = Claim(
    title="Top eigenvectors of a classifier's curvature are means of gradients over its classes",
    statement="""
The Gauss–Newton matrix of the cross-entropy is the second moment (1/n) Σ v vᵀ of the vectors

    v_ik = √p_ik J_iᵀ (e_k − p_i)

of rows i and classes k, with probabilities p and the Jacobian J of the logits. Once a network has
learned C classes whose inputs are clusters, the eigenvectors of its C largest eigenvalues are the C
leading directions of the means of v over each class, and the next C have nothing to do with them.
Those of the Hessian, which has a further part, turn toward these directions. Between random
subspaces of P weights the overlap would be C/P; between the top eigenvectors and means over random
groups of rows it is about one half, so that only what goes beyond that has to do with classes.
""",
    kind="phenomenon",
    cites=("papyan2020b", "papyan2019", "sagun2018"),
    answers=("optimization", "seven-features"),
    assumptions={
        "classes": "gradients are averaged over the rows of a class",
        "clustered": "the rows of a class are a cluster of inputs",
    },
    parameters=(
        Parameter("classes", "int", "C", 2, 100),
        Parameter("rows", "int", "training rows", 10, 100_000),
        Parameter("inputs", "int", "inputs of the network", 1, 10_000),
        Parameter("separation", "float", "spread of centers over that of a cluster", 0.0, 100.0),
        Parameter("width", "int", "hidden units", 1, 10_000),
        Parameter("steps", "int", "most training steps", 1, 1_000_000),
        Parameter("groups", "choice", "over which gradients are averaged",
                  choices=("classes", "random")),
        Parameter("labels", "choice", "of the rows", choices=("clusters", "random")),
    ),
    presets={
        "smoke": {"classes": (3,), "rows": (90,), "inputs": (10,), "separation": (4.0,),
                  "width": (10,), "steps": (1500,), "seeds": (8,)},
        "small": {"classes": (3, 5), "rows": (200,), "inputs": (20,), "separation": (3.0, 6.0),
                  "width": (16,), "steps": (4000,), "seeds": (12,)},
        "full": {"classes": (4, 10), "rows": (1000,), "inputs": (50,), "separation": (3.0, 6.0),
                 "width": (32,), "steps": (20_000,), "seeds": (20,)},
    },
    controls=(
        Control("random-groups", "classes", "groups", "random",
                "Means over groups of the same sizes that are drawn at random miss half of the "
                "top eigenspace."),
        Control("random-labels", "clustered", "labels", "random",
                "A network that learns random labels by heart has no common gradients in a class."),
    ),
    shape=("classes", "rows", "inputs", "width", "steps"),
    group=40,
    cost="about 30 s",
    tolerance="Each number in the mean over seeds, for each number of classes and separation: "
    "overlap of the top C eigenvectors of the Gauss–Newton matrix at least 0.9, of the next C at "
    "most 0.1; of the top C of the Hessian at least 0.1 more than with means over random groups. "
    "Training ends where the loss is a tenth of that of equal probabilities.",
)  # fmt: skip

ALIKE, APART, BEYOND = 0.9, 0.1, 0.1


def predict(cells: Sequence[Cell]) -> Sequence[Values]:
    """Return the overlap of random subspaces, C over the number of weights."""
    found: list[Values] = []
    for cell in cells:
        classes, size, width = (int(cell.number(n)) for n in ("classes", "inputs", "width"))
        found.append({"chance": classes / ((size + 1) * width + (width + 1) * classes)})
    return found


def experiment(cells: Sequence[Cell]) -> Sequence[Values]:
    """Train, and return overlaps of top eigenspaces with directions of group means."""
    return [asdict(overlaps) for overlaps in overlaps_of(cells)]


def _places(measured: xr.Dataset) -> list[tuple[str, dict[str, float]]]:
    return [
        (f"{classes} classes, separation {separation:g}",
         {"classes": classes, "separation": separation})
        for classes in measured["classes"].values
        for separation in measured["separation"].values
    ]  # fmt: skip


def judge(measured: xr.Dataset, predicted: xr.Dataset) -> Judgement:
    """Judge the overlaps of both matrices' top eigenspaces."""
    beyond = measured["hessian"] - measured["random"].clip(min=predicted["chance"])
    bands = []
    for name, place in _places(measured):
        own = measured.sel(place)
        bands += [
            Band(f"overlap of the top eigenvectors ({name})", own["top"].values.ravel(), low=ALIKE),
            Band(f"overlap of the following ({name})", own["following"].values.ravel(),
                 high=APART),
            Band(f"the Hessian's overlap beyond that of random groups ({name})",
                 beyond.sel(place).values.ravel(), low=BEYOND),
        ]  # fmt: skip
    return judge_bands(bands)


def draw(figure: Figure, measured: xr.Dataset, predicted: xr.Dataset) -> None:
    """Draw overlaps seed by seed, and that of random subspaces."""
    rest = dict.fromkeys(("rows", "inputs", "width", "steps", "groups", "labels"), 0)
    table = measured.isel(rest).isel(classes=0, separation=0)
    names = {
        "top": "Gauss–Newton, top",
        "following": "Gauss–Newton, following",
        "hessian": "Hessian, top",
        "random": "Hessian, top, random groups",
    }
    claim_figures.values_by_seed(
        figure,
        {words: np.sort(table[name].values) for name, words in names.items()},
        expected=float(predicted["chance"].isel(rest).isel(classes=0, separation=0, seed=0)),
        labels=("seed, by its overlap", "overlap with the means"),
        words="of random subspaces",
    )
