"""`hdmap info` on each kind of thing that the verbs make or take, and on what they do not know."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hdmap_core import MapClass, MapElement, Prediction, write_elements
from hdmap_core.inference import default_weights

Hdmap = Callable[..., Any]
RECIPES = Path(__file__).resolve().parents[2] / "config" / "recipes"
LINE = MapElement(MapClass.DIVIDER, np.array([[0.0, 0], [10, 0]]), score=0.5)


def info(hdmap: Hdmap, path: Path) -> dict[str, Any]:
    """The JSON; the words for people hold the same."""
    ended = hdmap("info", path, "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    said = hdmap("info", path).out
    assert found["kind"] in said and all(command in said for command in found["next"])
    return found


def test_checkpoint(hdmap: Hdmap) -> None:
    found = info(hdmap, default_weights())
    assert found["kind"] == "a checkpoint of hdmap_ros"
    assert found["facts"]["model"].startswith("student-towns, 0.94 M")
    assert found["facts"]["trained on"].startswith("synth-v2 (seed 1) + synth-v1-large (seed 1, 40 towns)")
    assert any(command.startswith("hdmap bag replay") for command in found["next"])


def test_what_ships_is_found_by_its_name_wherever_one_stands(
    hdmap: Hdmap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert info(hdmap, Path("config/recipes/tiny/ground.yaml"))["kind"] == "a recipe of hdmap train"
    assert info(hdmap, Path("hdmap_core/weights/student.safetensors"))["kind"] == "a checkpoint of hdmap_ros"
    assert not list(tmp_path.iterdir())


def test_run_folder(hdmap: Hdmap, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    shutil.copy(default_weights(), run / "checkpoints" / "best.safetensors")
    (run / "config.yaml").write_text((RECIPES / "tiny" / "ground.yaml").read_text())
    lines = [{"phase": "val", "step": 250, "mAP": 0.2}, {"phase": "val", "step": 500, "mAP": 0.1}]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = info(hdmap, run)
    assert found["kind"] == "a run folder of hdmap train"
    assert found["facts"]["best"] == "mAP 0.200 at step 250" and found["facts"]["steps"] == "500 of 1000 logged"
    assert found["next"][0] == f"hdmap train {run / 'config.yaml'} --resume -o {run}"


def test_recipes(hdmap: Hdmap) -> None:
    found = info(hdmap, RECIPES / "mapqr" / "resnet50.yaml")
    assert found["kind"] == "a recipe of hdmap train" and "view_transform bevformer" in found["facts"]["slots"]


def test_synthetic_and_nuscenes_folders(hdmap: Hdmap, tiny_world: Path, tmp_path: Path) -> None:
    found = info(hdmap, tiny_world)
    assert found["kind"] == "a synthetic world, which is a nuScenes folder"
    assert found["facts"]["v1.0-mini"] == "2 scenes, 6 keyframes"
    assert "train 1, val 1" in found["facts"]["v1.0-mini splits"]
    for path in tiny_world.iterdir():
        if path.name != "synth.json":
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / "v1.0-trainval").symlink_to(tiny_world / "v1.0-mini")
    found = info(hdmap, tmp_path)
    assert found["kind"] == "a nuScenes folder" and {"v1.0-mini", "v1.0-trainval"} <= found["facts"].keys()
    assert all(command.endswith("--version v1.0-trainval") for command in found["next"])
    (tmp_path / "half").mkdir()
    manifest = json.loads((tiny_world / "synth.json").read_text())
    (tmp_path / "half" / "synth.json").write_text(json.dumps({**manifest, "complete": False}))
    assert info(hdmap, tmp_path / "half")["kind"] == "a synthetic world that is not finished"


def test_bags(hdmap: Hdmap, tiny_world: Path, scene: str, tmp_path: Path) -> None:
    drive = tmp_path / "drive.mcap"
    written = hdmap("bag", "write", tiny_world, "--scene", scene, "-o", drive, "--keyframes-only", "--no-lidar")
    assert written.code == 0, written.err
    found = info(hdmap, drive)
    assert found["kind"] == "a bag with cameras" and found["facts"]["topic layouts"].startswith("hdmap (6 cameras)")
    assert found["facts"]["  /cam_front/camera_info"] == "sensor_msgs/msg/CameraInfo"
    drive.write_bytes(b"no bag")
    hdmap("info", drive).assert_refused(str(drive))


def test_elements_and_results(hdmap: Hdmap, tmp_path: Path) -> None:
    write_elements(tmp_path / "predictions.jsonl", {"a": [LINE, LINE], "b": []})
    found = info(hdmap, tmp_path / "predictions.jsonl")
    assert found["kind"] == "map elements, predicted"
    assert found["facts"] == {"frames": "2, first a", "elements": "2 divider", "scores": "0.500 to 0.500"}
    (tmp_path / "report.json").write_text('{"mAP": 0.25}')
    assert info(hdmap, tmp_path)["facts"]["mAP"] == "0.250"
    Prediction([LINE], {}).save(tmp_path / "map.geojson")
    found = info(hdmap, tmp_path / "map.geojson")
    assert found["kind"] == "GeoJSON" and "metres" in found["facts"]["coordinates"]


def test_geojson_of_somebody_else(hdmap: Hdmap, tmp_path: Path) -> None:
    """A feature without properties has null there (RFC 7946, section 3.2)."""
    point = {"type": "Feature", "geometry": None, "properties": None}
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [point]}))
    assert info(hdmap, tmp_path / "a.geojson")["facts"]["features"] == "1 other"


@pytest.mark.parametrize("name", ["none", "notes.txt", "topics.yaml", "other.json", "empty"])
def test_what_is_not_known(hdmap: Hdmap, tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "topics.yaml").write_text("transport: raw\n")
    (tmp_path / "other.json").write_text("[1, 2]")
    (tmp_path / "empty").mkdir()
    reason = "no such file" if name == "none" else "nothing that hdmap knows"
    hdmap("info", tmp_path / name).assert_refused(str(tmp_path / name), reason)
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("name", ["a.safetensors", "a.jsonl", "a.geojson", "run/config.yaml"])
def test_damaged_things_are_told(hdmap: Hdmap, tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("model: {")
    thing = (tmp_path / name).parent if name.endswith("yaml") else tmp_path / name
    hdmap("info", thing).assert_refused(str(tmp_path / name))
