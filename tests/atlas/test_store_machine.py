"""Anything in any order: predict, commit, kill, reopen, pack, corrupt, check."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.atlas.storing import (
    GRID,
    IDENTITY,
    KEYS,
    crash_image,
    measured,
    never_wrong,
    predicted,
    same,
)

from whynet.atlas.journal import JOURNAL, Journal, Record
from whynet.atlas.pack import pack, read_view
from whynet.atlas.tables import table_of
from whynet.core.errors import InputError, StoreError

SOME = st.lists(st.sampled_from(KEYS), min_size=1, max_size=12, unique=True)


class Store(RuleBasedStateMachine):
    """The model: what was predicted, finished and failed; what may have been lost to damage."""

    def __init__(self) -> None:
        super().__init__()
        self.top = Path(tempfile.mkdtemp())
        self.moves = 0
        self.folder = self.top / "store-0"
        self.predicted: set[str] = set()
        self.finished: set[str] = set()
        self.failed: dict[str, str] = {}
        self.journal: Journal | None = Journal.open(self.folder, IDENTITY)

    def teardown(self) -> None:
        if self.journal is not None:
            self.journal.close()
        shutil.rmtree(self.top)

    @property
    def live(self) -> Journal:
        assert self.journal is not None
        return self.journal

    opened = precondition(lambda self: self.journal is not None)
    closed = precondition(lambda self: self.journal is None)

    @opened
    @rule(keys=SOME)
    def predict(self, keys: list[str]) -> None:
        self.live.predict([predicted(key) for key in keys])
        self.predicted |= set(keys)

    @opened
    @rule(keys=SOME, failing=st.booleans(), seconds=st.floats(0, 10))
    def commit(self, keys: list[str], failing: bool, seconds: float) -> None:
        records = [measured(key, seconds) for key in keys]
        if failing and keys[0] not in self.finished:
            records[0] = Record(keys[0], "failed", reason="NaN")
        done = {record.key for record in records if record.state == "done"}
        if done - self.predicted:
            with pytest.raises(InputError, match="nothing was predicted"):
                self.live.commit(records)
            return
        self.live.commit(records)
        self.finished |= done
        self.failed = {key: why for key, why in self.failed.items() if key not in done}
        self.failed |= {record.key: "NaN" for record in records if record.state == "failed"}

    @opened
    @rule(keys=SOME)
    def commit_other_bits(self, keys: list[str]) -> None:
        wrong = [k for k in keys if k in self.finished]
        if wrong and set(keys) <= self.predicted:
            values = {**measured(wrong[0]).values, "steps": np.asarray(-1)}
            records = [measured(key) for key in keys if key != wrong[0]]
            with pytest.raises(StoreError, match="the first stay"):
                self.live.commit([*records, Record(wrong[0], "done", values)])

    @opened
    @rule()
    def kill(self) -> None:
        self.moves += 1
        image = crash_image(self.folder, self.top / f"store-{self.moves}")
        self.live.close()
        shutil.rmtree(self.folder)
        self.folder, self.journal = image, None

    @opened
    @rule()
    def close(self) -> None:
        self.live.close()
        self.journal = None

    @opened
    @rule()
    def second_driver(self) -> None:
        with pytest.raises(InputError, match="in use by process"):
            Journal.open(self.folder, IDENTITY)

    @closed
    @rule()
    def reopen(self) -> None:
        self.journal = Journal.open(self.folder, IDENTITY)

    @rule()
    def read(self) -> None:
        with Journal.open(self.folder, driver=False) as reader:
            found = never_wrong(reader)
            assert found == self.finished if not reader.damages else found <= self.finished

    @opened
    @rule(keys=SOME)
    def write_and_pack(self, keys: list[str]) -> None:
        values = {k: r.values for k, r in self.live.read(KEYS).items() if r.state == "done"}
        tables = (table_of(GRID, values, self.live.failed()), table_of(GRID, {}, {}))
        pack(self.live, self.folder, {"claim": tables})
        found = read_view(self.folder / "results.zarr")[1]["claim"][0]
        assert found.identical(tables[0])

    @closed
    @rule(data=st.data())
    def corrupt(self, data: Any) -> None:
        for name in (f"{JOURNAL}-wal", JOURNAL):
            file = self.folder / name
            if file.exists() and file.stat().st_size:
                bit = data.draw(st.integers(0, 8 * file.stat().st_size - 1))
                self._with_flip(file, bit)
                break

    def _with_flip(self, file: Path, bit: int) -> None:
        whole = file.read_bytes()
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        file.write_bytes(content)
        try:
            self.journal = Journal.open(self.folder, IDENTITY)
        except StoreError:
            file.write_bytes(whole)  # the user's backup
            return
        found = never_wrong(self.journal)
        named = bool(self.journal.damages)
        assert found <= self.finished
        assert found == self.finished or named or file.name != JOURNAL
        self.finished = found
        self.failed = self.journal.failed()
        self.predicted = set(self.journal.predictions(KEYS))

    @opened
    @rule()
    def check(self) -> None:
        assert self.live.check() == []

    @invariant()
    def nothing_is_lost_or_invented(self) -> None:
        if self.journal is not None:
            assert never_wrong(self.journal) == self.finished
            assert self.journal.failed() == self.failed
            held = self.journal.predictions(KEYS)
            assert set(held) == self.predicted
            assert all(same(Record(k, "done", v), predicted(k)) for k, v in held.items())


QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
TestStore = Store.TestCase
TestStore.settings = settings(
    max_examples=15, stateful_step_count=15, deadline=None, derandomize=True,
    suppress_health_check=QUIET,
)  # fmt: skip


@pytest.mark.endurance
class TestStoreAtLength(Store.TestCase):  # type: ignore[name-defined,misc]
    settings = settings(
        max_examples=500, stateful_step_count=25, deadline=None, suppress_health_check=QUIET
    )
