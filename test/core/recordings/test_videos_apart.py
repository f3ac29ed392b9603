"""Videos of one drive that begin at other instants show the frames and the map of those that begin together."""

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml

from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.datasets.opening import open_dataset
from hdmap_core.datasets.video_starts import parse_beginning
from hdmap_core.errors import DatasetError
from hdmap_core.inference import load_predictor
from hdmap_core.observation import Observation
from hdmap_core.recordings.opening import open_recording
from hdmap_core.recordings.recording import Wanted

CAMERAS = {"front": "CAM_FRONT", "left": "CAM_FRONT_LEFT"}
LATE_S = 1.25  # left's video begins so long after front's


@pytest.fixture(scope="module")
def place(tiny_world: Path, recorded: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drive of two cameras at 4 Hz, seven pictures of each, all different; recorded together, and left later."""
    folder = tmp_path_factory.mktemp("apart")
    dataset = NuScenesDataset(tiny_world)
    seen = [dataset.observation(token, points=False) for scene in dataset.scenes for token in scene.sample_tokens]
    first, rig, sound = seen[0], {}, recorded.street_sound(30, [4.1, 5.8])
    for name, channel in CAMERAS.items():
        number = first.rig.names.index(channel)
        pictures = [image for each in seen if (image := each.images[number]) is not None]
        pictures = [np.roll(pictures[n % len(pictures)], n // len(pictures), axis=1) for n in range(12)]
        rig[name] = {
            "image_size": list(pictures[0].shape[:2]),
            "intrinsics": first.rig.intrinsics[number].tolist(),
            "translation": first.rig.ego_from_camera[number, :3, 3].tolist(),
            "rotation": first.rig.ego_from_camera[number, :3, :3].tolist(),
        }
        for where, begins in (("together", 0.0), ("apart", LATE_S if name == "left" else 0.0)):
            own = [(n / 4 - begins, image) for n, image in enumerate(pictures) if n / 4 >= begins]
            heard = sound[round((2.0 + begins) * recorded.SOUND_HZ) :][: 10 * recorded.SOUND_HZ]
            recorded.write_recording(folder / where / f"{name}.mkv", own, heard, rate=4)
    (folder / "rig.yaml").write_text(yaml.safe_dump({"cameras": rig}))
    return folder


def frames(place: Path, where: str, *start: str, **more: Any) -> dict[int, Observation]:
    wanted = Wanted(whole_drive=True, rig=place / "rig.yaml", rate=0, beginning=parse_beginning(start), **more)
    recording = open_recording([str(place / where / f"{name}.mkv") for name in CAMERAS], wanted)
    return {frame.stamp_ns: frame for frame in recording.frames}


def test_frames_and_map_are_those_of_videos_that_begin_together(place: Path) -> None:
    together, apart = frames(place, "together"), frames(place, "apart", f"left={LATE_S}")
    assert list(together) == [n * 250_000_000 for n in range(12)] and list(apart) == list(together)[5:]
    predictor, wrong = load_predictor(device="cpu"), frames(place, "apart")
    differ = []
    for stamp_ns, frame in apart.items():
        expected = together[stamp_ns]
        assert frame.camera_stamps_ns == expected.camera_stamps_ns == (stamp_ns, stamp_ns)
        for one, other in zip(frame.images, expected.images, strict=True):
            np.testing.assert_array_equal(one, other)
    for stamp_ns in list(apart)[:2]:
        ours, theirs, bad = (predictor.predict(each[stamp_ns]).elements for each in (apart, together, wrong))
        assert [(e.label, e.score) for e in ours] == [(e.label, e.score) for e in theirs] and len(ours) > 1
        for element, same in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(element.points, same.points)
        differ.append([e.score for e in bad] != [e.score for e in ours])
    assert any(differ), "taken to begin together they show another map"


def test_sound_finds_it_and_what_it_found_can_be_given_back(place: Path, hdmap: Callable[..., Any]) -> None:
    videos = [place / "apart" / f"{name}.mkv" for name in CAMERAS]
    common = ("frames", "from-video", *videos, "--calibration", place / "rig.yaml", "--rate", 0)
    ended = hdmap(*common, "--align", "-o", place / "found")
    assert ended.code == 0, ended.err
    assert "videos begin by their sound" in ended.out and "7 frames of front, left" in ended.out
    assert "left had no picture within half a period of 5 instants between 0.000 and 1.000 s, 5" in ended.out
    (scene,) = json.loads((place / "found" / "frames.json").read_text())["scenes"]
    assert scene["video_starts"]["front"] == 0 and scene["video_starts"]["left"] == pytest.approx(LATE_S, abs=1e-3)
    back = [word for words in ended.out.splitlines()[0].split("--start ")[1:] for word in ("--start", words.split()[0])]
    again = hdmap(*common, *back, "-o", place / "again")
    assert again.code == 0 and "as --start says" in again.out, again.err
    one, other = (open_dataset(place / name) for name in ("found", "again"))
    assert one.tokens == other.tokens == tuple(str(n * 250_000_000) for n in range(5, 12))
    for token in one.tokens:
        ours, theirs = one.observation(token), other.observation(token)
        assert ours.camera_stamps_ns == theirs.camera_stamps_ns
        assert abs(ours.camera_stamps_ns[1] - ours.stamp_ns) < 1_000_000
        np.testing.assert_array_equal(ours.images[1], theirs.images[1])


def test_the_rig_file_says_it_and_the_clock_may_be_another(place: Path, hdmap: Callable[..., Any]) -> None:
    rig = yaml.safe_load((place / "rig.yaml").read_text())
    rig["cameras"]["left"]["start"] = LATE_S
    (place / "late.yaml").write_text(yaml.safe_dump(rig))
    videos = [place / "apart" / f"{name}.mkv" for name in CAMERAS]
    common = ("frames", "from-video", *videos, "--calibration", place / "late.yaml", "--rate", 0)
    ended = hdmap(*common, "--start", "1700000000.5", "--min-cameras", 1, "-o", place / "clock")
    assert ended.code == 0 and "as the rig file says: front 0 s, left 1.25 s" in ended.out, ended.err
    dataset = open_dataset(place / "clock")
    assert dataset.tokens[0] == "1700000000500000000" and len(dataset.tokens) == 12
    assert [len(dataset.observation(token, images=False).rig.names) for token in dataset.tokens] == [1] * 5 + [2] * 7
    ended = hdmap(*common, "--start", "left=20", "-o", place / "never")
    ended.assert_refused("no instant at which 2 cameras have a picture", "--start", "--align")


def test_a_camera_that_begins_late_may_be_missing(place: Path) -> None:
    found = frames(place, "apart", f"left={LATE_S}", min_cameras=1)
    assert [frame.images[1] is None for frame in found.values()] == [True] * 5 + [False] * 7
    assert all(frame.rig.names == ("front", "left") for frame in found.values())
    with pytest.raises(DatasetError, match=r"no instant.*left had no picture.* 12 instants between 0\.000 and 2\.75"):
        frames(place, "apart", "left=60")
