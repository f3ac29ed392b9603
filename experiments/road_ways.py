"""What each way to know the ground is worth to the shipped student, on towns whose ground is known.

No way at all, recent poses, LiDAR, two successive sets of images (over the poses' plane, and alone), the path just
driven as a profile behind the car; and what could be had: the best plane, the best quadric, the ground itself.
The published tables are in docs/results/road_plane.md.

Run: python experiments/road_ways.py DATAROOT [--split val] [--towns 12] [--every 4] [--ways none,poses,...]
     python experiments/road_ways.py DATAROOT --real      # one real keyframe: LiDAR against the cameras' seams
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from road_images import plane_from_motion, plane_from_seams, sighting
from road_plane import ground_nearby, turn_onto

from hdmap_core.datasets.nuscenes import NuScenesDataset, scenes_of_split
from hdmap_core.datasets.synthetic.presets import SynthConfig, TownPlan, plan_towns
from hdmap_core.datasets.synthetic.render_town import TownWork
from hdmap_core.datasets.synthetic.town import Town
from hdmap_core.elements import MapElement
from hdmap_core.geometry import se3
from hdmap_core.geometry.ground_view import FEATHER, LEAST_WEIGHT, MIN_DEPTH, ground_view
from hdmap_core.geometry.road_plane import WINDOW_S, road_from_points, road_from_poses
from hdmap_core.inference import Predictor, default_weights, load_predictor
from hdmap_core.metrics.breakdown import breakdown, distance_bands
from hdmap_core.model_io import ModelInput
from hdmap_core.observation import Observation
from hdmap_core.postprocess.decode import decode
from hdmap_core.preprocess import ground_grid

RING = ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT")
SMALL = (225, 400)
PATH_S = 12.0
"""How long ago the path behind the car may have been driven."""
LEVEL = np.zeros(3)


@dataclass(frozen=True)
class Keyframe:
    """One with its past and its truth. `poses` (4, 4) and `stamps_ns` up to its own; `pose` in the town's frame."""

    dataset: NuScenesDataset
    tokens: Sequence[str]
    poses: Sequence[np.ndarray]
    stamps_ns: Sequence[int]
    pose: np.ndarray
    town: Town

    @property
    def token(self) -> str:
        """Its own."""
        return self.tokens[-1]

    def since(self, seconds: float) -> tuple[list[np.ndarray], list[int]]:
        """Poses and stamps of the last seconds."""
        first = next(k for k, stamp in enumerate(self.stamps_ns) if self.stamps_ns[-1] - stamp <= seconds * 1e9)
        return list(self.poses[first:]), list(self.stamps_ns[first:])

    def small(self, back: int) -> Observation:
        """So many keyframes ago, at a quarter of nuScenes' size."""
        token = self.tokens[-1 - back]
        return self.dataset.observation(token, points=False, roads=False, at_least=SMALL)


def keyframes(root: Path, split: str, towns: int, every: int) -> Iterator[Keyframe]:
    """Every so many keyframes of the first towns of a split, the first of each drive left out."""
    config = SynthConfig(**json.loads((root / "synth.json").read_text())["config"])
    dataset = NuScenesDataset(root, road_plane=False)
    scenes = {scene.name: scene for scene in scenes_of_split(dataset, split)}
    for plan in [plan for plan in plan_towns(config) if plan.split == split][:towns]:
        town, tokens = TownWork(config, plan).scene(0).town, scenes[plan.scene_names[0]].sample_tokens
        poses = [dataset.map_from_ego(token) for token in tokens]
        stamps = [dataset.observation(token, images=False, points=False, roads=False).stamp_ns for token in tokens]
        for at in range(every, len(tokens), every):
            past = slice(0, at + 1)
            yield Keyframe(dataset, tokens[past], poses[past], stamps[past], _in_town(poses[at], plan), town)


def _in_town(pose: np.ndarray, plan: TownPlan) -> np.ndarray:
    return se3.se3(pose[:3, :3], pose[:3, 3] - [*plan.origin, 0.0])


# --- planes a, b, c of z = a x + b y + c in the ego frame ---
def coefficients(road: np.ndarray) -> np.ndarray:
    """(3,) of a road-from-ego."""
    return np.array([-road[2, 0], -road[2, 1], -road[2, 3]]) / road[2, 2]


def from_poses(frame: Keyframe) -> np.ndarray:
    """(3,) as the node has it."""
    return coefficients(road_from_poses(*frame.since(WINDOW_S)))


def from_images(frame: Keyframe, mean: np.ndarray, flat: bool = False) -> np.ndarray:
    """(3,) by the keyframe before; `flat`: by odometry without height, pitch and roll."""
    before, now = (_flat(pose) if flat else pose for pose in frame.poses[-2:])
    before_from_now = se3.inverse(before) @ now
    return plane_from_motion(sighting(frame.small(0)), sighting(frame.small(1)), before_from_now, mean)


