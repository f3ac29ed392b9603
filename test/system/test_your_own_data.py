"""The page docs/your_own_data.md, from a calibration file to a fine-tuned model, on a synthetic drive."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from hdmap_core.datasets.frames.format import FramesFile, schema
from hdmap_core.datasets.frames.geojson_map import write_map
from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.datasets.opening import open_dataset
from hdmap_core.datasets.rig_file import read_rig_file
from hdmap_core.geometry.se3 import quaternion_from_rotation

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "your_own_data.md"
TINY = ("optim.steps=2", "optim.batch_size=2", "optim.warmup_steps=1", "evaluate_every=2", "data.workers=1")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


def commands(chapter: str) -> list[list[str]]:
    """The verbs of a chapter, as they stand there."""
    text = PAGE.read_text(encoding="utf-8").split(f"## {chapter}")[1].split("\n## ")[0]
    lines = [re.sub(r"\s#.*", "", line) for line in text.splitlines() if line.startswith("    hdmap ")]
    return [shlex.split(line)[1:] for line in lines]


@pytest.fixture(scope="module")
def place(tiny_world: Path, recorded: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader has before the page begins: videos of a drive, the left camera's begun half a second before, poses
    on its clock, a map; and the page's rig file.
    """
    folder = tmp_path_factory.mktemp("own")
    for name in ("config", "hdmap_core"):
        (folder / name).symlink_to(ROOT / name)
    dataset = NuScenesDataset(tiny_world)
    scene = dataset.scenes[0]
    seen = [dataset.observation(token, points=False) for token in scene.sample_tokens]
    sound = recorded.street_sound(2.5, [0.9, 1.3])
    for name, camera, begin_s in (("front", "CAM_FRONT", 0.5), ("left", "CAM_FRONT_LEFT", 0.0)):
        images = [image for each in seen if (image := each.images[each.rig.names.index(camera)]) is not None]
        pictures = [(0.5 * n, image) for n, image in enumerate((images[:1] if begin_s == 0 else []) + images)]
        heard = sound[round(begin_s * recorded.SOUND_HZ) :]
        recorded.write_recording(folder / f"{name}.mp4", pictures, heard, rate=2)
    poses = [each.map_from_ego for each in seen if each.map_from_ego is not None]
    before, after = poses[0].copy(), poses[-1].copy()
    before[:3, 3] -= poses[1][:3, 3] - poses[0][:3, 3]
    after[:3, 3] += poses[-1][:3, 3] - poses[-2][:3, 3]
    lines = ["# time x y z qx qy qz qw"]
    for number, pose in enumerate((before, *poses, after)):
        w, x, y, z = quaternion_from_rotation(pose[:3, :3])
        lines.append(" ".join(map(repr, map(float, (0.5 * number, *pose[:3, 3], x, y, z, w)))))
    (folder / "poses.txt").write_text("\n".join(lines))
    (folder / "town.geojson").write_text(json.dumps(write_map(dataset.vector_map(scene.location).layers)))
    (folder / "rig.yaml").write_text(block("yaml"))
    return folder


@pytest.mark.slow
def test_the_page_from_calibration_to_a_fine_tuned_model(
    place: Path, tiny_world: Path, hdmap: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    first_look = commands("2. A first look")
    frames = commands("3. A frames folder")[:2]
    learning = commands("5. Scores, and a model that has learnt from it")
    assert [words[0] for words in (*first_look, *frames, *learning)] == [
        *("info", "predict", "frames", "prepare", "evaluate", "train", "evaluate", "predict")
    ]
    for words in (*first_look, *frames, *learning):
        more = TINY if words[0] == "train" else ("--workers", "1") if words[0] == "prepare" else ()
        ended = hdmap(*words, *more)
        assert ended.code == 0, f"hdmap {' '.join(words)}: {ended.err}"
        if words[0] == "info":
            assert "any cameras, of any names" in ended.out and "trained" in ended.out
        if words[:2] == ["frames", "from-video"]:
            assert "videos begin by their sound" in ended.out and "3 frames of front, left" in ended.out
        if words[0] == "prepare":
            assert "3 keyframes, 3 complete" in ended.out
    assert (place / "map.png").stat().st_size > 1000
    ours, theirs = open_dataset("data/drive"), open_dataset(tiny_world)
    scene = theirs.scenes[0]
    assert len(ours.tokens) == len(scene.sample_tokens)
    for mine, token in zip(ours.tokens, scene.sample_tokens, strict=True):
        found, expected = ours.elements(mine), theirs.elements(token)
        for one, other in zip(found, expected, strict=True):
            assert one.label == other.label
            np.testing.assert_allclose(one.points, other.points, atol=5e-3)  # sound tells to 0.2 ms, 2 mm
    provenance = hdmap("info", "runs/mine/checkpoints/last.safetensors").out
    assert "1 rig of 2 cameras (pinhole, polynomial), 1.6 m high" in provenance.replace("\n", " ")


def test_the_pages_rig_and_example_are_read(place: Path) -> None:
    cameras = read_rig_file(place / "rig.yaml")
    left = cameras["left"].ego_from_camera
    assert left is not None and np.rad2deg(np.arctan2(left[1, 2], left[0, 2])) == pytest.approx(55, abs=0.1)
    example = json.loads(block("json"))
    assert FramesFile.model_validate_json(json.dumps(example), strict=True).frames[0].token == "monday-0"


def test_the_schema_in_the_docs_is_the_codes(hdmap: Callable[..., Any]) -> None:
    stored = json.loads((ROOT / "docs" / "frames.schema.json").read_text(encoding="utf-8"))
    assert stored == schema(), "hdmap frames schema > docs/frames.schema.json writes it anew"
    assert json.loads(hdmap("frames", "schema").out) == stored
