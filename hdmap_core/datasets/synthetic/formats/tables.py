"""Rows of the 13 nuScenes tables for one town, and the rows that all towns share."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hdmap_core.datasets.nuscenes.tables import TABLES
from hdmap_core.datasets.synthetic.presets import CITY_SIZES, TownPlan
from hdmap_core.datasets.synthetic.sensors.rig import Firing, Rig
from hdmap_core.datasets.synthetic.town import Weather
from hdmap_core.geometry.se3 import quaternion_from_rotation

# The names nuscenes-devkit expects of the four semantic-prior masks.
MASKS = {
    "singapore-onenorth": "53992ee3023e5494b90c316c183be829",
    "singapore-hollandvillage": "37819e65e09e5547b8a3ceaefba56bb2",
    "singapore-queenstown": "93406b464a165eaba6d9de76ca09f5da",
    "boston-seaport": "36092f0b03a857c6a3403e25b4b7aab3",
}
CATEGORIES = ("vehicle.car", "vehicle.truck", "vehicle.bus.rigid", "human.pedestrian.adult", "movable_object.barrier")
CATEGORIES_SINCE_2 = ("vehicle.motorcycle", "vehicle.bicycle", "movable_object.trafficcone")
ATTRIBUTES = ("vehicle.moving", "vehicle.stopped", "vehicle.parked", "pedestrian.standing")
VISIBILITY = ("v0-40", "v40-60", "v60-80", "v80-100")
FIRST_STAMP_US = 1_700_000_000_000_000

Row = dict[str, Any]
Rows = dict[str, list[Row]]


def token_of(*parts: object) -> str:
    """A stable 32-digit hexadecimal token."""
    return hashlib.md5("/".join(map(str, parts)).encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class SceneShots:
    """What a scene's sensors take, and when: its rig, its firings and the names of their files."""

    name: str
    rig: Rig
    firings: tuple[Firing, ...]
    start_us: int
    logfile: str
    weather: Weather = field(default=Weather())

    def stamp_us(self, firing: Firing) -> int:
        """Microseconds since 1970."""
        return self.start_us + firing.stamp_us

    def filename(self, firing: Firing) -> str:
        """Path relative to the root of the data set."""
        folder = "samples" if firing.is_keyframe else "sweeps"
        ending = "pcd.bin" if firing.channel == "LIDAR_TOP" else "jpg"
        return f"{folder}/{firing.channel}/{self.logfile}__{firing.channel}__{self.stamp_us(firing)}.{ending}"

    def keyframe_us(self) -> list[int]:
        """Stamp of each sample: that of its LiDAR turn."""
        return [self.stamp_us(f) for f in self.firings if f.is_keyframe and f.channel == "LIDAR_TOP"]


def scene_start_us(plan: TownPlan, scene: int) -> int:
    """Microseconds since 1970 at a scene's first clock tick; no two scenes overlap."""
    return FIRST_STAMP_US + (plan.slot * 10 + scene) * 100_000_000


def empty_rows() -> Rows:
    """All 13 tables without rows."""
    return {name: [] for name in TABLES}


def shared_rows(log_tokens: dict[str, list[str]], channels: tuple[str, ...], edition: int) -> Rows:
    """Rows that do not belong to a town.

    Args:
        log_tokens: city -> its logs; each log is in exactly one map row.
        channels: every sensor that some rig has.
        edition: of the world; the second has more kinds of things.
    """
    rows = empty_rows()
    categories = (*CATEGORIES, *(CATEGORIES_SINCE_2 if edition > 1 else ()))
    rows["category"] = [{"token": token_of("category", n), "name": n, "description": "synthetic"} for n in categories]
    rows["attribute"] = [{"token": token_of("attribute", n), "name": n, "description": "synthetic"} for n in ATTRIBUTES]
    rows["visibility"] = [
        {"description": f"visibility of whole object is between {level[1:]} %", "token": str(k + 1), "level": level}
        for k, level in enumerate(VISIBILITY)
    ]
    rows["sensor"] = [
        {"token": token_of("sensor", c), "channel": c, "modality": "lidar" if c == "LIDAR_TOP" else "camera"}
        for c in channels
    ]
    rows["map"] = [
        {"category": "semantic_prior", "token": MASKS[city], "filename": f"maps/{MASKS[city]}.png",
         "log_tokens": log_tokens.get(city, [])}
        for city in CITY_SIZES
    ]  # fmt: skip
    return rows


