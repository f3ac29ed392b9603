"""Bags with missing, odd or damaged parts: what replay makes of them, and what it says."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hdmap_core.errors import BagError
from hdmap_ros.bag.layouts import load_layout
from hdmap_ros.bag.mcap import open_bag, write_mcap
from hdmap_ros.bag.replay import ReplayConfig, replay_bag
from hdmap_ros.node_config import config_from_values
from hdmap_ros.pipeline import InferenceError

CONFIG = ReplayConfig(load_layout("hdmap"))


@pytest.fixture
def without(changed: Any) -> Callable[..., Path]:
    """Makes a copy of a bag without the messages of some topics."""

    def made(source: Path, target: Path, *topics: str) -> Path:
        return changed(source, target, lambda topic, number, message: None if topic in topics else message)

    return made


def test_a_missing_camera(drive: Path, predictor: Any, tmp_path: Path, without: Any) -> None:
    bag = without(drive, tmp_path / "five.mcap", "/cam_back/image_raw/compressed", "/cam_back/camera_info")
    with pytest.raises(
        BagError, match=r"no images of CAM_BACK on /cam_back/image_raw/compressed; it has .*/cam_front/"
    ):
        replay_bag(bag, predictor, tmp_path / "out", CONFIG)
    report = replay_bag(bag, predictor, tmp_path / "out", replace(CONFIG, min_cameras=5))
    assert report["published"] == 8
    assert predictor.seen[0].camera_mask == (True, True, True, False, True, True)


@pytest.mark.parametrize(
    ("topics", "reason"),
    [
        (("/cam_back/camera_info",), "no CameraInfo of CAM_BACK on /cam_back/camera_info"),
        (("/tf", "/tf_static"), "no transforms on /tf or /tf_static"),
        (("/tf_static",), "no set of images became a map .*no transform base_link <- cam_front"),
    ],
)
def test_missing_parts_are_named(
    drive: Path, predictor: Any, tmp_path: Path, without: Any, topics: tuple[str, ...], reason: str
) -> None:
    bag = without(drive, tmp_path / "less.mcap", *topics)
    with pytest.raises(BagError, match=reason):
        replay_bag(bag, predictor, tmp_path / "out", CONFIG)
    assert not (tmp_path / "out" / "predictions.jsonl").exists()


BACK, BACK_INFO = "/cam_back/image_raw/compressed", "/cam_back/camera_info"


@pytest.mark.parametrize("min_cameras", [5, 6])
def test_one_odd_image(
    drive: Path, replayed: Any, tmp_path: Path, bag_rig: Any, min_cameras: int, changed: Any
) -> None:
    ok, tall = cv2.imencode(".jpg", np.zeros((160, 90, 3), np.uint8))
    assert ok

    def odd(topic: str, number: int, message: Any) -> Any:
        if (topic, number) == (BACK, 2):
            message.data = bag_rig.types.octets(tall.tobytes())
        return message

    report, warnings = replayed(changed(drive, tmp_path / "odd.mcap", odd), min_cameras=min_cameras)
    assert report["published"] == (8 if min_cameras == 5 else 7)
    assert report["dropped"] == ({} if min_cameras == 5 else {"bad_calibration": 1})
    assert report["problems"]["bad_calibration"]["cameras"] == {"CAM_BACK": 1}
    assert [warning for warning in warnings if "CAM_BACK: the image has 90 x 160 pixels" in warning] == warnings


def test_a_camera_that_never_decodes(drive: Path, replayed: Any, tmp_path: Path, changed: Any) -> None:
    def cut(topic: str, number: int, message: Any) -> Any:
        if topic == BACK:
            message.data = message.data[:100]
        return message

    report, warnings = replayed(changed(drive, tmp_path / "cut.mcap", cut), min_cameras=5)
    assert report["published"] == 8
    assert report["problems"]["rejected_image"]["cameras"] == {"CAM_BACK": 8}
    assert len(warnings) == 2
    assert "truncated" in warnings[0]
    assert warnings[1] == "camera CAM_BACK: none of its 8 images went into a map"


def test_a_lens_is_allowed_for_and_an_unknown_one_refused(
    drive: Path, replayed: Any, tmp_path: Path, changed: Any
) -> None:
    def distort(topic: str, number: int, message: Any) -> Any:
        if topic == BACK_INFO:
            message.distortion_model, message.d = "rational_polynomial", np.full(8, 0.1)
            message.p = np.array([100.0, 0, 79.5, 0, 0, 100.0, 44.5, 0, 0, 0, 1, 0])
        return message

    bag = changed(drive, tmp_path / "lens.mcap", distort)
    report, warnings = replayed(bag)
    assert (report["problems"], warnings) == ({}, [])
    assert report["cameras"]["CAM_BACK"] == "raw, rational_polynomial"
    assert report["cameras"]["CAM_FRONT"] == "raw, pinhole"
    rectified = config_from_values({"calibration.projection": "p"})
    report, _ = replayed(bag, parameters=rectified)
    assert report["problems"] == {} and report["cameras"]["CAM_BACK"] == "rectified"

    def unknown(topic: str, number: int, message: Any) -> Any:
        if topic == BACK_INFO:
            message.distortion_model = "double_sphere"
        return message

    report, warnings = replayed(changed(drive, tmp_path / "unknown.mcap", unknown), min_cameras=5)
    assert report["published"] == 8 and report["problems"]["bad_camera_info"]["cameras"].keys() == {"CAM_BACK"}
    assert "'double_sphere' is not known; known are plumb_bob" in warnings[0]


def test_doubts_about_calibration_are_told_as_in_the_node(
    drive: Path, replayed: Any, tmp_path: Path, changed: Any
) -> None:
    """The topic is called image_raw, and the CameraInfo is that of a rectified image."""

    def rectified(topic: str, number: int, message: Any) -> Any:
        if topic == BACK_INFO:
            message.p = np.array([100.0, 0, 79.5, 0, 0, 100.0, 44.5, 0, 0, 0, 1, 0])
        return message

    report, warnings = replayed(changed(drive, tmp_path / "rectified.mcap", rectified))
    assert report["problems"]["contradicting_projection"]["cameras"] == {"CAM_BACK": 1}
    assert report["cameras"]["CAM_BACK"] == "rectified"
    assert len(warnings) == 1
    assert "CAM_BACK: its topic /cam_back/image_raw/compressed is called raw" in warnings[0]


def test_missing_odometry_is_told(drive: Path, replayed: Any, tmp_path: Path, without: Any) -> None:
    report, warnings = replayed(without(drive, tmp_path / "still.mcap", "/tf"))
    assert report["published"] == 8
    assert len(warnings) == 1
    assert "no motion compensation between the cameras" in warnings[0]
    needed = config_from_values({"tf.motion_compensation": "on"})
    with pytest.raises(BagError, match=r"no set of images became a map .*no transform base_link <- odom"):
        replayed(tmp_path / "still.mcap", parameters=needed)
    unwanted = config_from_values({"tf.motion_compensation": "off"})
    assert replayed(tmp_path / "still.mcap", parameters=unwanted)[1] == []


def test_what_concerns_one_camera_does_not_stop_the_rest(
    drive: Path, replayed: Any, tmp_path: Path, bag_rig: Any, changed: Any, without: Any
) -> None:
    """No images, images of another type, no CameraInfo, messages that cannot be read."""
    raw = bag_rig.types.get("sensor_msgs/msg/Image")

    def as_raw(topic: str, number: int, message: Any) -> Any:
        fields = {"height": 1, "width": 1, "encoding": "mono8", "is_bigendian": 0, "step": 1}
        return raw(header=message.header, **fields, data=bag_rig.types.octets(b"x")) if topic == BACK else message

    with open_bag(drive) as bag, write_mcap(tmp_path / "bits.mcap") as out:
        for topic, kind in bag.topics.items():
            out.declare(topic, kind)
        for topic, log_ns, data in bag.raw():
            out.write(topic, log_ns, data[:20] if topic == BACK else data)
    cases = {
        "no_images": without(drive, tmp_path / "none.mcap", BACK),
        "no_camera_info": without(drive, tmp_path / "info.mcap", BACK_INFO),
        "wrong_type": changed(drive, tmp_path / "type.mcap", as_raw, kinds={BACK: "sensor_msgs/msg/Image"}),
        "unreadable_message": tmp_path / "bits.mcap",
    }
    for kind, path in cases.items():
        report, warnings = replayed(path, min_cameras=5)
        assert report["published"] == 8, kind
        assert report["problems"][kind]["cameras"].keys() == {"CAM_BACK"}
        assert warnings, kind
        with pytest.raises(BagError, match=r"cam_back|CAM_BACK"):
            replayed(path)


def test_images_without_stamps_go_by_the_time_of_recording(
    drive: Path, replayed: Any, tmp_path: Path, changed: Any
) -> None:
    def unstamped(topic: str, number: int, message: Any) -> Any:
        if topic.endswith("compressed"):
            message.header.stamp.sec = message.header.stamp.nanosec = 0
        return message

    report, warnings = replayed(changed(drive, tmp_path / "zero.mcap", unstamped))
    assert report["published"] == 8
    assert report["problems"]["zero_stamp"]["cameras"]["CAM_BACK"] == 8
    assert len(warnings) == 6


def test_one_camera_without_stamps_is_left_out(drive: Path, replayed: Any, tmp_path: Path, changed: Any) -> None:
    """Against the others' stamps the time of recording says nothing of when its images were taken."""

    def unstamped(topic: str, number: int, message: Any) -> Any:
        if topic == BACK:
            message.header.stamp.sec = message.header.stamp.nanosec = 0
        return message

    path = changed(drive, tmp_path / "zero.mcap", unstamped)
    report, warnings = replayed(path, min_cameras=5)
    assert report["published"] == 8
    assert report["synchroniser"]["missing"] == {"CAM_BACK": 8}
    assert report["problems"]["zero_stamp"]["cameras"] == {"CAM_BACK": 8}
    assert "left out, as nothing tells when they were taken" in warnings[0]
    with pytest.raises(BagError, match="CAM_BACK: its images have no stamp"):
        replayed(path)


def test_a_network_that_keeps_failing(drive: Path, predictor: Any, tmp_path: Path) -> None:
    predictor.fail = True
    with pytest.raises(InferenceError, match="no prediction today"):
        replay_bag(drive, predictor, tmp_path / "out", CONFIG)
    assert len(predictor.seen) == 3
    assert not (tmp_path / "out" / "map.mcap").exists()


def test_a_bag_that_was_cut_off(drive: Path, replayed: Any, tmp_path: Path) -> None:
    folder = tmp_path / "cut"
    folder.mkdir()
    data = drive.read_bytes()
    (folder / "drive_0.mcap").write_bytes(data[: len(data) * 6 // 10])
    with pytest.raises(BagError, match=r"drive_0\.mcap is cut off"):
        replayed(folder)
    report, warnings = replayed(folder, recover=True)
    assert 0 < report["published"] < 8
    assert "without its index" in report["problems"]["incomplete_bag"]["message"]
    assert warnings[0] == report["problems"]["incomplete_bag"]["message"]
