"""The real roads where the real car stood."""

import json
from pathlib import Path

import numpy as np
import shapely

from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.datasets.osm import chosen, read_roads, write_sd_map
from hdmap_core.geometry import BEVGrid
from hdmap_core.sd_raster import sd_raster


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
