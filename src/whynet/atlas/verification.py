"""Running a store again: every cell recomputed elsewhere and put beside the recorded one."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from whynet.atlas.execution import Execution, Progress, run_groups
from whynet.atlas.groups import remaining
from whynet.atlas.journal import Identity, Journal
from whynet.atlas.judging import CLAIM, verdict_of
from whynet.atlas.pages import RUN, grids_in, read_run
from whynet.atlas.registry import ClaimEntry, claims, find_claim, load_claim
from whynet.atlas.run import groups_of_all, tables_of
from whynet.core.claim import Grid, Values
from whynet.core.errors import InputError, StoreError
from whynet.core.recomputed import ROUND_OFF, Recomputed

Told = Callable[[str, int, int], None]


def is_atlas(folder: Path) -> bool:
    """Say whether a folder holds a store of a claim, or is one of several stores."""
    return bool(_stores(folder))


def _stores(folder: Path) -> list[Path]:
    if (folder / RUN).is_file():
        return [folder]
    return sorted(path.parent for path in folder.glob(f"*/{RUN}"))


def verify_atlas(
    folder: Path,
    *,
    target: str | None = None,
    announce: Callable[[str], None] | None = None,
    progress: Told | None = None,
) -> tuple[Recomputed, ...]:
    """Run every finished cell of the stores in a folder again, beside the store.

    Which cells are finished is read first; what they hold is read only after all of them were
    recomputed. The verdict on the recomputed numbers must be the recorded one.

    Args:
        folder: a store, or the `--out` of `whynet atlas run`, which holds one for each claim.
        target: the claim, where it stands in a user's file: `my_claim.py:CLAIM`. Code that only
            the folder names never runs.
        announce: told before code of the user runs.
        progress: told what runs, how many cells are done and how many there are.

    Returns:
        One entry for every claim and for each of its controls.

    Raises:
        InputError: a claim of a user's file was not named.
        StoreError: a store is damaged, or of another version of its claim.

    """
    return tuple(
        result
        for store in _stores(folder)
        for result in _verified(store, target, announce, progress)
    )


def _verified(
    store: Path,
    target: str | None,
    announce: Callable[[str], None] | None,
    progress: Told | None,
) -> list[Recomputed]:
    content = read_run(store / RUN, "PATH")
    entry = _entry(content, target)
    identity = Identity(entry.id, entry.metadata.version, entry.source)
    grids = grids_in(content, entry)
    module = load_claim(entry.reference, entry.source, announce)
    with Journal.open(store, identity, driver=False, argument="PATH") as recorded:
        finished = recorded.finished()
        groups = groups_of_all(entry, grids)
        unfinished = {group.id for group in remaining(groups, finished)}
        chosen = [g for g in groups if g.id not in unfinished]
        # Of a group that stopped midway the finished cells are recomputed with the whole of it.
        chosen += [g for g in groups if g.id in unfinished and _any(g.cells, finished)]
        with tempfile.TemporaryDirectory() as place, Journal.open(Path(place), identity) as fresh:
            stopped = run_groups(
                entry, module, chosen, fresh, Execution(), _named(progress, entry.id)
            )
            if stopped:
                raise KeyboardInterrupt
            results = [
                _compared(entry, name, grid, fresh, recorded) for name, grid in grids.items()
            ]
            if unfinished:
                return results
            again = verdict_of(module, entry.metadata, tables_of(fresh, grids))
    if again.state != content["state"]:
        first = results[0]
        moved = (*first.moved, f"verdict (recorded {content['state']}, now {again.state})")
        results[0] = Recomputed(first.name, first.entries, moved, first.largest, first.reason)
    return results


def _any(cells: Any, finished: set[str]) -> bool:
    return any(cell.key in finished for cell in cells)


def _named(progress: Told | None, name: str) -> Progress | None:
    if progress is None:
        return None
    return lambda done, total, what: progress(name, done, total)


def _entry(content: Mapping[str, Any], target: str | None) -> ClaimEntry:
    """Return the claim a store is of; code comes from the caller alone."""
    name = content["claim"]
    if content["source"] is None:
        entry = claims().get(name)
        if entry is None:
            raise StoreError("PATH", f"results of {name!r:.80}", "a claim that this whynet has")
    elif target is None:
        raise InputError(
            "TARGET",
            f"nothing, though {name!r:.80} is a claim of a user's file",
            "my_claim.py:CLAIM on the command line: code never runs because a folder names it",
        )
    else:
        entry = find_claim(target, "TARGET")
        if (entry.id, entry.source) != (name, content["source"]):
            raise InputError("TARGET", f"{target!r}, another file", "the file as it was run")
    if content["version"] != entry.metadata.version:
        found = f"results of version {content['version']} of {entry.id}"
        raise StoreError("PATH", found, f"version {entry.metadata.version}, which this whynet runs")
    return entry


def _compared(
    entry: ClaimEntry, variant: str, grid: Grid, fresh: Journal, recorded: Journal
) -> Recomputed:
    """Put the recomputed numbers of a variant beside the recorded ones."""
    keys = [cell.key for cell in grid.cells()]
    name = entry.id if variant == CLAIM else f"{entry.id}, control {variant}"
    old, new = recorded.read(keys), fresh.read(keys)
    pairs = [
        (new[key].values if key in new else {}, record.values)
        for key, record in old.items()
        if record.state == "done"
    ]
    before, after = recorded.predictions(old), fresh.predictions(old)
    pairs += [(after.get(key, {}), values) for key, values in before.items()]
    moved: dict[str, None] = {}
    largest, entries = 0.0, 0
    for again, once in pairs:
        for quantity in sorted({*again, *once}):
            gap, count = _gap(again, once, quantity)
            largest, entries = max(largest, gap if np.isfinite(gap) else 0.0), entries + count
            if not gap <= ROUND_OFF["float64"]:
                moved[quantity] = None
    return Recomputed(name, entries, tuple(moved), largest)


def _gap(again: Values, once: Values, name: str) -> tuple[float, int]:
    """Return the largest move of an array, relative to its largest entry, and its size."""
    if name not in again or name not in once:
        return np.inf, 0
    new, old = np.asarray(again[name], dtype=float), np.asarray(once[name], dtype=float)
    if new.shape != old.shape or (np.isnan(new) != np.isnan(old)).any():
        return np.inf, 0
    there = ~np.isnan(new) & (new != old)  # equal infinities have not moved
    scale = np.abs(old[np.isfinite(old)]).max(initial=1e-12)
    gap = np.abs(new - old)[there] / scale
    return float(gap.max(initial=0.0)), new.size
