"""A process that writes a store of many cells, one by one, and says which are committed."""

import sys
from pathlib import Path

from tests.atlas.storing import IDENTITY, measured, predicted

from whynet.atlas.journal import Journal

MANY = [f"cell {number}" for number in range(400)]


def resume(folder: Path, group: int = 1) -> str:
    """Write what is missing, and return the digest of all."""
    with Journal.open(folder, IDENTITY) as journal:
        held = journal.predictions(MANY)
        journal.predict([predicted(key) for key in MANY if key not in held])
        finished = journal.finished()
        todo = [key for key in MANY if key not in finished]
        for start in range(0, len(todo), group):
            part = todo[start : start + group]
            journal.commit([measured(key) for key in part])
            print("\n".join(part), flush=True)
        return journal.digest()


if __name__ == "__main__":
    print("ready", flush=True)
    resume(Path(sys.argv[1]))
    print("end", flush=True)
