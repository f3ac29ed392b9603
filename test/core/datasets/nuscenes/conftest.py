"""A builder of small map expansions, one with every hard case in it, and a small folder of two scenes."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hdmap_core.datasets.nuscenes.tables import TABLES as TABLE_NAMES

Points = Sequence[tuple[float, float]]
LAYERS = (
    *("polygon", "line", "node", "drivable_area", "road_segment", "road_block", "ped_crossing", "walkway", "stop_line"),
    *("carpark_area", "lane", "road_divider", "lane_divider", "traffic_light", "lane_connector"),
)
CITIES = ("singapore-onenorth", "singapore-hollandvillage", "singapore-queenstown", "boston-seaport")


class Expansion:
    """Collects shapes; equal coordinates share one node, as in the real files."""

    def __init__(self) -> None:
        self.layers: dict[str, Any] = {name: [] for name in LAYERS}
        self.paths: dict[str, Any] = {}
        self._nodes: dict[tuple[float, float], str] = {}

    def _token(self, layer: str) -> str:
        return f"{layer}-{len(self.layers[layer])}"

    def nodes(self, points: Points) -> list[str]:
        for x, y in points:
            if (x, y) not in self._nodes:
                self._nodes[(x, y)] = token = self._token("node")
                self.layers["node"].append({"token": token, "x": x, "y": y})
        return [self._nodes[(x, y)] for x, y in points]

    def line(self, layer: str, points: Points) -> None:
        line = self._token("line")
        nodes = self.nodes(points)
        self.layers["line"].append({"token": line, "node_tokens": nodes})
        record: dict[str, Any] = {"token": self._token(layer), "line_token": line}
        if layer == "road_divider":
            record["road_segment_token"] = ""
        else:
            record["lane_divider_segments"] = [{"node_token": node, "segment_type": "NIL"} for node in nodes]
        self.layers[layer].append(record)

    def polygon(self, layer: str, exterior: Points, holes: Sequence[Points] = ()) -> None:
        polygon = self._token("polygon")
        self.layers["polygon"].append(
            {
                "token": polygon,
                "exterior_node_tokens": self.nodes(exterior),
                "holes": [{"node_tokens": self.nodes(hole)} for hole in holes],
            }
        )
        extra: dict[str, dict[str, Any]] = {
            "road_segment": {"is_intersection": False, "drivable_area_token": ""},
            "ped_crossing": {"road_segment_token": ""},
            "lane": {
                "lane_type": "CAR",
                "from_edge_line_token": "",
                "to_edge_line_token": "",
                "left_lane_divider_segments": [],
                "right_lane_divider_segments": [],
            },
        }
        key = {"polygon_tokens": [polygon]} if layer == "drivable_area" else {"polygon_token": polygon}
        self.layers[layer].append({"token": self._token(layer), **key, **extra.get(layer, {})})

    def path(self, layer: str, pieces: Sequence[Any]) -> None:
        """A lane or lane connector that has an arc-line path but no polygon."""
        token = self._token(layer)
        self.layers[layer].append({"token": token, "polygon_token": None})
        self.paths[token] = list(pieces)

    def write(self, root: Path, city: str) -> Path:
        content = {"version": "1.3", **self.layers, "canvas_edge": [1585.6, 2025.0]}
        path = root / "maps" / "expansion" / f"{city}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**content, "arcline_path_3": self.paths, "connectivity": {}}))
        return path


def rectangle(x0: float, y0: float, x1: float, y1: float) -> list[tuple[float, float]]:
    return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]


def hard_town() -> Expansion:
    """Around (400, 1000): what section by section goes wrong with real maps."""
    town = Expansion()
    # Two road segments and their lanes side by side, sharing nodes; the second has an island.
    # Where shapes touch they share nodes: a node that only lies on a neighbour's edge leaves a slit after rounding.
    north = [(float(x), 1005.0) for x in (400, 384, 380, 374, 370, 360)]
    town.polygon("road_segment", [(360.0, 1000.0), (360.0, 995.0), (400.0, 995.0), (400.0, 1000.0), *north])
    island = [(410.0, 999.0), (420.0, 999.0), (420.0, 1001.0), (410.0, 1001.0)]
    east = [(400.0, 995.0), (450.0, 995.0), (450.0, 1000.0), (450.0, 1005.0), (400.0, 1005.0), (400.0, 1000.0)]
    town.polygon("road_segment", east, [island])
    town.polygon("lane", [(360.0, 995.0), (400.0, 995.0), (400.0, 1000.0), (360.0, 1000.0)])
    town.polygon("lane", [(402.0, 990.0), (430.0, 990.0), (430.0, 997.0), (402.0, 997.0)])
    # A U of asphalt, open to the north, and a fork.
    inside = [(374.0, 1005.0), (374.0, 1011.0), (380.0, 1011.0), (380.0, 1005.0)]
    town.polygon("road_segment", [(370.0, 1005.0), *inside, (384.0, 1005.0), (384.0, 1016.0), (370.0, 1016.0)])
    town.polygon("road_segment", [(450.0, 1000.0), (480.0, 1012.0), (480.0, 1016.0), (450.0, 1005.0)])
    town.polygon("road_segment", [(450.0, 1000.0), (450.0, 995.0), (480.0, 984.0), (480.0, 989.0)])
    # A bow tie is invalid and left out.
    town.polygon("road_segment", [(392.0, 1006.0), (396.0, 1010.0), (396.0, 1006.0), (392.0, 1010.0)])
    town.polygon("lane", [(386.0, 1006.0), (390.0, 1010.0), (390.0, 1006.0), (386.0, 1010.0)])
    # Dividers: straight; leaving and entering again; touching the border of the patch in one point; a loop; no nodes.
    town.line("lane_divider", [(float(x), 997.5) for x in range(360, 452, 3)])
    town.line("road_divider", [(375.0, 1000.0), (385.0, 1019.0), (395.0, 1000.0), (405.0, 1019.0), (415.0, 1000.0)])
    town.line("road_divider", [(400.0, 1022.0), (405.0, 1015.0), (410.0, 1022.0)])
    town.line("lane_divider", [(412.0, 1006.0), (416.0, 1006.0), (416.0, 1009.0), (412.0, 1006.0)])
    town.line("lane_divider", [])
    # Crossings: two that touch, one alone, one across the border, one invalid.
    town.polygon("ped_crossing", rectangle(396.0, 995.0, 399.0, 1005.0))
    town.polygon("ped_crossing", rectangle(399.0, 995.0, 402.0, 1005.0))
    town.polygon("ped_crossing", rectangle(422.0, 995.0, 425.0, 1005.0))
    town.polygon("ped_crossing", rectangle(368.0, 995.0, 372.0, 1005.0))
    town.polygon("ped_crossing", [(405.0, 1006.0), (408.0, 1010.0), (408.0, 1006.0), (405.0, 1010.0)])
    town.polygon("drivable_area", rectangle(360.0, 990.0, 480.0, 1016.0), [island])
    return town


@pytest.fixture(scope="session")
def expansion() -> Callable[[], Expansion]:
    """Makes an empty map expansion to fill and write."""
    return Expansion


@pytest.fixture(scope="session")
def hard_map_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose one-north map holds the hard cases; the other three cities are empty."""
    root = tmp_path_factory.mktemp("expansion")
    for city in CITIES:
        (hard_town() if city == CITIES[0] else Expansion()).write(root, city)
    return root


