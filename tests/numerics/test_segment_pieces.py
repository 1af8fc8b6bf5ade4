from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from whynet.numerics.segment_knots import (
    Crossings,
    Knots,
    envelope_crossings,
    leader_switches,
    leaders,
    refine,
    threshold_crossings,
    threshold_switches,
)
from whynet.numerics.segment_pieces import SegmentPieces, output_bends


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def crossings(piece: list[int], weight: list[float], slack: list[float]) -> Crossings:
    count = len(piece)
    return Crossings(
        torch.tensor(piece, dtype=torch.int64), column(*weight), column(*slack),
        torch.arange(count), torch.zeros(count, dtype=torch.float64),
    )  # fmt: skip


def knots_at(*positions: float) -> Knots:
    t = column(*positions)
    width = torch.cat([t.diff(), column(0.0)])
    zero = torch.zeros(t.numel(), dtype=torch.int64)
    return Knots(zero, t, width, zero, 1)


def pieces_of(t: list[float], outputs: list[list[float]]) -> SegmentPieces:
    knots, values = knots_at(*t), torch.tensor(outputs, dtype=torch.float64)
    tolerance = torch.full((1, values.shape[1]), 1e-13, dtype=torch.float64)
    bends = output_bends(values, tolerance, knots)
    offsets = torch.tensor([0, len(t)])
    return SegmentPieces(offsets, knots.t, knots.width, values, bends.long(), bends, tolerance)


def test_crossings_lie_where_the_line_meets_the_level() -> None:
    knots = Knots.ends(2)
    values = torch.tensor([[-1.0, 4], [3, 4], [1, -1], [2, 1]], dtype=torch.float64)
    found = threshold_crossings(values, column(0, 0), torch.full((2, 2), 1e-15).double(), knots)
    assert found.piece.tolist() == [0, 2]
    assert found.unit.tolist() == [0, 1]
    assert found.weight.tolist() == [0.25, 0.5]


def test_what_stays_on_its_level_neither_crosses_nor_switches() -> None:
    knots = knots_at(0.0, 0.5, 1.0)
    values = torch.tensor([[1e-17, -1, -1], [-1e-17, 0, 0], [1e-17, 1, -1]], dtype=torch.float64)
    level, tolerance = column(0, 0, 0), torch.full((1, 3), 1e-16).double()
    assert threshold_crossings(values, level, tolerance, knots).piece.numel() == 0
    # Unit 1 passes through its level at the knot; unit 2 only touches it.
    assert threshold_switches(values, level, tolerance, knots).tolist() == [0, 1, 0]


def test_refine_sorts_merges_and_carries_exactly() -> None:
    knots = Knots.ends(2)
    finer, refinement = refine(knots, crossings([2, 0, 0, 0], [0.25, 0.75, 0.5, 0.5], [1e-16] * 4))
    assert finer.t.tolist() == [0, 0.5, 0.75, 1, 0, 0.25, 1]
    assert finer.width.tolist() == [0.5, 0.25, 0.25, 0, 0.25, 0.75, 0]
    assert finer.segment.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert refinement.place.tolist() == [5, 2, 1, 1]
    carried = refinement.apply(torch.tensor([[0.0], [4], [8], [0]], dtype=torch.float64))
    assert carried.flatten().tolist() == [0, 2, 3, 4, 8, 6, 0]


def test_a_flat_crossing_joins_a_sharp_one_and_does_not_bridge_two() -> None:
    found = crossings([0, 0, 0], [0.5, 0.5 + 1e-9, 0.5 + 3e-9], [1e-16, 4e-9, 1e-16])
    finer, refinement = refine(Knots.ends(1), found)
    assert finer.t.tolist() == [0, 0.5, 0.5 + 3e-9, 1]
    assert refinement.place.tolist() == [1, 1, 2]


def test_crossings_that_round_off_cannot_tell_apart_are_one() -> None:
    found = crossings([0] * 4, [0.5, 0.5 + 1e-12, 0.6, 0.6 + 3e-12], [1e-12] * 4)
    finer, refinement = refine(Knots.ends(1), found)
    assert finer.t.numel() == 5
    assert finer.t[1].item() == pytest.approx(0.5 + 5e-13, rel=0, abs=1e-15)
    assert refinement.place.tolist() == [1, 1, 2, 3]


def test_crossings_at_the_ends_of_a_piece_use_its_knots() -> None:
    finer, refinement = refine(knots_at(0, 0.5, 1), crossings([0, 1, 0], [1.0, 0.0, 0.0], [0] * 3))
    assert finer.t.tolist() == [0, 0.5, 1]
    assert refinement.place.tolist() == [1, 1, 0]


def test_tiny_pieces_are_split_accurately() -> None:
    knots = Knots.ends(1)
    for _ in range(14):  # the last piece shrinks by 10 each time; t alone would lose its width
        finer, _ = refine(knots, crossings([knots.t.numel() - 2], [0.9], [0.0]))
        knots = finer
    assert knots.width[-2].item() == pytest.approx(1e-14, rel=1e-12, abs=0)


