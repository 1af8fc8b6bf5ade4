"""Networks saved by `torch.export`: code, since loading one unpickles."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import torch
from torch import nn

from whynet.core.errors import InputError
from whynet.models.load.environment import user_environment
from whynet.models.load.exported_layers import with_layers
from whynet.models.load.wording import printable, quoted


class ExportedNetwork(nn.Module):
    """An exported program as a network: evaluation mode is what was exported, and stays.

    Args:
        program: the module of a `torch.export.ExportedProgram`.

    """

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program."""
        return self.program(*args, **kwargs)

    def train(self, mode: bool = True) -> Self:
        """Set the flag alone: the modes of an exported program's layers are compiled in."""
        self.training = mode
        return self


def load_exported(path: Path, argument: str, announce: Callable[[str], None]) -> nn.Module:
    """Load a `.pt2` file: as layers where it can be written so, else as it is.

    Raises:
        InputError: the file holds no exported program.

    """
    announce(f"running code from {printable(str(path), 500)}")
    try:
        with user_environment(None), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.load(path)
            return with_layers(program) or ExportedNetwork(program.module())
    except Exception as error:  # a foreign file can make the loader raise anything
        raise InputError(
            argument,
            f"{quoted(path)}, which torch.export cannot load "
            f"({type(error).__name__}: {printable(str(error), 120)})",
            "a file written by torch.export.save with a torch of this version",
        ) from error
