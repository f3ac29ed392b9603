"""The rig's drive as a nuScenes folder, of which bags are made."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hdmap_core.datasets.nuscenes.tables import TABLES
from hdmap_core.geometry.se3 import quaternion_from_rotation

CYCLES = 8


@pytest.fixture
def rig_nuscenes(rig_module: Any, tmp_path: Path) -> Path:
    """A nuScenes folder of the rig's drive: scene-0001 of eight cycles, every second one a keyframe."""
    rig, root = rig_module, tmp_path / "nuscenes"
    identity = {"translation": [0.0, 0.0, 0.0], "rotation": [1.0, 0.0, 0.0, 0.0]}
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    tables["log"] = [{"token": "log", "logfile": "rig", "location": "singapore-onenorth"}]
    intrinsics = [[120.0, 0, 79.5], [0, 120.0, 44.5], [0, 0, 1]]
    mounts: dict[str, tuple[np.ndarray | None, str]] = {
        name: (rig.base_from_camera(name), "camera") for name in rig.CAMERAS
    }
    mounts["LIDAR_TOP"] = (None, "lidar")
    for name, (pose, modality) in mounts.items():
        tables["sensor"].append({"token": name, "channel": name, "modality": modality})
        record = {"token": name, "sensor_token": name, "camera_intrinsic": intrinsics if pose is not None else []}
        where = identity if pose is None else _pose_record(pose)
        tables["calibrated_sensor"].append({**record, **where})
    starts = rig.ticks(CYCLES)
    keyframes = [index for index in range(CYCLES) if index % 2 == 0]
    for index in keyframes:
        sample = {"token": f"sample{index}", "timestamp": (starts[index] + 43_000_000) // 1000, "scene_token": "scene"}
        tables["sample"].append({**sample, "prev": "", "next": ""})
    scene = {"token": "scene", "name": "scene-0001", "log_token": "log", "nbr_samples": len(keyframes)}
    tables["scene"] = [{**scene, "description": "", "first_sample_token": "sample0", "last_sample_token": ""}]
    for index, start in enumerate(starts):
        for name, (pose, modality) in mounts.items():
            stamp_ns = start + rig.PHASES_NS.get(name, 43_000_000)
            folder = "samples" if index in keyframes else "sweeps"
            path = f"{folder}/{name}/{stamp_ns}" + (".jpg" if modality == "camera" else ".pcd.bin")
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            points = np.ones((7, 5), "<f4").tobytes()
            (root / path).write_bytes(points if pose is None else rig.jpeg(40 * rig.CAMERAS.index(name) + 20))
            token = f"{name}{index}"
            odometry = _pose_record(rig.odom_from_base(stamp_ns))
            tables["ego_pose"].append({"token": token, "timestamp": stamp_ns // 1000, **odometry})
            tables["sample_data"].append(
                {
                    "token": token,
                    "sample_token": f"sample{index - index % 2}",
                    "ego_pose_token": token,
                    "calibrated_sensor_token": name,
                    "timestamp": stamp_ns // 1000,
                    "is_key_frame": index in keyframes,
                    "filename": path,
                    "height": rig.HEIGHT if modality == "camera" else 0,
                    "width": rig.WIDTH if modality == "camera" else 0,
                }
            )
    (root / "v1.0-mini").mkdir()
    for name, records in tables.items():
        (root / "v1.0-mini" / f"{name}.json").write_text(json.dumps(records))
    return root


def _pose_record(pose: np.ndarray) -> dict[str, list[float]]:
    return {"translation": pose[:3, 3].tolist(), "rotation": quaternion_from_rotation(pose[:3, :3]).tolist()}
