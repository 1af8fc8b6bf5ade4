"""The exceptions of whynet: one sentence, one form, everywhere."""

from __future__ import annotations


class InputError(ValueError):
    """The caller's mistake: names the argument, what was found and what is wanted.

    Every refusal of an input in whynet has this form, in Python and on the command line (exit
    code 2). Failure that is expected of a sound input is data (`whynet.core.outcome`), never an
    exception.

    Args:
        argument: the argument's name as the caller wrote it (`--train`, `model`, `loss`).
        found: what was there, without a final stop.
        wanted: what is wanted instead, without a final stop.

    """

    def __init__(self, argument: str, found: str, wanted: str) -> None:
        self.argument = argument
        self.found = found
        self.wanted = wanted
        super().__init__(f"{argument}: found {found}; wanted {wanted}.")

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str]]:
        return type(self), (self.argument, self.found, self.wanted)


class StoreError(InputError):
    """A folder written by whynet that is damaged, or of a version this whynet cannot read.

    The command line turns it into exit code 4.
    """
