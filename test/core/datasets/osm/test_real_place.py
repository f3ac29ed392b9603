"""The real roads where the real car stood."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import shapely

from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.datasets.nuscenes.cities import CITIES
from hdmap_core.datasets.osm.roads import chosen, read_roads, write_sd_map
from hdmap_core.geometry import BEVGrid
from hdmap_core.geometry.sd_raster import sd_raster


def test_the_first_pose_of_scene_61_is_on_fusionopolis_way(real_osm: Path, real_frame_source: Path) -> None:
    calibration = json.loads((real_frame_source / "calibration.json").read_text())
    position = shapely.Point(calibration["lidar"]["ego_to_global"]["translation"][:2])
    roads = chosen(read_roads(real_osm, calibration["location"]), "cars")
    distances = [shapely.LineString(road.line).distance(position) for road in roads]
    nearest = int(np.argmin(distances))
    assert roads[nearest].name == "Fusionopolis Way"
    assert 1.2 < distances[nearest] < 1.4


def test_the_observation_has_the_road_under_the_car(real_osm: Path, real_frame_root: Path) -> None:
    city = "singapore-onenorth"
    path = real_frame_root / "maps" / "sd" / f"{city}.geojson"
    write_sd_map(path, city, chosen(read_roads(real_osm, city), "published"), "published")
    try:
        dataset = NuScenesDataset(real_frame_root)
        lines = dataset.observation(dataset.tokens[0], images=False, points=False).sd_lines
    finally:
        path.unlink()
    raster = sd_raster(lines, BEVGrid((-30.0, 30.0), (-15.0, 15.0), 0.15))
    # The road runs along the car's x axis, about 1.3 m to one side.
    rows = np.flatnonzero(raster[0, :, 200] == 1)
    assert len(rows) >= 5
    assert 0.8 < np.abs((rows + 0.5) * 0.15 - 15).min() < 1.5


@pytest.fixture(scope="session")
def alignment(load_module: Callable[[Path], ModuleType]) -> ModuleType:
    return load_module(Path(__file__).resolve().parents[4] / "experiments" / "osm_alignment.py")


def test_published_conversions_by_geodesy(alignment: ModuleType) -> None:
    """A hundredth of a degree: the ellipsoid's degrees of latitude are shorter at the equator, Mercator's grow."""
    for city, north in (("singapore-onenorth", 1105.7), ("boston-seaport", 1110.7)):
        latitude, longitude = CITIES[city]
        (x, y) = alignment.ellipsoid(city, np.array([longitude, latitude + 0.01]))
        assert (x, y) == (pytest.approx(0, abs=1e-3), pytest.approx(north, abs=0.2))
    latitude, longitude = CITIES["singapore-queenstown"]
    np.testing.assert_allclose(
        alignment.mercator("singapore-queenstown", np.array([longitude + 0.01, latitude])), [1113.195, 0], atol=1e-3
    )


@pytest.mark.parametrize("city", CITIES)
def test_ours_are_the_metres_of_the_devkits_sphere(alignment: ModuleType, city: str) -> None:
    latitude, longitude = CITIES[city]
    degrees = np.array([longitude, latitude]) + np.array([[0.0, 0.0], [0.01, 0.02], [0.03, 0.0], [0.03, 0.03]])
    apart = CITIES[city].metres(degrees) - alignment.great_circles(city, degrees)
    assert np.abs(apart).max() < (3.0 if city == "boston-seaport" else 0.2)


def test_of_the_conversions_ours_fits_real_lanes_best(real_osm: Path, alignment: ModuleType) -> None:
    lanes = alignment.read_lanes(real_osm.parent / "real-maps")
    if not lanes:
        pytest.skip("the real maps are not beside the repository")
    fits = alignment.align("singapore-queenstown", lanes["singapore-queenstown"], real_osm, with_shift=False)
    median = {name: float(np.median(fit.distances)) for name, fit in fits.items()}
    assert median["sphere (hdmap sdmap)"] < 1.5
    assert median["Mercator (published)"] == pytest.approx(median["sphere (hdmap sdmap)"], abs=0.2)
    assert median["ellipsoid (published)"] > 6.0
