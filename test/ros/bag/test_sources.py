"""The topics of a bag that a layout names; what comes of it in a replay is `test_replay.py`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hdmap_core.errors import BagError
from hdmap_ros.bag.layouts import load_layout
from hdmap_ros.bag.mcap import open_bag
from hdmap_ros.bag.sources import BagSources, ReplayConfig
from hdmap_ros.node_config import config_from_values
from hdmap_ros.problems import Problems

CONFIG = ReplayConfig(load_layout("hdmap"))


@contextmanager
def sources_of(path: Path, config: ReplayConfig = CONFIG) -> Iterator[tuple[BagSources, Problems]]:
    problems = Problems()
    with open_bag(path) as bag:
        yield BagSources(bag, config, problems), problems


def test_the_layout_makes_the_nodes_parameters() -> None:
    node = replace(CONFIG, min_cameras=4, parameters=config_from_values({"sync.timeout": 0.2})).node
    assert (node.camera_names, node.sync_min_cameras) == (tuple(CONFIG.layout.cameras), 4)
    assert (node.base_frame, node.fixed_frame) == (CONFIG.layout.base_frame, CONFIG.layout.fixed_frame)
    assert (node.sync_timeout, node.tf_timeout) == (0.2, 0.0)


def test_sets_come_in_time_order_with_all_that_a_builder_needs(drive: Path, rig_module: Any) -> None:
    progress: list[tuple[int, int]] = []
    with sources_of(drive) as (sources, problems):
        sets = list(sources.sets(lambda done, total: progress.append((done, total))))
    assert [images.stamp_ns for images in sets] == [
        tick + rig_module.PHASES_NS["CAM_FRONT"] for tick in rig_module.ticks(8)
    ]
    assert progress == [(number, 96) for number in range(1, 97)]
    assert sources.images == dict.fromkeys(rig_module.CAMERAS, 8)
    assert sources.builder.build(sets[0]).camera_mask == (True,) * 6
    assert problems.report() == {}


def test_a_recording_that_begins_anew_gives_its_sets_again(drive: Path, tmp_path: Path, changed: Any) -> None:
    with sources_of(changed(drive, tmp_path / "twice.mcap", times=2)) as (sources, _):
        stamps = [images.stamp_ns for images in sources.sets()]
    assert len(stamps) == 16 and stamps[:8] == stamps[8:]


def test_too_many_cameras_that_lack_something(drive: Path, tmp_path: Path, changed: Any) -> None:
    """The first one is named, and what the bag has."""

    def without_two(topic: str, number: int, message: Any) -> Any:
        return None if topic.startswith(("/cam_back/image", "/cam_front/camera")) else message

    path = changed(drive, tmp_path / "four.mcap", without_two)
    reason = r"no CameraInfo of CAM_FRONT on \S+; it has .*; give --calibration"
    with pytest.raises(BagError, match=reason), sources_of(path, replace(CONFIG, min_cameras=5)):
        pass
    with sources_of(path, replace(CONFIG, min_cameras=4)) as (sources, problems):
        masks = {sources.builder.build(images).camera_mask for images in sources.sets()}
    assert {kind: list(entry["cameras"]) for kind, entry in problems.report().items()} == {
        "no_images": ["CAM_BACK"],
        "no_camera_info": ["CAM_FRONT"],
    }
    assert masks == {(False, True, True, False, True, True)}


def test_what_is_left_out_of_a_damaged_bag_is_told(drive: Path, tmp_path: Path) -> None:
    path, data, problems = tmp_path / "cut.mcap", drive.read_bytes(), Problems()
    path.write_bytes(data[: len(data) * 6 // 10])
    with open_bag(path, recover=True) as bag:
        assert 0 < len(list(BagSources(bag, CONFIG, problems).sets())) < 8
    assert "without its index" in problems.report()["incomplete_bag"]["message"]


def test_transforms_that_are_none(drive: Path, tmp_path: Path, changed: Any) -> None:
    def without_motion(topic: str, number: int, message: Any) -> Any:
        return None if topic == "/tf" else message

    path = changed(drive, tmp_path / "odom.mcap", without_motion, kinds={"/tf": "nav_msgs/msg/Odometry"})
    reason = r"/tf or /tf_static hold nav_msgs/msg/Odometry, not tf2_msgs/msg/TFMessage"
    with pytest.raises(BagError, match=reason), sources_of(path):
        pass
