"""Longitude and latitude of nuScenes' map frames, against the cities' own records and nuscenes-devkit."""

import math

import numpy as np
import pytest

from hdmap_core.datasets.nuscenes.cities import CITIES
from hdmap_core.datasets.synthetic.presets import CITY_SIZES
from hdmap_core.geometry.map_origin import MapOrigin


@pytest.mark.parametrize("city", CITIES)
def test_round_trip(city: str) -> None:
    metres = np.random.default_rng(0).uniform(-500, 4000, (50, 2))
    np.testing.assert_allclose(CITIES[city].metres(CITIES[city].degrees(metres)), metres, atol=1e-6)
    latitude, longitude = CITIES[city]
    np.testing.assert_array_equal(CITIES[city].degrees(np.zeros(2)), [longitude, latitude])


@pytest.mark.parametrize("longitude", [179.999, -179.999])
def test_round_trip_across_the_date_line(longitude: float) -> None:
    origin, metres = MapOrigin(-17.0, longitude), np.array([[-2000.0, 100.0], [2000.0, -100.0]])
    degrees = origin.degrees(metres)
    assert np.ptp(degrees[:, 0]) > 359
    np.testing.assert_allclose(origin.metres(degrees), metres, atol=1e-6)


def test_a_degree_in_metres() -> None:
    east, north = MapOrigin(60.0, 10.0).metres(np.array([[11.0, 60.0], [10.0, 61.0]]))
    np.testing.assert_allclose(north, [0, 111_319.49], atol=0.01)
    np.testing.assert_allclose(east, [111_319.49 / 2, 0], atol=0.01)  # cos 60 degrees


@pytest.mark.parametrize(("city", "metres"), [("boston-seaport", 1.2), *((name, 0.05) for name in list(CITIES)[1:])])
def test_near_the_devkit_everywhere_on_the_map(city: str, metres: float) -> None:
    """The devkit walks along great circles; in a plane that is at most so many metres elsewhere."""
    poses = pytest.importorskip("nuscenes.scripts.export_poses")
    assert tuple(poses.REFERENCE_COORDINATES[city]) == CITIES[city]
    width, height = CITY_SIZES[city]
    for x in np.linspace(1, width, 5):
        for y in np.linspace(1, height, 5):
            latitude, longitude = poses.get_coordinate(*CITIES[city], math.atan2(x, y), math.hypot(x, y))
            ours = CITIES[city].metres(np.array([longitude, latitude]))
            assert np.linalg.norm(ours - [x, y]) < metres
