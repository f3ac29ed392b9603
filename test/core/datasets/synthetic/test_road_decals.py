"""What lies beside and on the roads of the second edition, and how it is painted."""

from dataclasses import replace

import numpy as np
import pytest
import shapely
from shapely import LineString, Polygon

from hdmap_core.datasets.synthetic.formats.map_expansion import town_layers
from hdmap_core.datasets.synthetic.ground.picture import bake_ground, bake_reflectivity, paint_masks
from hdmap_core.datasets.synthetic.ground.shapes import crossing_pieces, marking_pieces
from hdmap_core.datasets.synthetic.streets.symbols import ARROWS, arrow_rings, on_line, word_rings
from hdmap_core.datasets.synthetic.town import Decal, KerbPaint, Marking, Town
from hdmap_core.datasets.synthetic.world import generate_town

MIDDLE = 80.0


@pytest.fixture(scope="module")
def towns() -> list[Town]:
    return [generate_town(seed, edition=2) for seed in range(8)]


def test_a_town_holds_everything_that_streets_have(towns: list[Town]) -> None:
    materials = {decal.material for town in towns for decal in town.decals}
    assert materials == {"white_paint", "yellow_paint", "asphalt", "concrete", "metal", "rubber", "leaves"}
    assert {marking.style for town in towns for marking in town.markings} >= {"solid", "dashed", "double_solid"}
    assert len({(marking.dash_m, marking.gap_m) for town in towns for marking in town.markings}) > 3
    assert any(town.kerb_paint for town in towns) and any(town.islands for town in towns)
    assert all(town.flush for town in towns)


def test_the_first_edition_has_none_of_it() -> None:
    town = generate_town(0)
    assert not town.decals and not town.kerb_paint and not town.flush
    assert {(marking.dash_m, marking.gap_m, marking.width_m) for marking in town.markings} == {(3.0, 4.5, 0.15)}


def test_decals_are_no_part_of_the_map(towns: list[Town]) -> None:
    bare = replace(towns[0], decals=(), kerb_paint=(), flush=())
    assert town_layers(towns[0], "key", (100.0, 100.0)) == town_layers(bare, "key", (100.0, 100.0))


def test_driveways_end_in_a_straight_cut_where_the_asphalt_goes_on(towns: list[Town]) -> None:
    open_ends = 0
    for town in towns:
        outline, beyond = town.drivable.boundary, shapely.union_all(list(town.flush))
        along = shapely.get_parts(shapely.intersection(outline, beyond))
        open_ends += sum(4.0 < part.length < 40.0 for part in along)
        aprons = shapely.union_all([Polygon(ring) for decal in town.decals[:40] for ring in decal.rings]).buffer(0)
        assert aprons.difference(town.drivable).area > 20.0
    assert open_ends > 20


def test_turn_pockets_narrow_the_median(towns: list[Town]) -> None:
    ratios = []
    for town in towns:
        for island in town.islands:
            box = shapely.minimum_rotated_rectangle(island)
            if island.area > 40:
                ratios.append(island.area / box.area)
    assert min(ratios) < 0.75 < max(ratios)


def test_double_lines_may_be_broken_on_one_side() -> None:
    line = np.stack([np.linspace(0.0, 30.0, 31), np.zeros(31)], axis=1)
    rings = marking_pieces(Marking(line, "road_divider", "solid_dashed", "yellow", 2.0, 2.0))
    sides = [[ring for ring in rings if np.sign(ring[:, 1].mean()) == side] for side in (-1, 1)]
    right, left = (sum(np.ptp(ring[:, 0]) for ring in side) for side in sides)
    assert right == pytest.approx(30.0) and 12.0 < left < 18.0
    both = marking_pieces(Marking(line, "road_divider", "double_dashed", "yellow", 2.0, 2.0))
    assert len(both) == 2 * len(sides[1])


def test_solid_side_stays_on_the_right_in_the_mirror(towns: list[Town]) -> None:
    town = next(t for t in towns if any(m.style == "solid_dashed" for m in t.markings))
    other = generate_town(town.seed, drives_left=True, edition=2)
    for marking, seen in zip(town.markings, other.markings, strict=True):
        if marking.style == "solid_dashed":
            ends = np.array([town.size[0], 0.0]) + seen.line[[-1, 0]] * (-1.0, 1.0)
            np.testing.assert_allclose(ends, marking.line[[0, -1]])


