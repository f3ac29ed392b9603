"""What the road's plane is worth: angles against the truth on simulated drives, and mAP with and without it.

The published tables are in docs/results/road_plane.md.

Run: python experiments/road_plane.py [--hills 12] [--data DATAROOT --split test] [--every 1]
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import shapely
from rich.console import Console
from rich.progress import track
from rich.table import Table

from hdmap_core.datasets.nuscenes import NuScenesDataset, scenes_of_split
from hdmap_core.datasets.synthetic.drive import plan_drive, road_below
from hdmap_core.datasets.synthetic.presets import PRESETS, plan_towns
from hdmap_core.datasets.synthetic.render_town import TownWork
from hdmap_core.datasets.synthetic.sensors.lidar import TownLidar
from hdmap_core.datasets.synthetic.town import Town
from hdmap_core.geometry import se3
from hdmap_core.geometry.road_plane import road_from_points, road_from_poses
from hdmap_core.inference import default_weights, load_predictor
from hdmap_core.metrics.chamfer_ap import chamfer_ap

DRIVES = 30
DURATION_S = 20.0
ROADS = {
    "flat": (0.0, 0.0),
    "hills, poses with heights": (1.0, 0.0),
    "hills, heights with 1 cm of noise": (1.0, 0.01),
    "hills, poses without heights": (1.0, None),
    "gentle hills, poses without heights": (0.4, None),
}
"""Name -> steepness; noise of the poses' heights in metres, None: they have none."""


