"""The rig's drive as a nuScenes folder and as a bag, and what tests do with bags."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hdmap_core.datasets.nuscenes.tables import TABLES
from hdmap_core.elements import read_elements
from hdmap_core.errors import BagError
from hdmap_core.geometry.se3 import quaternion_from_rotation
from hdmap_ros.bag.layouts import load_layout
from hdmap_ros.bag.map_writer import ELEMENTS_TOPIC
from hdmap_ros.bag.mcap import open_bag, write_mcap
from hdmap_ros.bag.mcap_scan import MAGIC
from hdmap_ros.bag.replay import ReplayConfig, replay_bag
from hdmap_ros.bag.write import write_bag
from hdmap_ros.message_types import bag_types

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


@pytest.fixture
def drive(rig_nuscenes: Path, tmp_path: Path) -> Path:
    path = tmp_path / "drive.mcap"
    write_bag(rig_nuscenes, "scene-0001", path)
    return path


def _changed(
    source: Path,
    target: Path,
    change: Callable[[str, int, Any], Any] = lambda topic, number, message: message,
    times: int = 1,
    kinds: dict[str, str] | None = None,
) -> Path:
    """A copy of a bag in which `change(topic, number, message)` makes other messages, or None, of other `kinds`;
    several times over.
    """
    with open_bag(source) as bag, write_mcap(target) as out:
        for topic, kind in (bag.topics | (kinds or {})).items():
            out.declare(topic, kind, latched=topic == "/tf_static")
        for turn in range(times):
            numbers: Counter[str] = Counter()
            for topic, log_ns, message in bag.messages():
                message = change(topic, numbers[topic], message)
                numbers[topic] += 1
                if message is not None:
                    out.write(topic, log_ns + turn * 60 * 10**9, message)
    return target


@pytest.fixture
def changed() -> Callable[..., Path]:
    """Makes a copy of a bag with other messages."""
    return _changed


@pytest.fixture
def replayed(tmp_path: Path, rig_module: Any) -> Callable[..., tuple[dict[str, Any], list[str]]]:
    """Replays a bag and holds its sums: the report, and the warnings."""

    def run(bag: Path, **config: Any) -> tuple[dict[str, Any], list[str]]:
        warnings: list[str] = []
        out = tmp_path / "out"
        report = replay_bag(
            bag, rig_module.RigLines(), out, replace(ReplayConfig(load_layout("hdmap")), **config), warn=warnings.append
        )
        frames = read_elements(out / "predictions.jsonl")
        assert report["published"] + sum(report["dropped"].values()) == report["sets"]
        assert report["published"] == len(frames)
        assert report["published_elements"] == sum(map(len, frames.values()))
        with open_bag(out / "map.mcap") as maps:
            stamps_ns = [int(token.partition("#")[0]) for token in frames]
            assert (maps.start_ns, maps.end_ns) == (min(stamps_ns), max(stamps_ns)), "one clock"
            assert maps.counts[ELEMENTS_TOPIC] == len(frames)
        return report, warnings

    return run


@pytest.fixture
def noise(tmp_path: Path, bag_rig: Any) -> Path:
    """A hundred messages that no compression makes smaller."""
    path, random = tmp_path / "noise.mcap", np.random.default_rng(0)
    kind = "sensor_msgs/msg/CompressedImage"
    with write_mcap(path) as bag:
        bag.declare("/cam_back/image_raw/compressed", kind)
        for stamp_ns in range(10**18, 10**18 + 100):
            message = bag_rig.image("CAM_BACK", stamp_ns, random.bytes(5000))
            bag.write("/cam_back/image_raw/compressed", stamp_ns, message)
    return path


@pytest.fixture
def rewrite() -> Callable[..., Any]:
    def rewrite(
        source: Path, folder: Path, storage: str = "MCAP", compression: str = "", end: int | None = None
    ) -> Path:
        """The bag as rosbag2 would have recorded it into a folder."""
        from rosbags.rosbag2 import StoragePlugin, Writer
        from rosbags.rosbag2.enums import CompressionFormat, CompressionMode

        writer = Writer(folder, version=9, storage_plugin=StoragePlugin[storage])
        if compression:
            writer.set_compression(CompressionMode[compression], CompressionFormat.ZSTD)
        with writer, open_bag(source) as bag:
            connections = {
                topic: writer.add_connection(topic, kind, typestore=bag_types()[1])
                for topic, kind in bag.topics.items()
            }
            for topic, log_ns, data in list(bag.raw())[:end]:
                writer.write(connections[topic], log_ns, data)
        return folder

    return rewrite


@pytest.fixture
def messages() -> Callable[..., Any]:
    def messages(path: Path, recover: bool = False) -> list[tuple[str, int, bytes]]:
        with open_bag(path, recover) as bag:
            found = list(bag.raw())
            assert sum(bag.counts.values()) == len(found)
            assert (bag.start_ns, bag.end_ns) == (found[0][1], found[-1][1])
        return found

    return messages


@pytest.fixture
def refused() -> Callable[..., Any]:
    def refused(path: Path) -> str:
        """The one answer, with and without rosbags."""
        with pytest.raises(BagError) as caught, open_bag(path):
            pass
        assert str(path) in str(caught.value)
        return str(caught.value)

    return refused


@pytest.fixture
def mcap() -> Callable[..., bytes]:
    def made(profile: str, encoding: str, kind: str, schema: str) -> bytes:
        """A closed MCAP file with one message, without a summary."""

        def text(value: str) -> bytes:
            return len(value).to_bytes(4, "little") + value.encode()

        def record(op: int, body: bytes) -> bytes:
            return bytes([op]) + len(body).to_bytes(8, "little") + body

        channel = b"\1\0\1\0" + text("/cam_front/image") + text(encoding) + text("")
        parts = [
            record(1, text(profile) + text("test")),
            record(3, b"\1\0" + text(kind) + text(schema) + text("x")),
            record(4, channel),
            record(5, b"\1\0" + bytes(20) + b"\0\1\0\0payload"),
            record(15, bytes(4)),
            record(2, bytes(20)),
        ]
        return MAGIC + b"".join(parts) + MAGIC

    return made
