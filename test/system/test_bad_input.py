"""What a user may get wrong: one line that names file, field and remedy, exit code 2, and nothing is touched."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from hdmap_core.checkpoint import load_checkpoint
from hdmap_ros.bag.mcap import open_bag, write_mcap

RECIPE = Path(__file__).resolve().parents[2] / "config" / "recipes" / "tiny" / "ground.yaml"
CPU = ("--device", "cpu")


@pytest.fixture
def world(tiny_world: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(tiny_world, tmp_path / "world"))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def verbs(data: Path, checkpoint: Path, out: Path) -> list[tuple[Any, ...]]:
    """Every command that reads a nuScenes folder and writes below `out`."""
    return [
        ("train", RECIPE, f"data.root={data}", f"data.cache={out / 'cache'}", "-o", out / "run"),
        ("evaluate", checkpoint, data, *CPU, "-o", out / "scores"),
        ("predict", checkpoint, data, *CPU, "-o", out / "map.png"),
        ("bag", "write", data, "--scene", "scene-0003", "-o", out / "drive.mcap"),
    ]


@pytest.mark.parametrize("verb", range(4), ids=["train", "evaluate", "predict", "bag write"])
def test_no_nuscenes_folder(hdmap: Callable[..., Any], checkpoint: Path, tmp_path: Path, verb: int) -> None:
    folder = tmp_path / "holiday"
    folder.mkdir()
    (folder / "photo.jpg").write_bytes(b"sun")
    before = contents(tmp_path)
    command = verbs(folder, checkpoint, tmp_path / "out")[verb]
    hdmap(*command).assert_refused(str(folder), "v1.0-")
    assert contents(tmp_path) == before
    hdmap(*verbs(tmp_path / "none", checkpoint, tmp_path / "out")[verb]).assert_refused(str(tmp_path / "none"))
    assert contents(tmp_path) == before


def test_missing_table(hdmap: Callable[..., Any], checkpoint: Path, world: Path, tmp_path: Path) -> None:
    (world / "v1.0-mini" / "ego_pose.json").unlink()
    before = contents(world)
    for command in verbs(world, checkpoint, tmp_path / "out"):
        hdmap(*command).assert_refused(str(world / "v1.0-mini"), "ego_pose.json")
    assert contents(world) == before
    assert not contents(tmp_path / "out")


def test_missing_map_expansion(hdmap: Callable[..., Any], checkpoint: Path, world: Path, tmp_path: Path) -> None:
    shutil.rmtree(world / "maps" / "expansion")
    hdmap("evaluate", checkpoint, world, *CPU).assert_refused(str(world / "maps" / "expansion"))
    # A picture needs no ground truth.
    assert hdmap("predict", checkpoint, world, *CPU, "-o", tmp_path / "map.png").code == 0


def test_truncated_jpeg(hdmap: Callable[..., Any], checkpoint: Path, world: Path, scene: str, tmp_path: Path) -> None:
    for path in (world / "samples" / "CAM_BACK").iterdir():
        path.write_bytes(path.read_bytes()[:900])
    name = str(Path("samples") / "CAM_BACK")
    picture = tmp_path / "map.png"
    picture.write_bytes(b"an older picture")
    hdmap("predict", checkpoint, world, *CPU, "-o", picture).assert_refused(name, ".jpg", "truncated")
    assert picture.read_bytes() == b"an older picture"
    scores = tmp_path / "scores"
    scores.mkdir()
    (scores / "predictions.jsonl").write_bytes(b"older")
    hdmap("evaluate", checkpoint, world, *CPU, "-o", scores).assert_refused(name)
    assert contents(scores) == {"predictions.jsonl": b"older"}
    command = ("train", RECIPE, f"data.root={world}", f"data.cache={tmp_path / 'cache'}", "-o", tmp_path / "run")
    hdmap(*command).assert_refused(name)
    drive = tmp_path / "drive.mcap"
    hdmap("bag", "write", world, "--scene", scene, "-o", drive).assert_refused(name, "truncated")
    assert not drive.exists()


def test_bag_without_a_camera(
    hdmap: Callable[..., Any], checkpoint: Path, world: Path, scene: str, tmp_path: Path
) -> None:
    for table in ("sample_data", "sample"):  # a world of one scene and five cameras
        path = world / "v1.0-mini" / f"{table}.json"
        rows = json.loads(path.read_text())
        path.write_text(json.dumps([row for row in rows if "/CAM_BACK_LEFT/" not in row.get("filename", "")]))
    drive, out = tmp_path / "drive.mcap", tmp_path / "out"
    written = hdmap("bag", "write", world, "--scene", scene, "-o", drive, "--keyframes-only", "--no-lidar")
    assert written.code == 0, written.err
    out.mkdir()
    (out / "map.mcap").write_bytes(b"an older map")
    replay = ("bag", "replay", drive, "-o", out, "--weights", checkpoint, *CPU)
    hdmap(*replay).assert_refused(str(drive), "CAM_BACK_LEFT", "/cam_back_left/image_raw/compressed", "min-cameras")
    assert contents(out) == {"map.mcap": b"an older map"}
    assert hdmap(*replay, "--min-cameras", 5).code == 0
    assert json.loads((out / "report.json").read_text())["published"] == 3


def test_bag_of_damaged_images_leaves_the_older_map(
    hdmap: Callable[..., Any], checkpoint: Path, tiny_world: Path, scene: str, tmp_path: Path
) -> None:
    whole, drive, out = tmp_path / "whole.mcap", tmp_path / "drive.mcap", tmp_path / "out"
    written = hdmap("bag", "write", tiny_world, "--scene", scene, "-o", whole, "--keyframes-only", "--no-lidar")
    assert written.code == 0, written.err
    with open_bag(whole) as bag, write_mcap(drive) as copy:
        for topic, kind in bag.topics.items():
            copy.declare(topic, kind)
        for topic, stamp_ns, message in bag.messages(lambda topic: True):
            if topic == "/cam_back/image_raw/compressed":
                message.data = message.data[:900]
            copy.write(topic, stamp_ns, message)
    out.mkdir()
    (out / "map.mcap").write_bytes(b"an older map")
    replay = hdmap("bag", "replay", drive, "-o", out, "--weights", checkpoint, *CPU)
    replay.assert_refused(str(drive), "CAM_BACK", "truncated")
    assert contents(out) == {"map.mcap": b"an older map"}


def of_classes(path: Path, checkpoint: Path, classes: list[str]) -> None:
    """Our format and the weights of three classes, but the header says others."""
    config = load_checkpoint(checkpoint).config.model_dump(mode="json")
    config["model"]["classes"] = classes
    header = {"format": 1, "config": config, "provenance": {}}
    path.write_bytes(save(load_file(checkpoint), metadata={"hdmap": json.dumps(header)}))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path, _: path.write_bytes(b"PK\x03\x04 a pickle, perhaps"), "a zip archive that is cut off"),
        (lambda path, _: save_file({"weight": torch.zeros(2)}, path), "not of hdmap_ros"),
        (partial(of_classes, classes=["divider", "ped_crossing"]), "misshapen"),
        (partial(of_classes, classes=["traffic_light", "ped_crossing", "boundary"]), "model.classes"),
    ],
    ids=["no safetensors", "somebody else's", "another class list", "unknown class"],
)
def test_checkpoint_that_does_not_fit(
    hdmap: Callable[..., Any], checkpoint: Path, tiny_world: Path, tmp_path: Path, make: Any, reason: str
) -> None:
    path = tmp_path / "strange.safetensors"
    make(path, checkpoint)
    before = contents(tmp_path)
    hdmap("evaluate", path, tiny_world, *CPU, "-o", tmp_path / "out").assert_refused(str(path), reason)
    hdmap("predict", path, tiny_world, *CPU, "-o", tmp_path / "map.png").assert_refused(str(path), reason)
    replay = ("bag", "replay", tmp_path / "none.mcap", "-o", tmp_path / "out", "--weights", path, *CPU)
    hdmap(*replay).assert_refused(str(path), reason)
    assert contents(tmp_path) == before


def test_output_that_cannot_be_written(
    hdmap: Callable[..., Any], checkpoint: Path, tiny_world: Path, scene: str, tmp_path: Path
) -> None:
    """A file stands where a folder should be: that stops even root."""
    blocked = tmp_path / "blocked"
    blocked.write_bytes(b"mine")
    for command in verbs(tiny_world, checkpoint, blocked):
        command = tuple(scene if word == "scene-0003" else word for word in command)
        hdmap(*command).assert_refused(str(blocked))
    hdmap("synth", blocked, "--image-size", "45x80").assert_refused(str(blocked), "folder")
    assert contents(tmp_path) == {"blocked": b"mine"}


def test_recipe_with_a_wrong_key(hdmap: Callable[..., Any], tiny_world: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(RECIPE.read_text().replace("warmup_steps", "warm_up_steps"))
    before = contents(tmp_path)
    ended = hdmap("train", recipe, f"data.root={tiny_world}", "-o", tmp_path / "run")
    ended.assert_refused(str(recipe), "optim.warm_up_steps", "did you mean 'warmup_steps'")
    assert contents(tmp_path) == before
