"""OpenStreetMap roads in the map frames of the nuScenes cities: which roads, and where they lie."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hdmap_core.datasets.nuscenes.cities import CITIES
from hdmap_core.datasets.osm.shapefiles import read_lines
from hdmap_core.datasets.sd_map import road_feature
from hdmap_core.errors import ConfigError, DatasetError
from hdmap_core.files import write_atomically
from hdmap_core.geometry.map_origin import MapOrigin

ATTRIBUTION = "© OpenStreetMap contributors, ODbL 1.0"

_BIG = ("trunk", "primary", "secondary", "tertiary")
_PUBLISHED = frozenset(
    (*_BIG, *(f"{kind}_link" for kind in _BIG), "unclassified", "residential", "living_street", "road")
)
ROAD_CHOICES: dict[str, frozenset[str] | None] = {
    "cars": _PUBLISHED | {"motorway", "motorway_link"},
    "published": _PUBLISHED,
    "all": None,
}
"""Values of OpenStreetMap's `highway` by choice; None takes every line.

`published` is the list of P-MapNet (Jiang et al., RA-L 2024) as it was meant. Its code lacks a comma, by which
tertiary_link and living_street drop out: 26 of the 3336 lines of the four cities. `cars` adds the motorways.
"""
_REACH_M = (-1000.0, 5000.0)  # no city's map is wider than 4 km


@dataclass(frozen=True)
class Road:
    """One line of OpenStreetMap.

    Attributes:
        line: (P, 2) float64 metres, map frame of the city.
        kind: OpenStreetMap's `highway`, e.g. `residential`.
        oneway: driven in the direction of the points only.
        name: empty where there is none.
    """

    line: np.ndarray
    kind: str
    oneway: bool
    name: str


def origin_of(city: str) -> MapOrigin:
    """Where a city's map frame lies.

    Raises:
        ConfigError: naming the cities there are.
    """
    if city not in CITIES:
        raise ConfigError(f"no city {city!r}; nuScenes has {', '.join(CITIES)}")
    return CITIES[city]


def read_roads(folder: str | Path, city: str) -> list[Road]:
    """All lines of `folder/<city>.shp` around the city, of every kind.

    Raises:
        ConfigError: for an unknown city.
        DatasetError: if the shapefile is missing, damaged, without a column `type`, or of another place.
    """
    path = Path(folder) / f"{city}.shp"
    origin = origin_of(city)
    records = read_lines(path)
    if records and "type" not in records[0].attributes:
        columns = ", ".join(records[0].attributes) or "none"
        raise DatasetError(f"{path.with_suffix('.dbf')}: no column 'type' (OpenStreetMap's highway); it has {columns}")
    roads = []
    for record in records:
        facts = record.attributes
        lines = [origin.metres(part) for part in record.parts if len(part) >= 2]
        kind, name = (str(facts.get(key) or "") for key in ("type", "name"))
        roads += [Road(line, kind, bool(facts.get("oneway")), name) for line in lines if _is_near(line)]
    if not roads:
        raise DatasetError(
            f"{path}: none of its {len(records)} lines is near {city}; expected longitude, latitude in degrees, in "
            "this order"
        )
    return roads


def chosen(roads: Iterable[Road], choice: str) -> list[Road]:
    """The roads of a choice.

    Raises:
        ConfigError: for a choice that there is not.
    """
    if choice not in ROAD_CHOICES:
        raise ConfigError(f"no choice of roads {choice!r}; there are {', '.join(ROAD_CHOICES)}")
    kinds = ROAD_CHOICES[choice]
    return [road for road in roads if kinds is None or road.kind in kinds]


def write_sd_map(path: str | Path, city: str, roads: Iterable[Road], choice: str) -> None:
    """Writes roads as the GeoJSON that `SdMap` reads, with where they come from and what the licence asks for.

    Raises:
        OutputError: if the file cannot be written.
    """
    features = [
        road_feature(road.line, {"type": road.kind, "oneway": road.oneway, "name": road.name or None}) for road in roads
    ]
    content = {
        "type": "FeatureCollection",
        "city": city,
        "frame": "metres, x east, y north of the south-west corner of the nuScenes map",
        "roads": choice,
        "attribution": ATTRIBUTION,
        "features": features,
    }
    write_atomically(path, json.dumps(content, ensure_ascii=False).encode())


def _is_near(line: np.ndarray) -> bool:
    low, high = _REACH_M
    return bool(np.isfinite(line).all() and (line.max(axis=0) > low).all() and (line.min(axis=0) < high).all())