@dataclass
class TownRows:
    """Collects the rows of one town."""

    plan: TownPlan
    rows: Rows = field(default_factory=empty_rows)

    def __post_init__(self) -> None:
        self.rows["log"].append(
            {"token": self.log_token, "logfile": logfile_of(self.plan), "vehicle": "synthetic",
             "date_captured": "2023-11-14", "location": self.plan.city}
        )  # fmt: skip

    @property
    def log_token(self) -> str:
        """Token of the town's one log."""
        return token_of(self.plan.key, "log")

    def add_scene(self, shots: SceneShots, poses: list[np.ndarray]) -> list[str]:
        """Scene, samples, calibration, poses and sample_data. `poses`: map_from_ego (4, 4) at each firing.

        Returns:
            The tokens of the samples.
        """
        scene = token_of(self.plan.key, shots.name)
        stamps = shots.keyframe_us()
        samples = [token_of(scene, "sample", k) for k in range(len(stamps))]
        self.rows["scene"].append(
            {"token": scene, "log_token": self.log_token, "nbr_samples": len(samples),
             "first_sample_token": samples[0], "last_sample_token": samples[-1], "name": shots.name,
             "description": describe_scene(self.plan, shots.weather)}
        )  # fmt: skip
        for k, (token, stamp) in enumerate(zip(samples, stamps, strict=True)):
            self.rows["sample"].append(
                {"token": token, "timestamp": stamp, "prev": samples[k - 1] if k else "",
                 "next": samples[k + 1] if k + 1 < len(samples) else "", "scene_token": scene}
            )  # fmt: skip
        sensors = {**{n: (c.calibrated, c.intrinsics, c.lens) for n, c in shots.rig.cameras.items()},
                   "LIDAR_TOP": (shots.rig.ego_from_lidar, None, None)}  # fmt: skip
        for channel, (pose, intrinsics, lens) in sensors.items():
            self.rows["calibrated_sensor"].append(
                {"token": token_of(scene, "calibration", channel), "sensor_token": token_of("sensor", channel),
                 "translation": pose[:3, 3].tolist(), "rotation": quaternion_from_rotation(pose[:3, :3]).tolist(),
                 "camera_intrinsic": [] if intrinsics is None else intrinsics.tolist(),
                 **({} if lens is None else
                    {"distortion_model": lens.model, "camera_distortion": list(lens.coefficients)})}
            )  # fmt: skip
        previous: dict[str, Row] = {}
        for firing, pose in zip(shots.firings, poses, strict=True):
            row = self._sample_data(shots, firing, scene, samples)
            before = previous.get(firing.channel)
            if before is not None:
                before["next"], row["prev"] = row["token"], before["token"]
            previous[firing.channel] = row
            self.rows["sample_data"].append(row)
            self.rows["ego_pose"].append(
                {"token": row["token"], "timestamp": row["timestamp"],
                 "rotation": quaternion_from_rotation(pose[:3, :3]).tolist(), "translation": pose[:3, 3].tolist()}
            )  # fmt: skip
        return samples

    def _sample_data(self, shots: SceneShots, firing: Firing, scene: str, samples: list[str]) -> Row:
        camera = shots.rig.cameras.get(firing.channel)
        height, width = camera.image_size if camera else (0, 0)
        token = token_of(scene, firing.channel, firing.stamp_us)
        return {
            "token": token,
            "sample_token": samples[firing.keyframe],
            "ego_pose_token": token,
            "calibrated_sensor_token": token_of(scene, "calibration", firing.channel),
            "timestamp": shots.stamp_us(firing),
            "fileformat": "jpg" if camera else "pcd",
            "is_key_frame": firing.is_keyframe,
            "height": height,
            "width": width,
            "filename": shots.filename(firing),
            "prev": "",
            "next": "",
        }


def describe_scene(plan: TownPlan, weather: Weather) -> str:
    """Weather and time of day as in nuScenes, then the town: "Night, rain, synthetic town 3, val"."""
    words = [*weather.words, f"synthetic town {plan.seed}", plan.split]
    if weather.words:
        words[0] = words[0].capitalize()
    return ", ".join(words)


def logfile_of(plan: TownPlan) -> str:
    """Name of the town's log, the first part of all its file names."""
    return f"synth-{plan.key}-s{plan.seed}"