def _flat(pose: np.ndarray) -> np.ndarray:
    return se3.se3(se3.rotation_from_euler(0, 0, se3.yaw_of(pose)), [*pose[:2, 3], 0.0])


def from_lidar(frame: Keyframe) -> np.ndarray:
    """(3,) of the ground that is seen."""
    points = frame.dataset.observation(frame.token, images=False, roads=False).points
    road = None if points is None else road_from_points(points)
    return LEVEL if road is None else coefficients(road)


def fitted(frame: Keyframe, radius: float, quadric: bool) -> np.ndarray:
    """(3,) or (6,) that fit the asphalt around best."""
    ground = ground_nearby(frame.town, frame.pose, radius)
    return np.linalg.lstsq(_terms(ground[:, 0], ground[:, 1], 6 if quadric else 3), ground[:, 2], rcond=None)[0]


def _terms(x: np.ndarray, y: np.ndarray, count: int) -> np.ndarray:
    return np.stack([x, y, np.ones_like(x), x * x, x * y, y * y][:count], axis=-1)


# --- the ground as a surface: (2Y, X) places of the student's ground pixels ---
def with_path_behind(frame: Keyframe, plane: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Heights: the plane ahead, behind the rear axle's own path and the plane's slope aside."""
    poses, _ = frame.since(PATH_S)
    path = np.array([(se3.inverse(poses[-1]) @ pose)[:3, 3] for pose in reversed(poses)])
    kept = [0]
    for k in range(1, len(path)):
        if path[k, 0] < path[kept[-1], 0] - 0.5:
            kept.append(k)
    way, height = -path[kept, 0], path[kept, 2]
    flat = plane[0] * x + plane[1] * y + plane[2]
    if len(kept) < 2:
        return flat
    last = (height[-1] - height[-2]) / (way[-1] - way[-2])
    profile = np.interp(-x, way, height) + last * np.maximum(-x - way[-1], 0.0)
    return np.where(x < 0, profile + plane[1] * y, flat)


def surface_view(observation: Observation, places: np.ndarray) -> np.ndarray:
    """(Y, X, 4) uint8 like `ground_view`, of (2Y, X, 3) places of any height, ego frame; pinholes alone."""
    shape = places.shape[0] // 2, places.shape[1]
    colour, weight = np.zeros((*shape, 3), np.float32), np.zeros(shape, np.float32)
    matrices = observation.rig.projection().double().numpy()
    for image, (height, width), matrix in zip(observation.images, observation.rig.image_sizes, matrices, strict=True):
        assert image is not None
        place = places @ matrix[:, :3].T + matrix[:, 3]
        depth = np.maximum(place[..., 2], 1e-6)
        u, v = (np.clip(place[..., k] / depth, -1e4, 1e4).astype(np.float32) for k in (0, 1))
        fine = cv2.remap(image, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        margin = np.minimum(np.minimum(u, width - 1 - u), np.minimum(v, height - 1 - v)) / (FEATHER * width)
        share = np.clip(margin, 0.0, 1.0) * (place[..., 2] > MIN_DEPTH)
        mean = (0.5 * (share[0::2] + share[1::2])).astype(np.float32)
        colour += cv2.addWeighted(fine[0::2], 0.5, fine[1::2], 0.5, 0) * mean[..., None]
        weight += mean
    seen = (weight > LEAST_WEIGHT) * np.uint8(255)
    return np.dstack([np.round(colour / np.maximum(weight, 1e-6)[..., None]).astype(np.uint8), seen])


def true_places(frame: Keyframe, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(2Y, X, 3) of the road's own surface, ego frame, at level distances x and y from the car."""
    turn, pose = se3.rotation_from_euler(0, 0, se3.yaw_of(frame.pose)), frame.pose
    flat = np.stack([x, y], axis=-1) @ turn[:2, :2].T + pose[:2, 3]
    points = np.concatenate([flat, frame.town.relief.smooth(flat)[..., None]], axis=-1)
    return se3.transform_points(se3.inverse(pose), points.reshape(-1, 3)).reshape(points.shape)


# --- scores ---
WAYS = {
    "none": lambda frame: LEVEL,
    "poses": from_poses,
    "LiDAR": from_lidar,
    "images over poses": lambda frame: from_images(frame, from_poses(frame)),
    "images alone": lambda frame: from_images(frame, LEVEL),
    "images by flat odometry": lambda frame: from_images(frame, LEVEL, flat=True),
    "path behind the car": from_poses,
    "best plane": lambda frame: fitted(frame, 20.0, False),
    "best quadric": lambda frame: fitted(frame, 30.0, True),
    "the ground itself": lambda frame: LEVEL,
}


PLANES = ("none", "poses", "LiDAR", "images over poses", "images alone", "images by flat odometry", "best plane")
"""The ways that answer with a plane."""


def seen_by_student(
    way: str, found: np.ndarray, frame: Keyframe, whole: Observation, predictor: Predictor
) -> np.ndarray:
    """(Y, X, 4) uint8 ground pixels as this way has them."""
    grid = ground_grid(predictor.info.grid)
    if way in PLANES:
        road = torch.from_numpy(turn_onto(*found))
        return ground_view(whole.images, whole.rig.changed_poses(lambda poses: road @ poses), grid)
    (rows, columns), step = grid.shape, grid.resolution
    across, along = np.arange(2 * rows) * step / 2 + step / 4, np.arange(columns) * step + step / 2
    x, y = np.meshgrid(grid.x_range[0] + along, grid.y_range[0] + across)
    if way == "the ground itself":
        return surface_view(whole, true_places(frame, x, y))
    height = with_path_behind(frame, found, x, y) if len(found) == 3 else _terms(x, y, 6) @ found
    return surface_view(whole, np.stack([x, y, height], axis=-1))


def predicted(predictor: Predictor, view: np.ndarray) -> list[MapElement]:
    """The student's elements of these ground pixels."""
    classes, grid, decoding = predictor.info.classes, predictor.info.grid, predictor.config.decode
    inputs = ModelInput(ground=torch.from_numpy(np.ascontiguousarray(view.transpose(2, 0, 1)))[None])
    return decode(predictor.engine(inputs), decoding, classes=classes, grid=grid)


def ways_table(root: Path, split: str, towns: int, every: int, ways: Sequence[str]) -> Table:
    """Scores by way and distance, and the angle to the best plane."""
    predictor = load_predictor(default_weights())
    said: dict[str, dict[str, list[MapElement]]] = {way: {} for way in ways}
    off: dict[str, list[float]] = {way: [] for way in ways}
    spent: dict[str, list[float]] = {way: [] for way in ways}
    true: dict[str, list[MapElement]] = {}
    for frame in keyframes(root, split, towns, every):
        whole = frame.dataset.observation(frame.token, points=False, roads=False)
        true[frame.token], best = frame.dataset.elements(frame.token), fitted(frame, 20.0, False)
        for way in ways:
            started = time.process_time()
            found = WAYS[way](frame)
            spent[way].append(1e3 * (time.process_time() - started))
            off[way].append(float(np.rad2deg(np.hypot(*(found - best)[:2]))) if way in PLANES else np.nan)
            said[way][frame.token] = predicted(predictor, seen_by_student(way, found, frame, whole, predictor))
    scores = ("mAP", "divider, crossing, boundary", "0.5 / 1.0 / 1.5 m", "by distance")
    table = Table("road", "off, rms", "95 %", *scores, "CPU ms", title=f"{root.name} {split}, {len(true)} keyframes")
    for way in ways:
        score = breakdown(said[way], true, {}, distance_bands((-30.0, 30.0), (-15.0, 15.0)))
        classes, degrees = score.overall.classes.values(), np.array(off[way])
        at = [np.mean([each.ap[limit] for each in classes]) for limit in (0.5, 1.0, 1.5)]
        rows = [each.mean_ap for each in classes], at, [band.mean_ap for band in score.groups["distance"]]
        figures = (np.sqrt(np.mean(degrees**2)), np.quantile(degrees, 0.95), score.overall.mean_ap)
        table.add_row(
            way,
            *(f"{x:.3f}" for x in figures),
            *(" / ".join(f"{x:.3f}" for x in row) for row in rows),
            f"{np.median(spent[way]):.1f}",
        )
    return table


def real_table(root: Path) -> Table:
    """The planes of a real data set's first keyframe, in degrees along and across."""
    dataset = NuScenesDataset(root, road_plane=False)
    token = dataset.tokens[0]
    points = dataset.observation(token, images=False).points
    road = None if points is None else road_from_points(points)
    assert road is not None, f"{root}: its first keyframe has no ground in the LiDAR"
    lidar = coefficients(road)
    seams = plane_from_seams(sighting(dataset.observation(token, points=False, at_least=SMALL)), RING, LEVEL)
    table = Table("road", "along", "across", "off the LiDAR's", title="real keyframe, degrees")
    for name, plane in {"none, poses": LEVEL, "LiDAR": lidar, "seams": seams}.items():
        angles = (*plane[:2], np.hypot(*(plane - lidar)[:2]))
        table.add_row(name, *(f"{np.rad2deg(angle):.3f}" for angle in angles))
    return table


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a nuScenes folder that `hdmap synth` wrote; with --real any other")
    parser.add_argument("--split", default="val", help="of the data")
    parser.add_argument("--towns", type=int, default=12, help="the first so many")
    parser.add_argument("--every", type=int, default=4, help="score every so many keyframes")
    parser.add_argument("--ways", default=",".join(WAYS), help="which, with commas")
    parser.add_argument("--real", action="store_true", help="of one real keyframe, by its cameras' seams")
    options = parser.parse_args()
    if options.real:
        Console(width=160).print(real_table(options.data))
    else:
        Console(width=200).print(
            ways_table(options.data, options.split, options.towns, options.every, options.ways.split(","))
        )


if __name__ == "__main__":
    main()
