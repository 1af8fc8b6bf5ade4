"""Regions: the exact geometry of piecewise-linear networks, as `whynet.regions`.

Names are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from whynet.concepts.regions.boundary_distance import BoundaryDistance as BoundaryDistance
    from whynet.concepts.regions.boundary_distance import (
        distance_to_boundary as distance_to_boundary,
    )
    from whynet.concepts.regions.boxes import BoxRegions as BoxRegions
    from whynet.concepts.regions.boxes import cells_in_box as cells_in_box
    from whynet.concepts.regions.cells import Cell as Cell
    from whynet.concepts.regions.cells import cell_at as cell_at
    from whynet.concepts.regions.planes import Plane as Plane
    from whynet.concepts.regions.polylines import PolylinePieces as PolylinePieces
    from whynet.concepts.regions.polylines import along as along
    from whynet.concepts.regions.subdivision import PlaneRegions as PlaneRegions
    from whynet.concepts.regions.subdivision import subdivide as subdivide

_HOMES = {
    "along": "whynet.concepts.regions.polylines",
    "PolylinePieces": "whynet.concepts.regions.polylines",
    "subdivide": "whynet.concepts.regions.subdivision",
    "PlaneRegions": "whynet.concepts.regions.subdivision",
    "Plane": "whynet.concepts.regions.planes",
    "distance_to_boundary": "whynet.concepts.regions.boundary_distance",
    "BoundaryDistance": "whynet.concepts.regions.boundary_distance",
    "cells_in_box": "whynet.concepts.regions.boxes",
    "BoxRegions": "whynet.concepts.regions.boxes",
    "cell_at": "whynet.concepts.regions.cells",
    "Cell": "whynet.concepts.regions.cells",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'whynet.regions' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, *globals()])
