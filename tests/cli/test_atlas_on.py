"""`whynet atlas run --on`: claims tried on a network of one's own."""

from __future__ import annotations

import html
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from tests.cli.own import OWN, Shell
from tests.house.places import python

from whynet.atlas.registry import with_field_tests
from whynet.cli.atlas_on import subject_parser
from whynet.cli.request import request_from

FIT = """
import torch
from torch import nn

def train(model, inputs, targets):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
"""
TARGET, DATA = OWN[0], OWN[1:]
START = ("--init-weights", "start.safetensors")


def run(*words: str, claim: str = "dln-balanced", out: str = "new") -> tuple[str, ...]:
    return ("atlas", "run", claim, "--on", TARGET, *DATA, *words, "--out", out)


def results(folder: str = "new") -> list[dict[str, Any]]:
    content = json.loads(Path(folder, "results.json").read_text(encoding="utf-8"))
    assert content["schema_version"] == "1.0"
    assert content["subject"]["name"] == "model.py:build"
    claims: list[dict[str, Any]] = content["claims"]
    return claims


@pytest.fixture
def fitted(shell: Shell) -> Shell:
    """The subject with a function that trains it."""
    Path("fit.py").write_text(FIT, encoding="utf-8")
    return shell


def test_a_claim_is_tried_and_written(fitted: Shell) -> None:
    out = fitted.good(
        *run(*START, "--train-with", "fit.py:train", "--seeds", "2", claim="ntk-linearized")
    )
    assert "ntk-linearized: " in out
    assert "report: new/report.html" in out
    assert "running code from fit.py" in fitted.err
    assert sorted(path.name for path in Path("new").iterdir()) == ["report.html", "results.json"]
    (found,) = results()
    assert set(found["distances"]) == {"theory", "control", "a constant", "seed 1", "seed 2"}
    assert found["items"] == 60
    assert found["state"] in out
    assert found["control"]["name"] == "other-start"
    assert {one["key"]: one["status"] for one in found["assumptions"]} == {
        "trained": "met", "same-rows": "met",
    }  # fmt: skip
    page = Path("new/report.html").read_text(encoding="utf-8")
    assert found["sentence"].split(" %")[0] in html.unescape(page)
    assert "<script" not in page
    assert " object at 0x" not in page
    assert "Intervals over test examples." in page
    assert "other-start" in page


def test_the_receipt_gives_the_same_numbers(fitted: Shell) -> None:
    fitted.good(*run(*START, "--train-with", "fit.py:train", "--seeds", "1", "--seed", "4"))
    (first,) = results()
    words = shlex.split(first["command"])
    assert words[0] == "whynet"
    fitted.good(*words[1:], "--out", "again")
    (second,) = results("again")
    assert first == second


def test_an_assumption_that_fails_is_named_with_what_was_measured(fitted: Shell) -> None:
    out = fitted.good(*run(claim="max-margin-logistic"))
    (found,) = results()
    assert found["state"] == "not applicable"
    assert found["assumptions"][-1]["key"] == "separable"
    assert found["assumptions"][-1]["status"] == "not met"
    assert "of 72 training rows are on the wrong side" in out
    assert "distances" not in found


def test_without_a_recipe_the_reference_is_missing(fitted: Shell) -> None:
    fitted.good(*run(*START, claim="ntk-linearized"))
    (found,) = results()
    assert found["state"] == "cannot be judged against another seed"


def test_all_that_can_be_tried_are(fitted: Shell) -> None:
    words = ("atlas", "run", "--all", "--on", TARGET, *DATA, *START, "--seeds", "0", "--json")
    printed = json.loads(fitted.good(*words, "--out", "new"))
    assert [one["claim"] for one in printed] == list(with_field_tests())
    assert printed == results()
    page = Path("new/report.html").read_text(encoding="utf-8")
    assert all(f'id="{name}"' in page for name in with_field_tests())


