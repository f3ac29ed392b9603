"""An imported MapQR through bag, node and message: the real keyframe, with generated weights."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from hdmap_core.elements import MapElement
from hdmap_core.inference import load_predictor
from hdmap_core.released.importing import import_file
from hdmap_ros.bag.layouts import load_layout
from hdmap_ros.bag.replay import ReplayConfig, replay_bag
from hdmap_ros.bag.write import write_bag

pytest.importorskip("rclpy", reason="the ROS graph needs rclpy; run make setup")
pytestmark = [pytest.mark.ros, pytest.mark.slow]


def test_an_imported_mapqr_maps_the_real_keyframe(
    demo: ModuleType, oracle: Callable[[str], Any], real_frame_root: Path, place: Path
) -> None:
    """The node needs the file alone; what it publishes is what the replay says without a graph."""
    reference = oracle("mapqr_r50")
    reference.write(place / "released.pth", reference.state())
    smaller = ["model.backbone.image_size=[128,224]", "model.backbone.filled_size=[126,224]"]
    few = ["model.vectors.num_queries=10", "model.vectors.one_to_many=0"]
    weights = place / "mapqr.safetensors"
    import_file(place / "released.pth", weights, overrides=[*smaller, *few])
    write_bag(real_frame_root, "scene-0061", place / "real.mcap")
    report = demo.drive_through_node(place / "real.mcap", place / "map.mcap", place, weights, 1.0, wait_s=200)
    assert report["published"] == report["synchroniser"]["complete"] == 1
    (published,) = demo.read_published(place / "map.mcap").values()
    replay_bag(place / "real.mcap", load_predictor(weights, "cpu"), place, ReplayConfig(load_layout("hdmap")))
    (line,) = (place / "predictions.jsonl").read_text().splitlines()
    offline = [MapElement.from_json(element) for element in json.loads(line)["elements"]]
    assert len(published) == len(offline) > 10
    ours, theirs = (sorted(each, key=lambda e: (e.label.value, -e.score)) for each in (published, offline))
    for one, other in zip(ours, theirs, strict=True):
        assert one.label is other.label and one.score == pytest.approx(other.score, abs=1e-4)
        np.testing.assert_allclose(one.points, other.points, atol=1e-2)
        assert np.abs(one.points).max() < 40
