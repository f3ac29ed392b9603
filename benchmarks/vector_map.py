"""Time of making ground truth from a map expansion: ours against nuscenes-devkit's clipping, same city, same frames.

The city measures 3 km x 3 km: one synthetic town, set down on every free place.
Run: python benchmarks/vector_map.py [--frames 50]
"""

import argparse
import json
import math
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from hdmap_core.datasets.nuscenes import VectorMap
from hdmap_core.datasets.synthetic.formats.map_expansion import empty_map, merge_into, town_layers
from hdmap_core.datasets.synthetic.world import generate_town
from hdmap_core.geometry import se3

CITY = "singapore-queenstown"
LAYERS = ["road_divider", "lane_divider", "ped_crossing", "road_segment", "lane"]


def build_city(root: Path, num_per_side: int = 7) -> list[np.ndarray]:
    """Writes the map; returns poses along the town's routes, all over the city."""
    town = generate_town(1)
    content = empty_map(CITY)
    poses = []
    for index in range(num_per_side**2):
        origin = (60.0 + 400.0 * (index % num_per_side), 60.0 + 400.0 * (index // num_per_side))
        merge_into(content, town_layers(town, f"town-{index}", origin))
        for route in town.routes[:2]:
            middle = len(route) // 2
            yaw = np.arctan2(*(route[middle + 1] - route[middle])[::-1])
            poses.append(se3.se3(se3.rotation_from_euler(0, 0, yaw), [*(route[middle] + origin), 0.0]))
    path = root / "maps" / "expansion" / f"{CITY}.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    return poses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=50)
    num_frames = parser.parse_args().frames
    from nuscenes.map_expansion.map_api import NuScenesMap

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        poses = build_city(root)
        chosen = [poses[index] for index in np.linspace(0, len(poses) - 1, num_frames).astype(int)]

        start = time.perf_counter()
        vector_map = VectorMap.of_city(root, CITY)
        vector_map.elements(chosen[0])
        loaded = time.perf_counter()
        times = [_seconds(lambda pose=pose: vector_map.elements(pose)) for pose in chosen]

        devkit_start = time.perf_counter()
        devkit = NuScenesMap(dataroot=str(root), map_name=CITY)
        devkit_loaded = time.perf_counter()
        devkit_times = [_seconds(lambda pose=pose: _clip(devkit, pose)) for pose in chosen]

    table = Table(title=f"Vector-map ground truth, 3 km city, {num_frames} frames, one process")
    for column in ("implementation", "load s", "median ms", "p95 ms"):
        table.add_column(column, justify="left" if column == "implementation" else "right")
    for name, load, values in (
        ("ours, elements", loaded - start, times),
        ("nuscenes-devkit, clipping only", devkit_loaded - devkit_start, devkit_times),
    ):
        median, p95 = np.percentile(values, [50, 95]) * 1000
        table.add_row(name, f"{load:.2f}", f"{median:.1f}", f"{p95:.1f}")
    Console().print(table)


def _clip(devkit: object, pose: np.ndarray) -> object:
    patch = (pose[0, 3], pose[1, 3], 30.0, 60.0)
    return devkit.get_map_geom(patch, math.degrees(se3.yaw_of(pose)), LAYERS)  # type: ignore[attr-defined]


def _seconds(call: object) -> float:
    start = time.perf_counter()
    call()  # type: ignore[operator]
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
