"""What an instrument can return beside a measurement: failure as data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NotApplicable:
    """Stands where nothing can be measured, with the one sentence that says why.

    Attributes:
        reason: a full sentence for the reader of a report, naming what stands in the way.

    """

    reason: str


@dataclass(frozen=True)
class Failed:
    """Stands where an instrument raised: the examination goes on without it.

    Attributes:
        error: type and message of the exception, one line.
        traceback: the full traceback, for `--debug` and the log; never shown in the report.

    """

    error: str
    traceback: str = ""
