"""One folder with v1.0-mini and v1.0-trainval, as users of nuScenes have it, through every verb that reads one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.inference import default_weights

Verb = Callable[..., object]
RECIPE = Path(__file__).resolve().parents[2] / "config" / "recipes" / "tiny" / "ground.yaml"
NAME_IT = ("holds v1.0-mini, v1.0-trainval", "--version v1.0-mini", "data.version=v1.0-mini")


@pytest.fixture
def root(tiny_world: Path, tmp_path: Path) -> Path:
    """The tiny world as v1.0-mini and, with one keyframe less in each scene, as v1.0-trainval; no splits of its own."""
    root = tmp_path / "nuscenes"
    root.mkdir()
    for path in tiny_world.iterdir():
        if path.name not in ("v1.0-mini", "cache"):
            (root / path.name).symlink_to(path)
    tables = shutil.copytree(tiny_world / "v1.0-mini", root / "v1.0-mini")
    (tables / "splits.json").unlink()
    larger = shutil.copytree(tables, root / "v1.0-trainval")
    scenes = json.loads((larger / "scene.json").read_text())
    samples = json.loads((larger / "sample.json").read_text())
    lost = {scene["last_sample_token"] for scene in scenes}
    for scene in scenes:
        scene["nbr_samples"] -= 1
    (larger / "scene.json").write_text(json.dumps(scenes))
    (larger / "sample.json").write_text(json.dumps([sample for sample in samples if sample["token"] not in lost]))
    for table in ("sample_data", "sample_annotation"):
        rows = json.loads((larger / f"{table}.json").read_text())
        (larger / f"{table}.json").write_text(json.dumps([row for row in rows if row["sample_token"] not in lost]))
    return root


def test_prepare(hdmap: Verb, root: Path) -> None:
    hdmap("prepare", root, "--check").assert_refused(*NAME_IT)
    hdmap("prepare", root).assert_refused(*NAME_IT)
    for options, said in (
        (("--version", "v1.0-mini"), "v1.0-mini: "),
        (("--split", "mini_val"), "v1.0-mini: "),
        (("--split", "val"), "v1.0-trainval: "),
    ):
        ended = hdmap("prepare", root, "--check", "--workers", "1", *options)
        assert ended.code == 0 and said in ended.out, ended.err
    both = hdmap("prepare", root, "--check", "--workers", "1", "--split", "val", "--split", "mini_val").out
    assert "v1.0-mini: " in both and "v1.0-trainval: " in both
    hdmap("prepare", root, "--check", "--split", "test").assert_refused("'test'", "is of v1.0-test")
    hdmap("prepare", root, "--version", "v1.0-test").assert_refused("no version 'v1.0-test'")


def test_stores_of_two_versions_never_mix(hdmap: Verb, root: Path) -> None:
    for version in ("v1.0-mini", "v1.0-trainval"):
        options = ("--grid", "30x18", "--split", "mini_val", "--version", version, "--workers", "1")
        assert hdmap("prepare", root, *options).code == 0
    stores = [path for path in (root / "cache").glob("mini_val-*") if (path / "complete").is_file()]
    indices = list((root / "cache").glob("index-*"))
    assert (len(stores), len(indices)) == (2, 2)


def test_evaluate(hdmap: Verb, root: Path, tmp_path: Path) -> None:
    for split, options, frames in (("mini_val", (), 3), ("val", (), 2), ("val", ("--version", "v1.0-mini"), 3)):
        out = tmp_path / f"{split}-{frames}"
        ended = hdmap(
            "evaluate", default_weights(), root, "--split", split, "-o", out, "--gallery", "0", "--json", *options
        )
        assert ended.code == 0, ended.err
        assert json.loads(ended.out)["num_frames"] == frames
    hdmap("evaluate", default_weights(), root, "--split", "night").assert_refused("'night'", "--version")


def test_predict(hdmap: Verb, root: Path, tmp_path: Path) -> None:
    picture = tmp_path / "map.png"
    hdmap("predict", default_weights(), root, "-o", picture).assert_refused(*NAME_IT)
    assert hdmap("predict", default_weights(), root, "--version", "v1.0-mini", "-o", picture).code == 0
    assert picture.is_file()
    gone = NuScenesDataset(root, "v1.0-mini").scenes[0].sample_tokens[-1]
    ended = hdmap("predict", default_weights(), root, "--version", "v1.0-trainval", "--sample", gone, "-o", picture)
    ended.assert_refused("v1.0-trainval has no sample")


def test_train(hdmap: Verb, root: Path) -> None:
    data = (f"data.root={root}", "data.train=mini_train", "data.val=mini_val")
    said = hdmap("train", RECIPE, *data, "--dry-run").out
    assert "of 3 keyframes" in said and "not measured" not in said
    assert "of 2 keyframes" in hdmap("train", RECIPE, *data, "data.version=v1.0-trainval", "--dry-run").out
    hdmap("train", RECIPE, *data, "data.version=v1.0", "--dry-run").assert_refused("data.version")


def test_bag_write(hdmap: Verb, root: Path, tmp_path: Path) -> None:
    bag = tmp_path / "drive.mcap"
    hdmap("bag", "write", root, "--scene", "scene-0103", "-o", bag).assert_refused(*NAME_IT)
    options = ("--version", "v1.0-trainval", "--keyframes-only")
    assert hdmap("bag", "write", root, "--scene", "scene-0103", "-o", bag, *options).code == 0
