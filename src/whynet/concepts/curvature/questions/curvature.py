"""What does the loss look like around the solution?"""

from __future__ import annotations

from functools import partial

import numpy as np

from whynet.concepts.curvature import figures
from whynet.core.estimate import Estimate, format_interval
from whynet.core.measurement import Measurement
from whynet.core.question import (
    Assumption,
    Figure,
    Finding,
    Panel,
    Question,
    Reference,
    Results,
    Table,
)

QUESTION = Question(
    title="How curved is the loss where it ended?",
    short="Curvature",
    uses=("hessian-spectrum",),
    may_use=("gauss-newton-spectrum",),
    references=("hessian-spectrum",),
    order=50,
)

LAYERS = 12
"""Parameters whose traces are shown."""

TOLD = 0.5
"""Width of its interval up to which a share of negative eigenvalues is shown."""

SADDLE = 0.1
"""Negative curvature above this share of the largest eigenvalue means that training can go on."""


def ask(results: Results) -> Panel:
    """Show the spectrum; sharpness is no finding, negative curvature can be."""
    hessian: Measurement = results.measured["hessian-spectrum"]
    newton: Measurement | None = results.measured.get("gauss-newton-spectrum")
    return Panel(
        lead=_lead(hessian, newton),
        method="Lanczos with full reorthogonalization for the ends, deflated stochastic Lanczos "
        "quadrature for trace and density; products are checked against float64 differences.",
        figures=_figures(hessian, newton),
        tables=(_table(hessian, newton), *_layers(newton)),
        assumptions=(
            Assumption("The Hessian product agrees with a float64 central difference", "met"),
            Assumption(
                "Sharpness can be compared between networks: it cannot, since rescaling layers "
                "changes it and leaves the function alone (Dinh et al. 2017)",
                "not met",
            ),
        ),
        findings=_finding(hessian),
    )


def _lead(hessian: Measurement, newton: Measurement | None) -> str:
    text = (
        f"The largest eigenvalue of the Hessian is {format_interval(hessian.estimate('largest'))}, "
        f"its trace {format_interval(hessian.estimate('trace'))}"
    )
    if newton is not None:
        text += f"; the Gauss-Newton matrix has {format_interval(newton.estimate('largest'))} and "
        text += format_interval(newton.estimate("trace"))
    text += "."
    if "negative_ratio" in hessian.names:
        ratio = hessian.estimate("negative_ratio")
        text += f" The most negative curvature is {format_interval(ratio)} of the largest."
        if known := _negative(hessian):
            words, share = known[-1]
            text += f" {words[:1].upper()}{words[1:]}: {format_interval(share)}."
    return text + " Sharpness depends on how layers are scaled and is not judged by itself."


def _finding(hessian: Measurement) -> tuple[Finding, ...]:
    """Strong negative curvature: the point is a saddle that descent could leave."""
    if "negative_ratio" not in hessian.names:
        return ()
    ratio = hessian.estimate("negative_ratio")
    if ratio.low < SADDLE:
        return ()
    smallest = hessian.estimate("smallest")
    return (
        Finding(
            key="negative_curvature",
            headline="It did not end at a minimum.",
            numbers=f"The most negative curvature is **{format_interval(ratio)}** of the largest "
            f"(eigenvalue {format_interval(smallest)}): the loss still falls along some "
            "directions.",
            advice="Train on, or with a smaller step size at the end, before judging the network.",
            estimate=ratio,
            label="−λ min / λ max",
            references=(Reference("near a minimum", 0.0, 0.02),),
            importance=0.6,
            instrument="hessian-spectrum",
            cites=("ghorbani2019", "pearlmutter1994"),
            read=lambda other: other.estimate("negative_ratio"),
        ),
    )


