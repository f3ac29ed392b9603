"""Writing a synthetic world as Argoverse 2 logs: the same towns, drives, pictures and points as in the nuScenes folder.

One drive is one log. A log is written whole by one worker, its calibration last: by that an interrupted run knows what
is done. Towns keep the places that they have in nuScenes' cities, and the cities get Argoverse's names. LiDAR turns at
10 Hz at most. There are no boxes of objects (`annotations.feather`).
"""

import io
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from hdmap_core.datasets.argoverse.feather import write_columns
from hdmap_core.datasets.argoverse.logs import GROUND_FROM_CAR
from hdmap_core.datasets.synthetic.formats.argoverse_map import town_archive
from hdmap_core.datasets.synthetic.presets import SynthConfig, TownPlan, plan_towns
from hdmap_core.datasets.synthetic.render_town import Recorder, SceneWork, TownWork
from hdmap_core.datasets.synthetic.sensors.rig import CLOCK_US, Firing
from hdmap_core.datasets.synthetic.world_folder import (
    Progress,
    claim,
    compact_json,
    counted,
    mark_complete,
    write_file,
    write_sd_map,
)
from hdmap_core.datasets.synthetic.writer import files_of
from hdmap_core.errors import ConfigError
from hdmap_core.geometry.se3 import inverse, quaternion_from_rotation, transform_points
from hdmap_core.running.parallel import map_scenes

CITIES = {
    "boston-seaport": "PIT",
    "singapore-onenorth": "ATX",
    "singapore-hollandvillage": "MIA",
    "singapore-queenstown": "WDC",
}
"""What each nuScenes city, whose frame a town stands in, is called here."""
_GRID_M = 0.3
_NAMESPACE = uuid.UUID("0d9f7a52-3c64-5b6e-8f43-6a1f5f1f2f77")
_MAP_NUMBER = 1
_TICKS_PER_TURN = 2


def write_logs(
    root: str | Path, config: SynthConfig, workers: int = 1, progress: Progress | None = None
) -> dict[str, list[str]]:
    """Write, or finish writing, a folder of logs.

    Args:
        root: an empty or new folder, or one that the same configuration was being written to.
        config: what to write; rigs with lenses, or calibrated wrongly, have no place in the format.
        workers: processes; the result does not depend on it.
        progress: called after each file, or with several workers after each log.

    Returns:
        Ids of logs by split.

    Raises:
        ConfigError: the rigs do not fit the format.
        DatasetError: the folder holds something else; nothing is touched then.
        MissingDependencyError: without pyarrow.
        OutputError: a file cannot be written.
    """
    if config.rigs not in ("nuscenes", "argoverse"):
        raise ConfigError(
            f"--rigs {config.rigs}: Argoverse 2 logs hold pictures without lenses; take --rigs argoverse or nuscenes"
        )
    root, plans = Path(root), plan_towns(config)
    write_columns(root, {"stamp": [0]})  # says at once that pyarrow is missing
    is_complete = claim(root, config, "av2")
    work = [_Drive(root, config, plan, number) for plan in plans for number in range(config.scenes)]
    pending = [drive for drive in work if not (drive.folder / "calibration" / "intrinsics.feather").is_file()]
    per_log = files_of(config, plans[0], _TICKS_PER_TURN) // config.scenes  # each rig has as many cameras
    advance = counted(progress, per_log * (len(work) - len(pending)), per_log * len(work))
    if workers <= 1:
        for drive in pending:
            _write_log(drive, lambda: advance(1))
    else:
        map_scenes(_write_log, pending, workers, done=lambda _, files: advance(files))
    if not is_complete:
        _write_roads(root, config, plans)
        mark_complete(root, config, "av2")
    splits: dict[str, list[str]] = {}
    for drive in work:
        splits.setdefault(drive.split, []).append(drive.folder.name)
    return splits


class _Drive(NamedTuple):
    """A piece of work for a worker."""

    root: Path
    config: SynthConfig
    plan: TownPlan
    number: int

    @property
    def split(self) -> str:
        """Argoverse's name of it."""
        return "val" if self.plan.split == "demo" else self.plan.split

    @property
    def folder(self) -> Path:
        """The log's."""
        scene = f"{self.config.edition}/{self.config.seed}/{self.plan.key}/{self.plan.scene_names[self.number]}"
        return self.root / self.split / str(uuid.uuid5(_NAMESPACE, scene))

    @property
    def scene(self) -> SceneWork:
        """Made anew each time."""
        return TownWork(self.config, self.plan).scene(self.number)


def _is_written(firing: Firing) -> bool:
    """Every picture; of the LiDAR, which turns at 20 Hz, keyframes and every other turn."""
    is_turn_between = firing.channel == "LIDAR_TOP" and not firing.is_keyframe
    return not is_turn_between or round(firing.stamp_us / CLOCK_US) % _TICKS_PER_TURN == 0


