"""The one real nuScenes keyframe that stands beside the repository, made into a nuScenes folder of one sample."""

import json
import os
from pathlib import Path
from typing import Any

from hdmap_core.datasets.nuscenes.tables import TABLES

MASK = "53992ee3023e5494b90c316c183be829"


def real_frame_source() -> Path | None:
    """The folder `nuscenes-frame` with calibration.json, or None where it is not at hand."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("HDMAP_SHARED_DATA", beside)) / "nuscenes-frame"
    return folder if (folder / "calibration.json").is_file() else None


def build_real_frame(target: Path) -> Path:
    """Writes a v1.0-mini folder of one keyframe: 13 tables, and links to the six images and the LiDAR sweep."""
    source = real_frame_source()
    if source is None:
        raise FileNotFoundError("nuscenes-frame is not beside the repository; set HDMAP_SHARED_DATA")
    calibration = json.loads((source / "calibration.json").read_text())
    sample, log = calibration["sample_token"], "log-0061"
    lidar = calibration["lidar"]
    sensors = [_Sensor(lidar["channel"], lidar, lidar["lidar_to_ego"], lidar["ego_to_global"], [])]
    for channel, camera in calibration["cameras"].items():
        pose = camera["ego_to_global_at_camera_time"]
        sensors.append(_Sensor(channel, camera, camera["camera_to_ego"], pose, camera["intrinsics"]))
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    for sensor in sensors:
        sensor.add_to(tables, sample)
        link = target / sensor.filename
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(source / sensor.record["file"])
    tables["sample"] = [
        {"token": sample, "timestamp": lidar["timestamp_us"], "prev": "", "next": "", "scene_token": "scene"}
    ]
    tables["scene"] = [
        {
            "token": "scene",
            "log_token": log,
            "nbr_samples": 1,
            "first_sample_token": sample,
            "last_sample_token": sample,
            "name": calibration["scene"],
            "description": "one keyframe",
        }
    ]
    tables["log"] = [
        {
            "token": log,
            "logfile": calibration["log"],
            "vehicle": "n015",
            "date_captured": "2018-07-24",
            "location": calibration["location"],
        }
    ]
    tables["map"] = [{"token": MASK, "category": "semantic_prior", "filename": f"maps/{MASK}.png", "log_tokens": [log]}]
    folder = target / "v1.0-mini"
    folder.mkdir()
    for name, records in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(records))
    return target


class _Sensor:
    def __init__(self, channel: str, record: dict[str, Any], mount: Any, pose: Any, intrinsics: list[Any]) -> None:
        self.channel, self.record, self.mount, self.pose, self.intrinsics = channel, record, mount, pose, intrinsics
        self.filename = f"samples/{channel}/{record['file']}"

    def add_to(self, tables: dict[str, list[dict[str, Any]]], sample: str) -> None:
        token, calibrated = self.record["sample_data_token"], self.record["calibrated_sensor_token"]
        is_camera = self.channel.startswith("CAM")
        sensor = f"sensor-{self.channel}"
        tables["sensor"].append(
            {"token": sensor, "channel": self.channel, "modality": "camera" if is_camera else "lidar"}
        )
        tables["calibrated_sensor"].append(
            {
                "token": calibrated,
                "sensor_token": sensor,
                "translation": self.mount["translation"],
                "rotation": self.mount["rotation_wxyz"],
                "camera_intrinsic": self.intrinsics,
            }
        )
        stamp = self.record["timestamp_us"]
        tables["ego_pose"].append(
            {
                "token": token,
                "timestamp": stamp,
                "rotation": self.pose["rotation_wxyz"],
                "translation": self.pose["translation"],
            }
        )
        tables["sample_data"].append(
            {
                "token": token,
                "sample_token": sample,
                "ego_pose_token": token,
                "calibrated_sensor_token": calibrated,
                "timestamp": stamp,
                "fileformat": "jpg" if is_camera else "pcd",
                "is_key_frame": True,
                "height": self.record.get("height", 0),
                "width": self.record.get("width", 0),
                "filename": self.filename,
                "prev": "",
                "next": "",
            }
        )
