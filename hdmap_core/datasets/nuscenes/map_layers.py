"""The map expansion JSON (`maps/expansion/<city>.json`) as shapely geometry, metres in the map frame.

The file is a small relational data base: layers point to polygons and lines, these to nodes, and only nodes have
coordinates. Real files hold null tokens, lines without nodes and invalid polygons; such shapes are left out, as in
nuscenes-devkit. A token that is not null and leads nowhere is an error.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from hdmap_core.datasets.json_faults import json_faults_told
from hdmap_core.datasets.nuscenes.arcline_path import polylines
from hdmap_core.errors import DatasetError

LINE_LAYERS = ("road_divider", "lane_divider")
POLYGON_LAYERS = (
    "drivable_area",
    "road_segment",
    "road_block",
    "lane",
    "ped_crossing",
    "walkway",
    "stop_line",
    "carpark_area",
)
_LANE_LAYERS = ("lane", "lane_connector")
_PATHS = "arcline_path_3"
Record = dict[str, Any]


class MapLayers:
    """The layers of one city, turned into shapes when first asked for.

    Raises:
        DatasetError: naming the file if it is missing or no map expansion.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        content = _read(path)
        # The traffic lights, the lane graph and the rest can be much of the file; do not hold on to them.
        kept = {*LINE_LAYERS, *POLYGON_LAYERS, *_LANE_LAYERS, _PATHS, "line", "polygon", "node"}
        self._layers = {name: content.get(name) for name in kept}
        self._nodes = {node["token"]: (float(node["x"]), float(node["y"])) for node in self._records("node")}
        self._shape = {
            kind: {record["token"]: record for record in self._records(kind)} for kind in ("line", "polygon")
        }
        del self._layers["node"]

    def _records(self, layer: str) -> list[Record]:
        records = self._layers.get(layer)
        if not isinstance(records, list) or any("token" not in record for record in records):
            raise DatasetError(f"{self.path}: the layer {layer!r} is missing or malformed; expected map expansion v1.3")
        return records

    def lines(self, layer: str) -> np.ndarray:
        """(N,) LineStrings of a line layer; lines with fewer than two nodes are left out."""
        coordinates = []
        for line, _ in self._shapes(layer, "line", "line_token"):
            points = self._points(line, "node_tokens")
            if len(points) >= 2:
                coordinates.append(points)
        return np.array([shapely.LineString(points) for points in coordinates], dtype=object)

    def polygons(self, layer: str, repair: bool = False) -> np.ndarray:
        """(N,) polygons of a layer; invalid ones are left out, or mended where `repair` is set."""
        polygons = []
        for record, _ in self._shapes(layer, "polygon", "polygon_token"):
            exterior = self._points(record, "exterior_node_tokens")
            holes = [self._points(hole, "node_tokens") for hole in record.get("holes") or ()]
            if len(exterior) >= 3:
                polygons.append(shapely.Polygon(exterior, [hole for hole in holes if len(hole) >= 3]))
        shapes = np.array(polygons, dtype=object)
        if repair:
            shapes = shapely.make_valid(shapes)
        return shapes[shapely.is_valid(shapes) & ~shapely.is_empty(shapes)] if len(shapes) else shapes

    def road(self) -> shapely.Geometry:
        """The union of road segments and lanes, whose outline is the boundary."""
        segments, lanes = (shapely.union_all(self.polygons(layer)) for layer in ("road_segment", "lane"))
        return shapely.union(segments, lanes)

    def kerbs(self) -> np.ndarray:
        """(0,): the map expansion knows boundaries as outlines only."""
        return np.zeros(0, dtype=object)

    def centerlines(self) -> np.ndarray:
        """(N,) LineStrings in the driving direction, one per lane and lane connector that has a path.

        Raises:
            DatasetError: if the map has no paths, as those before v1.3, or a path is malformed.
        """
        lanes = [record["token"] for layer in _LANE_LAYERS for record in self._records(layer)]
        stored = self._layers[_PATHS]
        paths = {lane: stored[lane] for lane in lanes if stored.get(lane)} if isinstance(stored, dict) else {}
        if not isinstance(stored, dict) or (lanes and not paths):
            raise DatasetError(
                f"{self.path}: there is no {_PATHS!r} for its lanes, from which centerlines are made; unpack 'Map "
                "expansion pack (v1.3)' or ask for classes without centerline"
            )
        try:
            lines = polylines(paths).values()
        except DatasetError as error:
            raise DatasetError(f"{self.path}: {error}") from None
        return np.array([shapely.LineString(points) for points in lines], dtype=object)

    def _shapes(self, layer: str, kind: str, key: str) -> Iterator[tuple[Record, Record]]:
        for record in self._records(layer):
            tokens = record["polygon_tokens"] if "polygon_tokens" in record else [record.get(key)]
            for token in tokens or ():
                if token is None:
                    continue
                if token not in self._shape[kind]:
                    raise DatasetError(
                        f"{self.path}: {layer} {record['token']!r} points to {kind} {token!r}, which does not exist"
                    )
                yield self._shape[kind][token], record

    def _points(self, shape: Record, key: str) -> list[tuple[float, float]]:
        try:
            return [self._nodes[token] for token in shape.get(key) or ()]
        except KeyError as error:
            name = shape.get("token", "a hole")
            raise DatasetError(f"{self.path}: {name!r} points to node {error}, which does not exist") from None


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        present = sorted(file.stem for file in path.parent.glob("*.json"))
        there = f"there are maps of {', '.join(present)}" if present else f"{path.parent} holds no map"
        raise DatasetError(
            f"no map {path}: {there}. For real nuScenes, unpack 'Map expansion pack (v1.3)' from nuscenes.org into "
            f"{path.parent.parent}"
        )
    with json_faults_told(path, "unpack the file again"):
        layers = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(layers, dict):
        raise DatasetError(f"{path}: not a map expansion: expected an object with layers")
    return layers
