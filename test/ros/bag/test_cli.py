"""`hdmap bag` as a user types it."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import hdmap_core.inference
import hdmap_ros.bag.replay_many  # noqa: F401 - imported first under a patched name, it would keep the patch
from hdmap_core.errors import CheckpointError, ConfigError, DatasetError
from hdmap_ros.bag.cli import register


def hdmap(*arguments: object) -> Any:
    app = typer.Typer()
    register(app)
    return CliRunner().invoke(app, ["bag", *map(str, arguments)])


def test_write_then_replay(
    rig_nuscenes: Path, tmp_path: Path, rig_module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive = tmp_path / "drive.mcap"
    written = hdmap("write", rig_nuscenes, "--scene", "scene-0001", "-o", drive, "--no-lidar")
    assert written.exit_code == 0, written.output
    assert "193 messages on 15 topics" in written.output
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"")
    monkeypatch.setattr(
        hdmap_core.inference, "load_predictor", lambda path, device, *, cameras_only: rig_module.RigLines()
    )
    replayed = hdmap("replay", drive, "-o", tmp_path / "out", "--weights", weights, "--every", 2)
    assert replayed.exit_code == 0, replayed.output
    assert "4 maps from 8 sets" in replayed.output
    assert json.loads((tmp_path / "out" / "report.json").read_text())["published"] == 4


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
