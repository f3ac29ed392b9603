from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import MultiPolygon, Polygon

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.errors import DatasetError
from training.data.vector_store import CLASSES, LAYERS, Areas, Frame, VectorStore

EMPTY = MultiPolygon()
NOTHING = dict.fromkeys(LAYERS, EMPTY)
SQUARE = [(0, 0), (8, 0), (8, 8), (0, 8)]
HOLES = [[(1, 1), (3, 1), (3, 3), (1, 3)], [(5, 5), (7, 5), (6, 7)]]
COURTYARDS = MultiPolygon([Polygon(SQUARE, HOLES), Polygon([(20, 0), (24, 0), (22, 3)])])
LINE = MapElement(MapClass.DIVIDER, np.array([[0.0, 0], [1, 2], [3, 4]]))
RING = MapElement(MapClass.PED_CROSSING, np.array([[0.0, 0], [4, 0], [4, 3], [0, 3]]), closed=True)
FRAMES: list[Frame] = [
    ("first", [LINE, RING], NOTHING | {"drivable_area": COURTYARDS}),
    ("nothing", [], NOTHING),
    ("only-areas", [], {**NOTHING, "road_segment": MultiPolygon([Polygon(SQUARE)]), "ped_crossing": COURTYARDS}),
    ("only-lines", [RING], NOTHING),
]


def assert_same(store: VectorStore, frames: list[Frame]) -> None:
    """The store holds these frames, in this order."""
    assert len(store) == len(frames) and list(map(str, store.tokens)) == [token for token, _, _ in frames]
    for index, (_, elements, areas) in enumerate(frames):
        found = store.elements(index)
        assert [(e.label, e.closed) for e in found] == [(e.label, e.closed) for e in elements]
        for got, wanted in zip(found, elements, strict=True):
            assert got.points.dtype == np.float32
            np.testing.assert_array_equal(got.points, wanted.points)
        assert_same_areas(store.areas(index), areas)


def assert_same_areas(found: Areas, wanted: Areas) -> None:
    """All layers, point by point and ring by ring."""
    assert tuple(found) == LAYERS
    for layer in LAYERS:
        pieces, expected = found[layer].geoms, wanted.get(layer, EMPTY).geoms
        assert len(pieces) == len(expected), layer
        for piece, other in zip(pieces, expected, strict=True):
            rings, others = ([p.exterior, *p.interiors] for p in (piece, other))
            assert len(rings) == len(others)
            for ring, outline in zip(rings, others, strict=True):
                np.testing.assert_array_equal(
                    shapely.get_coordinates(ring), shapely.get_coordinates(outline).astype(np.float32)
                )


def test_round_trip_in_memory() -> None:
    assert_same(VectorStore.of(FRAMES), FRAMES)


def test_round_trip_through_files(tmp_path: Path) -> None:
    VectorStore.of(FRAMES).write(tmp_path)
    store = VectorStore.read(tmp_path)
    assert isinstance(store.points, np.memmap), "opened, not read"
    assert_same(store, FRAMES)
    found = store.elements(0)[0].points
    found += 1  # a copy: the caller may change it
    np.testing.assert_array_equal(store.elements(0)[0].points, LINE.points)


def test_holes_stay_with_their_polygon() -> None:
    area = VectorStore.of(FRAMES).areas(0)["drivable_area"]
    assert [len(piece.interiors) for piece in area.geoms] == [2, 0]
    assert area.area == pytest.approx(64 - 4 - 2 + 6)
    assert not area.covers(shapely.Point(2, 2)) and area.covers(shapely.Point(4, 4))


@pytest.mark.parametrize("frames", [[], [("a", [], {})], [("a", [], NOTHING), ("b", [], NOTHING)]], ids=len)
def test_nothing_is_kept_as_nothing(frames: list[Frame], tmp_path: Path) -> None:
    VectorStore.of(frames).write(tmp_path)
    assert_same(VectorStore.read(tmp_path), frames)


@pytest.mark.parametrize("cuts", [(4,), (1, 2, 4), (1, 2, 3, 4), (3, 4)])
def test_joined_is_written_together(cuts: tuple[int, ...]) -> None:
    starts = (0, *cuts)
    parts = [VectorStore.of(FRAMES[low:high]) for low, high in zip(starts, cuts, strict=False)]
    joined, together = VectorStore.joined(parts), VectorStore.of(FRAMES)
    for name in ("tokens", "frames", "shapes", "starts", "points"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(together, name), err_msg=name)
    assert_same(joined, FRAMES)


def test_tokens_of_different_length_are_not_cut() -> None:
    parts = [VectorStore.of([(token, [LINE], NOTHING)]) for token in ("a", "a-much-longer-token", "bb")]
    assert list(VectorStore.joined(parts).tokens) == ["a", "a-much-longer-token", "bb"]


coordinate = st.floats(-60, 60, width=32)
points = st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=6)
elements = st.builds(
    lambda label, closed, at: MapElement(label, np.array(at), closed), st.sampled_from(CLASSES), st.booleans(), points
)
polygons = st.builds(Polygon, points, st.lists(points, max_size=2))
areas = st.dictionaries(st.sampled_from(LAYERS), st.lists(polygons, min_size=1, max_size=3).map(MultiPolygon))
tokens = st.text("abc0", min_size=1, max_size=6)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(tokens, st.lists(elements, max_size=3), areas), max_size=4), st.data())
def test_whatever_goes_in_comes_out_however_it_was_divided(frames: list[Frame], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(frames)))
    assert_same(VectorStore.of(frames), frames)
    assert_same(VectorStore.joined([VectorStore.of(frames[:cut]), VectorStore.of(frames[cut:])]), frames)


@pytest.mark.parametrize("name", ["tokens", "frames", "shapes", "starts", "points"])
@pytest.mark.parametrize("damage", ["absent", "empty", "cut", "text"])
def test_damaged_files_are_named_with_what_to_do(name: str, damage: str, tmp_path: Path) -> None:
    VectorStore.of(FRAMES).write(tmp_path)
    path = tmp_path / f"{name}.npy"
    content = path.read_bytes()
    path.unlink()
    if damage != "absent":
        path.write_bytes({"empty": b"", "cut": content[:-8], "text": b"not an array\n" * 20}[damage])
    with pytest.raises(DatasetError, match=r"is damaged .*delete it, it will be made again") as caught:
        VectorStore.read(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_pickles_are_refused(tmp_path: Path) -> None:
    VectorStore.of(FRAMES).write(tmp_path)
    np.save(tmp_path / "tokens.npy", np.array(["a", None], object), allow_pickle=True)
    with pytest.raises(DatasetError, match="is damaged"):
        VectorStore.read(tmp_path)