SMALL_IMAGE = (24, 32)
MOUNTS = {  # sensor -> position in the ego frame, quaternion (w, x, y, z), exposure before the LiDAR stamp in µs
    "LIDAR_TOP": ([0.9, 0.0, 1.8], [0.70710678, 0.0, 0.0, -0.70710678], 0),
    "CAM_FRONT": ([1.7, 0.0, 1.5], [0.5, -0.5, 0.5, -0.5], 40_000),
    "CAM_BACK": ([0.0, 0.0, 1.5], [0.5, -0.5, -0.5, 0.5], 10_000),
}
SPEED = 8.0  # m/s, along x of the map


def _write_small(root: Path) -> None:
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLE_NAMES}
    for channel, (translation, rotation, _) in MOUNTS.items():
        is_camera = channel.startswith("CAM")
        tables["sensor"].append({"token": channel, "channel": channel, "modality": "camera" if is_camera else "lidar"})
        tables["calibrated_sensor"].append(
            {
                "token": f"{channel}-calibrated",
                "sensor_token": channel,
                "translation": translation,
                "rotation": rotation,
                "camera_intrinsic": [[20.0, 0.0, 15.5], [0.0, 20.0, 11.5], [0.0, 0.0, 1.0]] if is_camera else [],
            }
        )
    for number, (name, city) in enumerate([("scene-0061", CITIES[0]), ("scene-0103", CITIES[3])]):
        log = f"log-{number}"
        tables["log"].append({"token": log, "logfile": log, "location": city})
        tables["scene"].append({"token": f"scene-{number}", "log_token": log, "nbr_samples": 2, "name": name})
        for index in range(2):
            stamp = 1_600_000_021_000_000 + number * 60_000_000 + index * 500_000
            sample = f"sample-{number}-{index}"
            tables["sample"].append({"token": sample, "timestamp": stamp, "scene_token": f"scene-{number}"})
            for channel, (_, _, before) in MOUNTS.items():
                _add_sensor_file(root, tables, sample, f"{channel}-{number}-{index}", channel, stamp - before)
        _add_sensor_file(root, tables, f"sample-{number}-1", f"sweep-{number}", "LIDAR_TOP", stamp - 50_000, False)
        _add_sensor_file(root, tables, f"sample-{number}-1", f"image-{number}", "CAM_FRONT", stamp - 90_000, False)
    (root / "v1.0-mini").mkdir()
    for name, records in tables.items():
        (root / "v1.0-mini" / f"{name}.json").write_text(json.dumps(records))


