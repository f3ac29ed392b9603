"""The shipped student in the real node, in a graph of player, node and recorder, as `scripts/demo.py` runs it."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.datasets.synthetic.presets import PRESETS
from hdmap_core.datasets.synthetic.writer import write_dataset
from hdmap_core.elements import MapElement
from hdmap_core.inference import default_weights, load_predictor
from hdmap_ros.bag.layouts import load_layout
from hdmap_ros.bag.replay import ReplayConfig, replay_bag
from hdmap_ros.bag.write import write_bag

pytest.importorskip("rclpy", reason="the ROS graph needs rclpy; run make setup")
pytestmark = pytest.mark.ros


def same(left: list[MapElement], right: list[MapElement]) -> bool:
    return len(left) == len(right) and all(
        a.label is b.label
        and a.score == pytest.approx(b.score, abs=1e-5)
        and np.allclose(a.points, b.points, atol=1e-3)
        for a, b in zip(left, right, strict=True)
    )


def by_class(elements: list[MapElement]) -> list[MapElement]:
    return sorted(elements, key=lambda element: (element.label.value, -element.score))


def test_the_real_keyframe_becomes_a_map(demo: ModuleType, real_frame_root: Path, tmp_path: Path) -> None:
    """Six real images through bag, player, DDS, synchroniser, decoder, calibration and ego motion to elements.

    What the student says about Singapore is not judged: it knows synthetic towns only.
    """
    write_bag(real_frame_root, "scene-0061", tmp_path / "real.mcap")
    report = demo.drive_through_node(tmp_path / "real.mcap", tmp_path / "map.mcap", tmp_path, default_weights(), 1.0)
    assert report["images"] == dict.fromkeys(report["images"], 1)
    assert report["published"] == report["synchroniser"]["complete"] == 1
    published = demo.read_published(tmp_path / "map.mcap")
    assert list(published) == [1_532_402_927_612_460_000]  # the stamp of CAM_FRONT
    replay_bag(
        tmp_path / "real.mcap", load_predictor(default_weights(), "cpu"), tmp_path, ReplayConfig(load_layout("hdmap"))
    )
    (offline,) = (json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines())
    assert same(by_class(published.popitem()[1]), by_class([MapElement.from_json(e) for e in offline["elements"]]))


def test_a_synthetic_drive_is_mapped_scored_and_drawn(demo: ModuleType, tmp_path: Path) -> None:
    change = {"keyframes": 6, "image_size": (450, 800), "lidar": "none"}
    write_dataset(tmp_path / "world", PRESETS["demo"].model_copy(update=change))
    dataset = NuScenesDataset(tmp_path / "world")
    scene = dataset.scenes[0]
    write_bag(tmp_path / "world", scene.name, tmp_path / "drive.mcap")
    report = demo.drive_through_node(tmp_path / "drive.mcap", tmp_path / "map.mcap", tmp_path, default_weights(), 0.5)
    assert report["sets"] == report["synchroniser"]["complete"] > 20
    assert report["published"] + sum(report["dropped"].values()) == report["sets"]
    published = demo.read_published(tmp_path / "map.mcap")
    assert len(published) == report["published"]
    stamp = next(iter(published))
    truth = demo.truth_at(dataset, scene, stamp)
    assert truth
    picture = demo.draw_map(
        demo.observation_at(dataset, scene, stamp), published[stamp], truth, load_predictor(default_weights()).info.grid
    )
    assert picture.std() > 20  # something is on it
