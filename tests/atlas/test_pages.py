"""The command, its pages and its index."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from whynet.atlas.journal import Journal
from whynet.atlas.page import run_command, written
from whynet.atlas.pages import FIGURES, INDEX, PAGE, RUN, grids_in, write_pages
from whynet.atlas.registry import PARTS, claims, find_claim
from whynet.atlas.run import claim
from whynet.cli.atlas import parse_axes
from whynet.cli.main import main
from whynet.core.citations import bibliography
from whynet.core.claim import QUESTIONS, grid_of
from whynet.core.errors import InputError, StoreError

NAME = "min-norm-interpolation"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("atlas")
    assert main(["atlas", "run", NAME, "--scale", "smoke", "--quiet", "--out", str(place)]) == 0
    return place


@pytest.mark.parametrize("name", claims())
def test_metadata_name_things_that_exist(name: str) -> None:
    about = claims()[name].metadata
    assert about.title and about.statement.strip() and about.tolerance and about.cost
    assert set(about.answers) <= set(QUESTIONS) and about.answers
    assert set(about.cites) <= set(bibliography()) and about.cites
    assert about.presets.keys() >= {"smoke", "small", "full"}
    parameters = {parameter.name: parameter for parameter in about.parameters}
    assert set(about.shape) <= set(parameters)
    assert about.controls, "a claim has at least one control"
    for control in about.controls:
        assert control.breaks in about.assumptions
        changed = grid_of(name, about, "smoke", {control.parameter: [control.value]})
        assert changed.axes[control.parameter] == (control.value,)
        for scale in about.presets:
            assert control.value not in grid_of(name, about, scale).axes[control.parameter]


def test_listing_imports_neither_torch_nor_xarray(capsys: pytest.CaptureFixture[str]) -> None:
    import subprocess
    import sys

    program = (
        "import sys; from whynet.cli.main import main; main(['atlas', 'list', '--json']);"
        "print([m for m in ('torch', 'xarray', 'matplotlib') if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr.strip() == "[]"
    assert {entry["id"] for entry in json.loads(done.stdout)} == set(claims())


def test_show_says_what_is_claimed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["atlas", "show", NAME]) == 0
    said = capsys.readouterr().out
    for words in ("w* = w₀ + X⁺(y − X w₀)", "control adam", "assumes span", "arXiv:1611.03530"):
        assert words in said


def test_a_run_leaves_a_store_a_page_and_an_index(folder: Path) -> None:
    content = json.loads((folder / NAME / RUN).read_text(encoding="utf-8"))
    assert content["state"] == "supported"
    assert {state for state, _ in content["controls"].values()} == {"refuted"}
    page = (folder / NAME / PAGE).read_text(encoding="utf-8")
    assert "default-src 'none'" in page and "<script" not in page and "nearest to its start" in page
    index = (folder / INDEX).read_text(encoding="utf-8")
    assert f'href="{NAME}/{PAGE}"' in index and "supported" in index


def test_figures_stand_beside_the_page_as_svg_and_pdf(folder: Path) -> None:
    store = folder / NAME / FIGURES
    names = {path.name for path in store.iterdir()}
    assert names == {f"{n}.{k}" for n in ("claim", "adam", "weight-decay") for k in ("svg", "pdf")}
    for path in store.iterdir():
        begin = path.read_bytes()[:200]
        assert begin.startswith(b"%PDF-" if path.suffix == ".pdf" else b"<?xml")
    before = {path.name: path.read_bytes() for path in store.iterdir()}
    assert main(["atlas", "report", str(folder), "--quiet"]) == 0
    assert {path.name: path.read_bytes() for path in store.iterdir()} == before


def test_a_second_run_computes_nothing_and_says_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from whynet.concepts.implicit_bias.claims import min_norm_interpolation as module

    before = (folder / NAME / RUN).read_bytes()

    def fail(cells: object) -> None:
        raise AssertionError("it was computed again")

    monkeypatch.setattr(module, "experiment", fail)
    again = ["atlas", "run", NAME, "--scale", "smoke", "--quiet", "--out", str(folder)]
    assert main([*again, "--expect", "supported"]) == 0
    assert (folder / NAME / RUN).read_bytes() == before
    assert main([*again, "--expect", "refuted"]) == 1


def test_a_report_judges_again(folder: Path) -> None:
    run = folder / NAME / RUN
    content = json.loads(run.read_text(encoding="utf-8"))
    run.write_text(json.dumps({**content, "state": "refuted", "sentence": "No."}), encoding="utf-8")
    assert main(["atlas", "report", str(folder), "--quiet"]) == 0
    assert json.loads(run.read_text(encoding="utf-8"))["state"] == "supported"


def test_a_store_of_another_version_stays_in_the_index_as_it_was_judged(
    folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder / NAME, tmp_path / NAME)
    run = tmp_path / NAME / RUN
    content = json.loads(run.read_text(encoding="utf-8"))
    old = {**content, "version": 99, "state": "refuted", "sentence": "It was not so."}
    run.write_text(json.dumps(old), encoding="utf-8")
    assert main(["atlas", "report", str(tmp_path), "--quiet"]) == 0
    assert json.loads(run.read_text(encoding="utf-8")) == old
    index = (tmp_path / INDEX).read_text(encoding="utf-8")
    now = find_claim(NAME).metadata.version
    said = f"It was not so. This is of version 99 of the claim; {now} runs in another folder."
    assert said in index


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"schema_version": "2.0"}', '{"schema_version": "1.0", "claim": 3}', "\0"],
)
def test_a_damaged_run_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / RUN).write_text(text, encoding="utf-8")
    with pytest.raises(StoreError, match=r"DIR: found"):
        write_pages(tmp_path)


def test_folders_without_stores_are_refused(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "gone"):
        with pytest.raises(InputError, match="DIR: found no"):
            write_pages(place)


@pytest.mark.parametrize(
    ("words", "axes"),
    [
        (["--rows", "10,20"], {"rows": (10, 20)}),
        (["--rows=10:30:10"], {"rows": (10, 20, 30)}),
        (["--start", "0:0.3:0.1"], {"start": (0, 0.1, 0.2, 0.3)}),
        (["--weight-decay", "none,0.01", "--steps", "5"],
         {"weight_decay": ("none", "0.01"), "steps": (5,)}),
    ],
)  # fmt: skip
def test_axes_on_the_command_line(words: list[str], axes: dict[str, object]) -> None:
    assert parse_axes(words, claims()[NAME].metadata) == axes


@pytest.mark.parametrize(
    ("words", "argument"),
    [
        (["--depth", "3"], "--depth"),
        (["rows", "3"], "rows"),
        (["--rows"], "--rows"),
        (["--rows", "a"], "--rows"),
        (["--rows", "1:2"], "--rows"),
        (["--rows", "1:2:0"], "--rows"),
        (["--rows", "2:1:1"], "--rows"),
        (["--start", "0:1:1e-9"], "--start"),
        (["--start", "nan"], "--start"),
    ],
)
def test_axes_that_are_refused(words: list[str], argument: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_axes(words, claims()[NAME].metadata)
    assert refused.value.argument == argument


@pytest.mark.parametrize(
    ("words", "argument"),
    [
        (["run"], "ID"),
        (["run", NAME, "--all"], "ID"),
        (["run", "--all", "--rows=3"], "--rows=3"),
        (["run", "min-norm"], "ID"),
        (["run", NAME, "--scale", "huge"], "scale"),
        (["run", NAME, "--rows", "0"], "rows"),
        (["run", NAME, "--seeds", "0"], "seeds"),
        (["run", NAME, "--first-seed", "-1"], "first_seed"),
        (["run", NAME, "--seeds", "90000"], "--yes"),
        (["run", "gone.py:CLAIM"], "ID"),
        (["show", "nothing"], "ID"),
        (["list", "--rows", "3"], "--rows"),
    ],
)
def test_mistakes_get_one_sentence(
    words: list[str], argument: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    extra = ["--out", str(tmp_path / "out")] if words[0] == "run" else []
    assert main(["atlas", *words, *extra]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith(f"whynet: {argument}: found ") and "\n" not in said
    assert not (tmp_path / "out").exists()


def test_the_command_on_a_page_runs_the_same_grid() -> None:
    record = claim(NAME).run("smoke", steps=50, seeds=2, controls=False)
    words = run_command(record).split()
    assert words[:4] == ["whynet", "atlas", "run", NAME] and words[-2:] == ["--seeds", "2"]
    axes = parse_axes(words[4:-2], record.entry.metadata)
    again = grid_of(NAME, record.entry.metadata, "small", axes, 2)
    assert again == record.grids[""]
    assert written((0.1, 3, "a")) == "0.1,3,a"


def test_fresh_seeds_stand_in_the_store_the_page_and_its_command(tmp_path: Path) -> None:
    words = ["atlas", "run", NAME, "--scale", "smoke", "--steps=50", "--seeds", "2", "--quiet"]
    for more in ([], ["--first-seed", "2"]):
        assert main([*words, *more, "--out", str(tmp_path)]) == 0
    with Journal.open(tmp_path / NAME, driver=False) as journal:
        seeds = {json.loads(key)["seed"] for key in journal.finished()}
    assert seeds == {0, 1, 2, 3}
    content = json.loads((tmp_path / NAME / RUN).read_text("utf-8"))
    entry = find_claim(NAME)
    grid = grids_in(content, entry)[""]
    assert grid.seed_numbers == range(2, 4)
    for old in content["grids"].values():
        del old["first_seed"]  # as earlier versions wrote it
    assert grids_in(content, entry)[""].seed_numbers == range(2)
    page = (tmp_path / NAME / PAGE).read_text("utf-8")
    assert "2, from number 2 on" in page and "--seeds 2 --first-seed 2" in page
    assert main(["verify", str(tmp_path / NAME), "--quiet"]) == 0


def test_a_record_shows_itself_and_its_figure() -> None:
    record = claim(NAME).run("smoke", steps=50, seeds=2)
    assert record.figure().axes and "<h1>" in record._repr_html_()
    assert set(record.dataset.dims) >= {"rows", "features", "seed"}


def test_a_users_own_claim_is_read_and_not_run(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    source = Path(claim.__globals__["__file__"]).parents[1]
    text = (source / "concepts/implicit_bias/claims/min_norm_interpolation.py").read_text("utf-8")
    file.write_text(text + "\nraise SystemExit('it ran')\n", encoding="utf-8")
    entry = find_claim(f"{file}:CLAIM")
    assert entry.id == "mine" and entry.source is not None and entry.concept == "own"
    assert set(PARTS) == {"Parameter", "Control"}
    with pytest.raises(InputError, match="literal arguments"):
        find_claim(f"{file}:NOTHING")


def test_exit_codes_say_how_a_run_ended(capsys: pytest.CaptureFixture[str]) -> None:
    import dataclasses
    from argparse import Namespace

    from whynet.atlas.execution import INTERRUPTED, LOST
    from whynet.cli.atlas_run import _code

    record = claim(NAME).run("smoke", steps=50, seeds=2, controls=False)
    asked = Namespace(expect=None, out="out")
    assert _code([record], asked) == 0
    assert _code([dataclasses.replace(record, failed={"key": "no luck"})], asked) == 3
    assert "1 cells failed" in capsys.readouterr().err
    assert _code([dataclasses.replace(record, stopped=LOST)], asked) == 3
    assert "the same command goes on" in capsys.readouterr().err
    assert _code([dataclasses.replace(record, stopped=INTERRUPTED)], asked) == 130
    assert "Again: whynet atlas run" in capsys.readouterr().err
    assert _code([record], Namespace(expect="supported", out="out")) == 1
