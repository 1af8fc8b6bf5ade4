"""The page of a smaller network: before and after side by side, and what is certified."""

from __future__ import annotations

import math
import re
import shlex
from functools import cache, partial
from typing import Any

import numpy as np
from jinja2 import Environment
from markupsafe import Markup

from whynet.concepts.condensation.reduction import Condensed
from whynet.concepts.condensation.smaller_figures import (
    LayerUnits,
    side_by_side,
    size_against_error,
)
from whynet.core.estimate import format_number
from whynet.core.question import Figure
from whynet.examination.condensation_directions import direction_figures
from whynet.examination.condensing import Done, Files
from whynet.models.architecture import describe_architecture
from whynet.pages.drawing import draw_figure
from whynet.pages.frame import environment, style
from whynet.pages.words import counted, marked, powers, unbroken, visible

_ENDS = ("before", "after")
_LAYERS = 8
"""Layers that the picture shows at most; the table has all."""


@cache
def _environment() -> Environment:
    filters: dict[str, Any] = {"unbroken": unbroken, "marked": marked, "cell": visible}
    # The parts shared with reports name filters that this page has no use for.
    return environment(
        "whynet.examination", {**filters, "tab_note": str, "time": str, "powers": str}
    )


def render_condensation(done: Done, files: Files) -> str:
    """Write the page of a smaller network; it runs no script and fetches nothing."""
    found = done.condensed
    sheet, sheet_hash = style()
    return (
        _environment()
        .get_template("condensation.html.j2")
        .render(
            style=sheet,
            style_hash=sheet_hash,
            name=visible(found.subject.name, 160),
            facts=_facts(done),
            lead=marked(_lead(done)),
            figures=[
                _drawn(figure)
                for figure in (
                    *_figures(done),
                    *direction_figures(found.subject, done.checkpoints, done.request.seed),
                )
            ],
            rows=[[_whole(cell) for cell in row] for row in _rows(done)],
            certified=[marked(powers(text)) for text in certified(done.content)],
            finetuned="" if done.finetuned is None else marked(powers(done.finetuned.sentence())),
            directions=[marked(visible(layer["sentence"], 400)) for layer in done.directions],
            trained="Nothing was trained."
            if done.finetuned is None or done.finetuned.taken is None
            else f"The smaller network was trained on for {done.finetuned.steps:,} steps.",
            layers=found.layers,
            moves=[
                f"{counted(move.removed, 'unit', 'units')} of {visible(move.path, 80)} went "
                f"exactly ({move.name})."
                for move in found.moves
            ]
            + [said for said in (found.caution, found.limited) if said],
            using=marked(_using(done, files)),
            verify=_verify_command(done, files),
        )
    )


def _facts(done: Done) -> Markup:
    """Say what it was and became; where only widths changed, one phrase stands for both."""
    found, sizes = done.condensed, done.content["size"]
    before = visible(describe_architecture(found.subject.module), 200)
    after = visible(describe_architecture(found.module), 200)
    counts = [f"{sizes[end]['parameters']:,}" for end in _ENDS]
    if before == after:
        said = Markup("<b>{}</b>: {} parameters became <b>{}</b>.")
        return said.format(before, *counts)
    said = Markup("<b>{}</b>, {} parameters, became <b>{}</b>, {} parameters.")
    return said.format(before, counts[0], after, counts[1])


def _whole(cell: str) -> Markup:
    """Write a cell whose bracket stays on one line."""
    cell = re.sub(r"(?<=\d) (?=%|ms)", "\u00a0", powers(cell))
    value, opened, rest = cell.partition("[")
    if not opened:
        return Markup("{}").format(value)
    bracket, _, after = rest.partition("]")
    inside = Markup('<span class="bracket">[{}]</span>').format(bracket)
    return Markup("{}{}{}").format(value, inside, after)


def _verify_command(done: Done, files: Files) -> str:
    words = ["whynet", "verify", files.certificate.name, done.request.target]
    return shlex.join(words)


