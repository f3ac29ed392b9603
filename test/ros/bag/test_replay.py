"""Bag to elements without a graph, and layouts."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hdmap_core.elements import read_elements
from hdmap_core.errors import BagError, ConfigError
from hdmap_ros.bag.layouts import layout_folder, load_layout
from hdmap_ros.bag.map_writer import ELEMENTS_TOPIC
from hdmap_ros.bag.mcap import open_bag, write_mcap
from hdmap_ros.bag.replay import ReplayConfig, replay_bag
from hdmap_ros.bag.write import write_bag
from hdmap_ros.conversions import elements_from_message


@pytest.fixture
def drive(rig_nuscenes: Path, tmp_path: Path) -> Path:
    path = tmp_path / "drive.mcap"
    write_bag(rig_nuscenes, "scene-0001", path)
    return path


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


def test_the_real_keyframe(real_frame_root: Path, predictor: Any, tmp_path: Path) -> None:
    """Six real images of a real car at 9.2 m/s: through the bag nothing is lost against reading the folder."""
    from hdmap_core.datasets.nuscenes import NuScenesDataset

    write_bag(real_frame_root, "scene-0061", tmp_path / "real.mcap")
    replay_bag(tmp_path / "real.mcap", predictor, tmp_path / "out", CONFIG)
    (observation,) = predictor.seen
    dataset = NuScenesDataset(real_frame_root)
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


def test_layouts_of_the_repository_load() -> None:
    names = [path.stem for path in layout_folder().glob("*.yaml")]
    assert {"hdmap", "nuscenes2bag", "foxglove"} <= set(names)
    for name in names:
        assert len(load_layout(name).cameras) == 6


def test_wrong_layouts_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no topic layout 'nuscene'.*there are .*hdmap"):
        load_layout("nuscene")
    path = tmp_path / "mine.yaml"
    for content, reason in (
        ("transport: compressed", "the field 'cameras' is missing"),
        ("- a list", "not a topic layout"),
        ("a: [", "cannot read the topic layout"),
    ):
        path.write_text(content)
        with pytest.raises(ConfigError, match=reason):
            load_layout(str(path))