def test_words_can_be_read_in_either_town() -> None:
    def spread(rings: tuple[np.ndarray, ...]) -> float:
        """Where a lone L has its foot: left positive, from its stem."""
        stem, foot = rings
        return float(foot[:, 1].mean() - stem[:, 1].mean())

    line = np.array([[0.0, 0.0], [20.0, 0.0]])
    upright, mirrored = (on_line(word_rings("L", 3.0, 1.0, 0.15, flip), line, 5.0) for flip in (False, True))
    # The driver looks along x; the foot of an L points to the right.
    assert spread(upright) < 0 < spread(mirrored)
    assert min(ring[:, 0].min() for ring in upright) == pytest.approx(5.0, abs=0.1)


@pytest.mark.parametrize("kind", ARROWS)
def test_arrows_point_where_they_say(kind: str) -> None:
    points = np.concatenate(arrow_rings(kind, 4.0))
    assert ("left" in kind) == (points[:, 1].max() > 0.9)
    assert ("right" in kind) == (points[:, 1].min() < -0.9)
    assert ("straight" in kind) == (points[:, 0].max() > 3.5)
    assert all(Polygon(ring).is_valid for ring in arrow_rings(kind, 4.0))


def square(x: float, y: float, size: float = 4.0) -> np.ndarray:
    return np.array([[x, y], [x + size, y], [x + size, y + size], [x, y + size]])


def test_paint_among_decals_is_seen_by_camera_and_lidar(crossroads_town) -> None:
    town = crossroads_town()
    decals = (
        Decal((square(30, 74.5),), "white_paint"),
        Decal((square(40, 74.5),), "asphalt", gain=0.3),
        Decal((square(50, 74.5),), "concrete", (0.3, 0.02, 0.02)),
        Decal((square(60, 74.5),), "asphalt", (0.3, 0.02, 0.02), cover=0.5),
    )
    marked = replace(town, decals=decals)
    white, yellow = paint_masks(marked, (1600, 1600), 0.1)
    assert white[760, 320] == 255 and yellow[760, 320] == 0 and white[760, 420] == 0
    seen = [bake_ground(t, 0.1).levels[2] for t in (town, marked)]
    before, after = (np.array([level[190, column] for column in (80, 105, 130, 155)], int) for level in seen)
    assert after[0].min() > before[0].max() + 40
    assert after[1].max() < before[1].min() - 20
    assert after[2, 0] > after[2, 1] + 60 > after[3, 1] and after[2, 0] > after[3, 0]
    bare, laid = bake_reflectivity(town), bake_reflectivity(marked)
    assert laid[760, 320] > 3 * bare[760, 320] and laid[760, 520] > bare[760, 520]


def test_painted_kerbs_show_blocks_beside_the_asphalt(crossroads_town) -> None:
    kerb = KerbPaint(np.array([[20.0, 73.0], [40.0, 73.0]]), ((0.02, 0.02, 0.02), (0.8, 0.8, 0.8)), 1.0)
    level = bake_ground(replace(crossroads_town(), kerb_paint=(kerb,)), 0.05).levels[0]
    row = level[int(72.88 / 0.05), int(20 / 0.05) : int(40 / 0.05)].mean(axis=1)
    blocks = row[10::20]
    assert np.all(np.abs(np.diff(blocks)) > 60) and len(blocks) == 20
    on_road = level[int(73.4 / 0.05), int(20 / 0.05) : int(40 / 0.05)].mean(axis=1)
    assert np.ptp(on_road) < 60


def test_lines_along_kerbs_are_no_dividers(towns: list[Town]) -> None:
    kerbs = [town.drivable.boundary for town in towns]
    near = [
        ring
        for town, kerb in zip(towns, kerbs, strict=True)
        for decal in town.decals
        if decal.material == "yellow_paint"
        for ring in decal.rings
        if kerb.distance(Polygon(ring)) < 0.5 and np.ptp(ring, axis=0).max() > 2
    ]
    assert len(near) > 50
    for town, kerb in zip(towns, kerbs, strict=True):
        for marking in town.markings:
            assert kerb.distance(LineString(marking.line).interpolate(0.5, normalized=True)) > 0.5


def test_crossings_have_stripes_of_their_own(towns: list[Town]) -> None:
    widths = {crossing.stripe_m for town in towns for crossing in town.crossings}
    assert len(widths) > 10
    for crossing in towns[0].crossings:
        c0, c1, _, c3 = crossing.corners
        rings = crossing_pieces(replace(crossing, style="zebra"))
        for ring in rings:
            assert np.hypot(*(ring[1] - ring[0])) == pytest.approx(crossing.stripe_m)
        assert len(rings) == pytest.approx(np.hypot(*(c3 - c0)) / crossing.period_m, abs=1.0)
        assert len(crossing_pieces(replace(crossing, style="ladder"))) == len(rings) + 2
        assert crossing.edge_m < np.hypot(*(c1 - c0)) / 2