def _write_log(drive: _Drive, tick: Callable[[], None] = lambda: None) -> int:
    """Writes one log; returns how many sensor files it has."""
    cv2.setNumThreads(1)
    config, plan, folder = drive.config, drive.plan, drive.folder
    scene = drive.scene
    recorder, rig = Recorder(config, scene, plan.seed), scene.shots.rig
    car_from_lidar = inverse(GROUND_FROM_CAR) @ rig.ego_from_lidar
    poses: dict[int, np.ndarray] = {}
    firings = [firing for firing in scene.shots.firings if _is_written(firing)]
    for firing in firings:
        stamp_ns = scene.shots.stamp_us(firing) * 1000
        pose = scene.town_from_ego(scene.town_s(firing))
        pose[:2, 3] += plan.origin
        poses[stamp_ns] = pose @ GROUND_FROM_CAR
        if firing.channel == "LIDAR_TOP":
            path = folder / "sensors" / "lidar" / f"{stamp_ns}.feather"
            points = np.frombuffer(recorder.sweep(firing)[0], "<f4").reshape(-1, 5)
            write_file(path, _sweep_file(path, points, car_from_lidar))
        else:
            path = folder / "sensors" / "cameras" / firing.channel / f"{stamp_ns}.jpg"
            write_file(path, recorder.photograph(firing))
        tick()
    _write_map(folder, scene, plan)
    stamps = sorted(poses)
    path = folder / "city_SE3_egovehicle.feather"
    write_file(path, write_columns(path, {"timestamp_ns": stamps, **_pose_columns([poses[at] for at in stamps])}))
    mounts = {name: inverse(GROUND_FROM_CAR) @ camera.calibrated for name, camera in rig.cameras.items()}
    mounts |= {"up_lidar": car_from_lidar, "down_lidar": car_from_lidar}
    path = folder / "calibration" / "egovehicle_SE3_sensor.feather"
    write_file(path, write_columns(path, {"sensor_name": list(mounts), **_pose_columns([*mounts.values()])}))
    path = path.with_name("intrinsics.feather")
    write_file(path, write_columns(path, _intrinsics(scene)))
    return len(firings)


def _sweep_file(path: Path, points: np.ndarray, car_from_lidar: np.ndarray) -> bytes:
    xyz = transform_points(car_from_lidar, points[:, :3].astype(np.float64)).astype(np.float32)
    return write_columns(
        path,
        {
            **dict(zip("xyz", xyz.T, strict=True)),
            "intensity": np.round(points[:, 3]).astype(np.uint8),
            "laser_number": points[:, 4].astype(np.uint8),
            "offset_ns": np.zeros(len(points), np.int32),
        },
    )


def _pose_columns(poses: list[np.ndarray]) -> dict[str, Any]:
    turns = np.array([quaternion_from_rotation(pose[:3, :3]) for pose in poses])
    places = np.array([pose[:3, 3] for pose in poses])
    return {
        **{f"q{axis}": turns[:, k] for k, axis in enumerate("wxyz")},
        **{f"t{axis}_m": places[:, k] for k, axis in enumerate("xyz")},
    }


def _intrinsics(scene: SceneWork) -> dict[str, Any]:
    cameras = scene.shots.rig.cameras
    numbers = np.array([[*c.intrinsics[[0, 1, 0, 1], [0, 1, 2, 2]], 0.0, 0.0, 0.0] for c in cameras.values()])
    names = ("fx_px", "fy_px", "cx_px", "cy_px", "k1", "k2", "k3")
    sizes = np.array([camera.image_size for camera in cameras.values()], dtype=np.uint16)
    columns = {name: numbers[:, k] for k, name in enumerate(names)}
    return {"sensor_name": list(cameras), **columns, "height_px": sizes[:, 0], "width_px": sizes[:, 1]}


def _write_map(folder: Path, scene: SceneWork, plan: TownPlan) -> None:
    """The vector map and the raster of the ground's height."""
    city, name, (width, height) = CITIES[plan.city], folder.name, scene.town.size
    archive = compact_json(town_archive(scene.town, plan.origin))
    write_file(folder / "map" / f"log_map_archive_{name}____{city}_city_{_MAP_NUMBER}.json", archive)
    x, y = (np.arange(0.5, extent / _GRID_M) * _GRID_M for extent in (width, height))
    places = np.stack(np.meshgrid(x, y), axis=-1)
    content = io.BytesIO()
    np.save(content, scene.town.relief.smooth(places).astype(np.float16))
    write_file(folder / "map" / f"{name}_ground_height_surface____{city}.npy", content.getvalue())
    placed = {"R": [1.0, 0.0, 0.0, 1.0], "t": [-plan.origin[0], -plan.origin[1]], "s": 1 / _GRID_M}
    write_file(folder / "map" / f"{name}___img_Sim2_city.json", json.dumps(placed).encode())


def _write_roads(root: Path, config: SynthConfig, plans: list[TownPlan]) -> None:
    """SD maps, one per city."""
    roads: dict[str, list[Any]] = {}
    for plan in plans:
        roads.setdefault(CITIES[plan.city], []).extend(TownWork(config, plan).sd_roads())
    for city, features in roads.items():
        write_sd_map(root, city, features)
