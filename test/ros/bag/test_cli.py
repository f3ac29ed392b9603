"""`hdmap bag` as a user types it."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import hdmap_core.inference
import hdmap_ros.bag.replay_many  # noqa: F401 - imported first under a patched name, it would keep the patch
from hdmap_core.errors import CheckpointError, ConfigError, DatasetError, OutputError
from hdmap_ros.bag.cli import register
from hdmap_ros.bag.mcap import open_bag, write_mcap
from hdmap_ros.bag.write import write_bag


def hdmap(*arguments: object) -> Any:
    app = typer.Typer()
    register(app)
    return CliRunner().invoke(app, ["bag", *map(str, arguments)])


@pytest.fixture
def weights(tmp_path: Path, rig_module: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint of which the rig's own predictor is loaded."""
    monkeypatch.setattr(
        hdmap_core.inference, "load_predictor", lambda path, device, *, cameras_only: rig_module.RigLines()
    )
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"")
    return path


def test_write_then_replay(rig_nuscenes: Path, tmp_path: Path, weights: Path) -> None:
    drive = tmp_path / "drive.mcap"
    written = hdmap("write", rig_nuscenes, "--scene", "scene-0001", "-o", drive, "--no-lidar")
    assert written.exit_code == 0, written.output
    assert "193 messages on 15 topics" in written.output
    replayed = hdmap("replay", drive, "-o", tmp_path / "out", "--weights", weights, "--every", 2)
    assert replayed.exit_code == 0, replayed.output
    assert "4 maps from 8 sets" in replayed.output
    assert json.loads((tmp_path / "out" / "report.json").read_text())["published"] == 4


def test_problems_are_told_once_and_at_the_end(rig_nuscenes: Path, tmp_path: Path, weights: Path) -> None:
    drive, broken = tmp_path / "drive.mcap", tmp_path / "broken.mcap"
    write_bag(rig_nuscenes, "scene-0001", drive, lidar=False)
    with open_bag(drive) as bag, write_mcap(broken) as out:
        for topic, kind in bag.topics.items():
            out.declare(topic, kind)
        for topic, log_ns, data in bag.raw():
            out.write(topic, log_ns, data[:-8] if topic == "/cam_back/image_raw/compressed" else data)
    result = hdmap(
        *("replay", broken, "-o", tmp_path / "out", "--weights", weights, "--min-cameras", 5),
        *("--sync-timeout", 0.1, "--projection", "k"),
    )
    assert result.exit_code == 0, result.output
    assert result.stderr.count("warning: a message on /cam_back/image_raw/compressed cannot be read") == 1
    assert "unreadable_message: CAM_BACK (8 times): a message on" in result.stdout
    assert "8 maps from 8 sets" in result.stdout
    for option, value in (("--sync-timeout", 9), ("--projection", "q"), ("--sync-anchor", "CAM_TOP")):
        result = hdmap("replay", drive, "-o", tmp_path / "out", "--weights", weights, option, value)
        assert isinstance(result.exception, ConfigError)
        assert str(value) in str(result.exception)


def test_errors_reach_the_command_line_as_ours(rig_nuscenes: Path, tmp_path: Path) -> None:
    result = hdmap("write", tmp_path / "none", "--scene", "scene-0001", "-o", tmp_path / "a.mcap")
    assert isinstance(result.exception, DatasetError)
    result = hdmap("replay", tmp_path / "none.mcap", "-o", tmp_path / "out", "--weights", tmp_path / "none.safetensors")
    assert isinstance(result.exception, CheckpointError)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("bags", [1, 2])
def test_a_model_that_needs_an_sd_map_is_refused(tmp_path: Path, sd_checkpoint: Path, bags: int) -> None:
    drives = [tmp_path / f"{number}.mcap" for number in range(bags)]
    result = hdmap("replay", *drives, "-o", tmp_path / "out", "--weights", sd_checkpoint, "--device", "cpu")
    assert isinstance(result.exception, ConfigError)
    assert f"{sd_checkpoint} looks at an SD map as well, but here are only cameras" in str(result.exception)
    assert not list(tmp_path.glob("out/*/*"))


@pytest.mark.parametrize("verb", ["write", "replay"])
def test_help_has_an_example(verb: str) -> None:
    assert f"Example: hdmap bag {verb}" in hdmap(verb, "--help").output


@pytest.mark.parametrize(
    ("bags", "options", "reason"),
    [
        (1, ("--fuse", "map.png"), "must end in .geojson or .osm"),
        (2, ("--fuse", "map.geojson"), "one bag"),
        (1, ("--origin", "42,-71"), "give --fuse too"),
        (1, ("--fuse", "map.osm", "--origin", "north"), "latitude,longitude in degrees"),
    ],
)
def test_what_cannot_be_fused_is_told_before_anything_is_done(
    bags: int, options: tuple[str, ...], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = hdmap("replay", *[f"{number}.mcap" for number in range(bags)], "-o", "out", *options)
    assert isinstance(result.exception, ConfigError | OutputError)
    assert reason in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_the_drive_as_a_map_for_lanelet2(rig_nuscenes: Path, tmp_path: Path, weights: Path) -> None:
    drive, fused = tmp_path / "drive.mcap", tmp_path / "maps" / "map.osm"
    write_bag(rig_nuscenes, "scene-0001", drive, lidar=False)
    result = hdmap("replay", drive, "-o", tmp_path / "out", "--weights", weights, "--fuse", fused)
    assert result.exit_code == 0, result.output
    assert str(fused) in result.output
    assert fused.read_bytes().startswith(b"<?xml") and [entry.name for entry in fused.parent.iterdir()] == ["map.osm"]
