"""The page of a smaller network: before and after side by side, and what is certified."""

from __future__ import annotations

import shlex
from functools import cache, partial
from typing import Any

import numpy as np
from jinja2 import Environment
from markupsafe import Markup

from whynet.concepts.condensation.smaller_figures import (
    LayerUnits,
    side_by_side,
    size_against_error,
)
from whynet.core.question import Figure
from whynet.examination.condensation_directions import direction_figures
from whynet.examination.condensing import Done, Files
from whynet.models.architecture import describe_architecture
from whynet.pages.drawing import draw_figure
from whynet.pages.frame import environment, style
from whynet.pages.words import counted, marked, powers, unbroken, visible

_LAYERS = 8
"""Layers that the picture shows at most; the table has all."""


@cache
def _environment() -> Environment:
    filters: dict[str, Any] = {"unbroken": unbroken, "marked": marked, "cell": visible}
    # The parts shared with reports name filters that this page has no use for.
    return environment("whynet.examination", {**filters, "tab_note": str, "time": str})


def render_condensation(done: Done, files: Files) -> str:
    """Write the page of a smaller network; it runs no script and fetches nothing."""
    found = done.condensed
    sheet, sheet_hash = style()
    before = describe_architecture(found.subject.module)
    after = describe_architecture(found.module)
    return (
        _environment()
        .get_template("condensation.html.j2")
        .render(
            style=sheet,
            style_hash=sheet_hash,
            name=visible(found.subject.name, 160),
            facts=Markup("<b>{}</b> became <b>{}</b>.").format(
                visible(before, 200), visible(after, 200)
            ),
            lead=marked(_lead(done)),
            figures=[
                _drawn(figure)
                for figure in (
                    *_figures(done),
                    *direction_figures(found.subject, done.checkpoints, done.request.seed),
                )
            ],
            rows=[[powers(cell) for cell in row] for row in _rows(done)],
            certified=[
                marked(powers(text))
                for text in (
                    *certified(done.content),
                    *([] if done.finetuned is None else [done.finetuned.sentence()]),
                    *(visible(layer["sentence"], 400) for layer in done.directions),
                )
            ],
            trained="Nothing was trained."
            if done.finetuned is None or done.finetuned.taken is None
            else f"The smaller network was trained on for {done.finetuned.steps:,} steps.",
            layers=found.layers,
            moves=[
                f"{counted(move.removed, 'unit', 'units')} of {visible(move.path, 80)} went "
                f"exactly ({move.name})."
                for move in found.moves
            ]
            + ([found.limited] if found.limited else []),
            using=marked(_using(done, files)),
            verify=_verify_command(done, files),
        )
    )


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
            f"{labels['least_radius']:.2g} at worst; around "
            f"{100 * labels['same_within_radius']:.0f} % of them up to {balls['radius']:.3g}."
        )
    return said


def _rows(done: Done) -> list[tuple[str, str, str, str]]:
    content = done.content
    one, two = content["size"]["before"], content["size"]["after"]
    rows = [
        (
            name,
            f"{one[key]:,}",
            f"{two[key]:,}",
            f"{100 * (two[key] / max(one[key], 1) - 1):+.0f} %",
        )
        for name, key in (("parameters", "parameters"), ("bytes", "bytes"))
    ]
    for split, scores in content["scores"].items():
        named = "training data" if split == "train" else "unseen data"
        for key, words in (("accuracy", "accuracy"), ("loss", "loss")):
            if key not in scores:
                continue
            percent = key == "accuracy"
            change = scores.get(f"{key}_change")
            written = "" if change is None else _change(change, percent)
            before, after = (
                f"{100 * value:.2f} %" if percent else f"{value:.4g}" for value in scores[key]
            )
            rows.append((f"{words}, {named}", before, after, written))
        errors = content["errors"][split]
        error = f"{errors['largest']:.2e}, {errors['root_mean_square']:.2e}"
        rows.append((f"largest and root mean square change, {named}", "", "", error))
    times = content["time"]
    rows.append(
        (f"seconds for {times['rows']} rows", f"{times['before']:.2e}", f"{times['after']:.2e}",
         f"{100 * (times['after'] / times['before'] - 1):+.0f} %")
    )  # fmt: skip
    return rows


def _change(change: list[float], percent: bool) -> str:
    value, low, high = (100 * v if percent else v for v in change)
    unit = " %" if percent else ""
    return f"{value:+.2g} [{low:+.2g}, {high:+.2g}]{unit}"


def _drawn(figure: Figure) -> dict[str, Any]:
    return {"svg": draw_figure(figure), "fault": "", "alt": figure.alt, "caption": figure.caption}


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
            "Every square is a unit (of a convolution: a channel): blue ones are left. Left the "
            "network as it came, right the smaller one.",
            f"Channels that are left. {visible(words, 300)}.",
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
                "output, at every size tried. Nothing is trained. Where this network lies above "
                "the curve, one of its size errs less on the data but has turned units, whose "
                "bounds are less tight.",
                "The error grows as parameters go.",
            )
        )
    return figures
