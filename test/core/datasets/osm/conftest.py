"""Small shapefiles, and the real ones where they are at hand."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapefile

from hdmap_core.datasets.nuscenes.cities import CITIES
from hdmap_core.geometry.map_origin import EARTH_RADIUS_M

WGS84 = 'GEOGCS["GCS_WGS_1984",DATUM["D_WGS_1984",SPHEROID["WGS_1984",6378137,298.257223563]]]'
City = Callable[..., Path]


def degrees(city: str, metres: Sequence[Sequence[float]]) -> np.ndarray:
    """Longitude, latitude of places in a city's map frame, worked out on their own."""
    latitude, longitude = CITIES[city]
    x, y = np.array(metres, np.float64).T
    per_degree = EARTH_RADIUS_M * np.pi / 180
    return np.stack([longitude + x / per_degree / np.cos(latitude * np.pi / 180), latitude + y / per_degree], axis=1)


ROADS: list[tuple[str, list[list[float]], dict[str, Any]]] = [
    ("residential", [[100, 100], [400, 100]], {"name": "Café Street", "oneway": 1}),
    ("motorway", [[100, 200], [400, 200], [400, 300]], {"name": "", "oneway": 1}),
    ("tertiary_link", [[100, 300], [200, 300]], {}),
    ("service", [[100, 400], [200, 400]], {}),
    ("footway", [[100, 500], [200, 500]], {}),
]


@pytest.fixture
def osm_city(tmp_path: Path) -> City:
    """Writes a city's shapefile of five roads, or others; gives the folder."""

    def write(
        city: str = "singapore-onenorth",
        roads: Sequence[tuple[str, Any, dict[str, Any]]] = ROADS,
        projection: str | None = WGS84,
        column: str = "type",
    ) -> Path:
        folder = tmp_path / "osm"
        folder.mkdir(exist_ok=True)
        with shapefile.Writer(str(folder / city), shapeType=shapefile.POLYLINE) as writer:
            writer.field("osm_id", "N", 11)
            writer.field("name", "C", 48)
            writer.field(column, "C", 16)
            writer.field("oneway", "N", 1)
            for number, (kind, parts, facts) in enumerate(roads):
                lines = parts if np.ndim(parts) == 3 else [parts]
                writer.line([degrees(city, line).tolist() for line in lines])
                writer.record(number, facts.get("name", ""), kind, facts.get("oneway", 0))
        if projection is not None:
            (folder / f"{city}.prj").write_text(projection)
        return folder

    return write


@pytest.fixture(scope="session")
def real_osm() -> Path:
    """The shapefiles beside the repository; skips where they are absent."""
    beside = Path(__file__).resolve().parents[5] / "shared" / "data"
    folder = Path(os.environ.get("HDMAP_SHARED_DATA", beside)) / "osm"
    if not (folder / "boston-seaport.shp").is_file():
        pytest.skip("the OpenStreetMap shapefiles are not beside the repository (HDMAP_SHARED_DATA)")
    return folder
