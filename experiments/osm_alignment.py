"""How far OpenStreetMap's roads lie from the lane centre lines of real HD maps, by the way degrees become metres.

Real maps are a folder of `<scene>.json` with `map` (the city) and `lane_centerline`; OpenStreetMap is what
`hdmap sdmap` reads. Nothing is fitted: the last column only says what a fit would still move. The published table is
in docs/results/osm_alignment.md.

Run: python experiments/osm_alignment.py REAL_MAPS OSM
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from rich.console import Console
from rich.table import Table

from hdmap_core.datasets.nuscenes.cities import CITIES
from hdmap_core.datasets.osm.roads import ROAD_CHOICES, origin_of
from hdmap_core.datasets.osm.shapefiles import read_lines
from hdmap_core.geometry.map_origin import EARTH_RADIUS_M, ECCENTRICITY_SQUARED, MapOrigin

Conversion = Callable[[str, np.ndarray], np.ndarray]
"""A city's name, longitude and latitude (..., 2) in degrees -> x east, y north (..., 2) in metres of its map frame."""

STEP_M = 1.0
SAME_ROAD_M = 15.0
"""Farther from any lane of its direction, by every conversion, a road is one that the HD map does not have."""
SAME_DIRECTION = np.cos(np.radians(30.0))
_FIT_EVERY = 8
REACH_M = 25.0
"""Distances count up to here; what has no lane of its direction within counts as this far."""


def mercator(city: str, degrees: np.ndarray) -> np.ndarray:
    """EPSG:3857 less the origin, Boston stretched and turned by hand (P-MapNet's branch for 60 m; MapKD)."""
    metres = _mercator(degrees) - _mercator(_corner(city))
    if city == "boston-seaport":
        metres = 0.7143 * metres @ np.array([[1.0351, 0.0014], [-0.0002, 1.0326]]).T
    return metres


def ellipsoid(city: str, degrees: np.ndarray) -> np.ndarray:
    """Local east and north of the WGS84 ellipsoid (P-MapNet's main branch), through earth-centred coordinates."""
    longitude, latitude = np.radians(_corner(city))
    away = _earth_centred(degrees) - _earth_centred(_corner(city))
    east = [-np.sin(longitude), np.cos(longitude), 0.0]
    north = [-np.sin(latitude) * np.cos(longitude), -np.sin(latitude) * np.sin(longitude), np.cos(latitude)]
    return away @ np.array([east, north]).T


def great_circles(city: str, degrees: np.ndarray) -> np.ndarray:
    """Distance and bearing from the corner on a sphere, as nuscenes-devkit goes the other way."""
    corner = np.radians(_corner(city))
    longitude, latitude = np.moveaxis(np.radians(degrees), -1, 0)
    across = np.sin(longitude - corner[0]) * np.cos(latitude)
    cos = np.cos(longitude - corner[0]) * np.cos(latitude)
    along = np.cos(corner[1]) * np.sin(latitude) - np.sin(corner[1]) * cos
    angle = np.arctan2(np.hypot(across, along), np.sin(corner[1]) * np.sin(latitude) + np.cos(corner[1]) * cos)
    bearing = np.arctan2(across, along)
    return EARTH_RADIUS_M * np.stack([angle * np.sin(bearing), angle * np.cos(bearing)], axis=-1)


def sphere(city: str, degrees: np.ndarray) -> np.ndarray:
    """Ours: metres in a plane that touches the sphere."""
    return origin_of(city).metres(degrees)


CONVERSIONS: dict[str, Conversion] = {
    "Mercator (published)": mercator,
    "ellipsoid (published)": ellipsoid,
    "sphere (hdmap sdmap)": sphere,
    "great circles (devkit)": great_circles,
}


@dataclass(frozen=True)
class Fit:
    """How one conversion lays the roads of a city over its lanes.

    Attributes:
        distances: (N,) of each metre of road, in metres, to the nearest lane centre line that runs along the road.
        shift: (2,) metres east and north that would fit best: what is systematic in the distances.
    """

    distances: np.ndarray
    shift: np.ndarray