def _using(done: Done, files: Files) -> str:
    """Say how the smaller network is loaded."""
    weights = f"safetensors.torch.load_file('{visible(files.weights.name, 80)}')"
    if done.condensed.traced:
        said = (
            f"Its own code fixes widths: `small = whynet.load_resized(model, {weights}, inputs)`, "
            "with the large network as `model` and a batch of `inputs`, returns a trace of it "
            "(`torch.fx.GraphModule`) in which they are sizes of its parameters."
        )
        if files.program.is_file():
            name = visible(files.program.name, 80)
            said += f" `torch.export.load('{name}').module()` needs none of its code."
    else:
        said = (
            f"`small = whynet.load_resized(model, {weights})`, with the large network as `model`, "
            "returns an ordinary module of the same classes."
        )
    if done.builder is not None:
        said += f" So does `{visible(done.builder.call(), 200)}` with that state dict."
    return said


def _lead(done: Done) -> str:
    found, content = done.condensed, done.content
    sizes = content["size"]
    share = sizes["after"]["parameters"] / sizes["before"]["parameters"]
    if content["exact"]["holds"]:
        return (
            f"**{100 * share:.0f} %** of the parameters compute the same function, for all "
            "inputs: what went was ignored, constant, a multiple of another unit, or linear."
        )
    between = " and between them" * found.chosen.turned
    return (
        f"**{100 * share:.0f} %** of the parameters reproduce the outputs on the training "
        f"data{between} to "
        f"**{found.chosen.largest:.2g}** of the largest output at worst, to "
        f"{found.chosen.root_mean_square:.2g} in the root mean square."
    )


def certified(content: dict[str, Any]) -> list[str]:
    """Say in sentences what a certificate proves and what it measured."""
    exact, balls = content["exact"], content["balls"]
    said = []
    if exact["holds"]:
        far = exact.get("far_off")
        beyond = "" if far is None else f", {far:.1e} far off them"
        said.append(
            "**Equal for all inputs**: exact moves alone, made again, give this network. Round-off "
            f"{exact['on_data']:.1e} of the largest output on the training data{beyond}."
        )
    if exact["holds"]:
        return said
    if "not_applicable" in balls:
        return [*said, f"**No bound off the data**: {balls['not_applicable']}"]
    norm = "any pixel or feature" if balls["norm"] == "linf" else "the input, in length,"
    cells = balls["cells"]
    exactly = ""
    if cells.get("balls"):
        exactly = (
            f" Cell by cell ({counted(cells['cells'], 'cell', 'cells')} in "
            f"{counted(cells['balls'], 'ball', 'balls')}) it is "
            f"{'exactly' if cells['complete'] else 'at most'} {balls['certified']:.2g}."
        )
    held = ", ".join(balls["curved"])
    through = f" Curved operations ({held}) are held between proven lines." if held else ""
    loose = " This bound is **loose**: above ten times what the attack reaches." * balls["loose"]
    said.append(
        f"**Proven**: where {norm} moves by at most {balls['radius']:.3g} from one of "
        f"{balls['points']} {'unseen' if balls['split'] == 'test' else 'training'} examples, no "
        f"output differs by more than {balls['proven']:.2g} of the largest.{exactly} An attack "
        f"reaches {balls['attacked']:.2g}; the median over examples of bound over attack is "
        f"{balls['median_ratio']:.2f}.{through}{loose}"
    )
    if "labels" in balls:
        labels = balls["labels"]
        said.append(
            f"**Labels**: around {labels['points']} examples both networks provably give the same "
            f"label up to a radius of {labels['median_radius']:.2g} in the median, "
            f"{labels['least_radius']:.2g} at worst; around {_part(labels['same_within_radius'])} "
            f"of them up to {balls['radius']:.3g}."
        )
    return said


def _part(share: float) -> str:
    return "all" if share == 1 else f"{100 * share:.0f} %"


