"""Bag to elements without a graph, and layouts."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hdmap_core.elements import MapClass, MapElement, read_elements
from hdmap_core.errors import BagError
from hdmap_core.geometry.map_origin import GeodeticOrigin
from hdmap_ros.bag.layouts import load_layout
from hdmap_ros.bag.map_writer import ELEMENTS_TOPIC
from hdmap_ros.bag.mcap import open_bag, write_mcap
from hdmap_ros.bag.replay import ReplayConfig, replay_bag
from hdmap_ros.bag.write import write_bag
from hdmap_ros.conversions import elements_from_message
from hdmap_ros.node_config import config_from_values
from hdmap_ros.pipeline import InferenceError

CONFIG = ReplayConfig(load_layout("hdmap"))


def test_every_cycle_becomes_a_map(drive: Path, predictor: Any, tmp_path: Path, rig_module: Any) -> None:
    calls: list[tuple[int, int]] = []
    report = replay_bag(drive, predictor, tmp_path / "out", CONFIG, lambda done, total: calls.append((done, total)))
    frames = read_elements(tmp_path / "out" / "predictions.jsonl")
    assert list(frames) == [str(tick + rig_module.PHASES_NS["CAM_FRONT"]) for tick in rig_module.ticks(8)]
    assert report["published"] == report["synchroniser"]["complete"] == 8
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report
    assert calls[-1] == (96, 96)
    with open_bag(tmp_path / "out" / "map.mcap") as bag:
        assert set(bag.counts.values()) == {1, 8}
        arrays = [message for _, _, message in bag.messages(lambda topic: topic == ELEMENTS_TOPIC)]
    for array, elements in zip(arrays, frames.values(), strict=True):
        for ours, theirs in zip(elements_from_message(array), elements, strict=True):
            np.testing.assert_allclose(ours.points, theirs.points, atol=1e-3)
    # Ego motion: the line of CAM_BACK_LEFT begins where that camera was 35 ms after the anchor.
    observation = predictor.seen[0]
    moved = observation.rig.ego_from_camera[4, 0, 3] - rig_module.base_from_camera("CAM_BACK_LEFT")[0, 3]
    assert float(moved) == pytest.approx(0.35, abs=1e-6)


def test_it_is_deterministic(drive: Path, tmp_path: Path, rig_module: Any) -> None:
    for name in ("a", "b"):
        replay_bag(drive, rig_module.RigLines(), tmp_path / name, CONFIG)
    assert (tmp_path / "a" / "predictions.jsonl").read_bytes() == (tmp_path / "b" / "predictions.jsonl").read_bytes()
    assert (tmp_path / "a" / "map.mcap").read_bytes() == (tmp_path / "b" / "map.mcap").read_bytes()


def test_every_second_set(drive: Path, predictor: Any, tmp_path: Path) -> None:
    report = replay_bag(drive, predictor, tmp_path / "out", replace(CONFIG, every=2))
    assert (report["published"], report["dropped"]) == (4, {"skipped": 4})


def without(source: Path, target: Path, *topics: str) -> Path:
    """A copy of a bag without some topics."""
    with open_bag(source) as bag, write_mcap(target) as out:
        kept = [topic for topic in bag.topics if topic not in topics]
        for topic in kept:
            out.declare(topic, bag.topics[topic], latched=topic == "/tf_static")
        for topic, log_ns, data in bag.raw(lambda topic: topic in kept):
            out.write(topic, log_ns, data)
    return target


def test_a_missing_camera(drive: Path, predictor: Any, tmp_path: Path) -> None:
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
    drive: Path, predictor: Any, tmp_path: Path, topics: tuple[str, ...], reason: str
) -> None:
    bag = without(drive, tmp_path / "less.mcap", *topics)
    with pytest.raises(BagError, match=reason):
        replay_bag(bag, predictor, tmp_path / "out", CONFIG)
    assert not (tmp_path / "out" / "predictions.jsonl").exists()


def changed(source: Path, target: Path, change: Callable[[str, int, Any], Any], times: int = 1) -> Path:
    """A copy of a bag in which `change(topic, number, message)` makes other messages, or None; several times over."""
    with open_bag(source) as bag, write_mcap(target) as out:
        for topic, kind in bag.topics.items():
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
def replayed(tmp_path: Path, rig_module: Any) -> Callable[..., tuple[dict[str, Any], list[str]]]:
    """Replays a bag and holds its sums: the report, and the warnings."""

    def run(bag: Path, **config: Any) -> tuple[dict[str, Any], list[str]]:
        warnings: list[str] = []
        out = tmp_path / "out"
        report = replay_bag(bag, rig_module.RigLines(), out, replace(CONFIG, **config), warn=warnings.append)
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


BACK, BACK_INFO = "/cam_back/image_raw/compressed", "/cam_back/camera_info"


def test_a_bag_that_is_played_twice(drive: Path, replayed: Any, tmp_path: Path) -> None:
    bag = changed(drive, tmp_path / "twice.mcap", lambda topic, number, message: message, times=2)
    report, _ = replayed(bag)
    assert report["sets"] == report["published"] == 16
    assert report["images"] == dict.fromkeys(CONFIG.layout.cameras, 16)
    tokens = list(read_elements(tmp_path / "out" / "predictions.jsonl"))
    assert tokens[8:] == [f"{token}#2" for token in tokens[:8]]


def test_recording_times_of_another_clock_do_not_reach_the_maps(drive: Path, replayed: Any, tmp_path: Path) -> None:
    """A bag that was recorded while another was played, years later."""
    bag = tmp_path / "later.mcap"
    with open_bag(drive) as source, write_mcap(bag) as out:
        for topic, kind in source.topics.items():
            out.declare(topic, kind, latched=topic == "/tf_static")
        for topic, log_ns, data in source.raw():
            out.write(topic, log_ns + 95_000_000 * 10**9, data)
    assert replayed(bag)[0]["published"] == 8


@pytest.mark.parametrize("min_cameras", [5, 6])
def test_one_odd_image(drive: Path, replayed: Any, tmp_path: Path, bag_rig: Any, min_cameras: int) -> None:
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


def test_a_camera_that_never_decodes(drive: Path, replayed: Any, tmp_path: Path) -> None:
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


def test_a_lens_is_allowed_for_and_an_unknown_one_refused(drive: Path, replayed: Any, tmp_path: Path) -> None:
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


def test_doubts_about_calibration_are_told_as_in_the_node(drive: Path, replayed: Any, tmp_path: Path) -> None:
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


def test_missing_odometry_is_told(drive: Path, replayed: Any, tmp_path: Path) -> None:
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
    drive: Path, replayed: Any, tmp_path: Path, bag_rig: Any
) -> None:
    """No images, images of another type, no CameraInfo, messages that cannot be read."""
    raw = bag_rig.types.get("sensor_msgs/msg/Image")

    def as_raw(topic: str, message: Any) -> Any:
        fields = {"height": 1, "width": 1, "encoding": "mono8", "is_bigendian": 0, "step": 1}
        return raw(header=message.header, **fields, data=bag_rig.types.octets(b"x")) if topic == BACK else message

    with open_bag(drive) as bag, write_mcap(tmp_path / "type.mcap") as out:
        for topic, kind in bag.topics.items():
            out.declare(topic, "sensor_msgs/msg/Image" if topic == BACK else kind)
        for topic, log_ns, message in bag.messages():
            out.write(topic, log_ns, as_raw(topic, message))
    with open_bag(drive) as bag, write_mcap(tmp_path / "bits.mcap") as out:
        for topic, kind in bag.topics.items():
            out.declare(topic, kind)
        for topic, log_ns, data in bag.raw():
            out.write(topic, log_ns, data[:20] if topic == BACK else data)
    cases = {
        "no_images": without(drive, tmp_path / "none.mcap", BACK),
        "no_camera_info": without(drive, tmp_path / "info.mcap", BACK_INFO),
        "wrong_type": tmp_path / "type.mcap",
        "unreadable_message": tmp_path / "bits.mcap",
    }
    for kind, path in cases.items():
        report, warnings = replayed(path, min_cameras=5)
        assert report["published"] == 8, kind
        assert report["problems"][kind]["cameras"].keys() == {"CAM_BACK"}
        assert warnings, kind
        with pytest.raises(BagError, match=r"cam_back|CAM_BACK"):
            replayed(path)


def test_images_without_stamps_go_by_the_time_of_recording(drive: Path, replayed: Any, tmp_path: Path) -> None:
    def unstamped(topic: str, number: int, message: Any) -> Any:
        if topic.endswith("compressed"):
            message.header.stamp.sec = message.header.stamp.nanosec = 0
        return message

    report, warnings = replayed(changed(drive, tmp_path / "zero.mcap", unstamped))
    assert report["published"] == 8
    assert report["problems"]["zero_stamp"]["cameras"]["CAM_BACK"] == 8
    assert len(warnings) == 6


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


def test_parameters_reach_the_synchroniser(drive: Path, replayed: Any, tmp_path: Path, rig_module: Any) -> None:
    parameters = config_from_values({"sync.anchor": "CAM_BACK"})
    replayed(drive, parameters=parameters)
    tokens = list(read_elements(tmp_path / "out" / "predictions.jsonl"))
    assert tokens == [str(tick + rig_module.PHASES_NS["CAM_BACK"]) for tick in rig_module.ticks(8)]


def test_the_real_keyframe(real_frame_root: Path, predictor: Any, tmp_path: Path) -> None:
    """Six real images of a real car at 9.2 m/s: through the bag nothing is lost against reading the folder."""
    from hdmap_core.datasets.nuscenes import NuScenesDataset

    write_bag(real_frame_root, "scene-0061", tmp_path / "real.mcap")
    replay_bag(tmp_path / "real.mcap", predictor, tmp_path / "out", CONFIG)
    (observation,) = predictor.seen
    dataset = NuScenesDataset(real_frame_root, road_plane=False)
    expected = dataset.observation(dataset.tokens[0])
    assert observation.camera_mask == (True,) * 6
    assert observation.images[0].shape == (900, 1600, 3)
    assert observation.stamp_ns == 1_532_402_927_612_460_000
    order = [observation.rig.names.index(name) for name in expected.rig.names]
    for index, image in zip(order, expected.images, strict=True):
        np.testing.assert_array_equal(observation.images[index], image)
    # The bag's frame is the ego frame at CAM_FRONT's stamp, the folder's that at the LiDAR's, 35.5 ms later.
    shift = np.linalg.inv(expected.map_from_ego) @ observation.map_from_ego
    assert np.linalg.norm(shift[:3, 3]) == pytest.approx(9.2 * 0.0355, rel=0.05)
    ours = shift @ observation.rig.ego_from_camera.numpy()[order]
    np.testing.assert_allclose(ours, expected.rig.ego_from_camera.numpy(), atol=1e-6)


def test_the_drive_as_one_map(drive: Path, tmp_path: Path, rig_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A divider of the fixed frame, seen 60 m at a time along the drive, comes out once and longer."""

    def complete(predictor: Any, observation: Any) -> Any:
        line = MapElement(MapClass.DIVIDER, np.array([[-30.0, 3.0], [30.0, 3.0]]), score=0.9)
        return rig_module.RigPrediction([line], {"preprocess": 0.1, "network": 0.2, "postprocess": 0.1})

    monkeypatch.setattr(rig_module.RigLines, "complete", complete)
    for name, place in (("metres.geojson", None), ("degrees.geojson", GeodeticOrigin(42.0, -71.0))):
        config = replace(CONFIG, fuse=tmp_path / name, origin=place)
        replay_bag(drive, rig_module.RigLines(), tmp_path / "out", config)
    collection = json.loads((tmp_path / "metres.geojson").read_text())
    (feature,) = collection["features"]
    line = np.array(feature["geometry"]["coordinates"])
    assert collection["crs"] is None and "frame odom" in collection["frame"]
    assert feature["properties"]["track_id"] > 0
    assert np.ptp(line[:, 0]) > 63 and np.abs(line[:, 1] - 3.0).max() < 0.1
    degrees = json.loads((tmp_path / "degrees.geojson").read_text())
    lonlat = np.array(degrees["features"][0]["geometry"]["coordinates"])
    np.testing.assert_allclose(GeodeticOrigin(42.0, -71.0).metres(lonlat), line, atol=0.01)
    frames = read_elements(tmp_path / "out" / "predictions.jsonl")
    assert {element.track_id for elements in frames.values() for element in elements} == {1}
    with open_bag(tmp_path / "out" / "map.mcap") as bag:
        arrays = [message for _, _, message in bag.messages(lambda topic: topic == ELEMENTS_TOPIC)]
    assert [array.temporal_reset for array in arrays] == [True] + [False] * 7


def test_nothing_to_fuse_is_told_and_the_rest_is_kept(drive: Path, predictor: Any, tmp_path: Path) -> None:
    layout = replace(CONFIG.layout, fixed_frame="nowhere")
    fused = tmp_path / "map.osm"
    with pytest.raises(BagError, match=r"no map could be fused into .*map\.osm: .*nowhere"):
        replay_bag(drive, predictor, tmp_path / "out", replace(CONFIG, layout=layout, fuse=fused))
    assert not fused.exists()
    assert json.loads((tmp_path / "out" / "report.json").read_text())["published"] == 8
    assert len(read_elements(tmp_path / "out" / "predictions.jsonl")) == 8
