import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import BEVGrid, polyline
from training.data.point_orders import ClosedOrders, pack_orders, point_orders

GRID = BEVGrid()
DIVIDER = MapElement(MapClass.DIVIDER, np.array([[-20.0, 2], [-5, 3], [10, 1], [25, 2]]))
CROSSING = MapElement(MapClass.PED_CROSSING, np.array([[5.0, -6], [9, -6], [9, 6], [5, 6]]), closed=True)
CENTERLINE = MapElement(MapClass.CENTERLINE, DIVIDER.points)


def ring_of(num_vertices: int, label: MapClass = MapClass.BOUNDARY) -> MapElement:
    """A ring whose vertices lie at uneven distances, anticlockwise from above."""
    angle = 2 * np.pi * (np.arange(num_vertices) / num_vertices) ** 1.2
    return MapElement(label, np.stack([12 * np.cos(angle), 7 * np.sin(angle)], axis=1), closed=True)


def unique(orders: np.ndarray) -> set[bytes]:
    return {np.round(order, 5).tobytes() for order in orders}


def area(ring: np.ndarray) -> float:
    """Twice the signed area, positive when anticlockwise."""
    x, y = ring.T.astype(float)
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())


@pytest.mark.parametrize("closed_orders", ["all", "published"])
def test_open_lines_have_both_directions_and_centerlines_their_own(closed_orders: ClosedOrders) -> None:
    line = point_orders(DIVIDER, GRID, 10, closed_orders)
    assert line.shape == (2, 10, 2) and line.dtype == np.float32
    np.testing.assert_array_equal(line[0], line[1][::-1])
    np.testing.assert_array_equal(point_orders(CENTERLINE, GRID, 10, closed_orders), line[:1])


@pytest.mark.parametrize("label", [c for c in MapClass if c is not MapClass.CENTERLINE])
def test_rings_of_any_class_have_every_start_in_both_directions(label: MapClass) -> None:
    ring = point_orders(MapElement(label, CROSSING.points, closed=True), GRID, 10)
    assert ring.shape == (20, 10, 2) and len(unique(ring)) == 20
    for order in ring:  # the same ring: the same points, neighbours stay neighbours
        np.testing.assert_allclose(order[np.lexsort(order.T)], ring[0][np.lexsort(ring[0].T)], atol=1e-7)
        steps = np.linalg.norm(order - np.roll(order, 1, axis=0), axis=1)
        np.testing.assert_allclose(np.sort(steps), np.sort(np.linalg.norm(ring[0] - np.roll(ring[0], 1, 0), axis=1)))


def test_a_closed_centerline_keeps_its_direction() -> None:
    ring = ring_of(7, MapClass.CENTERLINE)
    turns = point_orders(ring, GRID, 10)
    assert len(turns) == 10 and all(area(order) > 0 for order in turns)
    assert all(area(order) > 0 for order in point_orders(ring, GRID, 10, "published"))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("label", [MapClass.BOUNDARY, MapClass.PED_CROSSING])
def test_published_rings_start_at_each_vertex_clockwise(label: MapClass, reverse: bool) -> None:
    ring = ring_of(7, label)
    given = MapElement(label, ring.points[::-1] if reverse else ring.points, closed=True)
    orders = GRID.denormalise(point_orders(given, GRID, 20, "published"))
    assert orders.shape == (7, 20, 2)
    np.testing.assert_array_equal(orders[:, 0], orders[:, -1])
    assert {tuple(p) for p in orders[:, 0].round(2)} == {tuple(p) for p in ring.points.round(2)}
    np.testing.assert_allclose(orders[0, 0], given.points[0], atol=1e-5)
    for order in orders:
        assert area(order[:-1]) < 0
        start = int(np.linalg.norm(ring.points - order[0], axis=1).argmin())
        path = np.roll(ring.points[::-1], start + 1, axis=0)  # clockwise from that vertex
        expected = polyline.resample(polyline.closed_ring(path), 20)
        np.testing.assert_allclose(order, expected, atol=1e-4)


def test_published_rings_have_at_most_19_orders_always_the_same() -> None:
    ring = ring_of(40)
    orders = point_orders(ring, GRID, 20, "published")
    assert len(orders) == len(unique(orders)) == 19
    np.testing.assert_array_equal(orders, point_orders(ring, GRID, 20, "published"))
    assert len(point_orders(ring_of(19), GRID, 20, "published")) == 19


@settings(max_examples=25, deadline=None)
@given(points=arrays(np.float32, (5, 2), elements=st.floats(-14, 14, width=32)), shift=st.integers(0, 4))
def test_published_orders_do_not_depend_on_the_first_vertex(points: np.ndarray, shift: int) -> None:
    one = point_orders(MapElement(MapClass.BOUNDARY, points, closed=True), GRID, 8, "published")
    turned = MapElement(MapClass.BOUNDARY, np.roll(points, shift, axis=0), closed=True)
    other = point_orders(turned, GRID, 8, "published")
    distance = np.abs(one[:, None] - other[None]).max(axis=(2, 3))
    if abs(area(points)) > 1e-2:  # else its direction is a matter of rounding
        assert distance.min(axis=0).max() < 1e-4 and distance.min(axis=1).max() < 1e-4


def test_points_beyond_the_border_are_moved_onto_it() -> None:
    outside = MapElement(MapClass.DIVIDER, np.array([[-31.0, 0], [31, 0]]))
    assert (point_orders(outside, GRID, 4)[0][:, 0][[0, -1]] == [0, 1]).all()


def test_packing_is_as_ragged_as_the_elements() -> None:
    line, ring = point_orders(DIVIDER, GRID, 6), point_orders(CROSSING, GRID, 6)
    orders, owners = pack_orders([[line, ring], [], [ring[:1]]], 6)
    assert orders.shape == (3, 14, 6, 2)
    assert owners.tolist() == [[0] * 2 + [1] * 12, [-1] * 14, [0] + [-1] * 13]
    np.testing.assert_array_equal(orders[0], np.concatenate([line, ring]))
    np.testing.assert_array_equal(orders[2, 0], ring[0])
    assert not orders[1].any() and not orders[2, 1:].any()
    assert pack_orders([[]], 6)[0].shape == (1, 1, 6, 2)
