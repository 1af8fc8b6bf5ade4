"""Seeds: a hash of what is computed, never of order, clock or process."""

from __future__ import annotations

import hashlib
import json


def seed_from(*key: str | int | float | bool) -> int:
    """Return a 63-bit seed that depends on `key` alone.

    Args:
        key: what the random numbers are for, for example `("hessian-spectrum", 0, "probe", 3)`.

    >>> seed_from("hessian-spectrum", 0) == seed_from("hessian-spectrum", 0)
    True
    >>> seed_from("a", 1) == seed_from("a", "1")
    False

    """
    digest = hashlib.sha256(json.dumps(key, separators=(",", ":")).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
