"""Check, after an installation, that torch is the pinned one and that torchvision is absent."""

import importlib.util
import re
import sys
from importlib.metadata import version
from pathlib import Path


def check(constraints: str) -> str:
    """Return what is wrong with this environment, or an empty string."""
    pinned = re.search(r"^torch==(\S+)$", constraints, flags=re.MULTILINE)
    found = version("torch").split("+")[0]
    if pinned is None or found != pinned[1]:
        wanted = pinned[1] if pinned else "a pinned version"
        return f"torch {found} is installed, and constraints.txt wants {wanted}: run make clean"
    if importlib.util.find_spec("torchvision") is not None:
        return "torchvision is installed, and breaks other packages beside this torch: remove it"
    return ""


if __name__ == "__main__":
    sys.exit(check((Path(__file__).parents[1] / "constraints.txt").read_text()) or None)