def _rows(done: Done) -> list[tuple[str, str, str, str]]:
    content = done.content
    one, two = content["size"]["before"], content["size"]["after"]
    rows = [
        (key, f"{one[key]:,}", f"{two[key]:,}", _percent(two[key] / max(one[key], 1) - 1))
        for key in ("parameters", "bytes")
    ]
    for split, scores in content["scores"].items():
        named = "training data" if split == "train" else "unseen data"
        for key in ("accuracy", "loss"):
            if key in scores:
                rows.append((f"{key}, {named}", *_score(scores, key)))
        errors = content["errors"][split]
        for key, words in (("largest", "largest"), ("root_mean_square", "root mean square")):
            rows.append((f"{words} change, {named}", "", "", format_number(errors[key])))
    times = content["time"]
    before, after = (f"{format_number(1000 * times[end], digits=2)} ms" for end in _ENDS)
    rows.append(
        (f"time for {counted(times['rows'], 'row', 'rows')}", before, after, _faster(times))
    )
    return rows


def _score(scores: dict[str, Any], key: str) -> tuple[str, str, str]:
    """Write a score before and after, and its change with the interval over examples."""
    percent = key == "accuracy"
    change = scores.get(f"{key}_change")
    if percent:
        before, after = (f"{100 * value:.1f} %" for value in scores[key])
        if change is None:
            return before, after, ""
        value, low, high = (signed(100 * v, 1) for v in change)
        return before, after, f"{value} points [{low}, {high}]"
    before, after = (format_number(value) for value in scores[key])
    if change is None:
        return before, after, ""
    # As many decimals as the width of the interval needs for two digits.
    width = max(change[2] - change[1], 1e-12)
    places = min(max(0, 1 - math.floor(math.log10(width))), 9)
    value, low, high = (signed(v, places) for v in change)
    return before, after, f"{value} [{low}, {high}]"


def signed(value: float, places: int) -> str:
    """Write a change with its sign, a true minus, and none where it rounds to zero."""
    text = f"{value:+.{places}f}".replace("-", "−")
    return text[1:] if float(text[1:]) == 0 else text


def _percent(change: float) -> str:
    return f"{signed(100 * change, 0)} %"


def _faster(times: dict[str, Any]) -> str:
    """Say how the time changed, where repeats tell the two networks apart."""
    if "before_range" in times and (
        times["after_range"][0] <= times["before_range"][1]
        and times["before_range"][0] <= times["after_range"][1]
    ):
        return "too close to tell"
    return _percent(times["after"] / times["before"] - 1)


def _drawn(figure: Figure) -> dict[str, Any]:
    return {"svg": draw_figure(figure), "fault": "", "alt": figure.alt, "caption": figure.caption}


def _above(found: Condensed) -> str:
    """Say why the chosen network lies above its curve, where it does."""
    best = min(p.largest for p in found.curve if p.parameters <= found.chosen.parameters)
    if found.chosen.largest <= best:
        return ""
    return (
        "This network lies above the curve: one of its size errs less on the data but has turned "
        "units, whose bounds are less tight."
    )


def _figures(done: Done) -> list[Figure]:
    found = done.condensed
    changed = [layer for layer in found.layers if layer.after < layer.before][:_LAYERS]
    layers = []
    for layer in changed:
        stays = np.zeros(layer.before, dtype=bool)
        stays[list(found.kept[layer.path])] = True
        layers.append(LayerUnits(visible(layer.path, 40), stays))
    words = "; ".join(f"{la.path}: {la.after} of {la.before} units" for la in changed)
    figures = [
        Figure(
            "side-by-side",
            partial(side_by_side, layers=layers),
            "Every square is a unit (of a convolution: a channel); blue ones stay. On the left the "
            "network as it came, on the right the smaller one.",
            f"Units that stay. {visible(words, 300)}.",
            min(8.0, 0.4 + 1.15 * len(layers)),
        )
    ]
    points = found.curve
    if len(points) > 1:
        chosen = (found.chosen.parameters, found.chosen.largest)
        figures.append(
            Figure(
                "size-against-error",
                partial(
                    size_against_error,
                    parameters=[p.parameters for p in points],
                    errors=[p.largest for p in points],
                    tolerance=found.tolerance,
                    chosen=chosen,
                ),
                "Largest change of an output on the training data, relative to the largest "
                "output, at every size tried; nothing is trained. " + _above(found),
                "The error grows as parameters go.",
            )
        )
    return figures
