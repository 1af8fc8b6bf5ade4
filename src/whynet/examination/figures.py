"""All figures of a report, drawn; one that fails never costs the report."""

from __future__ import annotations

from markupsafe import Markup

from whynet.core.outcome import Failed
from whynet.examination.report import Report
from whynet.pages.drawing import draw_figure
from whynet.pages.words import visible


def draw_figures(report: Report) -> dict[str, Markup | Failed]:
    """Draw all figures of a report.

    Args:
        report: the figures of its answered panels are drawn.

    Returns:
        name to SVG, in the order of the panels; `Failed` where drawing raised, so that one
        picture never costs a report.

    """
    drawn: dict[str, Markup | Failed] = {}
    for answer in report.answers:
        for figure in answer.panel.figures if answer.panel is not None else ():
            try:
                drawn[figure.name] = draw_figure(figure)
            except Exception as error:  # noqa: BLE001  a picture's fault is data of the report
                drawn[figure.name] = Failed(f"{type(error).__name__}: {visible(error, 300)}")
    return drawn
