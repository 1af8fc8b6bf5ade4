"""Check that the folder of `make examine` holds a whole report with numbers in range."""

import json
import re
import sys
from pathlib import Path

MOST_BYTES = 5_000_000
LOADS = re.compile(
    r"""<script\b|<link\b|<iframe\b|@import\b"""
    r"""|\bsrc(?:set)?\s*=\s*["']?\s*(?:https?:)?//|\burl\(\s*["']?\s*(?:https?:)?//"""
)


def check(folder: Path) -> list[str]:
    """Return what is wrong with an examination of `digits-mlp`."""
    report = (folder / "report.html").read_text(encoding="utf-8")
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    accuracy = summary["numbers"]["test_accuracy"]
    wrong = []
    if not 0.94 <= accuracy["value"] <= 1 or not accuracy["low"] <= accuracy["value"]:
        wrong.append(f"test accuracy {accuracy}")
    for room in ("questions", "instruments"):
        for name, state in summary[room].items():
            if state["state"] == "failed":
                wrong.append(f"{name} failed: {state['reason']}")
    if summary["interrupted"] or not summary["findings"] or not summary["instruments"]:
        wrong.append("the examination is not whole")
    if len(report.encode()) >= MOST_BYTES:
        wrong.append(f"a report of {len(report.encode())} bytes")
    loaded = LOADS.findall(report)
    if loaded:
        wrong.append(f"a report that loads something: {loaded[:3]}")
    return wrong


if __name__ == "__main__":
    found = check(Path(sys.argv[1]))
    print("\n".join(found) or "the report is whole, and its numbers are in range")
    sys.exit(1 if found else 0)
