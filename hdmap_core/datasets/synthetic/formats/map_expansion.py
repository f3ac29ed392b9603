"""A town's vector map as a part of a nuScenes map expansion file (version 1.3).

Shapes share nodes wherever they share places: a node is made once per millimetre of the city's frame.
"""

import uuid
from typing import Any

import numpy as np
from shapely import Point, Polygon

from hdmap_core.datasets.synthetic.curve import resample, total_length
from hdmap_core.datasets.synthetic.presets import CITY_SIZES
from hdmap_core.datasets.synthetic.town import Lane, Marking, Town

LIST_LAYERS = (
    "polygon", "line", "node", "drivable_area", "road_segment", "road_block", "ped_crossing", "walkway", "stop_line",
    "carpark_area", "lane", "road_divider", "lane_divider", "traffic_light", "lane_connector",
)  # fmt: skip
DICT_LAYERS = ("arcline_path_3", "connectivity")
PATH_STEP_M = 4.0
_NAMESPACE = uuid.UUID("6f1c7e0a-6d0c-4b5e-9c55-2a8d1f4b7c11")
_SEGMENT_TYPES = {
    ("solid", "white"): "SINGLE_SOLID_WHITE",
    ("solid", "yellow"): "SINGLE_SOLID_YELLOW",
    ("double_solid", "white"): "DOUBLE_SOLID_WHITE",
    # The format has no double yellow and no single dashed value; these are the values real maps use instead.
    ("double_solid", "yellow"): "SINGLE_SOLID_YELLOW",
    ("dashed", "white"): "DOUBLE_DASHED_WHITE",
    ("dashed", "yellow"): "DOUBLE_DASHED_WHITE",
    ("double_dashed", "white"): "DOUBLE_DASHED_WHITE",
    ("double_dashed", "yellow"): "DOUBLE_DASHED_WHITE",
    ("solid_dashed", "white"): "DOUBLE_SOLID_WHITE",
    ("solid_dashed", "yellow"): "SINGLE_SOLID_YELLOW",
}

Layers = dict[str, Any]


def empty_map(city: str) -> Layers:
    """A legal map expansion without content."""
    layers: Layers = {"version": "1.3", "canvas_edge": list(CITY_SIZES[city])}
    return layers | {name: [] for name in LIST_LAYERS} | {name: {} for name in DICT_LAYERS}


def merge_into(city_map: Layers, part: Layers) -> None:
    """Add a town's layers to its city's map."""
    for name in LIST_LAYERS:
        city_map[name].extend(part[name])
    for name in DICT_LAYERS:
        city_map[name].update(part[name])


class _Shapes:
    """Nodes, lines and polygons of one town, with tokens that depend only on the town and the order of making."""

    def __init__(self, key: str, origin: tuple[float, float], layers: Layers) -> None:
        self.key, self.origin, self.layers = key, np.array(origin), layers
        self.nodes: dict[tuple[float, float], str] = {}

    def token(self, kind: str, number: int | str) -> str:
        return str(uuid.uuid5(_NAMESPACE, f"{self.key}/{kind}/{number}"))

    def add(self, layer: str, **fields: Any) -> str:
        token = self.token(layer, len(self.layers[layer]))
        self.layers[layer].append({"token": token, **fields})
        return token

    def node_tokens(self, points: np.ndarray) -> list[str]:
        tokens: list[str] = []
        for x, y in np.round(points + self.origin, 3).tolist():
            token = self.nodes.get((x, y))
            if token is None:
                token = self.nodes[x, y] = self.add("node", x=x, y=y)
            if not tokens or tokens[-1] != token:
                tokens.append(token)
        return tokens

    def line(self, points: np.ndarray) -> str:
        return self.add("line", node_tokens=self.node_tokens(points))

    def polygon(self, polygon: Polygon) -> str:
        # A ring need not repeat its first node.
        rings = [np.array(ring.coords)[:-1] for ring in (polygon.exterior, *polygon.interiors)]
        holes = [{"node_tokens": self.node_tokens(ring)} for ring in rings[1:]]
        return self.add("polygon", exterior_node_tokens=self.node_tokens(rings[0]), holes=holes)


