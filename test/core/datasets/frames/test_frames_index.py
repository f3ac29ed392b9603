"""Long files: what orders the frames is known at opening, each frame is read when it is asked for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hdmap_core.datasets.frames import index
from hdmap_core.datasets.frames.dataset import FramesDataset
from hdmap_core.datasets.frames.writing import write_frames
from hdmap_core.errors import DatasetError

Writer = Callable[..., Path]


@pytest.fixture(params=["frames.jsonl", "frames.json", "indented"])
def long_file(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, Any], Path]:
    """Writes a content as a file that counts as long, in one of its three layouts; the last is read whole."""
    monkeypatch.setattr(index, "CHECKED_AT_ONCE", 0)

    def write(root: Path, content: Any) -> Path:
        root.mkdir(exist_ok=True)
        if request.param == "frames.jsonl":
            records = (*content["scenes"], *content["frames"])
            (root / "frames.jsonl").write_text("\ufeff" + "\r\n\n".join(map(json.dumps, records)), encoding="utf-8")
            return root / "frames.jsonl"
        (root / "frames.json").unlink(missing_ok=True)
        if request.param == "frames.json":
            write_frames(root, content["scenes"], content["frames"])
        else:
            about = {key: content[key] for key in ("version", "scenes", "frames")}
            (root / "frames.json").write_text(json.dumps(about, indent=1))
        return root / "frames.json"

    return write


def test_frames_are_those_of_a_short_file(
    tmp_path: Path, frames_root: Path, frames_content: Any, long_file: Callable[[Path, Any], Path]
) -> None:
    del frames_content["map"]
    frames_content["frames"][2] |= {"map_from_ego": None, "token": 'quote " and ü'}
    short = FramesDataset(frames_root / "frames.json")
    dataset = FramesDataset(long_file(frames_root, frames_content))
    assert len(dataset) == 3 and dataset.splits == short.splits
    assert [scene.name for scene in dataset.scenes] == [scene.name for scene in short.scenes]
    for mine, token in zip(dataset.tokens, short.tokens, strict=True):
        seen, expected = dataset.observation(mine), short.observation(token)
        assert seen.stamp_ns == expected.stamp_ns and seen.rig.names == expected.rig.names
        np.testing.assert_array_equal(seen.rig.intrinsics, expected.rig.intrinsics)
    with pytest.raises(DatasetError, match="has no frame 'm9'"):
        dataset.observation("m9")


def test_a_bad_frame_is_told_when_it_is_read(
    tmp_path: Path, frames_content: Any, long_file: Callable[[Path, Any], Path]
) -> None:
    frames_content["frames"][1]["cameras"][0]["intrinsics"] = [0, 700, 16, 12]
    message = r"frames\.json.*: frame 'm1', camera 'front': focal lengths must be positive"

    path = long_file(tmp_path / "own", frames_content)
    if path.read_text().startswith("{\n"):  # read whole
        with pytest.raises(DatasetError, match=message):
            FramesDataset(path)
        return
    dataset = FramesDataset(path)
    assert dataset.map_from_ego("m0") is not None
    with pytest.raises(DatasetError, match=message) as told:
        dataset.map_from_ego("m1")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["frames"][1].update(token="m0"), "frame 'm0' occurs twice"),
        (lambda c: c["frames"][1].update(stamp_ns=c["frames"][0]["stamp_ns"]), "is that of frame 'm0', too"),
        (lambda c: c["frames"][1].update(stamp_ns=-1), "frame 'm1': 'stamp_ns' must be a whole number"),
        (lambda c: c["frames"][1].pop("token"), "frame number [12]: the field 'token' is missing"),
        (lambda c: c["scenes"][1].update(name="monday"), "scene 'monday' occurs twice"),
        (lambda c: c["scenes"][1].update(sport="golf"), "scene 'tuesday': the field 'sport' is not known|'sport'"),
    ],
)
def test_what_orders_frames_is_told_at_opening(
    tmp_path: Path,
    frames_content: Any,
    long_file: Callable[[Path, Any], Path],
    change: Callable[[Any], object],
    message: str,
) -> None:
    change(frames_content)
    with pytest.raises(DatasetError, match=message) as told:
        FramesDataset(long_file(tmp_path / "own", frames_content))
    assert "\n" not in str(told.value)


def test_a_file_that_changes_while_it_is_open(
    tmp_path: Path, frames_content: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "CHECKED_AT_ONCE", 0)
    write_frames(tmp_path, frames_content["scenes"], frames_content["frames"])
    dataset = FramesDataset(tmp_path / "frames.json")
    assert dataset.map_from_ego("m0") is not None
    frames_content["frames"].reverse()
    write_frames(tmp_path, frames_content["scenes"], frames_content["frames"])
    with pytest.raises(DatasetError, match=r"frames\.json"):
        dataset.map_from_ego("t0")
    (tmp_path / "frames.json").unlink()
    with pytest.raises(DatasetError, match="cannot read"):
        dataset.map_from_ego("m1")


def test_no_more_frames_are_kept_than_fit(tmp_path: Path, frames_content: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "CHECKED_AT_ONCE", 0)
    monkeypatch.setattr(index, "_KEPT", 2)
    write_frames(tmp_path, frames_content["scenes"], frames_content["frames"])
    frames = index.FramesIndex(tmp_path / "frames.json")
    for token in ("m0", "m1", "t0", "m0"):
        assert frames.frame(token).token == token and len(frames._kept) <= 2
