"""Towns: the promises that the map, the renderer and the ground truth rely on."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import LineString, Polygon

from hdmap_core.datasets.synthetic.curve import lengths_along, offset, resample, smooth, total_length
from hdmap_core.datasets.synthetic.streets.surface import is_coverage
from hdmap_core.datasets.synthetic.town import Town
from hdmap_core.datasets.synthetic.world import generate_town, movers_clear_of

SEEDS_AND_EDITIONS = ((1, 1), (2, 1), (3, 1), (17, 1), (1, 2), (2, 2), (3, 2), (6, 2), (17, 2))


@pytest.fixture(scope="module", params=SEEDS_AND_EDITIONS, ids=lambda p: f"{p[0]}-edition{p[1]}")
def town(request: pytest.FixtureRequest) -> Town:
    seed, edition = request.param
    return generate_town(seed, drives_left=seed % 2 == 1, edition=edition)


def road_union(town: Town) -> shapely.Geometry:
    segments = shapely.union_all([segment.polygon for segment in town.road_segments])
    lanes = shapely.union_all([lane.polygon for lane in town.lanes if not lane.is_connector])
    return shapely.union(segments, lanes)


def test_segments_and_lanes_cover_the_asphalt_without_slits(town: Town) -> None:
    polygons = np.array([segment.polygon for segment in town.road_segments])
    assert is_coverage(polygons, shapely.union_all(polygons))
    union = road_union(town)
    assert union.symmetric_difference(town.drivable).area < 1e-6
    holes = [Polygon(ring) for part in shapely.get_parts(union) for ring in part.interiors]
    assert min(hole.area for hole in holes) > 1.0
    assert {segment.is_intersection for segment in town.road_segments} == {True, False}


@pytest.mark.skipif(not hasattr(shapely, "coverage_is_valid"), reason="Shapely 2.0 has no coverage_is_valid")
@pytest.mark.parametrize(
    ("other", "valid"),
    [
        (shapely.box(1, 0, 2, 1), True),
        (shapely.box(3, 0, 4, 1), True),
        (Polygon([(1, 0), (2, 0), (2, 2), (1, 2), (1, 1)]), True),
        (shapely.box(1, 0, 2, 2), False),  # the shared edge ends in the middle of another
        (shapely.box(0.5, 0, 2, 1), False),
        (shapely.box(0.25, 0.25, 0.5, 0.5), False),
        (shapely.box(0, 0, 1, 1), False),
    ],
)
def test_coverage_as_shapely_says_it(other: Polygon, valid: bool) -> None:
    polygons = np.array([shapely.box(0, 0, 1, 1), other])
    assert is_coverage(polygons, shapely.union_all(polygons)) == valid == shapely.coverage_is_valid(polygons)


def test_paint_lies_on_the_asphalt_and_outside_junctions(town: Town) -> None:
    junctions = shapely.union_all([s.polygon for s in town.road_segments if s.is_intersection])
    for marking in town.markings:
        line = LineString(marking.line)
        assert line.is_simple
        assert town.drivable.contains(line)
        assert line.intersection(junctions).length < 0.3
        assert all(line.distance(Polygon(crossing.corners)) > 0.2 for crossing in town.crossings)


def test_crossings_lead_from_kerb_to_kerb(town: Town) -> None:
    assert len(town.crossings) >= 3
    for crossing in town.crossings:
        depth, across = (np.hypot(*(crossing.corners[i + 1] - crossing.corners[i])) for i in (0, 1))
        assert 2.0 < depth < 6.0
        assert across > 4.0
        assert Polygon(crossing.corners).is_valid
        gaps = [town.drivable.boundary.distance(shapely.Point(corner)) for corner in crossing.corners]
        assert max(gaps) < 1.2


def test_islands_are_holes_of_the_asphalt() -> None:
    towns = [generate_town(seed) for seed in range(4)]
    assert any(town.islands for town in towns)
    for town in towns:
        for island in town.islands:
            assert town.drivable.intersection(island).area < 1e-9
            assert town.drivable.distance(island) == 0.0


def test_routes_follow_lanes_on_the_road(town: Town) -> None:
    assert len(town.routes) >= 3
    middle = shapely.buffer(town.drivable, -0.7)
    for route in town.routes:
        assert total_length(route) >= 280
        assert np.diff(lengths_along(route)).max() <= 1.0
        assert middle.contains(LineString(route))
        heading = np.unwrap(np.arctan2(*np.diff(route, axis=0).T[::-1]))
        assert np.abs(np.diff(heading)).max() < 0.25


def test_connectors_join_lane_to_lane(town: Town) -> None:
    for lane in town.lanes:
        for target in lane.outgoing:
            assert np.allclose(lane.centerline[-1], town.lanes[target].centerline[0], atol=1e-6)
            assert town.lanes[target].is_connector != lane.is_connector


def test_nothing_solid_stands_on_the_road(town: Town) -> None:
    for box in town.boxes:
        if box.kind in ("building", "tree", "pole"):
            assert not town.drivable.contains(shapely.Point(box.centre)), box


def test_same_seed_same_town_other_seed_other_town() -> None:
    first, again, other = generate_town(5), generate_town(5), generate_town(6)
    assert first.drivable.equals_exact(again.drivable, 0.0)
    assert first.boxes == again.boxes
    assert first.appearance == again.appearance
    assert all(np.array_equal(a.line, b.line) for a, b in zip(first.markings, again.markings, strict=True))
    assert not first.drivable.equals(other.drivable)


def test_mirrored_town_drives_on_the_left() -> None:
    right, left = generate_town(8), generate_town(8, drives_left=True)
    width = right.size[0]
    assert left.drivable.area == pytest.approx(right.drivable.area, rel=1e-9)
    assert np.allclose(left.routes[0][:, 0], width - right.routes[0][:, 0])
    # The kerb is nearer on the side one drives on.
    for town, side in ((right, -1.0), (left, 1.0)):
        lanes = [k for k in town.lanes if not k.is_connector and len(k.centerline) > 5]
        gaps = {s: np.mean([_gap(town, k.centerline, s) for k in lanes]) for s in (-1.0, 1.0)}
        assert gaps[side] < gaps[-side]


def _gap(town: Town, line: np.ndarray, side: float) -> float:
    middle = len(line) // 2
    ray = LineString([line[middle], offset(line, side * 40.0)[middle]])
    return float(LineString([ray.coords[0], ray.coords[0]]).distance(ray.intersection(town.drivable.boundary)))


def test_movers_in_the_way_are_taken_out(town: Town) -> None:
    mover = town.movers[0]
    times = np.arange(0.0, 20.0, 0.1)
    along = lengths_along(mover.route)
    at = mover.start + mover.speed * times
    track = np.stack([np.interp(at, along, mover.route[:, k]) for k in (0, 1)], axis=-1)
    clear = movers_clear_of(town, track, times)
    assert all(other is not mover for other in clear.movers)
    assert len(clear.movers) < len(town.movers)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-0.3, 0.3), min_size=5, max_size=40), st.floats(0.5, 4.0))
def test_curves_keep_their_ends(turns: list[float], step: float) -> None:
    heading = np.cumsum(turns)
    curve = np.concatenate([[[0.0, 0.0]], np.cumsum(5.0 * np.stack([np.cos(heading), np.sin(heading)], -1), axis=0)])
    even = resample(curve, step)
    assert np.diff(lengths_along(even)).max() <= step + 1e-9
    rounded = smooth(even, step, 2.0)
    assert np.allclose(rounded[[0, -1]], curve[[0, -1]])
    assert total_length(rounded) <= total_length(even) + 1e-6
