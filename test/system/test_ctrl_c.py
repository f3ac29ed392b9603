"""Ctrl-C in every verb of `hdmap`, at its start and in its work: one line, exit code 130, outputs whole or absent.

`synth` and the workers of several processes have theirs in `test/core/running/test_interruption.py`,
runs of `hdmap train` in `test/training/fit/test_resume.py`.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.elements import MapClass, MapElement, write_elements
from hdmap_core.inference import default_weights
from hdmap_ros.bag.write import write_bag

ROOT = Path(__file__).resolve().parents[2]
DRIVER = Path(__file__).with_name("hdmap_with_ctrl_c.py")
LINE = "interrupted; the same command finishes it\n"


def interrupted(moment: str, *arguments: object, folder: Path, told: str = "") -> None:
    """Runs `hdmap` in `folder` until Ctrl-C in the moment; it has to end with one line, leaving no process or part.

    `told`: a pattern of what the command says on stderr before that.
    """
    command = [sys.executable, str(DRIVER), moment, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, start_new_session=True, timeout=120
    )
    # Where no terminal is, a progress bar leaves an empty line.
    assert ended.returncode == 130, (ended.stdout, ended.stderr)
    assert re.fullmatch(told + re.escape(LINE), ended.stderr.lstrip("\n")), (ended.stdout, ended.stderr)
    assert processes_in(folder) == []
    assert list(folder.rglob("*.part")) == []


def processes_in(folder: Path) -> list[str]:
    """Living processes whose working folder it is."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve() == folder:
                found.append((process / "cmdline").read_text())
        except OSError:  # another user's, or it has just ended
            continue
    return found


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory, tiny_world: Path) -> Path:
    bag = tmp_path_factory.mktemp("bag") / "drive.mcap"
    write_bag(tiny_world, NuScenesDataset(tiny_world).scenes[0].name, bag, lidar=False)
    return bag


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        *(["synth", "town"], ["sdmap", "osm", "-o", "out"], ["score", "a.jsonl", "b.jsonl"], ["predict", "a", "b"]),
        *(["export", "a"], ["benchmark", "a"], ["info", "."], ["doctor"], ["prepare", "a"], ["train", "a.yaml"]),
        *(["overfit", "a.yaml"], ["evaluate", "a", "b"], ["config"]),
        *(["bag", "write", "a", "--scene", "b", "-o", "c.mcap"], ["bag", "replay", "a.mcap", "-o", "out"]),
    ],
    ids=lambda arguments: "-".join(arguments[:2] if arguments[0] == "bag" else arguments[:1]),
)
def test_while_a_verb_starts(arguments: list[str], tmp_path: Path) -> None:
    interrupted("import typer", *arguments, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("moment", "older_map"),
    [
        ("hdmap_ros.bag.sources:stamp_to_ns", True),
        ("hdmap_core.inference.predictor:Predictor.complete+0.02", True),
        ("hdmap_ros.bag.map_writer:MapWriter.write", True),
        ("os:fsync", False),
    ],
    ids=["images are read", "the network runs", "a map is written", "the predictions are written"],
)
def test_bag_replay(drive: Path, tmp_path: Path, moment: str, older_map: bool) -> None:
    """An older run's map stays until there is a whole new one."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "map.mcap").write_bytes(b"older")
    interrupted(moment, "bag", "replay", drive, "-o", "out", folder=tmp_path)
    assert [path.name for path in out.iterdir()] == ["map.mcap"]
    assert ((out / "map.mcap").read_bytes() == b"older") is older_map


def test_replay_of_several_bags(drive: Path, tmp_path: Path) -> None:
    """Its processes end with it."""
    shutil.copy(drive, tmp_path / "other.mcap")
    options = ("--workers", 2, "-o", "out")
    interrupted("hdmap_core.running.parallel:wait+1", "bag", "replay", drive, "other.mcap", *options, folder=tmp_path)
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.suffix != ".mcap"] == []


def test_bag_write(tiny_world: Path, tmp_path: Path) -> None:
    scene = NuScenesDataset(tiny_world).scenes[0].name
    command = ("bag", "write", tiny_world, "--scene", scene, "-o", "drive.mcap")
    interrupted("hdmap_ros.bag.write:check_complete", *command, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_export(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra export")
    interrupted("torch.onnx:export+1", "export", default_weights(), "-o", "student.onnx", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_benchmark(tmp_path: Path) -> None:
    moment = "hdmap_core.models.map_model:MapModel.forward+0.05"
    told = r"student-towns in \w+: warming up\n(\d+ sets, .*\n)?"
    interrupted(moment, "benchmark", default_weights(), folder=tmp_path, told=told)


def test_score(tmp_path: Path) -> None:
    divider = MapElement(MapClass.DIVIDER, np.array([[0.0, 0.0], [9.0, 0.0]], np.float32), score=0.5)
    write_elements(tmp_path / "a.jsonl", {"one": [divider]})
    interrupted("hdmap_core.metrics.chamfer_ap:chamfer_ap", "score", "a.jsonl", "a.jsonl", folder=tmp_path)


@pytest.mark.parametrize("moment", ["import torch", "hdmap_core.doctor:imported"])
def test_doctor(tmp_path: Path, moment: str) -> None:
    interrupted(moment, "doctor", folder=tmp_path)


def test_predict(tiny_world: Path, tmp_path: Path) -> None:
    interrupted("os:fsync", "predict", default_weights(), tiny_world, "-o", "map.json", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_predict_a_film(tiny_world: Path, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="films need PyAV; run make setup")
    moment = "hdmap_core.viz.drive_film:DriveFilm.draw"
    interrupted(moment, "predict", default_weights(), tiny_world, "-o", "drive.mp4", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
