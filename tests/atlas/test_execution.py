"""Groups run with the same numbers anywhere, predictions first, each committed as it ends."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.atlas.runs import CLAIM, FILE, SMALL, children, digest, finished, reasons, run

from whynet.atlas.execution import BUDGET, INTERRUPTED, Execution, run_groups
from whynet.atlas.groups import groups_of
from whynet.atlas.jobs import Job, Outcome
from whynet.atlas.journal import Identity, Journal
from whynet.atlas.registry import find_claim, load_claim
from whynet.atlas.run import claim
from whynet.core.claim import grid_of
from whynet.core.errors import InputError, StoreError


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clean") / "store"
    record = run(out)
    assert record.verdict.state == "supported" and not record.failed and not record.stopped
    return out


def test_a_pool_gives_the_same_bits(clean: Path, tmp_path: Path) -> None:
    before = children()
    record = run(tmp_path, execution=Execution(workers=2))
    assert record.verdict.state == "supported" and digest(tmp_path) == digest(clean)
    assert children() == before


def test_a_second_run_computes_nothing(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[int, int, str]] = []
    monkeypatch.setattr("whynet.atlas.execution._backend", None)
    record = run(clean, progress=lambda *words: said.append(words))
    assert said == [(48, 48, "starting")] and record.verdict.state == "supported"


def test_all_predictions_stand_before_the_first_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    for name in ("predict", "commit"):
        original = getattr(Journal, name)

        def noted(self: Journal, records: Any, name: str = name, original: Any = original) -> None:
            order.extend([name] * len(list(records)))
            original(self, records)

        monkeypatch.setattr(Journal, name, noted)
    run(tmp_path)
    assert order == ["predict"] * 48 + ["commit"] * 48


def test_an_extended_grid_reuses_finished_cells(clean: Path, tmp_path: Path) -> None:
    run(tmp_path, size=[50, 80], shift=[1.0], seeds=3)
    assert finished(tmp_path) == 12
    entry, said = find_claim(CLAIM), []
    grids = [grid_of(entry.id, entry.metadata, changes={"shift": [1.0]}, seeds=3)]
    with Journal.open(tmp_path, driver=False) as journal:
        old = journal.read([cell.key for grid in grids for cell in grid.cells()])
    run(tmp_path, progress=lambda *words: said.append(words), **SMALL)
    assert said[0] == (12, 48, "starting") and said[-1][:2] == (48, 48)
    with Journal.open(tmp_path, driver=False) as journal:
        new = journal.read(list(old))
    assert all(new[key].seconds == record.seconds for key, record in old.items())
    # One draw per cell here, no batch: regrouped, the bits are those of the clean run.
    assert digest(tmp_path) == digest(clean)


def test_a_group_that_changed_keeps_what_was_finished(tmp_path: Path) -> None:
    entry = find_claim(CLAIM)
    module = load_claim(entry.reference, entry.source)
    few = grid_of(entry.id, entry.metadata, "smoke", seeds=2)
    more = grid_of(entry.id, entry.metadata, "smoke", seeds=4)

    class Batched:
        """Values depend on who else is in the group, as the last bits of a batch do."""

        predict = staticmethod(module.predict)

        @staticmethod
        def experiment(cells: Any) -> Any:
            return [{"x": np.float64(cell.seed + len(cells) / 8)} for cell in cells]

    with Journal.open(tmp_path, Identity(entry.id, 1, entry.source)) as journal:
        for grid in (few, more):
            groups = groups_of(entry.metadata, grid)
            assert run_groups(entry, Batched, groups, journal, Execution()) == ""  # type: ignore[arg-type]
        found = journal.read([cell.key for cell in more.cells()])
    values = [float(found[cell.key].values["x"]) for cell in more.cells()]
    assert values == [0.25, 1.25, 2.5, 3.5]


FAULTS = ["none", "raise", "nan", "infinite", "memory", "leave", "text", "shape", "predict-nan"]


def test_cells_that_fail_are_recorded_skipped_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    axes: dict[str, Any] = {"fault": FAULTS, "size": [50], "shift": [1.0], "seeds": 4}
    record = run(tmp_path, **axes)
    assert record.verdict.state == "inconclusive" and not record.stopped
    words = reasons(record)
    assert words.pop("raise").startswith(r"experiment raised RuntimeError: told to \x1b[31mraise.")
    assert words.pop("memory").startswith("experiment ran out of memory: ")
    assert words.pop("leave").startswith("experiment raised SystemExit: told to leave.")
    assert words.pop("nan") == words.pop("infinite") == "experiment: mean is not finite."
    assert words.pop("predict-nan") == "predict: mean is not finite."
    assert words.pop("text").startswith("values: found mean of <U3")
    assert re.search(r"spectrum \w+\[5\]", words.pop("shape")) and not words
    # Raising and running out of memory fail a group of four; the rest one cell; twice (control).
    assert len(record.failed) == 2 * (3 * 4 + 5) and "my_claim.py" in "".join(
        record.failed.values()
    )
    before = digest(tmp_path)
    with monkeypatch.context() as context:
        context.setattr("whynet.atlas.execution._backend", None)
        assert run(tmp_path, **axes).failed == record.failed
    again: list[str] = []
    run(
        tmp_path,
        execution=Execution(retry_failed=True),
        progress=lambda done, cells, what: again.append(what),
        **axes,
    )
    assert again[-1] == "running: 14 of 14 groups" and digest(tmp_path) == before


def test_a_theory_that_raises_and_a_wrong_count_fail_their_group_alone(tmp_path: Path) -> None:
    record = run(
        tmp_path, fault=["predict-raise", "count", "none"], size=[50], shift=[1.0], seeds=4
    )
    words = reasons(record)
    assert words["predict-raise"].startswith("predict raised ValueError: no theory.")
    assert "found 3 for 4 cells" in words["count"]
    assert len(record.failed) == 16 and finished(tmp_path) == 8


def test_a_changed_file_is_refused(clean: Path, tmp_path: Path) -> None:
    mine = tmp_path / FILE.name
    mine.write_text(FILE.read_text().replace("[:3]", "[:2]"))
    with pytest.raises(StoreError, match="SHA-256"):
        claim(f"{mine}:CLAIM").run(out=clean)


def test_the_budget_starts_no_further_group(tmp_path: Path) -> None:
    axes: dict[str, Any] = {"size": [50], "shift": [1.0], "pause": [0.05], "seeds": 12}
    record = run(tmp_path, execution=Execution(budget=0.3), **axes)
    assert record.stopped == BUDGET and not record.interrupted and not record.failed
    assert record.verdict.state == "inconclusive" and 0 < finished(tmp_path) < 24
    assert not run(tmp_path, **axes).stopped


def test_an_interrupt_keeps_what_was_committed(tmp_path: Path, clean: Path) -> None:
    def stop(done: int, cells: int, what: str) -> None:
        if done == 12:
            raise KeyboardInterrupt

    record = run(tmp_path, progress=stop)
    assert record.stopped == INTERRUPTED and record.interrupted and finished(tmp_path) == 12
    assert not (tmp_path / "results.zarr").exists()
    run(tmp_path)
    assert digest(tmp_path) == digest(clean) and (tmp_path / "results.zarr").exists()


def test_the_surroundings_stay_as_they_were_and_do_not_matter(clean: Path, tmp_path: Path) -> None:
    axes: dict[str, Any] = {**SMALL, "fault": ["global"]}
    run(tmp_path / "one", **axes)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    torch.set_default_dtype(torch.float64)
    old = np.seterr(all="raise")
    try:
        states = random.getstate(), torch.get_rng_state(), torch.get_num_threads()
        drawn = np.random.get_state()[1].copy()  # type: ignore[union-attr]  # noqa: NPY002
        run(tmp_path / "two", **axes)
        assert random.getstate() == states[0] and torch.equal(torch.get_rng_state(), states[1])
        assert (np.random.get_state()[1] == drawn).all()  # type: ignore[union-attr]  # noqa: NPY002
        assert torch.get_default_dtype() == torch.float64
        assert torch.get_num_threads() == states[2] and np.geterr()["over"] == "raise"
    finally:
        torch.set_default_dtype(torch.float32)
        np.seterr(**old)
    assert digest(tmp_path / "one") == digest(tmp_path / "two")


def test_what_comes_back_wrong_fails_and_the_store_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Liar:
        def __enter__(self) -> Any:
            return self

        def __exit__(self, *about: object) -> None: ...

        def outcomes(self, jobs: Any) -> Any:
            for job in jobs:
                assert isinstance(job, Job)
                yield job, Outcome((b"rubbish",) * len(job.cells), 1.0)

    monkeypatch.setattr("whynet.atlas.execution._backend", lambda *words: Liar())
    record = run(tmp_path)
    assert len(record.failed) == 48 and finished(tmp_path) == 0


def test_the_machinery_imports_no_torch() -> None:
    code = (
        "import sys, whynet.atlas.execution, whynet.atlas.worker, whynet.atlas.cluster; "
        "sys.exit(' '.join({'torch', 'xarray', 'distributed'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_dask_one_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError) as refused:
        run(tmp_path, execution=Execution(scheduler="tcp://127.0.0.1:1"))
    assert "pip install 'whynet[cluster]'" in str(refused.value)
