"""`hdmap show` on the tiny world: what is in it, what is missing, a frame of it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hdmap_core.datasets.contents import contents_of
from hdmap_core.datasets.opening import open_dataset
from hdmap_core.elements import MapClass
from hdmap_core.viz import COLOURS


@pytest.fixture
def copy(tiny_world: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_world, tmp_path / "world"))


def test_contents(tiny_world: Path) -> None:
    dataset = open_dataset(tiny_world)
    calls: list[tuple[int, int]] = []
    found = contents_of(dataset, progress=lambda *counts: calls.append(counts))
    assert calls[-1] == (6, 6) and found.looked_at == dataset.tokens
    assert [scene.name for scene in found.scenes] == [scene.name for scene in dataset.scenes]
    for scene in found.scenes:
        assert (scene.frames, scene.seconds) == (3, pytest.approx(1.0, abs=0.02)) and (scene.metres or 0) > 1
        assert len(scene.splits) >= 1
    assert found.splits["mini_train"] == found.splits["mini_val"] == (1, 3)
    counted = [element.label for token in dataset.tokens for element in dataset.elements(token)]
    assert found.elements == {label: counted.count(label) for label in found.elements} and len(counted) > 6
    assert found.sensors["CAM_FRONT"] == (90, 160) and found.sensors["LIDAR_TOP"] is None
    assert "true maps" not in found.missing and not any("CAM" in what for what in found.missing)
    assert contents_of(dataset, most=2).looked_at == (dataset.tokens[0], dataset.tokens[3])


def test_what_is_missing_is_named(copy: Path, hdmap) -> None:
    gone = sorted((copy / "samples" / "CAM_BACK").iterdir())[:2]
    for path in gone:
        path.unlink()
    for path in (copy / "maps" / "expansion").glob("*.json"):
        path.unlink()
    missing = contents_of(open_dataset(copy)).missing
    assert missing["camera files of CAM_BACK"][0] == 2 and missing["camera files of CAM_BACK"][1] in map(str, gone)
    assert missing["true maps"][0] == 6
    ended = hdmap("show", copy, "--json")
    told = json.loads(ended.out)
    assert ended.code == 0 and told["missing"]["true maps"][0] == 6 and told["elements"] == {}
    said = hdmap("show", copy)
    assert said.code == 0 and "camera files of" in said.out and "hdmap show" in said.out


def test_a_frame_with_its_truth_in_the_images_and_from_above(tiny_world: Path, hdmap, tmp_path: Path) -> None:
    dataset = open_dataset(tiny_world)
    token = max(dataset.tokens, key=lambda token: len(dataset.elements(token)))
    ended = hdmap("show", tiny_world, "--token", token, "-o", tmp_path / "frame.png")
    assert ended.code == 0 and f"{len(dataset.elements(token))} true elements in 6 images" in ended.out
    picture = np.asarray(Image.open(tmp_path / "frame.png")).astype(int)
    boundary = (np.abs(picture - COLOURS[MapClass.BOUNDARY]) < 24).all(axis=-1)
    assert boundary[70:790].sum() > 500 and boundary[820:, :1230].sum() > 2000
    hdmap("show", tiny_world, "--token", "nonsense", "-o", tmp_path / "b.png").assert_refused("nonsense")
    hdmap("show", tmp_path / "none").assert_refused("none")
    hdmap("show", tiny_world, "--token", token, "-o", tmp_path / "b.tif").assert_refused("b.tif")


def test_the_frames_of_a_scene(tiny_world: Path, hdmap) -> None:
    scene = open_dataset(tiny_world).scenes[0]
    assert tuple(hdmap("show", tiny_world, "--scene", scene.name).out.split()) == scene.sample_tokens
    assert scene.name in hdmap("show", tiny_world).out
