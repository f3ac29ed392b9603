"""Several bags in one command: a folder each, the same maps for any number of workers, bad bags named."""

from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

from hdmap_core.checkpoint import CheckpointConfig, save_checkpoint
from hdmap_core.errors import BagError, CheckpointError, ConfigError, OutputError
from hdmap_core.geometry import BEVGrid
from hdmap_core.models import ModelConfig, build_model
from hdmap_core.models.bev_encoder import BEVEncoderConfig
from hdmap_core.postprocess.decode import DecodeConfig
from hdmap_ros.bag.cli import register
from hdmap_ros.bag.layouts import load_layout
from hdmap_ros.bag.replay import ReplayConfig
from hdmap_ros.bag.replay_many import folders_of, replay_bags
from hdmap_ros.bag.write import write_bag

CONFIG = ReplayConfig(load_layout("hdmap"), every=2)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A small model that has learnt nothing and publishes whatever it thinks of."""
    torch.manual_seed(0)
    encoder = BEVEncoderConfig(channels=(8, 8), blocks=(1, 1), out_channels=8)
    grid = BEVGrid(x_range=(-12.0, 12.0), y_range=(-6.0, 6.0))
    config = CheckpointConfig(
        model=ModelConfig(name="small", grid=grid, bev_encoder=encoder), decode=DecodeConfig(score_threshold=0.0)
    )
    path = tmp_path / "small.safetensors"
    save_checkpoint(path, build_model(config.model), config, {})
    return path


@pytest.fixture
def bags(rig_nuscenes: Path, tmp_path: Path) -> list[Path]:
    """Eight cycles, and the four of them that are keyframes."""
    paths = [tmp_path / "all.mcap", tmp_path / "keys.mcap"]
    for path, keyframes_only in zip(paths, (False, True), strict=True):
        write_bag(rig_nuscenes, "scene-0001", path, lidar=False, keyframes_only=keyframes_only)
    return paths


def hdmap_replay(*arguments: object) -> Any:
    app = typer.Typer()
    register(app)
    return CliRunner().invoke(app, ["bag", "replay", *map(str, arguments)])


def test_maps_do_not_depend_on_the_workers(bags: list[Path], weights: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    replay_bags(bags, weights, "cpu", folders_of(bags, one), CONFIG, workers=1)
    arguments = (*bags, "--weights", weights, "--device", "cpu", "--every", 2)
    result = hdmap_replay(*arguments, "-o", two, "--workers", 2)
    assert result.exit_code == 0, result.output
    all_at, keys_at = result.output.index("4 maps from 8 sets"), result.output.index("2 maps from 4 sets")
    assert all_at < keys_at, "reports come in the order of the bags"
    for bag in ("all", "keys"):
        assert {path.name for path in (two / bag).iterdir()} == {"predictions.jsonl", "map.mcap", "report.json"}
        for name in ("predictions.jsonl", "map.mcap"):
            assert (one / bag / name).read_bytes() == (two / bag / name).read_bytes(), (bag, name)
    assert '"divider"' in (one / "all" / "predictions.jsonl").read_text(), "nothing was compared"


def test_bad_bags_are_named_and_the_others_done(bags: list[Path], weights: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mcap"
    broken.write_bytes(bags[0].read_bytes()[:3000])
    wanted = [broken, bags[1], tmp_path / "none.mcap"]
    told: list[tuple[int, int]] = []
    with pytest.raises(BagError, match=r"^2 of 3 bags .*the other 1 are done: .*broken\.mcap.*none\.mcap: no such bag"):
        replay_bags(
            *(wanted, weights, "cpu", folders_of(wanted, tmp_path / "out"), CONFIG),
            progress=lambda done, total: told.append((done, total)),
        )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["keys"]
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_what_concerns_all_bags_stops_at_once(bags: list[Path], weights: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        replay_bags(bags, weights, "cpu", folders_of(bags, tmp_path / "file"), CONFIG)
    with pytest.raises(CheckpointError, match=r"none\.safetensors"):
        replay_bags(bags, tmp_path / "none.safetensors", "cpu", folders_of(bags, tmp_path / "out"), CONFIG)
    assert not (tmp_path / "out").exists()


def test_folders_are_called_like_the_bags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    out = Path("out")
    assert folders_of([Path("a.mcap")], out) == [out]
    assert folders_of([Path("a.mcap"), Path("x/drive.2"), Path()], out) == [
        out / n for n in ("a", "drive.2", tmp_path.name)
    ]
    with pytest.raises(ConfigError, match=r"x/a\.mcap and y/a\.db3 would both go into out/a"):
        folders_of([Path("x/a.mcap"), Path("y/a.db3")], out)
