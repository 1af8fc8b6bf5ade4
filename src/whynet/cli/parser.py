"""One parser for all commands; its mistakes have the form of all other mistakes."""

from __future__ import annotations

import argparse
import difflib
import re
from typing import NoReturn

from whynet.core.errors import InputError
from whynet.core.plain_text import printable


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are `InputError`s, with a suggestion for a misspelling."""

    def __init__(self, **options: object) -> None:
        options.setdefault("allow_abbrev", False)
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**options)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Raise the sentence for what argparse found."""
        if unknown := re.match(r"unrecognized arguments: (\S+)", message):
            word = unknown[1].split("=")[0]
            known = sorted(self._option_string_actions)
            near = difflib.get_close_matches(word, known, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            found = "an unknown option" if word.startswith("-") else "one argument too many"
            raise InputError(word, found, f"what `{self.prog} --help` lists{hint}")
        if missing := re.match(r"the following arguments are required: (.+)", message):
            raise InputError(missing[1], "nothing", f"a value, see `{self.prog} --help`")
        if choice := re.match(
            r"argument (\S+): invalid choice: (.+?) \(choose from (.+)\)", message
        ):
            known = [word.strip(" '") for word in choice[3].split(",")]
            near = difflib.get_close_matches(choice[2].strip("'"), known, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise InputError(
                choice[1], printable(choice[2], 80), f"one of {', '.join(known)}{hint}"
            )
        if value := re.match(r"argument (\S+): invalid \w+ value: (.+)", message):
            found = printable(value[2], 80)
            raise InputError(value[1].split("/")[0], found, "a whole number")
        if empty := re.match(r"argument (\S+): expected (at least )?one argument", message):
            raise InputError(empty[1].split("/")[0], "no value", f"one, see `{self.prog} --help`")
        if other := re.match(r"argument (\S+): (.+)", message):
            raise InputError(other[1].split("/")[0], other[2], f"see `{self.prog} --help`")
        raise InputError(self.prog, message, f"see `{self.prog} --help`")


def add_subject_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which network, weights, data and loss are meant, and how to compute."""
    # Absent options are suppressed, so that a configuration can fill them in.
    absent = argparse.SUPPRESS
    parser.add_argument(
        "target",
        metavar="TARGET",
        help="a built-in subject (digits-mlp, digits-cnn, digits-transformer, breast-cancer-mlp, "
        "diabetes-mlp), file.py:name, package.module:name, or model.pt2",
    )
    own = parser.add_argument_group("your network and data")
    for name, words in (
        ("weights", "safetensors, or a state dict by torch.save, of the trained network"),
        ("init-weights", "the same of the network before training"),
        ("train", "training data: X_y.npz, X.npy,y.npy, table.csv, table.parquet, file.py:name"),
        ("test", "data that chose nothing about the network; the same forms"),
        ("target", "column of the targets in a table"),
        ("loss", "cross_entropy, bce, mse, or file.py:name (default: cross_entropy)"),
        (
            "train-with",
            "file.py:train, a function train(model, inputs, targets), to train it again",
        ),
        ("trajectory", "record of its training, written by whynet.Recorder"),
        ("output", "which entry of a dict or tuple output to examine"),
    ):
        field = "target_column" if name == "target" else name.replace("-", "_")
        own.add_argument(f"--{name}", dest=field, metavar="…", default=absent, help=words)
    how = parser.add_argument_group("how to compute")
    how.add_argument("--device", metavar="…", default=absent, help="cpu (default), cuda, cuda:1")
    how.add_argument("--dtype", metavar="…", default=absent, help="float32 or float64")
    how.add_argument(
        "--batch-size",
        dest="batch_size",
        metavar="N",
        type=int,
        default=absent,
        help="rows in memory at a time (default: 512, fewer where they take over 3 GiB)",
    )
    how.add_argument(
        "--threads",
        metavar="N",
        type=int,
        default=absent,
        help="processor threads (default: 1 for a small network, else all cores)",
    )
    how.add_argument(
        "--memory", metavar="…", default=absent, help="bound on the memory of a batch, such as 2G"
    )
    how.add_argument(
        "--seed", metavar="N", type=int, default=absent, help="of all random draws (default: 0)"
    )
    how.add_argument("--config", metavar="FILE", help="options as TOML, such as a manifest.toml")


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add what says how much is printed."""
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="print numbers as JSON")
    group.add_argument("--quiet", action="store_true", help="print no progress and no table")
    group.add_argument("--debug", action="store_true", help="show tracebacks")
