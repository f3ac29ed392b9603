"""Bag to elements without a graph, and layouts."""

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from hdmap_ros.node_config import config_from_values
from hdmap_ros.output.conversions import elements_from_message

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


def test_the_next_set_is_prepared_while_one_is_in_the_network(drive: Path, tmp_path: Path, rig_module: Any) -> None:
    """And nothing of it shows: the maps are those of one set after the other."""

    class Waits(rig_module.RigLines):
        waits = True

        def prepare(self, observation: Any, pool: Any = None) -> Any:
            prepared.append(observation.token)
            begun[min(len(prepared), 8) - 1].set()
            return super().prepare(observation, pool)

        def complete(self, observation: Any) -> Any:
            number = prepared.index(observation.token)
            assert not self.waits or number == 7 or begun[number + 1].wait(10)
            return super().complete(observation)

    class OneAfterTheOther(Waits):
        waits = False

        def prepare(self, observation: Any, pool: Any = None) -> Any:
            return super().complete(super().prepare(observation, pool))

        def complete(self, prediction: Any) -> Any:
            return prediction

    for name, kind in (("beside", Waits), ("after", OneAfterTheOther)):
        prepared, begun = [], [threading.Event() for _ in range(8)]
        replay_bag(drive, kind(), tmp_path / name, CONFIG)
    for name in ("predictions.jsonl", "map.mcap"):
        assert (tmp_path / "beside" / name).read_bytes() == (tmp_path / "after" / name).read_bytes()


def test_every_second_set(drive: Path, predictor: Any, tmp_path: Path) -> None:
    report = replay_bag(drive, predictor, tmp_path / "out", replace(CONFIG, every=2))
    assert (report["published"], report["dropped"]) == (4, {"skipped": 4})


def test_a_bag_that_is_played_twice(drive: Path, replayed: Any, tmp_path: Path, changed: Any) -> None:
    bag = changed(drive, tmp_path / "twice.mcap", times=2)
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