def simulated(steep: float, height_noise: float | None, rate_hz: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Drives as (T, 4, 4) poses and (T, 2) roll and pitch of the body against the road."""
    for seed in range(DRIVES):
        rng = np.random.default_rng(seed)
        x = np.linspace(0, 600, 1200)
        drive = plan_drive(rng, np.stack([x, 20 * np.sin(x / 60 + seed)], axis=1), DURATION_S)
        times = np.arange(0, DURATION_S, 1 / rate_hz)
        way = np.interp(times, drive.times, drive.distance)
        body = np.stack([np.interp(times, drive.times, angle) for angle in (drive.roll, drive.pitch)], axis=1)
        # Two waves of 150 to 600 m, each up to 2 degrees steep, and a crossfall of 1.2 degrees that comes and goes.
        length, phase = rng.uniform(150, 600, 2), rng.uniform(0, 6, 2)
        slope = steep * np.deg2rad(rng.uniform(0.3, 2, 2))
        angle = way[:, None] / length * 2 * np.pi + phase
        climb, crossfall = (slope * np.sin(angle)).sum(axis=1), steep * np.deg2rad(1.2) * np.sin(way / 100 + 1)
        height = -(slope * length / 2 / np.pi * np.cos(angle)).sum(axis=1)
        poses = np.stack([drive.town_from_ego(time) for time in times])
        for pose, tilt, up, across, at in zip(poses, body, climb, crossfall, height, strict=True):
            pose[:3, :3] = se3.rotation_from_euler(tilt[0] + across, tilt[1] - up, se3.yaw_of(pose))
            pose[2, 3] = 0.0 if height_noise is None else at + rng.normal(0, height_noise)
        yield poses, body


def angle_table(rate_hz: float) -> Table:
    """Root mean squares of what is left of roll and pitch, without and with the correction."""
    table = Table("road", "roll", "roll left", "pitch", "pitch left", title=f"degrees, poses at {rate_hz:g} Hz")
    for name, (steep, noise) in ROADS.items():
        before, after = [], []
        for poses, body in simulated(steep, noise, rate_hz):
            for at in range(int(rate_hz), len(poses)):  # from the second second on
                first = max(0, at - int(10 * rate_hz))
                stamps = [int(k / rate_hz * 1e9) for k in range(first, at + 1)]
                road = road_from_poses(list(poses[first : at + 1]), stamps)
                taken = np.array([np.arctan2(road[2, 1], road[2, 2]), np.arcsin(-road[2, 0])])
                before.append(body[at])
                after.append(body[at] - taken)
        (roll, pitch), (roll_left, pitch_left) = (
            np.rad2deg(np.sqrt(np.mean(np.square(e), 0))) for e in (before, after)
        )
        table.add_row(name, *(f"{value:.3f}" for value in (roll, roll_left, pitch, pitch_left)))
    return table


def hilly_table(towns: int) -> Table:
    """Drives through towns of synth-v2: body against the ground within 20 m, and what that does to lines on it."""
    config = PRESETS["v2"].model_copy(update={"towns": {"val": towns}})
    angles: dict[str, list[float]] = {
        "none": [],
        "poses at 2 Hz": [],
        "poses at 12 Hz": [],
        "LiDAR": [],
        "below the wheels": [],
    }
    shifts: dict[str, list[np.ndarray]] = {name: [] for name in [*angles, "true plane"]}
    for plan in track(plan_towns(config), "hilly towns"):
        scene = TownWork(config, plan).scene(0)
        lidar = TownLidar(scene.town)
        for time_s in np.arange(3.0, 19.5, 1.5):
            pose = scene.town_from_ego(time_s)
            ground = ground_nearby(scene.town, pose)
            truth = _plane_through(ground)
            wheels = road_below(scene.town.relief, pose[:2, 3], se3.yaw_of(pose))
            roads = {"none": np.eye(4), "true plane": truth, "below the wheels": se3.inverse(wheels) @ pose}
            for rate_hz in (2.0, 12.0):
                at = time_s - np.arange(min(int(8 * rate_hz), int((time_s - 1.0) * rate_hz)), -1, -1) / rate_hz
                poses = [scene.town_from_ego(each) for each in at]
                roads[f"poses at {rate_hz:g} Hz"] = road_from_poses(poses, [int(each * 1e9) for each in at])
            ego_from_lidar = scene.shots.rig.ego_from_lidar
            sweep = lidar.cast_sweep(scene.town_from_ego, ego_from_lidar, time_s, int(time_s * 10))
            seen = road_from_points(se3.transform_points(ego_from_lidar, sweep[:, :3].astype(np.float64)))
            roads["LiDAR"] = np.eye(4) if seen is None else seen
            for name, road in roads.items():
                turn = road[:3, :3] @ truth[:3, :3].T
                if name in angles:
                    angles[name].append(float(np.rad2deg(np.arccos(np.clip(turn[2, 2], -1.0, 1.0)))))
                shifts[name].append(_shifts(road, ground))
    title = f"{towns} drives through hilly towns"
    table = Table("road plane", "degrees off, rms", "95 %", "lines moved by, median m", "95 %", title=title)
    for name, moved in shifts.items():
        off, metres = np.array(angles.get(name, [0.0])), np.concatenate(moved)
        row = (np.sqrt(np.mean(off**2)), np.quantile(off, 0.95), np.median(metres), np.quantile(metres, 0.95))
        table.add_row(name, *(f"{value:.3f}" for value in row))
    return table


def ground_nearby(town: Town, pose: np.ndarray, radius: float = 20.0) -> np.ndarray:
    """(N, 3) points of the road within metres of the car, ego frame."""
    x, y = np.meshgrid(*[np.arange(-radius, radius + 0.1, 1.0)] * 2)
    near = pose[:2, 3] + np.stack([x, y], axis=-1)[np.hypot(x, y) < radius]
    near = near[shapely.contains_xy(town.drivable, near)]
    points = np.c_[near, town.relief.smooth(near)]
    return se3.transform_points(se3.inverse(pose), points)


def _plane_through(points: np.ndarray) -> np.ndarray:
    """(4, 4): road from ego, of the plane that fits best."""
    return turn_onto(*np.linalg.lstsq(np.c_[points[:, :2], np.ones(len(points))], points[:, 2], rcond=None)[0])


def turn_onto(a: float, b: float, c: float) -> np.ndarray:
    """(4, 4): road from ego, of the plane z = a x + b y + c."""
    normal = np.array([-a, -b, 1.0]) / np.sqrt(1.0 + a * a + b * b)
    turn = se3.rotation_from_euler(np.arctan2(normal[1], normal[2]), np.arcsin(-normal[0]), 0.0)
    return se3.se3(turn, np.array([0.0, 0.0, -c * normal[2]]))


def _shifts(road: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """(N,) metres by which ground that a camera 1.5 m above the rear axle sees is misplaced on the plane z = 0."""
    eye = se3.transform_points(road, np.array([[0.0, 0.0, 1.5]]))[0]
    seen = se3.transform_points(road, ground)
    lands = eye + (seen - eye) * (eye[2] / np.maximum(eye[2] - seen[:, 2], 0.1))[:, None]
    return np.asarray(np.linalg.norm(lands[:, :2] - ground[:, :2], axis=1))


def accuracy_table(root: Path, split: str, every: int) -> Table:
    """The shipped student with and without, on keyframes of a data set, by the poses alone."""
    predictor = load_predictor(default_weights())
    table = Table("road plane", "mAP", "divider", "ped crossing", "boundary", "AP at 0.5 / 1.0 / 1.5 m")
    for road_plane in (False, True):
        dataset = NuScenesDataset(root, road_plane=road_plane)
        tokens = [token for scene in scenes_of_split(dataset, split) for token in scene.sample_tokens][::every]
        said, true = {}, {}
        for token in track(tokens, f"{split}, {'with' if road_plane else 'without'}"):
            said[token] = predictor.predict(dataset.observation(token, points=False, roads=False)).elements
            true[token] = dataset.elements(token)
        score = chamfer_ap(said, true)
        at = [np.mean([each.ap[limit] for each in score.classes.values()]) for limit in (0.5, 1.0, 1.5)]
        per_class = [f"{each.mean_ap:.3f}" for each in score.classes.values()]
        table.add_row(str(road_plane), f"{score.mean_ap:.3f}", *per_class, " / ".join(f"{value:.3f}" for value in at))
    return table


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a nuScenes folder to score the shipped student on")
    parser.add_argument("--split", default="val", help="of the data")
    parser.add_argument("--every", type=int, default=1, help="score every so many keyframes")
    parser.add_argument("--hills", type=int, default=12, help="how many hilly towns to drive through, at most 12")
    options = parser.parse_args()
    for rate_hz in (2.0, 12.0):
        Console().print(angle_table(rate_hz))
    if options.hills:
        Console().print(hilly_table(options.hills))
    if options.data is not None:
        Console().print(accuracy_table(options.data, options.split, options.every))


if __name__ == "__main__":
    main()
