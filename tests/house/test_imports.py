"""What is light stays light: looking around imports neither torch nor xarray."""

from __future__ import annotations

import json

import pytest
from tests.house.places import python

HEAVY = ("torch", "xarray", "numpy", "scipy", "sklearn", "matplotlib", "pandas", "zarr")
RUN = """
import contextlib, io, json, sys
with contextlib.redirect_stdout(io.StringIO()):
    try:
        {call}
    except SystemExit:
        pass
print(json.dumps(sorted(set(sys.modules) & set({heavy}))))
"""


@pytest.mark.parametrize(
    "call",
    [
        "import whynet",
        "import whynet; dir(whynet); whynet.__version__",
        "from whynet.cli.main import main; main([])",
        "from whynet.cli.main import main; main(['--help'])",
        "from whynet.cli.main import main; main(['--version'])",
        "from whynet.cli.main import main; main(['examine', '--help'])",
        "from whynet.cli.main import main; main(['measure', '--help'])",
        "from whynet.cli.main import main; main(['measure', '--list'])",
        "from whynet.cli.main import main; main(['verify', '--help'])",
        "from whynet.cli.main import main; main(['cite', 'fit'])",
    ],
)
def test_light_call_imports_nothing_heavy(call: str) -> None:
    done = python("-c", RUN.format(call=call, heavy=HEAVY))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_refusing_an_option_imports_nothing_heavy() -> None:
    call = "from whynet.cli.main import main; assert main(['examine', '--budgte', '2m']) == 2"
    done = python("-c", RUN.format(call=call, heavy=HEAVY))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
    assert "did you mean --budget" in done.stderr
