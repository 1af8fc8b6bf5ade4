"""How often intervals hold the truth: every instrument on its closed form, as a table.

`interval_coverage.py [DRAWS] [INSTRUMENT ...]` in float64; 1000 draws by default. The gates stand
in `tests/concepts/test_coverage.py` (`make endurance` for 1000 draws); this prints the figures.
"""

from __future__ import annotations

import sys

import torch

from whynet.concepts.registry import instruments, load_instrument
from whynet.testing.closed_forms import closed_forms
from whynet.testing.conformance import coverage


def main(words: list[str]) -> int:
    draws = int(words[0]) if words else 1000
    print("| instrument | quantity | kind | holds the truth |\n|---|---|---|---|")
    for name in words[1:] or instruments():
        form = closed_forms()[instruments()[name].metadata.closed_form]
        found = coverage(load_instrument(name), name, form, torch.float64, range(draws))
        for quantity, result in found.items():
            share = f"{100 * result.share:.1f} % of {result.draws}"
            print(f"| {name} | {quantity} | {result.kind} | {share} |", flush=True)
    return 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main(sys.argv[1:]))
