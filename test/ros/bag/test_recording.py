"""Bags as recordings that `hdmap predict` looks at."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hdmap_core.errors import BagError, ConfigError
from hdmap_core.recordings.opening import open_recording
from hdmap_core.recordings.recording import Wanted
from hdmap_ros.bag.recording import open_bag_recording


def test_every_cycle_is_an_observation_with_its_pose(drive: Path, rig_module: Any) -> None:
    recording = open_recording([str(drive)], Wanted())
    assert recording.whole_drive and recording.name == drive.name
    frames = list(recording.frames)
    stamps = [tick + rig_module.PHASES_NS["CAM_FRONT"] for tick in rig_module.ticks(8)]
    assert [frame.stamp_ns for frame in frames] == stamps
    assert all(frame.map_from_ego is not None and all(frame.camera_mask) for frame in frames)
    places = np.array([frame.map_from_ego[:2, 3] for frame in frames if frame.map_from_ego is not None])
    assert (np.linalg.norm(np.diff(places, axis=0), axis=1) > 0.1).all(), "the car drives"
    assert not recording.problems()


def test_one_of_them(drive: Path, rig_module: Any) -> None:
    stamp = rig_module.ticks(8)[3] + rig_module.PHASES_NS["CAM_FRONT"]
    wanted = Wanted(whole_drive=False, sample=str(stamp))
    assert [frame.stamp_ns for frame in open_recording([str(drive)], wanted).frames] == [stamp]
    with pytest.raises(BagError, match=r"nothing to predict .*no image set 7"):
        list(open_recording([str(drive)], Wanted(whole_drive=False, sample="7")).frames)


def test_what_costs_a_set_is_counted_once(drive: Path, tmp_path: Path, bag_rig: Any, changed: Any) -> None:
    def odd(topic: str, number: int, message: Any) -> Any:
        if (topic, number) == ("/cam_back/image_raw/compressed", 2):
            message.data = bag_rig.types.octets(b"no picture")
        return message

    recording = open_recording([str(changed(drive, tmp_path / "odd.mcap", odd))], Wanted())
    assert len(list(recording.frames)) == 7
    (line,) = recording.problems()
    assert line.startswith("rejected_image: CAM_BACK: camera CAM_BACK: ")


def test_what_is_no_bag_or_has_not_what_a_model_needs(drive: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert open_bag_recording([str(tmp_path / "folder")], Wanted()) is None
    assert open_bag_recording([str(tmp_path / "none.mcap")], Wanted()) is None
    with pytest.raises(ConfigError, match="for its cameras alone"):
        open_bag_recording([str(drive)], Wanted(sweeps=1))
    (tmp_path / "broken.mcap").write_bytes(b"text")
    with pytest.raises(BagError, match=r"broken\.mcap"):
        open_bag_recording([str(tmp_path / "broken.mcap")], Wanted())
