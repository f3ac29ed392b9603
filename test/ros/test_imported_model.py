"""An imported MapQR through bag, node and message, with generated weights of the published shapes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hdmap_core.inference import load_predictor
from hdmap_core.released.importing import import_file
from hdmap_ros.bag.layouts import load_layout
from hdmap_ros.bag.mcap import open_bag
from hdmap_ros.bag.replay import ReplayConfig, replay_bag
from hdmap_ros.bag.write import write_bag
from hdmap_ros.output.conversions import elements_from_message

pytestmark = [pytest.mark.ros, pytest.mark.slow]

SMALLER = ["model.backbone.image_size=[128,224]", "model.backbone.filled_size=[126,224]"]
FEW = ["model.vectors.num_queries=10", "model.vectors.one_to_many=0"]
PATIENT = {"input_qos.depth": 10, "sync.timeout": 1.0, "sync.max_age": 0.0}


def test_an_imported_mapqr_in_replay_and_node(
    oracle: Callable[[str], Any], graph: Any, rig_module: Any, real_frame_root: Path, place: Path
) -> None:
    reference = oracle("mapqr_r50")
    reference.write(place / "released.pth", reference.state())
    import_file(place / "released.pth", place / "mapqr.safetensors", overrides=[*SMALLER, *FEW])
    predictor = load_predictor(place / "mapqr.safetensors", "cpu")
    # The real keyframe from a bag: the map's message holds what the file of predictions says.
    write_bag(real_frame_root, "scene-0061", place / "real.mcap")
    report = replay_bag(place / "real.mcap", predictor, place / "out", ReplayConfig(load_layout("hdmap")))
    assert report["published"] == 1 and report["model_id"].startswith("imported-mapqr")
    (line,) = (place / "out" / "predictions.jsonl").read_text().splitlines()
    wanted = json.loads(line)["elements"]
    with open_bag(place / "out" / "map.mcap") as bag:
        (message,) = (m for topic, _, m in bag.messages(lambda topic: topic.endswith("map_elements")))
    elements = elements_from_message(message)
    assert len(elements) == len(wanted) > 10
    for element, told in zip(elements, wanted, strict=True):
        np.testing.assert_allclose(element.points, told["points"], atol=2e-3)
        assert np.abs(element.points).max() < 40
    # Six cameras in a real graph, which know their names, poses and nothing of a CAN bus.
    graph.open_cameras()
    maps = graph.listen_to_maps()
    node = graph.start_node(predictor, **PATIENT)
    graph.drive(rig_module.ticks(1))
    assert graph.until(lambda: maps, timeout_s=120)
    node.trigger_deactivate()
    assert maps[0].header.frame_id == "base_link" and maps[0].camera_mask == 0b111111
    assert maps[0].model_id == report["model_id"] and len(maps[0].elements) > 10
