"""Frames folders of any rig as bags, and bags as frames folders."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hdmap_core.datasets.opening import open_dataset
from hdmap_core.errors import DatasetError
from hdmap_ros.bag.mcap import open_bag
from hdmap_ros.bag.write import ros_name, write_bag

FORWARD = [[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]
LAYOUT = """
transport: compressed
cameras:
  Front wide: {image: /front_wide/image_raw/compressed, info: /front_wide/camera_info, frame: front_wide}
  "2": {image: /camera_2/image_raw/compressed, info: /camera_2/camera_info, frame: camera_2}
lidar: {points: "", frame: ""}
tf: {topics: [/tf, /tf_static], fixed_frame: odom, base_frame: base_link}
"""


def write_folder(root: Path, poses: bool, names: tuple[str, str] = ("Front wide", "2")) -> Path:
    """Four frames of two cameras of different sizes and lenses at 10 m/s; the second fires 20 ms later."""
    frames = []
    for number in range(4):
        stamp_ns = 1_700_000_000_000_000_000 + number * 500_000_000
        cameras = []
        for name, (height, width), late_ns in ((names[0], (48, 64), 0), (names[1], (30, 40), 20_000_000)):
            image = f"images/{ros_name(name)}-{number}.jpg"
            (root / "images").mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / image), np.full((height, width, 3), 40 * number, np.uint8))
            lens = {"distortion_model": "equidistant", "distortion_coefficients": [0.02]} if late_ns else {}
            moved = {"map_from_ego": pose(5 * number + late_ns * 1e-8)} if poses else {}
            at = {"translation": [1.5, 0.1 * late_ns * 1e-7, 1.6], "rotation": FORWARD, "stamp_ns": stamp_ns + late_ns}
            size = {"image_size": [height, width], "intrinsics": [50.0, 50.0, width / 2, height / 2]}
            cameras.append({"name": name, "image": image, **size, **lens, **at, **moved})
        more = {"map_from_ego": pose(5 * number)} if poses else {}
        frames.append({"token": f"t{number}", "stamp_ns": stamp_ns, "cameras": cameras, **more})
    (root / "frames.json").write_text(json.dumps({"version": 1, "frames": frames}))
    return root


def pose(x: float) -> dict[str, Any]:
    return {"translation": [x, 2.0, 0.0], "rotation": [1, 0, 0, 0]}


@pytest.mark.parametrize("poses", [True, False])
def test_there_and_back(tmp_path: Path, hdmap: Callable[..., Any], poses: bool) -> None:
    root = write_folder(tmp_path / "own", poses)
    ended = hdmap("bag", "write", root, "--scene", "drive", "-o", tmp_path / "drive.mcap")
    assert ended.code == 0, ended.err
    with open_bag(tmp_path / "drive.mcap") as bag:
        assert {"/front_wide/image_raw/compressed", "/camera_2/camera_info"} <= set(bag.topics)
        assert ("/tf" in bag.topics) == ("/odom" in bag.topics) == poses
    (tmp_path / "layout.yaml").write_text(LAYOUT)
    ended = hdmap(
        *("frames", "from-bag", tmp_path / "drive.mcap", "--topics", tmp_path / "layout.yaml", "-o", tmp_path / "back")
    )
    assert ended.code == 0 and "4 frames of Front wide, 2" in ended.out, ended.err
    ours, theirs = open_dataset(tmp_path / "back"), open_dataset(root)
    for mine, token in zip(ours.tokens, theirs.tokens, strict=True):
        seen, expected = ours.observation(mine), theirs.observation(token)
        assert seen.rig.names == expected.rig.names and seen.camera_stamps_ns == expected.camera_stamps_ns
        assert seen.rig.image_sizes == expected.rig.image_sizes == ((48, 64), (30, 40))
        assert seen.rig.lens_of_each == expected.rig.lens_of_each
        np.testing.assert_allclose(seen.rig.intrinsics, expected.rig.intrinsics, atol=1e-9)
        np.testing.assert_allclose(seen.rig.ego_from_camera, expected.rig.ego_from_camera, atol=1e-6)
        for one, other in zip(seen.images, expected.images, strict=True):
            np.testing.assert_array_equal(one, other)
        assert (seen.map_from_ego is None) == (expected.map_from_ego is None) == (not poses)
    first, second = (dataset.root / f"images/{name}" for dataset, name in ((ours, "Front_wide"), (theirs, "")))
    kept = sorted(first.glob("*.jpg"))[1]
    assert kept.read_bytes() == (second / "front_wide-1.jpg").read_bytes(), "byte for byte"


def test_poses_of_some_frames_only_are_refused(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "own", poses=True)
    content = json.loads((root / "frames.json").read_text())
    for camera in content["frames"][2]["cameras"]:
        del camera["map_from_ego"]
    del content["frames"][2]["map_from_ego"]
    (root / "frames.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"frame 't2' of scene drive has no pose, others have"):
        write_bag(root, "drive", tmp_path / "drive.mcap")


def test_names_that_ros_cannot_tell_apart(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "own", poses=False, names=("Front", "front!"))
    with pytest.raises(DatasetError, match=r"'front!' and 'Front' are both front in ROS; rename one"):
        write_bag(root, "drive", tmp_path / "drive.mcap")
    assert [ros_name(name) for name in ("CAM_FRONT", "Left fisheye", "7", "Ü")] == [
        *("cam_front", "left_fisheye", "camera_7", "camera")
    ]


def test_a_bag_that_gives_no_frame(tmp_path: Path, hdmap: Callable[..., Any]) -> None:
    (tmp_path / "drive.mcap").write_bytes(b"no bag")
    hdmap("frames", "from-bag", tmp_path / "drive.mcap", "-o", tmp_path / "out").assert_refused("drive.mcap")
    root = write_folder(tmp_path / "own", poses=False)
    write_bag(root, "drive", tmp_path / "strange.mcap")
    hdmap("frames", "from-bag", tmp_path / "strange.mcap", "-o", tmp_path / "out").assert_refused(
        "none of config/topics names its images", "--topics"
    )
    assert not (tmp_path / "out" / "frames.json").exists()
