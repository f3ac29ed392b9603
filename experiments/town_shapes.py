"""The shapes of synthetic towns beside those of real maps: how wide, how bent, how much in a window, how long.

Real maps are read from files of polylines in metres (`boundary`, `lane_divider`, `road_divider`, `lane_centerline`; an
`ego` track says where the drive was). Broad statistics are all that is taken from them. The published table is in
docs/results/town_shapes.md.

Run: python experiments/town_shapes.py [--real FOLDER] [--towns 12]
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from rich.console import Console
from rich.table import Table
from shapely import LineString, STRtree

from hdmap_core.datasets.synthetic.curve import headings_at, points_at, total_length
from hdmap_core.datasets.synthetic.world import generate_town

WINDOW_M = (60.0, 30.0)
STEP_M = 12.0
"""Between the places along lane centre lines where a window is laid and a cross-section is taken."""
RADIUS_M = 130.0
"""Only places this near the middle of a map count, so that every source shows the same piece of a town."""
Row = dict[str, list[float]]


@dataclass(frozen=True)
class Shapes:
    """One map as polylines, each (P, 2) metres."""

    boundary: list[np.ndarray]
    lane_divider: list[np.ndarray]
    road_divider: list[np.ndarray]
    lane_centerline: list[np.ndarray]
    middle: np.ndarray


def real_shapes(path: Path) -> Shapes:
    """A real map around its drive."""
    content = json.loads(path.read_text(encoding="utf-8"))
    layers = {
        name: [np.array(line)[:, :2] for line in content[name] if len(line) > 1]
        for name in ("boundary", "lane_divider", "road_divider", "lane_centerline")
    }
    return Shapes(**layers, middle=np.array(content["ego"]["position"])[:, :2].mean(axis=0))


def town_shapes(seed: int, edition: int) -> Shapes:
    """A synthetic town of an edition."""
    town = generate_town(seed, drives_left=seed % 2 == 0, edition=edition)
    rings = [ring for part in town.drivable.geoms for ring in (part.exterior, *part.interiors)]
    dividers = {
        kind: [marking.line for marking in town.markings if marking.kind == kind]
        for kind in ("lane_divider", "road_divider")
    }
    centres = [lane.centerline for lane in town.lanes]
    return Shapes([np.array(ring.coords) for ring in rings], **dividers, lane_centerline=centres,
                  middle=np.array(town.size) / 2)  # fmt: skip


def measured(shapes: Shapes) -> Row:
    """Every figure of a map, as a list over places or lines."""
    row: Row = {}
    places = _places(shapes)
    _windows(row, shapes, places)
    _cross_sections(row, shapes, places)
    _lines(row, shapes)
    return row


def _places(shapes: Shapes) -> np.ndarray:
    """(N, 3) x, y, heading along the lane centre lines near the middle."""
    rows = []
    for line in shapes.lane_centerline:
        length = total_length(line)
        if length < 2.0:
            continue
        at = np.arange(min(STEP_M, length) / 2, length, STEP_M)
        rows.append(np.column_stack([points_at(line, at), headings_at(line, at, 1.0)]))
    found = np.concatenate(rows)
    return found[np.hypot(*(found[:, :2] - shapes.middle).T) < RADIUS_M]


def _put(row: Row, name: str, value: float) -> None:
    row.setdefault(name, []).append(value)


def _windows(row: Row, shapes: Shapes, places: np.ndarray) -> None:
    dividers = shapes.lane_divider + shapes.road_divider
    layers = {
        "dividers": np.array([LineString(line) for line in dividers]),
        "boundaries": np.array([LineString(line) for line in shapes.boundary]),
    }
    half = np.array(WINDOW_M) / 2
    for name, lines in layers.items():
        tree = STRtree(lines)
        for x, y, heading in places:
            cos, sin = np.cos(heading), np.sin(heading)
            corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half @ np.array([[cos, sin], [-sin, cos]])
            window = shapely.Polygon(corners + np.array([x, y]))
            near = lines[tree.query(window, predicate="intersects")]
            clipped = [shapely.line_merge(part) for part in shapely.intersection(near, window)]
            parts = [part for piece in clipped for part in shapely.get_parts(piece) if part.length > 0.1]
            _put(row, f"{name} in a window", len(parts))
            _put(row, f"{name}: metres in a window", sum(part.length for part in parts))
            for part in parts:
                _put(row, f"{name}: length in a window (m)", part.length)
            if name == "boundaries":
                _put(row, "islands whole in a window", sum(part.is_closed for part in parts))


def _cross_sections(row: Row, shapes: Shapes, places: np.ndarray) -> None:
    """What a straight cut across the road meets, seen from a lane's middle."""
    centres = [LineString(line) for line in shapes.lane_centerline if total_length(line) > 2]
    edges = [LineString(line) for line in shapes.boundary]
    paint = [LineString(line) for line in shapes.lane_divider + shapes.road_divider]
    trees = [STRtree(lines) for lines in (centres, edges, paint)]
    for x, y, heading in places:
        normal = np.array([-np.sin(heading), np.cos(heading)])
        ray = LineString(np.array([x, y]) + np.array([[-25.0], [25.0]]) * normal)
        hits = []
        for lines, tree in zip((centres, edges, paint), trees, strict=True):
            found = []
            for k in tree.query(ray, predicate="intersects"):
                for point in shapely.get_parts(shapely.intersection(lines[k], ray)):
                    found.append(float((np.array(point.coords[0]) - (x, y)) @ normal))
            hits.append(np.sort(np.array(found)))
        lanes, kerbs, lines_across = hits
        left, right = kerbs[kerbs > 0.3], -kerbs[kerbs < -0.3][::-1]
        if not len(left) or not len(right) or left[0] + right[0] > 30:
            _put(row, "open ground on a side (share)", 1.0)
            continue
        _put(row, "open ground on a side (share)", 0.0)
        _put(row, "asphalt between boundaries (m)", float(left[0] + right[0]))
        gaps = np.diff(lanes)
        gaps = gaps[(gaps > 2.2) & (gaps < 4.6)]
        for gap in gaps[:1]:
            _put(row, "between neighbouring lane middles (m)", float(gap))
        inside = (lines_across > -right[0]) & (lines_across < left[0])
        _put(row, "cut meets a divider (share)", float(inside.any()))
        _put(row, "dividers across", float(inside.sum()))