def town_layers(town: Town, key: str, origin: tuple[float, float]) -> Layers:
    """All map layers of a town.

    Args:
        town: driven on the right or the left.
        key: name of the town, unique in its data set; tokens derive from it.
        origin: the town's south-west corner in the city's map frame, metres.
    """
    layers: Layers = {name: [] for name in LIST_LAYERS} | {name: {} for name in DICT_LAYERS}
    shapes = _Shapes(key, origin, layers)
    area = shapes.add("drivable_area", polygon_tokens=[shapes.polygon(p) for p in town.drivable.geoms])
    segments = [
        shapes.add(
            "road_segment",
            polygon_token=shapes.polygon(segment.polygon),
            is_intersection=segment.is_intersection,
            drivable_area_token=area,
        )
        for segment in town.road_segments
    ]

    def segment_at(point: np.ndarray) -> str:
        gaps = [segment.polygon.distance(Point(point)) for segment in town.road_segments]
        return segments[int(np.argmin(gaps))]

    _add_lanes(shapes, town)
    for crossing in town.crossings:
        polygon = shapes.polygon(Polygon(crossing.corners))
        shapes.add("ped_crossing", polygon_token=polygon, road_segment_token=segment_at(crossing.corners.mean(axis=0)))
    for walkway in town.walkways:
        shapes.add("walkway", polygon_token=shapes.polygon(walkway))
    for bar in town.stop_lines:
        shapes.add("stop_line", polygon_token=shapes.polygon(Polygon(bar)), stop_line_type="STOP_SIGN",
                   ped_crossing_tokens=[], traffic_light_tokens=[], road_block_token="")  # fmt: skip
    for marking in town.markings:
        line = shapes.line(marking.line)
        if marking.kind == "road_divider":
            middle = marking.line[len(marking.line) // 2]
            shapes.add("road_divider", line_token=line, road_segment_token=segment_at(middle))
        else:
            shapes.add("lane_divider", line_token=line, lane_divider_segments=_divider_segments(shapes, marking))
    return layers


def _divider_segments(shapes: _Shapes, marking: Marking) -> list[dict[str, str]]:
    kind = _SEGMENT_TYPES[marking.style, marking.colour]
    return [{"node_token": node, "segment_type": kind} for node in shapes.node_tokens(marking.line)]


def _add_lanes(shapes: _Shapes, town: Town) -> None:
    tokens = []
    for lane in town.lanes:
        polygon = shapes.polygon(lane.polygon)
        if lane.is_connector:
            tokens.append(shapes.add("lane_connector", polygon_token=polygon))
            continue
        first, last = _end_edges(lane)
        tokens.append(
            shapes.add(
                "lane",
                polygon_token=polygon,
                lane_type="CAR",
                from_edge_line_token=shapes.line(first),
                to_edge_line_token=shapes.line(last),
                left_lane_divider_segments=[],
                right_lane_divider_segments=[],
            )
        )
    incoming: dict[int, list[int]] = {k: [] for k in range(len(tokens))}
    for k, lane in enumerate(town.lanes):
        for target in lane.outgoing:
            incoming[target].append(k)
    for k, lane in enumerate(town.lanes):
        shapes.layers["connectivity"][tokens[k]] = {
            "incoming": [tokens[source] for source in incoming[k]],
            "outgoing": [tokens[target] for target in lane.outgoing],
        }
        shapes.layers["arcline_path_3"][tokens[k]] = arcline_path(lane.centerline + shapes.origin)


def _end_edges(lane: Lane) -> tuple[np.ndarray, np.ndarray]:
    """The two short edges of a lane's strip, (2, 2) each: where its centre line begins and where it ends."""
    ring = np.array(lane.polygon.exterior.coords)[:-1]
    edges = np.stack([ring, np.roll(ring, -1, axis=0)], axis=1)
    middles = edges.mean(axis=1)
    return tuple(edges[int(np.argmin(np.hypot(*(middles - end).T)))] for end in lane.centerline[[0, -1]])  # type: ignore[return-value]


def arcline_path(line: np.ndarray) -> list[dict[str, Any]]:
    """A line as a chain of nuScenes arc-line pieces: an arc that turns towards the next point, then straight to it.

    Heading and position are continuous from piece to piece; every point of the resampled line is met exactly.
    """
    points = resample(line, PATH_STEP_M) if total_length(line) > PATH_STEP_M else line[[0, -1]]
    first = points[1] - points[0]
    x, y, heading = float(points[0, 0]), float(points[0, 1]), float(np.arctan2(first[1], first[0]))
    path = []
    for goal_x, goal_y in points[1:].tolist():
        reach = float(np.hypot(goal_x - x, goal_y - y))
        turn = _wrap(np.arctan2(goal_y - y, goal_x - x) - heading)
        side = 1.0 if turn >= 0 else -1.0
        # The goal must lie outside the turning circle: reach > 2 r sin(turn).
        radius = float(min(999.999, 0.4 * reach / max(np.sin(np.minimum(abs(turn), np.pi / 2)), 1e-9)))
        to_goal = np.array([goal_x - x, goal_y - y]) - side * radius * np.array([-np.sin(heading), np.cos(heading)])
        straight = float(np.sqrt(max(float(to_goal @ to_goal) - radius**2, 0.0)))
        end_heading = float(np.arctan2(to_goal[1], to_goal[0]) + side * np.arctan2(radius, straight))
        arc = radius * abs(_wrap(end_heading - heading))
        end_pose = [goal_x, goal_y, float(_wrap(end_heading))]
        path.append(
            {
                "start_pose": [x, y, float(_wrap(heading))],
                "end_pose": end_pose,
                "shape": "LSL" if side > 0 else "RSR",
                "radius": radius,
                "segment_length": [float(arc), straight, 0.0],
            }
        )
        x, y, heading = end_pose
    return path


def _wrap(angle: float) -> float:
    return float((angle + np.pi) % (2 * np.pi) - np.pi)
