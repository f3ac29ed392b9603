"""The vector map of a log as plain records: lanes, crossings, drivable areas. Metres in the city's frame, with heights.

The format is described with av2-api (https://github.com/argoverse/av2-api, src/av2/map).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hdmap_core.datasets.json_faults import json_faults_told
from hdmap_core.errors import DatasetError

_LAYERS = ("lane_segments", "pedestrian_crossings", "drivable_areas")


@dataclass(frozen=True)
class LaneSegment:
    """A stretch of one lane between its two boundaries, (P, 3) each, in the driving direction."""

    token: int
    is_intersection: bool
    left: np.ndarray
    right: np.ndarray
    left_mark: str
    right_mark: str
    left_neighbour: int | None
    right_neighbour: int | None


@dataclass(frozen=True)
class MapRecords:
    """What a map file holds: lanes by id; the two edges (P, 3) of each crossing; outlines (P, 3) of what is road."""

    lanes: dict[int, LaneSegment]
    crossings: list[tuple[np.ndarray, np.ndarray]]
    drivable_areas: list[np.ndarray]


def read_map_file(path: Path) -> MapRecords:
    """The records of a `log_map_archive_*.json`.

    Raises:
        DatasetError: naming the file, and the record, that is missing, no JSON or no vector map.
    """
    with json_faults_told(path, "unpack the log's map again"):
        content = json.loads(path.read_text(encoding="utf-8"))
    lacking = [name for name in _LAYERS if not isinstance(content, dict) or not isinstance(content.get(name), dict)]
    if lacking:
        raise DatasetError(
            f"{path} has no {lacking[0]!r}: no vector map of Argoverse 2's sensor data set; unpack the log's map again"
        )
    lanes, crossings, areas = ([*content[name].items()] for name in _LAYERS)
    return MapRecords(
        {lane.token: lane for lane in (_lane(path, key, record) for key, record in lanes)},
        [(_line(path, key, record, "edge1"), _line(path, key, record, "edge2")) for key, record in crossings],
        [_line(path, key, record, "area_boundary", 3) for key, record in areas],
    )


def _lane(path: Path, key: str, record: Any) -> LaneSegment:
    # At the end of a cul-de-sac a boundary may be a single point.
    left, right = (_line(path, key, record, f"{side}_lane_boundary", 1) for side in ("left", "right"))
    try:
        neighbours = [record.get(f"{side}_neighbor_id") for side in ("left", "right")]
        return LaneSegment(
            int(record["id"]),
            bool(record["is_intersection"]),
            left,
            right,
            str(record["left_lane_mark_type"]),
            str(record["right_lane_mark_type"]),
            *(None if other is None else int(other) for other in neighbours),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DatasetError(f"{path}: lane {key!r} is malformed ({error!r}); unpack the log's map again") from None


def _line(path: Path, key: str, record: Any, field: str, least: int = 2) -> np.ndarray:
    try:
        points = np.array([[point["x"], point["y"], point["z"]] for point in record[field]], dtype=np.float64)
    except (KeyError, TypeError, ValueError, OverflowError):
        points = np.empty(0)
    if points.ndim != 2 or len(points) < least or not np.isfinite(points).all():
        raise DatasetError(
            f"{path}: {field!r} of record {key!r} is no list of at least {least} points with finite x, y and z; unpack "
            "the log's map again"
        )
    return points
