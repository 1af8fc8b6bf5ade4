"""What the exponent of a movement in the width says about a family of networks.

With relative movement ~ m^S of the weights before the last layer, networks of width m keep their
features as m grows where S < 0 (linear regime), and S > 0 is the condensed regime; S = 0 lies
between them (critical). Source: Luo, Xu, Ma and Zhang (2021), arXiv:2007.07497, for two layers and
gradient flow on a squared loss. One network has no exponent, and for other losses, optimizers and
depths the words name what was seen over the widths that were trained, no theorem.
"""

from __future__ import annotations

from typing import Final, Literal

Trend = Literal["linear", "critical", "condensed", "unknown"]

BAND: Final = 0.08
"""Exponents up to this size count as none: what they amount to over the widths one can train."""


def trend(low: float, high: float) -> Trend:
    """Name the regime that an interval of the exponent lies in, wholly; else none.

    >>> trend(-0.6, -0.4), trend(-0.05, 0.03), trend(0.1, 0.4), trend(-0.3, 0.1)
    ('linear', 'critical', 'condensed', 'unknown')
    >>> trend(float("nan"), float("nan"))
    'unknown'
    """
    if high < -BAND:
        return "linear"
    if low > BAND:
        return "condensed"
    return "critical" if low >= -BAND and high <= BAND else "unknown"