def _add_sensor_file(
    root: Path, tables: dict[str, Any], sample: str, token: str, channel: str, stamp: int, is_key: bool = True
) -> None:
    is_camera = channel.startswith("CAM")
    path = root / ("samples" if is_key else "sweeps") / channel / f"{token}.{'jpg' if is_camera else 'pcd.bin'}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if is_camera:
        picture = np.zeros((*SMALL_IMAGE, 3), np.uint8)
        picture[..., 0] = 200  # blue for OpenCV, so red would mean swapped channels
        cv2.imwrite(str(path), picture)
    else:
        np.array([[0, 10, 0, 50, 3], [5, 0, 1, 20, 4]], "<f4").tofile(path)
    x = 400.0 + SPEED * (stamp % 60_000_000) / 1e6
    tables["ego_pose"].append(
        {"token": token, "timestamp": stamp, "translation": [x, 1000.0, 0.0], "rotation": [1.0, 0.0, 0.0, 0.0]}
    )
    tables["sample_data"].append(
        {
            "token": token,
            "sample_token": sample,
            "ego_pose_token": token,
            "calibrated_sensor_token": f"{channel}-calibrated",
            "timestamp": stamp,
            "is_key_frame": is_key,
            "height": SMALL_IMAGE[0] if is_camera else 0,
            "width": SMALL_IMAGE[1] if is_camera else 0,
            "filename": str(path.relative_to(root)),
        }
    )


@pytest.fixture
def small_root(tmp_path: Path, hard_map_root: Path) -> Path:
    """A nuScenes folder that a test may spoil: two scenes of two keyframes, two cameras, one LiDAR, the hard map."""
    root = tmp_path / "nuscenes"
    shutil.copytree(hard_map_root, root)
    _write_small(root)
    return root
