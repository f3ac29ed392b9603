"""Rigs that a model was trained through, and what is said of others."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.geometry import CameraRig
from hdmap_core.geometry.lens import lens_of
from hdmap_core.geometry.se3 import rotation_from_euler, se3
from hdmap_core.inference import Predictor, load_predictor
from hdmap_core.inference.known_rigs import NUSCENES, described, difference, trained_through
from hdmap_core.inference.sample import ring_observation

FORWARD = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])


def rig(*cameras: tuple[float, float, float], lens: str = "") -> CameraRig:
    """Cameras of (yaw, degrees across, height)."""
    matrices, poses = [], []
    for yaw, across, height in cameras:
        focal = 800 / np.tan(np.deg2rad(across) / 2)
        matrices.append(np.array([[focal, 0, 799.5], [0, focal, 449.5], [0, 0, 1]]))
        poses.append(se3(rotation_from_euler(0, 0, np.deg2rad(yaw)) @ FORWARD, [1.0, 0.0, height]))
    names = [f"camera {number}" for number in range(len(cameras))]
    return CameraRig.from_arrays(names, matrices, poses, (900, 1600), [lens_of(lens, ())] * len(cameras))


def test_a_rig_in_numbers() -> None:
    assert described(rig((0, 65, 1.52), (-110, 90, 2.0))) == [
        {"yaw_deg": 0, "across_deg": 65, "height_m": 1.5, "lens": "pinhole"},
        {"yaw_deg": -110, "across_deg": 90, "height_m": 2.0, "lens": "pinhole"},
    ]
    (fisheye,) = described(rig((30, 65, 1.0), lens="equidistant"))
    focal = 800 / np.tan(np.deg2rad(65) / 2)
    assert fisheye["lens"] == "fisheye" and fisheye["across_deg"] == round(np.rad2deg(1600 / focal))


def test_nuscenes_own_rig_is_known(tiny_world: Path) -> None:
    dataset = NuScenesDataset(tiny_world)
    for token in dataset.tokens:
        assert difference(dataset.observation(token, images=False).rig, [NUSCENES]) is None


def test_what_differs_is_said() -> None:
    known = [described(rig((0, 65, 1.5), (90, 65, 1.5)))]
    assert difference(rig((5, 70, 1.6), (80, 60, 1.4)), known) is None, "within the tolerances, in any order of names"
    assert difference(rig((90, 65, 1.5), (0, 65, 1.5)), known) is None
    assert difference(rig((0, 65, 1.5)), known) == "1 cameras in place of 2"
    for changed, said in (
        (rig((0, 65, 1.5), (135, 65, 1.5)), "camera 1 looks 135° to the left, where it knows no camera"),
        (rig((0, 120, 1.5), (90, 65, 1.5)), "camera 0 sees 120° across in place of 65°"),
        (rig((0, 65, 2.4), (90, 65, 1.5)), "camera 0 stands 2.4 m high in place of 1.5 m"),
        (rig((0, 65, 1.5), (90, 65, 1.5), lens="equidistant"), "camera 0 has a fisheye lens in place of a pinhole"),
    ):
        assert (difference(changed, known) or "").startswith(said)
    two = [*known, described(rig((0, 65, 2.4), (90, 65, 2.4)))]
    assert difference(rig((0, 65, 2.3), (90, 65, 2.3)), two) is None, "the most similar rig counts"


@pytest.mark.parametrize("rigs", [None, "all", 3, [[]], [{}], [[{"yaw_deg": 0}]], [[dict(NUSCENES[0], height_m="1")]]])
def test_rigs_that_make_no_sense_are_none(rigs: Any) -> None:
    assert trained_through({"rigs": rigs}) == []
    assert trained_through({"rigs": [[*NUSCENES]]}) == [[*NUSCENES]]


def test_a_rig_it_has_never_seen_is_said_once(tiny_world: Path, caplog: pytest.LogCaptureFixture) -> None:
    predictor: Predictor = load_predictor(device="cpu")
    dataset = NuScenesDataset(tiny_world)
    seen = dataset.observation(dataset.tokens[0], points=False)
    with caplog.at_level(logging.WARNING):
        Predictor(predictor.engine).prepare(seen)
        assert not caplog.messages
        strange = ring_observation(("front", "left", "back"), np.zeros((90, 160, 3), np.uint8))
        for _ in range(2):
            predictor.prepare(replace(strange, token="again"))
    (message,) = caplog.messages
    assert "has never seen a rig like this (3 cameras in place of 6" in message
    assert (
        "docs/results/unseen_rigs.md" in message
        and (Path(__file__).parents[3] / "docs/results/unseen_rigs.md").is_file()
    )
