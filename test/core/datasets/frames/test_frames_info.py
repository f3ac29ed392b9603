"""What `hdmap info`, `prepare --check` and `bag write` say of frames of one's own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hdmap_core.elements import MapClass, MapElement, write_elements


def test_info_of_folder_and_file(frames_root: Path, hdmap: Callable[..., Any]) -> None:
    for thing in (frames_root, frames_root / "frames.json"):
        told = hdmap("info", thing).out
        assert "frames of one's own" in told and "3 of 2 scenes" in told
        assert "front, left fisheye (2 scenes)" in told and "of 2 frames" in told and "of 3 frames" in told
    (frames_root / "frames.json").write_text('{"version": 1, "cameras": ')
    hdmap("info", frames_root / "frames.json").assert_refused("frames.json", "broken or truncated JSON")


def test_info_of_elements_is_as_before(tmp_path: Path, hdmap: Callable[..., Any]) -> None:
    element = MapElement(MapClass.DIVIDER, np.array([[0, 0], [1, 1]]))
    write_elements(tmp_path / "gt.jsonl", {"a": [element]})
    assert "map elements" in hdmap("info", tmp_path / "gt.jsonl").out


def test_check_names_frames_without_truth(frames_root: Path, hdmap: Callable[..., Any]) -> None:
    checked = hdmap("prepare", frames_root, "--check", "--split", "all", "--workers", "1")
    assert checked.code == 0 and "3 keyframes, 3 complete" in checked.out, checked.err
    (frames_root / "maps" / "town.geojson").unlink()
    (frames_root / "images" / "front-t0.png").write_bytes(b"nothing")
    hdmap("prepare", frames_root, "--check", "--split", "all", "--workers", "1").assert_refused(
        "3 of 3 keyframes cannot be used",
        "2 without map",
        "1 with an unreadable image",
        "gives frame 'm0' no 'elements'",
    )
