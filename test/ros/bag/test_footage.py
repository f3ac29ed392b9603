"""What `hdmap view` sees of bags: cameras and poses as replay has them, maps in the car's frame whatever theirs is."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hdmap_core.elements import MapClass, MapElement, read_elements
from hdmap_core.errors import BagError
from hdmap_core.geometry import BEVGrid
from hdmap_core.recordings.recording import Wanted
from hdmap_core.viewer.footage import joined
from hdmap_core.viewer.opening import open_footage
from hdmap_ros.bag.footage import bag_footage
from hdmap_ros.bag.mcap import open_bag, write_mcap
from hdmap_ros.diagnostics import Status, to_message
from hdmap_ros.output.conversions import elements_to_message

MAPS, DIAGNOSTICS = "/online_map/output/map_elements", "/diagnostics"


def test_a_replay_finds_its_bag(drive: Path, replayed: Any, tmp_path: Path, rig_module: Any) -> None:
    replayed(drive)
    said = read_elements(tmp_path / "out" / "predictions.jsonl")
    for thing in (tmp_path / "out" / "map.mcap", tmp_path / "out"):
        result = open_footage(thing, Wanted())
        assert result.data == drive
        moments = list(joined(result, open_footage(drive, Wanted())).moments("drive"))
        assert [moment.token for moment in moments] == list(said)
        for moment in moments:
            assert moment.stamp_ns == int(moment.token) and moment.predicted is not None
            for shown, element in zip(moment.predicted, said[moment.token], strict=True):
                np.testing.assert_allclose(shown.points, element.points, atol=1e-3)
            assert moment.latency_ms["decode"] > 0
            seen = moment.observation
            assert seen is not None and seen.map_from_ego is not None and all(seen.camera_mask)
            assert set(seen.rig.names) == set(rig_module.CAMERAS)
            np.testing.assert_allclose(seen.map_from_ego, rig_module.odom_from_base(moment.stamp_ns), atol=1e-6)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {len(values) for values in report["latency_ms_by_map"].values()} == {len(said)}


def write_maps(path: Path, drive: Path, rig: Any, frame: str, tf: bool) -> list[MapElement]:
    """A recording of the node with this output frame, beside the fused map and what the node says of itself."""
    element = MapElement(MapClass.DIVIDER, np.array([[3.0, 1.0], [9.0, -2.0]]), score=0.75)
    stamp_ns = rig.ticks(4)[2]
    pose = rig.odom_from_base(stamp_ns)
    with write_mcap(path) as bag, open_bag(drive) as source:
        bag.declare(MAPS, "hdmap_ros/msg/MapElementArray")
        bag.declare("/online_map/output/local_map", "hdmap_ros/msg/MapElementArray")
        bag.declare(DIAGNOSTICS, "diagnostic_msgs/msg/DiagnosticArray")
        names = [name for name in source.topics if name.startswith("/tf")] if tf else []
        for name in names:
            bag.declare(name, "tf2_msgs/msg/TFMessage", latched=name == "/tf_static")
        for name, log_ns, data in source.raw(names.__contains__):
            bag.write(name, log_ns, data)
        values = {"network_p50_ms": 12.5, "network_p99_ms": 99.0, "processing_time_ms": 1.0}
        status = [Status("latency", 0, "", values), Status("cameras", 0, "", {"odd_p50_ms": "none"})]
        said = to_message(bag.types, status, stamp_ns, "online_map", "")
        for entry in said.status:
            entry.level = 0  # a byte in ROS, a number in rosbags
        bag.write(DIAGNOSTICS, stamp_ns - 1, said)
        for name, score in ((MAPS, 0.75), ("/online_map/output/local_map", 0.1)):
            message = elements_to_message(
                bag.types,
                [MapElement(element.label, element.points, score=score)],
                stamp_ns=stamp_ns,
                frame_id=frame,
                grid=BEVGrid(),
                camera_mask=(True,) * 6,
                spread_ns=0,
                sequence=0,
                model_id="m",
                temporal_reset=False,
                frame_from_ego=None if frame == "base_link" else pose,
            )
            bag.write(name, stamp_ns, message)
    return [element]


@pytest.mark.parametrize(("frame", "tf"), [("base_link", False), ("odom", True)])
def test_a_recording_of_the_node(drive: Path, tmp_path: Path, rig_module: Any, frame: str, tf: bool) -> None:
    said = write_maps(tmp_path / "node.mcap", drive, rig_module, frame, tf)
    footage = bag_footage(tmp_path / "node.mcap", Wanted())
    assert footage is not None and footage.facts == ("1 maps",)
    (moment,) = footage.moments("drive")
    assert moment.predicted is not None and len(moment.predicted) == 1
    np.testing.assert_allclose(moment.predicted[0].points, said[0].points, atol=1e-3)
    assert moment.predicted[0].score == 0.75, "the node's maps, not its fused one"
    assert moment.latency_ms == {"network": 12.5}


def test_what_cannot_be_shown(drive: Path, tmp_path: Path, rig_module: Any) -> None:
    write_maps(tmp_path / "lost.mcap", drive, rig_module, "odom", tf=False)
    with pytest.raises(
        BagError, match=r"lost.mcap: /online_map/output/map_elements is not in the car's frame base_link"
    ):
        bag_footage(tmp_path / "lost.mcap", Wanted())
    with write_mcap(tmp_path / "chatter.mcap") as bag:
        bag.declare("/chatter", "std_msgs/msg/Header")
        bag.write("/chatter", 1, bag.types.header(1, "x"))
    with pytest.raises(BagError, match=r"neither images .* nor maps; hdmap info lists it"):
        bag_footage(tmp_path / "chatter.mcap", Wanted())
    assert bag_footage(tmp_path / "predictions.jsonl", Wanted()) is None
