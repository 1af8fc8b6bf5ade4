"""A film strip of the linear pieces of a network in training."""

from __future__ import annotations

from functools import partial

from whynet.concepts.regions.film_strips import film_strip, strip_height
from whynet.core.measurement import Measurement
from whynet.core.question import Figure
from whynet.models.trajectory_pictures import pictures_in
from whynet.numerics.plane_pictures import NO_CLASS


def film(measured: Measurement) -> list[Figure]:
    """Return the cells of a triangle at some steps of a training, where they could be counted."""
    pictures = pictures_in(measured)
    if not pictures:
        return []
    frames = [(f"step {step:,}", picture) for step, picture in pictures]
    counts = "; ".join(f"step {step:,}: {picture.cells:,}" for step, picture in pictures)
    colored = "the predicted class, paler where its lead is small, the decision boundary on top"
    if pictures[0][1].classes[0] == NO_CLASS:
        colored = "the first output, darkest where it is least, on one scale for all steps"
    return [
        Figure(
            "training-cells",
            partial(film_strip, frames=frames),
            "The linear pieces of the network in the triangle of three training rows, at steps of "
            f"the training, found exactly; colored by {colored}.",
            f"Cells of a triangle. {counts}.",
            height=strip_height(frames),
        )
    ]
