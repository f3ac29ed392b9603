"""How well each way knows the ground of a real street: against the height raster of an Argoverse 2 log.

The data are for non-commercial use; nothing is fitted to them. The published table is in docs/results/road_plane.md.

Run: python experiments/real_ground.py FOLDER_OF_LOGS
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import shapely
from rich.console import Console
from rich.table import Table

from hdmap_core.datasets.argoverse.feather import read_columns
from hdmap_core.datasets.argoverse.ground_height import GroundHeight
from hdmap_core.datasets.argoverse.logs import Log, find_logs
from hdmap_core.datasets.argoverse.observations import ArgoverseDataset
from hdmap_core.geometry import se3
from hdmap_core.geometry.ground_relief import GroundRelief, relief_from_points
from hdmap_core.geometry.road_plane import WINDOW_S, road_from_points, road_from_poses

WINDOW_M = 30.0, 15.0
CAMERA_M = 1.5
"""Above the ground: how high a camera is, from which misplaced ground is told."""
STEP_S = 0.5


def ground(log: Log, dataset: ArgoverseDataset, pose: np.ndarray) -> np.ndarray:
    """(N, 3) the street's ground around a pose, ego frame: the raster's heights where the map says that one drives."""
    x, y = np.meshgrid(np.arange(-WINDOW_M[0], WINDOW_M[0]), np.arange(-WINDOW_M[1], WINDOW_M[1]))
    turn = se3.rotation_from_euler(0, 0, se3.yaw_of(pose))[:2, :2]
    places = np.stack([x.ravel(), y.ravel()], axis=1) @ turn.T + pose[:2, 3]
    token = dataset.tokens[0]
    level = se3.se3(se3.rotation_from_euler(0, 0, se3.yaw_of(pose)), pose[:3, 3])
    street = dataset.vector_map(token).areas(level, (-40.0, 40.0), (-40.0, 40.0), ("drivable_area",))["drivable_area"]
    flat = (places - pose[:2, 3]) @ turn
    places = places[shapely.contains_xy(street, flat[:, 0], flat[:, 1])]
    heights = GroundHeight(log.folder / "map").at(places)
    points = np.c_[places, heights][np.isfinite(heights)]
    return se3.transform_points(se3.inverse(pose), points)


def ways(
    log: Log, stamps: np.ndarray, stamp: int, sweep: np.ndarray | None
) -> Iterator[tuple[str, np.ndarray, GroundRelief | None]]:
    """Name, (4, 4) road from ego, and relief over it."""
    recent = [int(each) for each in stamps if 0 <= stamp - each <= WINDOW_S * 1e9]
    yield "none", np.eye(4), None
    yield "poses", road_from_poses([log.map_from_ego(each) for each in recent], recent), None
    if sweep is not None:
        road = road_from_points(sweep)
        assert road is not None
        yield "LiDAR, plane", road, None
        yield "LiDAR, relief", road, relief_from_points(se3.transform_points(road, sweep[:, :3].astype(np.float64)))


def table(title: str, found: dict[str, list[tuple[float, np.ndarray, np.ndarray]]]) -> Table:
    """Of each way the angle to the best plane, and how far ground is misplaced."""
    shown = Table("road", "degrees off, rms", "height, median m", "95 %", "misplaced, median m", "95 %", title=title)
    for way, places in found.items():
        angles, heights, apart = (np.hstack(values) for values in zip(*places, strict=True))
        spread = [f"{np.quantile(values, q):.3f}" for values in (heights, apart) for q in (0.5, 0.95)]
        shown.add_row(way, f"{np.sqrt(np.mean(angles**2)):.3f}", *spread)
    return shown


def main() -> None:
    """Prints a table of the instants that have a sweep, and one of the whole log."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder of Argoverse 2 logs; the first one is taken")
    dataset = ArgoverseDataset(parser.parse_args().data, "10hz", road_plane=False)
    log = find_logs(dataset.root)[0]
    stamps = read_columns(log.folder / "city_SE3_egovehicle.feather", ("timestamp_ns",))["timestamp_ns"]
    swept = {int(token.rpartition("_")[2]): token for token in dataset.tokens}
    driven = [int(stamps[np.searchsorted(stamps, at)]) for at in np.arange(stamps[0] + 3e9, stamps[-1], STEP_S * 1e9)]
    for title, instants in (("with a sweep", list(swept)), ("whole log", driven)):
        found: dict[str, list[tuple[float, np.ndarray, np.ndarray]]] = {}
        for stamp in instants:
            sweep = dataset.observation(swept[stamp], images=False).points if stamp in swept else None
            seen = ground(log, dataset, log.map_from_ego(stamp))
            for way, road, relief in ways(log, stamps, stamp, sweep):
                points = se3.transform_points(road, seen)
                near = points[np.hypot(*points.T[:2]) < 20]
                slope = np.linalg.lstsq(np.c_[near[:, :2], np.ones(len(near))], near[:, 2], rcond=None)[0][:2]
                over = points[:, 2] if relief is None else points[:, 2] - relief.at(points[:, 0], points[:, 1])
                apart = np.abs(over) * np.hypot(*points.T[:2]) / CAMERA_M
                found.setdefault(way, []).append((float(np.rad2deg(np.hypot(*slope))), np.abs(over), apart))
        Console().print(table(f"{log.city}, {title}, {len(instants)} instants", found))


if __name__ == "__main__":
    main()