class Lanes:
    """Lane centre lines as their straight pieces, each (A, 2) metres in the map frame."""

    def __init__(self, lines: list[np.ndarray]) -> None:
        pieces = np.concatenate([np.stack([line[:-1], line[1:]], axis=1) for line in lines])
        pieces = pieces[np.linalg.norm(pieces[:, 1] - pieces[:, 0], axis=1) > 1e-6]
        self.directions = _unit(pieces[:, 1] - pieces[:, 0])
        self.tree = shapely.STRtree(shapely.linestrings(pieces))

    def distances(self, points: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N,) metres to the nearest lane of a point's direction, `REACH_M` if none; which piece, -1 if none."""
        point, piece = self.tree.query(shapely.points(points), predicate="dwithin", distance=REACH_M)
        same = np.abs((directions[point] * self.directions[piece]).sum(axis=1)) > SAME_DIRECTION
        point, piece = point[same], piece[same]
        metres = shapely.distance(shapely.points(points[point]), self.tree.geometries[piece])
        found, nearest = np.full(len(points), REACH_M), np.full(len(points), -1)
        order = np.lexsort((-metres, point))  # the last one written is the nearest
        found[point[order]], nearest[point[order]] = metres[order], piece[order]
        return found, nearest

    def best_shift(self, points: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """(2,) metres: nearest lanes are found and shifted to in turns, far ones counting less."""
        shift = np.zeros(2)
        points, directions = points[::_FIT_EVERY], directions[::_FIT_EVERY]
        for _ in range(6):
            metres, piece = self.distances(points + shift, directions)
            near = piece >= 0
            along = self.directions[piece[near]]
            normals = np.stack([-along[:, 1], along[:, 0]], axis=1)
            starts = shapely.get_coordinates(shapely.get_point(self.tree.geometries[piece[near]], 0))
            offsets = ((starts - points[near] - shift) * normals).sum(axis=1)
            weights = 1 / (1 + (metres[near] / 2.0) ** 2)
            moments = normals * weights[:, None]
            shift = shift + np.linalg.solve(moments.T @ normals, moments.T @ offsets)
        return shift


def align(city: str, lanes: list[np.ndarray], osm: Path, with_shift: bool = True) -> dict[str, Fit]:
    """Every conversion over the same metres of road: those that by any of them run along a lane nearby."""
    roads = [
        part
        for record in read_lines(osm / f"{city}.shp")
        for part in record.parts
        if record.attributes["type"] in (ROAD_CHOICES["published"] or ())
    ]
    index = Lanes(lanes)
    placed = {}
    for name, convert in CONVERSIONS.items():
        along = [_along(convert(city, road), len_of=sphere(city, road)) for road in roads]
        points, directions = (np.concatenate(arrays) for arrays in zip(*along, strict=True))
        placed[name] = (points, directions, index.distances(points, directions)[0])
    kept = np.min([distances for *_, distances in placed.values()], axis=0) < SAME_ROAD_M
    return {
        name: Fit(
            distances[kept],
            index.best_shift(points[kept], directions[kept]) if with_shift else np.zeros(2),
        )
        for name, (points, directions, distances) in placed.items()
    }


def read_lanes(folder: Path) -> dict[str, list[np.ndarray]]:
    """City -> lane centre lines of its scenes, each (A, 2) metres."""
    lanes: dict[str, list[np.ndarray]] = {}
    for path in sorted(folder.glob("*.json")):
        scene = json.loads(path.read_text(encoding="utf-8"))
        lanes.setdefault(scene["map"], []).extend(np.asarray(line)[:, :2] for line in scene["lane_centerline"])
    return lanes


def _along(line: np.ndarray, len_of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Middles of equal steps of a line and the directions there, both (N, 2); as many as `len_of` has metres."""
    steps = max(1, int(shapely.LineString(len_of).length / STEP_M))
    shares = (np.arange(steps) + 0.5) / steps
    road = shapely.LineString(line)
    points, before, after = (
        shapely.get_coordinates(shapely.line_interpolate_point(road, shares + shift / steps, normalized=True))
        for shift in (0.0, -0.2, 0.2)
    )
    return points, _unit(after - before)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _corner(city: str) -> np.ndarray:
    origin: MapOrigin = CITIES[city]
    return np.array([origin.longitude, origin.latitude])


def _mercator(degrees: np.ndarray) -> np.ndarray:
    longitude, latitude = np.moveaxis(np.radians(degrees), -1, 0)
    return EARTH_RADIUS_M * np.stack([longitude, np.log(np.tan(np.pi / 4 + latitude / 2))], axis=-1)


def _earth_centred(degrees: np.ndarray) -> np.ndarray:
    longitude, latitude = np.moveaxis(np.radians(degrees), -1, 0)
    radius = EARTH_RADIUS_M / np.sqrt(1 - ECCENTRICITY_SQUARED * np.sin(latitude) ** 2)
    out = radius * np.cos(latitude)
    up = radius * (1 - ECCENTRICITY_SQUARED) * np.sin(latitude)
    return np.stack([out * np.cos(longitude), out * np.sin(longitude), up], axis=-1)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("maps", type=Path, help="folder with <scene>.json of real HD maps")
    parser.add_argument("osm", type=Path, help="folder with <city>.shp")
    options = parser.parse_args()
    table = Table("city", "km of road", "conversion", "median m", "95 % m", "within 5 m", "best shift east, north m")
    for city, lanes in read_lanes(options.maps).items():
        for name, fit in align(city, lanes, options.osm).items():
            median, most = np.percentile(fit.distances, (50, 95))
            east, north = fit.shift
            table.add_row(
                city,
                f"{len(fit.distances) * STEP_M / 1000:.1f}",
                name,
                f"{median:.2f}",
                f"{most:.2f}",
                f"{(fit.distances < 5).mean():.1%}",
                f"{east:+.1f}, {north:+.1f}",
            )
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
