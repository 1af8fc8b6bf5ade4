"""Pictures of subdivided polygons: their parts tile the polygon and have the network's classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import whynet
from whynet.numerics.plane_boundaries import decision_boundary
from whynet.numerics.plane_pictures import NO_CLASS, PlanePicture, picture_of

POLYGON = np.array([[-2.0, -1.0], [1.5, -1.5], [2.0, 1.0], [-1.0, 2.0]])


def network(outputs: int) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(2, 12), nn.ReLU(), nn.Linear(12, outputs)).double()


def picture(net: nn.Module, **options: bool) -> tuple[PlanePicture, whynet.regions.PlaneRegions]:
    plane = whynet.regions.Plane(torch.zeros(2), torch.eye(2), POLYGON)
    regions = whynet.regions.subdivide(net, plane)
    assert isinstance(regions, whynet.regions.PlaneRegions)
    return picture_of(regions.cells, regions.plane.polygon, **options), regions


def areas(found: PlanePicture) -> np.ndarray:
    parts = np.split(found.corners, found.offsets[1:-1])
    turned = [np.roll(part, -1, axis=0) for part in parts]
    return np.array(
        [
            (one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0]).sum() / 2
            for one, two in zip(parts, turned, strict=True)
        ]
    )


@pytest.mark.parametrize("outputs", [1, 3])
def test_parts_tile_the_polygon_and_have_the_class_of_their_middle(outputs: int) -> None:
    net = network(outputs)
    found, regions = picture(net)
    assert found.cells == regions.count < len(found.classes)
    assert areas(found).sum() == pytest.approx(regions.areas.sum(), rel=1e-3)
    middles = np.add.reduceat(found.corners, found.offsets[:-1]) / np.diff(found.offsets)[:, None]
    with torch.no_grad():
        values = net(torch.as_tensor(middles)).numpy()
    if outputs == 1:
        classes, lead = (values[:, 0] > 0).astype(int), np.abs(values[:, 0])
    else:
        classes, top = values.argmax(1), np.sort(values, axis=1)
        lead = top[:, -1] - top[:, -2]
    large = areas(found) > 1e-3
    np.testing.assert_array_equal(found.classes[large], classes[large])
    np.testing.assert_allclose(found.values[large], lead[large], atol=2e-3 * lead.max())
    boundary = decision_boundary(regions.cells).segments
    np.testing.assert_allclose(found.boundary, boundary, atol=1e-4)


def test_without_classes_a_part_has_the_first_output() -> None:
    net = network(2)
    found, regions = picture(net, classes=False)
    assert len(found.classes) == found.cells == regions.count
    assert (found.classes == NO_CLASS).all()
    assert len(found.boundary) == 0
    mean = found.values @ regions.areas / regions.areas.sum()
    assert mean == pytest.approx(regions.integrals[0] / regions.areas.sum(), abs=1e-4)


def test_what_was_stopped_has_cells_alone() -> None:
    plane = whynet.regions.Plane(torch.zeros(2), torch.eye(2), POLYGON)
    regions = whynet.regions.subdivide(network(3), plane, max_cells=5)
    assert isinstance(regions, whynet.regions.PlaneRegions)
    found = picture_of(regions.cells, regions.plane.polygon)
    assert (found.complete, found.cells) == (False, regions.count)
    assert not found.values.any()
    assert areas(found).sum() == pytest.approx(regions.areas.sum(), rel=1e-3)