def _lines(row: Row, shapes: Shapes) -> None:
    for name, lines in (("lane", shapes.lane_divider), ("road", shapes.road_divider)):
        for line in lines:
            if np.hypot(*(line.mean(axis=0) - shapes.middle)) < RADIUS_M:
                _put(row, f"{name} divider: length (m)", total_length(line))
    for line in shapes.lane_centerline:
        if np.hypot(*(line.mean(axis=0) - shapes.middle)) < RADIUS_M and (length := total_length(line)) > 25:
            at = np.arange(5.0, length - 5.0, 5.0)
            turn = np.abs((np.diff(headings_at(line, at, 4.0)) + np.pi) % (2 * np.pi) - np.pi)
            for bend in turn / 5.0:
                _put(row, "lanes of 25 m and more: share bent under 30 m radius", float(bend > 1 / 30))
                _put(row, "… 30 to 100 m", float(1 / 100 < bend <= 1 / 30))
                _put(row, "… 100 to 400 m", float(1 / 400 < bend <= 1 / 100))
                _put(row, "… straighter", float(bend <= 1 / 400))
    disc = shapely.Point(shapes.middle).buffer(RADIUS_M)
    edges = [shapely.intersection(LineString(line), disc) for line in shapes.boundary]
    corners = total = 0.0
    for edge in shapely.get_parts([shapely.line_merge(part) for part in edges]):
        if edge.length > 12:
            line = np.array(edge.coords)
            at = np.arange(2.0, edge.length - 2.0, 2.0)
            turn = np.abs((np.diff(headings_at(line, at, 1.0)) + np.pi) % (2 * np.pi) - np.pi)
            corners += float((turn > np.deg2rad(50)).sum())
            total += edge.length
    _put(row, "sharp corners per 100 m of boundary", corners / total * 100)
    _put(row, "boundary per map (m)", total)
    _put(row, "junctions per map", _junctions(shapes))


def _junctions(shapes: Shapes) -> int:
    """Places where centre lines cross one another at more than 30 degrees, those within 20 m of one another as one."""
    lines = np.array([LineString(line) for line in shapes.lane_centerline if total_length(line) > 2])
    first, second = STRtree(lines).query(lines, predicate="crosses")
    spots = []
    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        if a < b:
            for point in shapely.get_parts(shapely.intersection(lines[a], lines[b])):
                ahead, across = (_heading_at(lines[k], point) for k in (a, b))
                if abs(np.sin(ahead - across)) > 0.5 and point.geom_type == "Point":
                    spots.append(point.coords[0])
    if not spots:
        return 0
    discs = shapely.union_all(shapely.buffer(shapely.points(spots), 10.0))
    near = shapely.Point(shapes.middle).buffer(RADIUS_M)
    return int(shapely.intersects(shapely.get_parts(discs), near).sum())


def _heading_at(line: LineString, place: shapely.Geometry) -> float:
    at = np.array([float(line.project(place))])
    return float(headings_at(np.array(line.coords), at, 1.0)[0])


def table_of(columns: dict[str, Row]) -> Table:
    """Median, and 10 % and 90 % in brackets, of every figure; the mean where it is a share or a count per map."""
    table = Table(
        "", *columns, title=f"within {RADIUS_M:g} m of a map's middle; windows of 60 m x 30 m along the lanes"
    )
    names = list(dict.fromkeys(name for row in columns.values() for name in row))
    for name in names:
        cells = []
        for row in columns.values():
            values = np.array(row.get(name, [np.nan]))
            if "share" in name or "…" in name or "per " in name or "whole" in name:
                cells.append(f"{values.mean():.2f}" if values.mean() < 20 else f"{values.mean():.0f}")
            else:
                low, middle, high = np.quantile(values, (0.1, 0.5, 0.9))
                cells.append(f"{middle:.1f} ({low:.1f} to {high:.1f}), mean {values.mean():.1f}")
        table.add_row(name, *cells)
    return table


def merged(rows: list[Row]) -> Row:
    """Several maps as one."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: [value for row in rows for value in row.get(name, [])] for name in names}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, default=Path("../shared/data/real-maps"), help="folder of real maps")
    parser.add_argument("--towns", type=int, default=12, help="towns per edition")
    options = parser.parse_args()
    columns: dict[str, Row] = {}
    files = sorted(options.real.glob("*.json"))
    if files:
        columns[f"{len(files)} real maps"] = merged([measured(real_shapes(path)) for path in files])
    for edition in (1, 2):
        rows = [measured(town_shapes(seed, edition)) for seed in range(options.towns)]
        columns[f"{options.towns} towns, edition {edition}"] = merged(rows)
    Console(width=160).print(table_of(columns))


if __name__ == "__main__":
    main()
