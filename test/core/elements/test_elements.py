import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hdmap_core.elements import MapClass, MapElement, read_elements, write_elements
from hdmap_core.errors import ElementError, OutputError

finite = st.floats(-100, 100, width=32)
elements = st.builds(
    lambda label, points, closed, score: MapElement(label, np.array(points), closed, score),
    st.sampled_from(list(MapClass)),
    st.lists(st.tuples(finite, finite), min_size=3, max_size=6),
    st.booleans(),
    st.floats(0, 1),
)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(element=elements)
def test_json_round_trip(element: MapElement) -> None:
    back = MapElement.from_json(json.loads(json.dumps(element.to_json())))
    assert (back.label, back.closed) == (element.label, element.closed)
    assert back.score == pytest.approx(element.score, abs=1e-6)
    np.testing.assert_allclose(back.points, element.points, atol=6e-4)
    assert back.points.dtype == np.float32


def test_numbers_are_kept_and_not_written_where_there_is_none() -> None:
    line = MapElement(MapClass.DIVIDER, np.array([[0, 0], [1, 2]]), track_id=7)
    assert MapElement.from_json(line.to_json()).track_id == 7
    assert "track_id" not in MapElement(MapClass.DIVIDER, line.points).to_json()
    for wrong in (-1, 1 << 32, 1.5, True, "7"):
        with pytest.raises(ElementError, match="track_id"):
            MapElement.from_json({**line.to_json(), "track_id": wrong})


def test_files_keep_frames_in_order(tmp_path: Path) -> None:
    line = MapElement(MapClass.DIVIDER, np.array([[0, 0], [1.5, 2.25]]), score=0.75)
    path = tmp_path / "new" / "elements.jsonl"
    write_elements(path, {"b": [line, line], "a": []})
    frames = read_elements(path)
    assert list(frames) == ["b", "a"]
    assert [len(found) for found in frames.values()] == [2, 0]
    assert frames["b"][0].to_json() == line.to_json()
    assert [entry.name for entry in path.parent.iterdir()] == ["elements.jsonl"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "elements.jsonl"
    write_elements(path, {"a": []})
    before = path.read_bytes()
    with pytest.raises(AttributeError):
        write_elements(path, {"a": ["not an element"]})  # type: ignore[list-item]
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*file/elements\.jsonl"):
        write_elements(tmp_path / "file" / "elements.jsonl", {})
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*folder"):
        write_elements(tmp_path / "folder", {})


GOOD: dict[str, Any] = {"label": "divider", "points": [[0, 0], [1, 1]]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "kerb"}, "unknown label 'kerb'; known are divider, ped_crossing, boundary, centerline"),
        ({"label": ["divider"]}, "unknown label"),
        ({"points": [[0, 0]]}, "at least 2 points"),
        ({"points": [[0, 0], [1, 1]], "closed": True}, "at least 3 points when closed"),
        ({"points": [[0, 0, 0], [1, 1, 1]]}, r"shape \(2, 3\)"),
        ({"points": [[0, 0], [1]]}, "list of \\[x, y\\] numbers"),
        ({"points": [[0, 0], [1, float("nan")]]}, "not finite"),
        ({"points": [[0, 0], [1, float("inf")]]}, "not finite"),
        ({"points": None}, "points"),
        ({"score": 1.5}, "scores lie in 0..1"),
        ({"points": [[0, 0], [1, 1e300]]}, "not finite"),
        ({"points": [[0, 0], [1, 10**400]]}, "list of \\[x, y\\] numbers"),
        ({"score": 10**400}, "'score' must be a finite number"),
        ({"score": "high"}, "'score' must be a finite number"),
        ({"score": True}, "'score' must be a finite number"),
        ({"closed": 1}, "'closed' must be true or false"),
    ],
)
def test_malformed_elements_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ElementError, match=message):
        MapElement.from_json({**GOOD, **change})


@pytest.mark.parametrize("field", ["label", "points"])
def test_missing_fields_are_named(field: str) -> None:
    with pytest.raises(ElementError, match=f"lacks the field '{field}'"):
        MapElement.from_json({key: value for key, value in GOOD.items() if key != field})
    with pytest.raises(ElementError, match="must be an object"):
        MapElement.from_json([])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"token": "a", "elements": []}\n{"elements": []}', "line 2: expected"),
        ('{"token": 3, "elements": []}', "line 1: expected"),
        ('{"token": "a", "elements": {}}', "line 1: expected"),
        ("[1, 2]", "line 1: expected"),
        ('{"token": "a", "elements": []}\n\n{"token": "a", "elements": []}', "line 3: frame 'a' occurs twice"),
        (
            '{"token": "a", "elements": [{"label": "divider"}]}',
            "line 1, frame 'a': an element lacks the field 'points'",
        ),
        ("nonsense", "not JSON lines"),
        pytest.param("[" * 100_000, "not JSON lines", id="nested"),
        pytest.param("9" * 5_000, "not JSON lines", id="number"),
    ],
)
def test_malformed_files_are_named_by_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "elements.jsonl"
    path.write_text(content)
    with pytest.raises(ElementError, match=rf"elements\.jsonl.*{message}"):
        read_elements(path)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(ElementError, match=r"cannot read .*none\.jsonl"):
        read_elements(tmp_path / "none.jsonl")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ElementError, match="not JSON lines"):
        read_elements(tmp_path / "binary")


def test_heights_are_kept_until_the_points_change() -> None:
    high = MapElement(MapClass.DIVIDER, np.zeros((3, 2)), heights=np.arange(3))
    again = MapElement.from_json(high.to_json())
    np.testing.assert_array_equal(again.heights, [0.0, 1.0, 2.0])
    assert "heights" not in MapElement(MapClass.DIVIDER, np.zeros((3, 2))).to_json()
    assert replace(high, points=np.zeros((5, 2))).heights is None
    with pytest.raises(ElementError, match="height that is not finite"):
        MapElement(MapClass.DIVIDER, np.zeros((2, 2)), heights=[0.0, np.nan])


def test_the_path_of_a_closed_element_returns_to_its_start() -> None:
    points = [[0, 0], [1, 0], [1, 1]]
    np.testing.assert_array_equal(MapElement(MapClass.DIVIDER, points).path, points)
    np.testing.assert_array_equal(MapElement(MapClass.PED_CROSSING, points, closed=True).path, [*points, points[0]])