def _figures(hessian: Measurement, newton: Measurement | None) -> tuple[Figure, ...]:
    values, bounds = hessian.values("density"), np.stack(hessian.bounds("density"))
    top = hessian.values("top")
    series: list[tuple[str, list[Estimate]]] = [("Hessian", _ranked(hessian))]
    if newton is not None:
        series.append(("Gauss-Newton", _ranked(newton)))
    return (
        Figure(
            "curvature-density",
            partial(
                figures.density,
                coordinate=hessian.values("coordinate"),
                values=values,
                bounds=bounds,
                threshold=float(hessian.values("threshold")),
                outliers=[float(v) for v in top if v > 0],
            ),
            "Spectral density of the Hessian of the training loss, smoothed. Band: over probes; "
            "the bias of finite Lanczos steps is not in it. Marks: the "
            f"{len(top)} largest eigenvalues.",
            f"Most eigenvalues lie near zero; the largest is {top[0]:.3g}.",
        ),
        Figure(
            "curvature-top",
            partial(figures.spectrum, series=series),
            "The largest eigenvalues. Bars: certified for the first, residual of the Lanczos "
            "vector for the others.",
            "; ".join(
                f"{name}: " + ", ".join(f"{v.value:.3g}" for v in each) for name, each in series
            ),
            height=2.2,
        ),
    )


def _ranked(measured: Measurement) -> list[Estimate]:
    ranks = measured.dataset["rank"].values
    return [measured.estimate("top", rank=rank) for rank in ranks]


def _table(hessian: Measurement, newton: Measurement | None) -> Table:
    names = (
        ("largest", "largest eigenvalue"),
        ("smallest", "smallest eigenvalue"),
        ("negative_ratio", "most negative over largest eigenvalue"),
        ("trace", "trace"),
        ("frobenius_norm", "Frobenius norm"),
        ("adaptive_sharpness", "adaptive sharpness, the same under rescaling of layers"),
        ("gradient_norm", "norm of the gradient"),
        ("gradient_share", "share of its square in the span of the largest"),
        ("random_share", "that share of a random direction"),
    )
    rows = []
    for name, words in names:
        # The Gauss-Newton matrix has no negative eigenvalue: its smallest says nothing.
        both = newton is not None and name in newton.names and name != "smallest"
        other = newton.estimate(name) if newton is not None and both else "—"
        own = hessian.estimate(name) if name in hessian.names else "—"
        if own != "—" or other != "—":
            rows.append((words, own, other))
        if name == "negative_ratio":
            rows += [(words, share, "—") for words, share in _negative(hessian)]
    return Table(
        ("", "Hessian", "Gauss-Newton"), tuple(rows), "Curvature of the mean loss on training rows."
    )


def _negative(hessian: Measurement) -> list[tuple[str, Estimate]]:
    """Return shares of eigenvalues that lie deep below zero, where their intervals say something.

    Depths beyond the smallest eigenvalue, which stands in the table, are left out.
    """
    if "negative_share" not in hessian.names:
        return []
    depths = [float(depth) for depth in hessian.dataset["depth"].values]
    found = [(depth, hessian.estimate("negative_share", depth=depth)) for depth in depths]
    return [
        (f"share of eigenvalues below −{100 * depth:g} % of the largest", share)
        for depth, share in found
        if 0 < share.width <= TOLD
    ]


def _layers(newton: Measurement | None) -> tuple[Table, ...]:
    """Show which parameters hold the trace of the Gauss-Newton matrix, the largest of them."""
    if newton is None or "layer_trace" not in newton.names:
        return ()
    names = [str(name) for name in newton.dataset["parameter"].values]
    found = [(name, newton.estimate("layer_trace", parameter=name)) for name in names]
    shown = sorted(found, key=lambda pair: -pair[1].value)[:LAYERS]
    left = f" The {LAYERS} largest of {len(found)}." if len(found) > LAYERS else ""
    caption = f"Traces of the blocks of the Gauss-Newton matrix, which add up to its trace.{left}"
    return (Table(("parameter", "trace"), tuple(shown), caption),)