@settings(max_examples=150, deadline=None)
@given(st.integers(2, 7), st.integers(0, 10**6), st.booleans())
def test_envelope_against_brute_force(count: int, seed: int, whole: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    ends = torch.randn((2, 5, count), generator=generator, dtype=torch.float64)
    if whole:  # integers make ties, coincident crossings and equal functions
        ends = (2 * ends).round()
    tolerance = torch.full((5,), 1e-13, dtype=torch.float64)
    row, weight, _, lost, won = envelope_crossings(ends[0], ends[1], tolerance)
    first = leaders(ends[0], ends[1], tolerance)
    t = torch.linspace(0, 1, 203, dtype=torch.float64)[:, None]
    for number in range(5):
        before, after = ends[0, number], ends[1, number]
        mine = row == number
        bounds, order = weight[mine].contiguous(), [int(first[number]), *won[mine].tolist()]
        assert lost[mine].tolist() == order[:-1]
        assert bool((bounds.diff() >= 0).all())
        leader = torch.tensor(order)[torch.searchsorted(bounds, t.flatten())]
        values = before + t * (after - before)
        gap = values.amax(1) - values.gather(1, leader[:, None])[:, 0]
        assert float(gap.max()) < 1e-12


def test_leaders_take_the_first_of_equal_functions() -> None:
    before = torch.tensor([[1.0, 1, 1, 0], [2, 1, 2, 2]], dtype=torch.float64)
    after = torch.tensor([[0.0, 5, 5, 9], [2, 9, 2, 2]], dtype=torch.float64)
    assert leaders(before, after, column(1e-14, 1e-14)).tolist() == [1, 0]


def test_a_maximum_switches_where_its_leader_truly_changes() -> None:
    knots = knots_at(0, 0.5, 1)
    values = torch.tensor(
        [[[1.0, 0], [0, 0], [1, 0]], [[0, 0], [0, 0], [0, -1]], [[0, 1], [0, 1], [-1, -2]]],
        dtype=torch.float64,
    )
    # Maximum 0 changes its leader; in 1 both were equal before; 2 keeps its leader.
    assert leader_switches(values, torch.full((1, 3), 1e-14).double(), knots).tolist() == [0, 1, 0]


def test_bends_of_outputs_are_the_knots_that_matter() -> None:
    pieces = pieces_of([0, 0.2, 0.5, 0.6, 1], [[0], [2], [5], [5], [5]])
    assert pieces.is_output_breakpoint.tolist() == [False, False, True, False, False]
    assert pieces.output_pieces().tolist() == [2]
    assert pieces.activation_pieces().tolist() == [4]


def test_a_bend_spread_over_two_near_knots_is_found_once() -> None:
    near = 0.5 + 1e-15
    pieces = pieces_of([0, 0.5, near, 1], [[0], [0.5], [0.5 + 5e-16], [0.5]])
    assert pieces.is_output_breakpoint.sum() == 1
    assert pieces.slope_variation().item() == pytest.approx(1.0, rel=1e-12)


def test_length_variation_and_evaluation() -> None:
    pieces = pieces_of([0, 0.5, 1], [[0, 0], [3, 4], [3, 0]])
    assert pieces.path_length().tolist() == [9.0]
    assert pieces.slope_variation().item() == pytest.approx((6**2 + 16**2) ** 0.5)
    found = pieces.evaluate(torch.zeros(4, dtype=torch.int64), column(0, 0.25, 0.75, 1))
    assert found.tolist() == [[0, 0], [1.5, 2], [3, 2], [3, 0]]


def test_argmax_changes_inside_pieces_at_knots_and_not_at_touches() -> None:
    pieces = pieces_of(
        [0, 0.25, 0.5, 0.75, 1], [[1, 0, -9], [0, 0, -9], [1, 0, -9], [0, 1, -9], [-4, -4, 1]]
    )
    changes = pieces.argmax_changes()
    assert changes.before.tolist() == [0, 1]
    assert changes.after.tolist() == [1, 2]
    assert changes.t.tolist() == pytest.approx([0.625, 0.75 + 0.25 * 10 / 15])
    assert changes.offsets.tolist() == [0, 2]


def test_argmax_change_at_a_knot_and_equal_classes() -> None:
    changes = pieces_of([0, 0.5, 1], [[1, 0, 0], [0, 0, 0], [0, 1, 1]]).argmax_changes()
    assert changes.t.tolist() == [0.5]
    assert (changes.before.tolist(), changes.after.tolist()) == ([0], [1])


def test_argmax_of_other_shapes_is_an_error() -> None:
    pieces = pieces_of([0, 1], [[1.0], [0.0]])
    matrix = SegmentPieces(
        pieces.offsets, pieces.t, pieces.width, pieces.outputs[:, :, None], pieces.switches,
        pieces.is_output_breakpoint, pieces.tolerance,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"not \(classes,\)"):
        matrix.argmax_changes()
