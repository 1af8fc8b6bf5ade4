"""The truth of a sweep: one SQLite file, a row per finished cell, nothing finished ever lost."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from whynet.atlas.damage import Damage, only_index, store_errors, structure
from whynet.atlas.opening import Opened, open_to_read, open_to_write
from whynet.atlas.rows import (
    Identity,
    Record,
    Row,
    describe,
    from_row,
    header_of,
    row_sha256,
    to_row,
)
from whynet.atlas.schema import JOURNAL, TABLES, Text
from whynet.core.claim import Values
from whynet.core.errors import InputError, StoreError
from whynet.core.plain_text import printable

__all__ = ["JOURNAL", "Identity", "Journal", "Record"]

_ROW: Final = '"number", "key", "state", "reason", "group", "seconds", "content", "sha256"'
_AT_ONCE: Final = 500
"""Keys asked for in one query."""


class Journal:
    """The store of a claim, open; made by `Journal.open`, closed by `with` or `close`.

    The driver writes and there is only one; any number of readers see what it has committed.
    Each row carries a SHA-256 over whose it is, its key and all columns: a row that is not as
    it was written counts as not finished and is never read. The driver sets such rows aside
    into the table `quarantine`; nothing is deleted.

    Attributes:
        folder: of the store.
        identity: whose results it holds.
        driver: whether it was opened to write.
        damages: what was found damaged since it was opened.

    """

    def __init__(
        self, folder: Path, opened: Opened, stack: ExitStack, *, driver: bool, argument: str
    ) -> None:
        self.folder, self.identity, self.driver = folder, opened.identity, driver
        self.damages: list[Damage] = []
        self._connection, self._stack, self._argument = opened.connection, stack, argument
        self._by = ""
        self._headers: dict[str, bytes] = {}

    @classmethod
    def open(
        cls,
        folder: str | Path,
        identity: Identity | None = None,
        *,
        driver: bool = True,
        argument: str = "folder",
    ) -> Self:
        """Open the store in a folder; a driver makes it where there is none, whole or not at all.

        Args:
            folder: of the store, which may have been moved, renamed or be reached by a link.
            identity: whose results are wanted; a reader may leave it out and take what is there.
            driver: whether to write; a reader takes no lock and sees what is committed.
            argument: how the caller calls the folder.

        Raises:
            InputError: another driver has it, there is nothing to read, or it is not writable.
            StoreError: what is there is damaged, of another claim, version or source, or of a
                newer major version of the schema.
            OSError: the disk is full or gone.

        """
        place = Path(folder)
        with ExitStack() as stack:
            if not driver:
                opened = open_to_read(place, identity, argument, stack)
            elif identity is not None:
                opened = open_to_write(place, identity, argument, stack)
            else:
                raise TypeError("a driver says whose results it writes")
            journal = cls(place, opened, stack, driver=driver, argument=argument)
            journal._mend(opened.damage)
            journal._stack = stack.pop_all()
        return journal

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, then give the lock back; twice is harmless."""
        self._stack.close()

    # Writing

    def predict(self, records: Iterable[Record]) -> None:
        """Commit what the theory predicts of cells, in one transaction, before they are run.

        Raises:
            InputError: a record is not done, or its values are no values of this claim.
            StoreError: other bits than those that stand there; the first stay.
            OSError: the disk is full or gone; the store stands as it was.

        """
        rows = [to_row(record) for record in records]
        for key, state, *_ in rows:
            if state != "done":
                raise InputError("records", f"a prediction that {state}: {key}", "a prediction")
        with self._transaction():
            self._put("predictions", rows)

    def commit(self, records: Iterable[Record]) -> None:
        """Commit cells of a group, in one transaction: all or none of them.

        The same bits twice are harmless. What failed may be tried again.

        Raises:
            InputError: values are no values of this claim, or were not predicted before.
            StoreError: other bits than those of a finished cell; the first stay, and nothing of
                this group is written.
            OSError: the disk is full or gone; the store stands as it was.

        """
        rows = [to_row(record) for record in records]
        with self._transaction():
            self._check_predicted([row[0] for row in rows if row[1] == "done"])
            self._put("cells", rows)

    def _check_predicted(self, keys: Sequence[str]) -> None:
        query = f'SELECT count(*) FROM "predictions" {self._by} WHERE "key" IN '
        for some in _parts(sorted(set(keys))):
            held = self._connection.execute(query + _places(some), some).fetchone()[0]
            if held < len(some):
                found = f"{len(some) - held} cells of which nothing was predicted"
                raise InputError("records", found, "predict() before commit()")

    def _put(self, table: str, rows: Sequence[Row]) -> None:
        for row in rows:
            key, state, *_, content = row
            if state == "done":
                self._check_header(table, key, content)
            number, held = self._held(table, key)
            if held is None:
                self._write(f'INSERT INTO "{table}" ({_ROW}) VALUES', table, None, row)
            elif held[1] == "done":
                if state != "done" or held[5] != content:
                    found = f"other bits for a finished row of {table}: {printable(key, 300)}"
                    wanted = "the same bits; the first stay, and this group is not written"
                    raise StoreError(self._argument, found, wanted)
            else:
                self._write(f'REPLACE INTO "{table}" ({_ROW}) VALUES', table, number, row)

    def _held(self, table: str, key: str) -> tuple[int | None, Row | None]:
        """Return number and intact row of a key, if there is one; a damaged one is set aside."""
        query = f'SELECT {_ROW} FROM "{table}" WHERE "key" = ?'
        for columns in self._connection.execute(query, [key]).fetchall():
            sound = self._sound(table, columns)
            if isinstance(sound, Damage):
                self._set_aside(table, [(columns, sound)])
            else:
                return columns[0], sound
        return None, None

    def _write(self, statement: str, table: str, number: int | None, row: Row) -> None:
        columns = (number, *row, row_sha256(self.identity, table, row))
        self._connection.execute(f"{statement} {_places(columns)}", columns)

    def _check_header(self, table: str, key: str, content: bytes) -> None:
        """Refuse arrays of other names, types or shapes than those of the first cell."""
        header = header_of(content)
        if table not in self._headers:
            rows = (row for row in self._rows(table) if isinstance(row, tuple))
            first = next((row[5] for row in rows if row[1] == "done"), content)
            self._headers[table] = header_of(first)
        if header != self._headers[table]:
            found = f"{describe(header)} of {printable(key, 300)}"
            wanted = f"{describe(self._headers[table])}, as for all cells of a claim"
            raise InputError("values", found, wanted)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if not self.driver:
            raise TypeError("the store was opened to read")
        connection, headers, count = self._connection, dict(self._headers), len(self.damages)
        with store_errors(self.folder / JOURNAL, self._argument):
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield
                connection.execute("COMMIT")
            except BaseException:
                self._headers = headers
                del self.damages[count:]
                if connection.in_transaction:  # SQLite ends it itself where the disk is full
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                raise

    # Reading

    def finished(self) -> set[str]:
        """Return the keys of all cells that have intact values; damaged rows are set aside."""
        return {row[0] for row in self._intact("cells") if row[1] == "done"}

    def failed(self) -> dict[str, str]:
        """Return the keys of cells that failed, with the reason."""
        return {row[0]: row[2] for row in self._intact("cells") if row[1] == "failed"}

    def read(self, keys: Iterable[str]) -> dict[str, Record]:
        """Return the intact records of cells; keys without one are left out."""
        return {row[0]: from_row(row) for row in self._intact("cells", keys)}

    def predictions(self, keys: Iterable[str]) -> dict[str, Values]:
        """Return what was predicted of cells; keys without an intact prediction are left out."""
        return {row[0]: from_row(row).values for row in self._intact("predictions", keys)}

    def digest(self) -> str:
        """Return a SHA-256 over all results: keys, states, bits; not over how long they took."""
        digest = hashlib.sha256()
        for table in TABLES:
            rows = [(r[0], r[1], r[5]) for r in self._intact(table)]
            digest.update(f"{table} {len(rows)}\n".encode())
            for key, state, content in sorted(rows):
                digest.update(f"{key} {state} {len(content)}\n".encode() + content)
        return digest.hexdigest()

    def check(self) -> list[Damage]:
        """Look at the file's structure and at every row; a driver sets damaged rows aside."""
        before = len(self.damages)
        with store_errors(self.folder / JOURNAL, self._argument):
            self._mend(structure(self._connection))
        for table in TABLES:
            self._intact(table)
        return self.damages[before:]

    def quarantined(self) -> list[Damage]:
        """Return what was ever set aside, from what stands in the file."""
        query = 'SELECT "table", "key", "damage" FROM "quarantine" ORDER BY "number"'
        with store_errors(self.folder / JOURNAL, self._argument):
            return [
                Damage(*(_shown(part) for part in row)) for row in self._connection.execute(query)
            ]

    def _intact(self, table: str, keys: Iterable[str] | None = None) -> list[Row]:
        """Return sound rows in the order they were written; what is damaged is set aside."""
        bad: list[tuple[tuple[Any, ...], Damage]] = []
        with store_errors(self.folder / JOURNAL, self._argument):
            found = [row for row in self._rows(table, keys, bad) if isinstance(row, tuple)]
        if bad and self.driver:
            with self._transaction():
                self._set_aside(table, bad)
        else:
            self.damages += [damage for _, damage in bad]
        return found

    def _rows(
        self,
        table: str,
        keys: Iterable[str] | None = None,
        bad: list[tuple[tuple[Any, ...], Damage]] | None = None,
    ) -> Iterator[Row | Damage]:
        by = "NOT INDEXED" if keys is None else self._by
        query = f'SELECT {_ROW} FROM "{table}" {by}'
        asked = iter([[]]) if keys is None else _parts(list(dict.fromkeys(keys)))
        for some in asked:
            where = "" if keys is None else f' WHERE "key" IN {_places(some)}'
            for columns in self._connection.execute(query + where, some):
                sound = self._sound(table, columns)
                if isinstance(sound, Damage) and bad is not None:
                    bad.append((columns, sound))
                yield sound

    def _sound(self, table: str, columns: tuple[Any, ...]) -> Row | Damage:
        """Return a row as it was written, or what is wrong with it."""
        _, *texts, seconds, content, sha256 = columns
        try:
            types = [*map(type, texts), type(seconds), type(content), type(sha256)]
            if types != [Text] * 4 + [float, bytes, bytes]:
                raise ValueError("a column of another type")
            key, state, reason, group = (text.decode() for text in texts)
            row = key, state, reason, group, seconds, content
            if row_sha256(self.identity, table, row) != sha256:
                raise ValueError("its SHA-256 is another")
            from_row(row)
        except (ValueError, TypeError) as error:
            reason = "it holds no text" if isinstance(error, UnicodeError) else str(error)
            return Damage(table, _shown(columns[1]), reason)
        return row

    # Damage

    def _set_aside(self, table: str, bad: Sequence[tuple[tuple[Any, ...], Damage]]) -> None:
        """Move rows to the quarantine; inside a transaction."""
        # An index may still hold what the row held; made again from the table, both agree.
        self._connection.execute(f'REINDEX "{table}"')
        for columns, damage in bad:
            held = (None, table, damage.reason, *columns[1:])
            self._connection.execute(f'INSERT INTO "quarantine" VALUES {_places(held)}', held)
            self._connection.execute(f'DELETE FROM "{table}" WHERE "number" = ?', columns[:1])
            self.damages.append(damage)

    def _mend(self, words: list[str]) -> None:
        """Make a damaged index again from its table; a reader goes without."""
        if words and not self.driver:
            self._by = "NOT INDEXED"
        elif words and only_index(words):
            with self._transaction():
                self._connection.execute("REINDEX")
        self.damages += [Damage("", "", said) for said in words]


def _parts(keys: list[str]) -> Iterator[list[str]]:
    return (keys[start : start + _AT_ONCE] for start in range(0, len(keys), _AT_ONCE))


def _places(columns: Sequence[Any]) -> str:
    return f"({', '.join('?' * len(columns))})"


def _shown(text: Any) -> str:
    """Make what stands in a column fit to print."""
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else repr(text)
    return printable(words, 300)
