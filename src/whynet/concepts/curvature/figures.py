"""Pictures of curvature: data in, matplotlib axes out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from whynet.core.estimate import Estimate


def density(
    figure: Figure,
    coordinate: np.ndarray,
    values: np.ndarray,
    bounds: np.ndarray,
    threshold: float,
    outliers: Sequence[float],
) -> None:
    """Draw a spectral density on the asinh scale of its grid.

    Args:
        figure: empty figure.
        coordinate: `[places]`, asinh(eigenvalue / threshold).
        values: `[places]`, density per unit of the coordinate.
        bounds: `[2, places]`, its band.
        threshold: eigenvalue at which the scale turns from linear to logarithmic.
        outliers: largest eigenvalues, marked by ticks at the upper edge.

    """
    axes = figure.subplots()
    floor = max(float(values.max()) * 1e-6, 1e-12)
    axes.fill_between(
        coordinate,
        np.maximum(bounds[0], floor),
        np.maximum(bounds[1], floor),
        color="C0",
        alpha=0.25,
        linewidth=0,
    )
    axes.plot(coordinate, np.maximum(values, floor), color="C0", linewidth=1.6)
    axes.set_yscale("log")
    axes.set_ylim(floor, float(values.max()) * 10)
    # At the upper edge, which the density of single eigenvalues never reaches.
    places = np.arcsinh(np.asarray(outliers) / threshold)
    axes.vlines(places, 0.93, 1, color="C1", linewidth=1.6, transform=axes.get_xaxis_transform())
    if len(places):
        axes.annotate(
            "largest eigenvalues",
            (float(places.max()), 0.91),
            xycoords=("data", "axes fraction"),
            ha="right",
            va="top",
            color="0.35",
            fontsize="small",
        )
    ticks = _ticks(coordinate, threshold)
    axes.set_xticks(np.arcsinh(ticks / threshold), [_label(tick) for tick in ticks])
    axes.set_xlabel("eigenvalue (linear near 0, logarithmic beyond)")
    axes.set_ylabel("density")


def _ticks(coordinate: np.ndarray, threshold: float) -> np.ndarray:
    """Choose powers of ten that lie in the range and apart from each other."""
    low, high = threshold * np.sinh(coordinate[0]), threshold * np.sinh(coordinate[-1])
    top = np.floor(np.log10(max(abs(low), abs(high))))
    powers = 10.0 ** np.arange(top - 3, top + 1)
    ticks = np.concatenate([-powers[::-1], [0.0], powers])
    inside = ticks[(ticks >= low) & (ticks <= high)]
    places = np.arcsinh(inside / threshold)
    span = float(coordinate[-1] - coordinate[0])
    kept: list[int] = []
    # Zero first, then from the largest down, so that the ends of the scale keep their labels.
    for index in sorted(range(len(inside)), key=lambda i: (inside[i] != 0, -abs(inside[i]))):
        if all(abs(places[index] - places[other]) > 0.08 * span for other in kept):
            kept.append(index)
    return np.asarray(inside[sorted(kept)])


def _label(value: float) -> str:
    if value == 0:
        return "0"
    sign = "−" if value < 0 else ""
    exponent = round(np.log10(abs(value)))
    return sign + (f"{abs(value):g}" if -3 <= exponent <= 3 else f"$10^{{{exponent}}}$")


def spectrum(figure: Figure, series: Sequence[tuple[str, Sequence[Estimate]]]) -> None:
    """Draw the largest eigenvalues of several matrices by rank, with their bars.

    Args:
        figure: empty figure.
        series: name of the matrix, its eigenvalues from the largest down.

    """
    axes = figure.subplots()
    for index, (name, values) in enumerate(series):
        color, shift = f"C{index}", 0.12 * (index - (len(series) - 1) / 2)
        ranks = np.arange(1, len(values) + 1) + shift
        axes.vlines(ranks, [v.low for v in values], [v.high for v in values], color=color)
        axes.plot(ranks, [v.value for v in values], "o", color=color, markersize=5, label=name)
    axes.set_xlabel("rank")
    axes.set_ylabel("eigenvalue")
    axes.set_ylim(bottom=0)
    axes.legend()
