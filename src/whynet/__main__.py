"""`python -m whynet`, the same as the command `whynet`."""

from __future__ import annotations

import sys

from whynet.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
