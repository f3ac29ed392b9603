"""`hdmap` as a person meets it: help is there and quick, mistakes are one line and exit code 2."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import entry_points, version
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from PIL import Image

from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.datasets.synthetic.presets import PRESETS
from hdmap_core.datasets.synthetic.writer import write_dataset
from hdmap_core.elements import read_elements
from hdmap_core.geometry import BEVGrid

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "config" / "recipes" / "tiny" / "ground.yaml"
VERBS = ("synth", "score", "predict", "train", "evaluate", "config", "bag", "info", "doctor")

pytestmark = pytest.mark.skipif(
    not entry_points(group="hdmap.commands", name="training"),
    reason="the verbs of `training` are not installed (pip install -e .); colcon installs those of a vehicle",
)


@pytest.fixture(scope="module")
def dataroot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cli-data") / "town"
    changes = {"keyframes": 2, "image_size": (45, 80), "lidar": "none", "towns": {"val": 1}}
    write_dataset(root, PRESETS["tiny"].model_copy(update=changes), 1, lambda done, total: None)
    return root


def test_help_lists_every_verb(hdmap) -> None:
    ended = hdmap("--help")
    assert ended.code == 0
    assert all(f" {verb} " in ended.out for verb in VERBS)


@pytest.mark.parametrize("verb", [*((verb,) for verb in VERBS if verb != "bag"), ("bag", "write"), ("bag", "replay")])
def test_help_of_each_verb_has_an_example(hdmap, verb: tuple[str, ...]) -> None:
    ended = hdmap(*verb, "--help")
    assert ended.code == 0
    assert f"Example: hdmap {' '.join(verb)}" in ended.out


def test_version_and_short_help(hdmap) -> None:
    assert hdmap("--version").out == f"hdmap {version('hdmap_ros')}\n"
    assert hdmap("-h").out == hdmap("--help").out
    for words in (("predict",), ("bag",), ("bag", "replay"), ("info",)):
        assert hdmap(*words, "-h").out == hdmap(*words, "--help").out


def test_help_waits_for_no_heavy_import() -> None:
    script = (
        "import sys\nfrom hdmap_core.cli import main\n"
        f"for verb in {VERBS!r}:\n"
        "    sys.argv = ['hdmap', verb, '--help']\n"
        "    try: main()\n"
        "    except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'scipy', 'cv2', 'lightning', 'rclpy', 'shapely', 'rosbags'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy))\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.endswith("heavy: []\n")


def test_the_installed_command_ends_with_2_and_one_line(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("hdmap")
    if not command.is_file():
        pytest.skip("the command is not installed")
    result = subprocess.run(
        [command, "train", tmp_path / "none.yaml"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: cannot read recipe") and result.stderr.count("\n") == 1


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    script = "import sys\nsys.argv = ['hdmap', 'config', 'schema']\nfrom hdmap_core.cli import main\nmain()\n"
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = subprocess.run(
            [sys.executable, "-c", script], stdout=writer, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT
        )
    finally:
        os.close(writer)
    assert result.returncode == 1 and "Traceback" not in result.stderr


def test_schema_is_json_and_names_the_sections(hdmap) -> None:
    schema = json.loads(hdmap("config", "schema").out)
    assert {"model", "data", "optim", "loss", "augment", "decode"} <= set(schema["properties"])
    hdmap("config", "sceme").assert_refused("'sceme'")


def test_unknown_option_and_verb(hdmap) -> None:
    assert hdmap("predict", "--nonsense").code == 2
    assert hdmap("nonsense").code == 2


def test_train_refuses(hdmap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hdmap("train", RECIPE, "optim.stesp=3").assert_refused("unknown key 'optim.stesp'", "did you mean 'steps'?")
    hdmap("train", RECIPE, "data.root=missing").assert_refused("missing")
    hdmap("train", RECIPE, "--resume", "-o", tmp_path / "none").assert_refused(
        "no run to go on with", "leave --resume out"
    )
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("model: {name: x}")
    hdmap("train", RECIPE, "-o", tmp_path / "run").assert_refused("already holds a run", "--resume")
    assert (tmp_path / "run" / "config.yaml").read_text() == "model: {name: x}"


def test_predict_draws_a_picture(hdmap, checkpoint: Path, dataroot: Path, tmp_path: Path) -> None:
    ended = hdmap("predict", checkpoint, dataroot, "-o", tmp_path / "map.png", "--device", "cpu")
    assert ended.code == 0, ended.err
    assert re.search(r"^\d+ elements drawn, (none|\d+) hidden .*→ .*map\.png$", ended.out, re.MULTILINE), ended.out
    with Image.open(tmp_path / "map.png") as picture:
        assert picture.width > 1000 and picture.height > 1000


def test_predict_says_what_it_hides(hdmap, checkpoint: Path, dataroot: Path, tmp_path: Path) -> None:
    """An untrained model is sure of nothing: all that it says has a score near 0.01 or a little more."""
    everything = hdmap("predict", checkpoint, dataroot, "-o", tmp_path / "map.jsonl", "--device", "cpu")
    (elements,) = read_elements(tmp_path / "map.jsonl").values()
    assert everything.out == f"{len(elements)} elements of any score → {tmp_path / 'map.jsonl'}\n"
    cut = sorted(element.score for element in elements)[len(elements) // 2]
    hidden = [element for element in elements if element.score < cut]
    ended = hdmap("predict", checkpoint, dataroot, "-o", tmp_path / "a.png", "--device", "cpu", "--min-score", cut)
    assert f"{len(elements) - len(hidden)} elements drawn, {len(hidden)} hidden with a score below" in ended.out
    label = hidden[0].label
    assert f"{sum(element.label is label for element in hidden)} {label}" in ended.out


def test_predict_writes_geojson(hdmap, checkpoint: Path, dataroot: Path, tmp_path: Path) -> None:
    ended = hdmap("predict", checkpoint, dataroot, "-o", tmp_path / "map.geojson", "--device", "cpu")
    assert ended.code == 0, ended.err
    content = json.loads((tmp_path / "map.geojson").read_text())
    dataset = NuScenesDataset(dataroot)
    longitude, latitude = dataset[0].map_origin.degrees(dataset.map_from_ego(dataset.tokens[0])[:2, 3])
    assert content["features"]
    for feature in content["features"]:
        points = feature["geometry"]["coordinates"]
        for x, y in points[0] if feature["geometry"]["type"] == "Polygon" else points:
            assert abs(x - longitude) < 1e-3 and abs(y - latitude) < 1e-3


@pytest.mark.parametrize(
    ("verb", "out", "reason"),
    [
        (("predict", "none", "none"), "map.xyz", r"must end in .png or .jpg"),
        (("predict", "none", "none"), "", "it is a folder"),
        (("predict", "none", "none"), "file/map.png", "file is not a folder"),
        (("evaluate", "none", "none"), "file", "file is not a folder"),
        (("evaluate", "none", "none"), "file/below/out", "file is not a folder"),
        (("overfit", RECIPE), "file/run", "file is not a folder"),
        (("train", RECIPE), "file/run", "file is not a folder"),
        (("bag", "write", "none", "--scene", "x"), "drive.bag", "must end in .mcap"),
        (("bag", "write", "none", "--scene", "x"), "file/drive.mcap", "file is not a folder"),
        (("bag", "replay", "none.mcap"), "file/out", "file is not a folder"),
        (("sdmap", "none"), "file/maps", "file is not a folder"),
        (("prepare", "none", "--cache"), "file/cache", "file is not a folder"),
    ],
)
def test_the_output_is_checked_before_anything_is_read(hdmap, tmp_path: Path, verb: Any, out: str, reason: str) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    option = () if verb[-1] == "--cache" else ("-o",)
    hdmap(*verb, *option, tmp_path / out).assert_refused(str(tmp_path), reason)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_predict_refuses(hdmap, checkpoint: Path, dataroot: Path, tmp_path: Path) -> None:
    out = ("-o", tmp_path / "map.png", "--device", "cpu")
    hdmap("predict", tmp_path / "none", dataroot, *out).assert_refused("no checkpoint at")
    hdmap("predict", checkpoint, tmp_path, *out).assert_refused(str(tmp_path))
    hdmap("predict", checkpoint, dataroot, "--sample", "nobody", *out).assert_refused("nobody")
    empty = copytree(dataroot, tmp_path / "empty")
    for table in ("scene", "sample", "sample_data", "sample_annotation"):
        (empty / "v1.0-mini" / f"{table}.json").write_text("[]")
    hdmap("predict", checkpoint, empty, *out).assert_refused("no keyframes")
    hdmap("predict", checkpoint, dataroot, "-o", tmp_path / "map.xyz", "--device", "cpu").assert_refused("map.xyz")
    hdmap("predict", checkpoint, dataroot, "--device", "gpu").assert_refused("device 'gpu'")
    assert not (tmp_path / "map.png").exists()


def test_evaluate_writes_what_score_reads(hdmap, checkpoint: Path, dataroot: Path, tmp_path: Path) -> None:
    ended = hdmap("evaluate", checkpoint, dataroot, "--device", "cpu", "--json", "-o", tmp_path)
    assert ended.code == 0, ended.err
    result = json.loads(ended.out)
    assert (result["num_frames"], result["split"], set(result["heads"].values())) == (2, "val", {"vectors"})
    assert result["checkpoint"].startswith("small-")
    grid = BEVGrid()
    truth = read_elements(tmp_path / "gt.jsonl")
    assert len(truth) == 2 and any(truth.values())
    for elements in truth.values():
        for element in elements:
            assert abs(element.points[:, 0]).max() <= grid.x_range[1] + 1e-3
    again = hdmap("score", tmp_path / "predictions.jsonl", tmp_path / "gt.jsonl", "--json")
    assert json.loads(again.out)["mAP"] == pytest.approx(result["mAP"], abs=1e-3)
    perfect = hdmap("score", tmp_path / "gt.jsonl", tmp_path / "gt.jsonl", "--json")
    assert json.loads(perfect.out)["mAP"] > 0.3


def test_evaluate_prints_a_table_of_some_frames(hdmap, checkpoint: Path, dataroot: Path) -> None:
    ended = hdmap("evaluate", checkpoint, dataroot, "--device", "cpu", "--limit", 1, "--head", "masks")
    assert ended.code == 0 and "mAP" in ended.out and "1 frames" in ended.out


def test_evaluate_refuses(hdmap, checkpoint: Path, dataroot: Path, tmp_path: Path) -> None:
    hdmap("evaluate", checkpoint, dataroot, "--protocol", "coco").assert_refused("protocol 'coco'", "maptr")
    hdmap("evaluate", checkpoint, dataroot, "--split", "vall").assert_refused("'vall'", "val")
    hdmap("evaluate", checkpoint, dataroot, "--head", "polygons").assert_refused("polygons")
    assert hdmap("evaluate", checkpoint, dataroot, "--limit", -1).code == 2
    hdmap("evaluate", tmp_path, dataroot).assert_refused("no checkpoint at")


def test_train_end_to_end(hdmap, dataroot: Path, tmp_path: Path) -> None:
    """Recipe to picture: train a few steps, go on, predict from the run folder."""
    short = ["optim.steps=3", "optim.batch_size=2", "evaluate_every=3", "save_every=2", "evaluate_frames=1"]
    data = [f"data.root={dataroot}", "data.train=val", f"data.cache={tmp_path / 'cache'}", "data.workers=1"]
    ended = hdmap("train", RECIPE, *short, *data, "-o", tmp_path / "run")
    assert ended.code == 0, ended.err
    assert "2 training and 2 validation keyframes" in ended.out
    best = tmp_path / "run" / "checkpoints" / "best.safetensors"
    assert re.search(rf"^best mAP 0\.\d+: {re.escape(str(best))}$", ended.out, re.MULTILINE)
    assert f"next: hdmap evaluate {tmp_path / 'run'} {dataroot} --split val" in ended.out
    ended = hdmap("train", RECIPE, "optim.steps=4", "--resume", "-o", tmp_path / "run")
    assert ended.code == 0, ended.err
    ended = hdmap("predict", tmp_path / "run", dataroot, "-o", tmp_path / "map.jpg", "--device", "cpu")
    assert ended.code == 0 and (tmp_path / "map.jpg").is_file()
