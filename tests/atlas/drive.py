"""A driver in a process of its own: a script without a guard around what it does."""

import json
import signal
import sys
from pathlib import Path

from whynet.atlas.execution import Execution
from whynet.atlas.run import claim

said = json.loads(sys.argv[1])
received = []


def stop(number, frame):
    received.append(number)
    raise KeyboardInterrupt


signal.signal(signal.SIGTERM, stop)
reference = f"{Path(__file__).parent / 'claims' / 'my_claim.py'}:CLAIM"
try:
    record = claim(reference).run(
        out=said["out"],
        execution=Execution(**said["how"]),
        progress=lambda done, all_cells, what: print(done, all_cells, what, flush=True),
        **said["axes"],
    )
except KeyboardInterrupt:  # before the first group, or a second one
    sys.exit(143 if received else 130)
if record.interrupted:
    sys.exit(143 if received else 130)
sys.exit(3 if record.failed or record.stopped else 0)
