"""Regions: the exact geometry of piecewise-linear networks, as `whynet.regions`.

Names are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from whynet.core.lazy_names import lazy_names

if TYPE_CHECKING:
    from whynet.concepts.regions.boundary_distance import BoundaryDistance as BoundaryDistance
    from whynet.concepts.regions.boundary_distance import (
        distance_to_boundary as distance_to_boundary,
    )
    from whynet.concepts.regions.boxes import BoxRegions as BoxRegions
    from whynet.concepts.regions.boxes import cells_in_box as cells_in_box
    from whynet.concepts.regions.cell_tables import CellTable as CellTable
    from whynet.concepts.regions.cell_tables import read_cells as read_cells
    from whynet.concepts.regions.cell_tables import write_cells as write_cells
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
    "write_cells": "whynet.concepts.regions.cell_tables",
    "read_cells": "whynet.concepts.regions.cell_tables",
    "CellTable": "whynet.concepts.regions.cell_tables",
    "Plane": "whynet.concepts.regions.planes",
    "distance_to_boundary": "whynet.concepts.regions.boundary_distance",
    "BoundaryDistance": "whynet.concepts.regions.boundary_distance",
    "cells_in_box": "whynet.concepts.regions.boxes",
    "BoxRegions": "whynet.concepts.regions.boxes",
    "cell_at": "whynet.concepts.regions.cells",
    "Cell": "whynet.concepts.regions.cells",
}

__all__ = [*_HOMES]

__getattr__, __dir__ = lazy_names("whynet.regions", _HOMES)