def test_one_that_fails_does_not_lose_the_others(
    fitted: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    from whynet.concepts.implicit_bias.field_tests import dln_balanced

    def raises(*words: object, **options: object) -> None:
        raise RuntimeError("no luck \x1b[31mtoday")

    monkeypatch.setattr(dln_balanced, "predict_on", raises)
    words = ("atlas", "run", "--all", "--on", TARGET, *DATA, *START, "--seeds", "0", "--out", "new")
    assert fitted(*words) == 3
    states = {one["claim"]: one["state"] for one in results()}
    assert states.pop("dln-balanced") == "failed"
    assert "failed" not in states.values()
    assert "dln-balanced (RuntimeError: no luck" in fitted.err
    assert "\x1b" not in fitted.err + fitted.out


def test_an_interruption_leaves_what_was_there(
    fitted: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    from whynet.concepts.implicit_bias.field_tests import dln_balanced

    fitted.good(*run(*START))
    before = fitted.listing()

    def stops(*words: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(dln_balanced, "predict_on", stops)
    assert fitted(*run(*START)) == 130
    assert fitted.listing() == before


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        (run(claim="nngp"), "--on: found 'nngp', which cannot .* one of initial-condensation, "),
        (run(claim="ngnp"), "ID: found 'ngnp'"),
        (run("--sede", "1"), "--sede: found an unknown option.*did you mean --seed"),
        (run("--scale", "smoke"), "--scale: found this option beside --on"),
        (run("--workers", "2"), "--workers: found this option beside --on"),
        (run("--seeds", "21"), "--seeds: found 21"),
        (run("--loss", "mes"), "--loss: found 'mes'"),
        (run(out="model.py"), "--out: found 'model.py', which is no folder"),
        (run(out="."), "--out: found the folder '.' with other content"),
        (run("--dtype", "float16"), "--dtype: found 'float16'"),
        (("atlas", "run", "--all", "dln-balanced", "--on", TARGET), "ID: found a claim and --all"),
        (("atlas", "run", "--on", TARGET), "ID: found neither a claim nor --all"),
        (("atlas", "run", "dln-balanced", "--on"), "--on: found no value"),
        (("atlas", "run", "dln-balanced", "--on", "mpl"), "TARGET: found .mpl.; wanted"),
    ],
)  # fmt: skip
def test_mistakes_get_one_sentence(shell: Shell, words: tuple[str, ...], pattern: str) -> None:
    import re

    before = shell.listing()
    assert shell(*words) == 2
    lines = shell.err.strip().splitlines()
    assert re.match(f"whynet: {pattern}", lines[-1]), lines
    assert shell.listing() == before


OWN_CLAIM = """
import numpy as np
from whynet.core.field_test import Check

FIELD_TEST = FieldTest(
    asks="Are its answers zero?",
    predicts="answers on unseen rows",
    items="test examples",
    needs=("test-data", "classification"),
    assumptions={"any": "nothing"},
    control=Broken("ones", "zero", "They are one."),
    cites=(),
    cost="nothing",
)


def check_on(subject, seed):
    return (Check("any", "met", "nothing is asked."),)


def predict_on(subject, seed, broken=False):
    return np.full(subject.test.count, int(broken))


def measure_on(subject, seed):
    return subject.outputs("test")[0].argmax(1).numpy()


def another_on(subject, other, seed):
    return measure_on(other, seed)


def rivals_on(subject, seed):
    return {}
"""


def test_a_claim_of_ones_own_is_tried_from_the_same_file(fitted: Shell) -> None:
    from tests.house.places import ROOT
    from tests.house.test_documents import blocks

    page = blocks(ROOT / "docs" / "how_to_add" / "claim.md", "python")[0]
    head = "from whynet.core.field_test import Broken, FieldTest\n"
    Path("mine.py").write_text(page + "\n" + head + OWN_CLAIM, encoding="utf-8")
    assert "Are its answers zero?" in fitted.good("atlas", "show", "mine.py:CLAIM")
    fitted.good(*run(claim="mine.py:CLAIM"))
    assert "running code from mine.py" in fitted.err
    (found,) = results()
    assert found["state"] in ("does not explain", "inconclusive")
    assert "mine.py:CLAIM" in found["command"]
    Path("less.py").write_text(
        page + "\n" + head + OWN_CLAIM.replace("def rivals_on", "def rival_on"), encoding="utf-8"
    )
    assert fitted(*run(claim="less.py:CLAIM")) == 2
    assert "without rivals_on" in fitted.err


def test_list_and_show_say_what_can_be_tried(shell: Shell) -> None:
    listed = {
        one["id"]: one["on_a_network"] for one in json.loads(shell.good("atlas", "list", "--json"))
    }
    assert {name for name, can in listed.items() if can} == set(with_field_tests())
    lines = shell.good("atlas", "list").splitlines()
    marked = {line.split()[0] for line in lines if "--on TARGET" in line}
    assert marked == set(with_field_tests())
    shown = shell.good("atlas", "show", "dln-balanced")
    assert "on a network (--on TARGET): Do its consecutive layers" in shown
    assert "control there other-units" in shown
    assert "on a network" not in shell.good("atlas", "show", "nngp")


def test_listing_imports_neither_torch_nor_xarray() -> None:
    code = (
        "import contextlib, io, sys\nfrom whynet.cli.main import main\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n    main(['atlas', 'list', '--json'])\n"
        "assert not {'torch', 'xarray'} & set(sys.modules)"
    )
    assert python("-c", code).returncode == 0


def test_a_parameter_of_a_claim_keeps_its_name_without_on(shell: Shell) -> None:
    """`--loss` is an option of `--on` and a parameter of this claim."""
    shell.good(
        "atlas", "run", "dln-balanced", "--scale", "smoke", "--loss", "log-cosh", "--seeds", "3",
        "--out", "new",
    )  # fmt: skip
    kept = json.loads(Path("new/dln-balanced/run.json").read_text(encoding="utf-8"))
    assert kept["grids"][""]["axes"]["loss"] == ["log-cosh"]


def test_what_follows_on_is_read_as_examine_reads_it() -> None:
    words = [TARGET, *DATA, "--seed", "3", "--dtype", "float64"]
    request = request_from(subject_parser().parse_args(words))
    assert (request.target, request.seed, request.dtype) == (TARGET, 3, "float64")


def test_an_examination_tries_them_and_they_are_verified(fitted: Shell) -> None:
    words = (TARGET, *DATA, *START, "--train-with", "fit.py:train")
    fitted.good("examine", *words, "--only", "theories", "--out", "out", "--quiet")
    kept = json.loads(Path("out/summary.json").read_text(encoding="utf-8"))["numbers"]
    assert "ntk-linearized.distance.theory" in kept
    again = ("verify", "out", TARGET, "--train-with", "fit.py:train", "--json")
    verified = {one["name"]: one for one in json.loads(fitted.good(*again))}
    assert verified["ntk-linearized"]["stands"]
    assert verified["ntk-linearized"]["entries"] > 5
