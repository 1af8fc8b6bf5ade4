"""A process that hangs, dies or leaves takes its own group along, and no other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.atlas.runs import (
    CLAIM,
    FILE,
    SMALL,
    children,
    digest,
    finished,
    processes,
    reasons,
    run,
    until,
)

from whynet.atlas.execution import Execution
from whynet.atlas.groups import groups_of
from whynet.atlas.jobs import Job, job_of, source_text
from whynet.atlas.journal import Journal
from whynet.atlas.pool import ENVIRONMENT, Pool
from whynet.atlas.registry import find_claim, load_claim
from whynet.atlas.rows import decode
from whynet.atlas.worker import perform
from whynet.core.claim import grid_of

FAULTS = ["none", "hang", "die", "exit", "spawn", "print", "memory", "raise", "nan"]


def test_every_way_to_fail_is_recorded_and_the_rest_goes_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    axes: dict[str, Any] = {"size": [50], "shift": [1.0], "seeds": 4, "controls": False}
    before = children()
    record = run(tmp_path, execution=Execution(workers=2, timeout=3.0), fault=FAULTS, **axes)
    assert children() == before and not processes("sleep\x009876")
    words = reasons(record)
    late = "experiment did not end within 3 s, and was stopped."
    assert words.pop("hang") == words.pop("spawn") == late
    assert words.pop("die").startswith("experiment: its process died 3 times")
    assert words.pop("exit").endswith("left 3 times, the last time with exit code 7.")
    assert words.pop("memory").startswith("experiment ran out of memory: ")
    assert words.pop("raise").startswith("experiment raised RuntimeError: told to ")
    assert words.pop("nan") == "experiment: mean is not finite." and not words
    said = capfd.readouterr()
    assert said.out == "" and "printed by the claim" in said.err
    # In groups that failed nothing is done; in the others everything but the cell that is NaN.
    assert finished(tmp_path) == 4 + 4 + 3
    own = tmp_path / "serial"
    run(own, fault=["none", "print"], **axes)
    with Journal.open(own, driver=False) as alone, Journal.open(tmp_path, driver=False) as all_:
        one = alone.read(sorted(alone.finished()))
        two = all_.read(list(one))
        assert len(one) == 8
        for key, found in one.items():
            assert all((found.values[n] == two[key].values[n]).all() for n in found.values)


def made(pause: float, seeds: int = 24) -> list[Job]:
    entry = find_claim(CLAIM)
    changes: dict[str, Any] = {"pause": [pause], "shift": [1.0]}
    grid = grid_of(entry.id, entry.metadata, "smoke", changes, seeds)
    reference, text = source_text(entry)
    groups = groups_of(entry.metadata, grid)
    return [job_of("experiment", group, reference, entry.source, text) for group in groups]


def test_a_worker_that_is_killed_is_replaced_and_changes_nothing() -> None:
    entry, jobs = find_claim(CLAIM), made(pause=0.1)
    module = load_claim(entry.reference, entry.source)
    expected = {job.group: perform(job, module).cells for job in jobs}
    found: dict[str, tuple[bytes | str, ...]] = {}
    with Pool(2) as pool:
        for job, outcome in pool.outcomes(jobs):
            found[job.group] = outcome.cells
            if len(found) in (1, 3):
                for busy in pool._busy.values():
                    os.kill(busy.child.process.pid, signal.SIGKILL)
    assert found == expected and len(found) == 6


def test_the_environment_of_a_worker_stands_before_it_imports_anything(tmp_path: Path) -> None:
    with Pool(1) as pool:
        outcomes = pool.outcomes(made(pause=1000.0, seeds=1))
        thread = threading.Thread(target=lambda: list(outcomes), daemon=True)
        thread.start()
        until(lambda: bool(pool._busy))
        child = next(iter(pool._busy.values())).child.process.pid
        words = Path(f"/proc/{child}/environ").read_bytes().decode().split("\0")
        assert {f"{name}={value}" for name, value in ENVIRONMENT.items()} <= set(words)
        os.killpg(child, signal.SIGKILL)
        pool.close()
        thread.join(10)
        assert not thread.is_alive()
    assert child not in children()


def test_a_file_that_is_gone_is_run_from_its_text(tmp_path: Path) -> None:
    place = tmp_path / FILE.name
    place.write_bytes(FILE.read_bytes())
    entry = find_claim(f"{place}:CLAIM")
    grid = grid_of(entry.id, entry.metadata, "smoke")
    reference, text = source_text(entry)
    [group] = groups_of(entry.metadata, grid)
    job = job_of("experiment", group, reference, entry.source, text)
    place.write_text("raise SystemExit('changed')")
    with Pool(1) as pool:
        [(_, outcome)] = pool.outcomes([job])
    assert all(isinstance(cell, bytes) and "mean" in decode(cell) for cell in outcome.cells)


@pytest.mark.parametrize("how", ["script", "stdin", "thread"])
def test_it_works_whatever_the_main_program_is(how: str, tmp_path: Path) -> None:
    """A script without a guard, a program typed in as in a notebook, and a thread."""
    call = f"""
        from whynet.atlas.run import Execution, claim
        record = claim({CLAIM!r}).run(
            "smoke", out={str(tmp_path / "store")!r}, execution=Execution(workers=2)
        )
        print(record.verdict.state, len(record.failed))
    """
    code = textwrap.dedent(call)
    if how == "thread":
        body = textwrap.indent(code, "    ")
        start = "t = threading.Thread(target=go)\nt.start()\nt.join()\n"
        code = f"import threading\ndef go():\n{body}\n{start}"
    script = tmp_path / "script.py"
    script.write_text(code)
    words = [sys.executable, "-" if how == "stdin" else str(script)]
    done = subprocess.run(
        words, input=code if how == "stdin" else None, capture_output=True, text=True, check=False
    )
    assert done.stdout == "supported 0\n" and done.stderr == ""


def test_two_stores_of_one_grid_agree_whatever_the_number_of_workers(tmp_path: Path) -> None:
    few: dict[str, Any] = {**SMALL, "seeds": 3, "controls": False}
    run(tmp_path / "a", **few)
    run(tmp_path / "b", execution=Execution(workers=3), **few)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    assert json.loads(next(iter(Journal.open(tmp_path / "a", driver=False).finished())))
