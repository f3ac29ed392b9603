"""`hdmap bag` as a user types it."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import hdmap_core.inference
from hdmap_core.errors import CheckpointError, DatasetError
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


@pytest.mark.parametrize("verb", ["write", "replay"])
def test_help_has_an_example(verb: str) -> None:
    assert f"Example: hdmap bag {verb}" in hdmap(verb, "--help").output
