from pathlib import Path

import numpy as np
import pytest
import torch

from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.errors import DatasetError, OutputError
from hdmap_core.geometry import BEVGrid
from hdmap_core.models import ModelConfig
from hdmap_core.preprocess import preprocess
from training.data import preparation as module
from training.data.keyframes import Keyframes, load_keyframes
from training.data.vector_store import LAYERS

GRID = BEVGrid((-15.0, 15.0), (-9.0, 9.0), 0.6)


def load(root: Path, cache: Path | None, grid: BEVGrid = GRID, split: str = "train", keep: bool = True) -> Keyframes:
    model = ModelConfig(name="x", grid=grid)
    return load_keyframes(root, split, model, keep_inputs=keep, sweeps=int(not keep), cache=cache, workers=1)


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """First tokens of the scenes that are prepared, as they are."""
    tokens: list[str] = []
    original = module._prepare_scene

    def spy(job):
        tokens.append(job[1][0])
        return original(job)

    monkeypatch.setattr(module, "_prepare_scene", spy)
    return tokens


@pytest.mark.parametrize("keep", [True, False])
def test_frames_are_those_of_the_data_set(synthetic_root: Path, tmp_path: Path, keep: bool) -> None:
    frames = load(synthetic_root, tmp_path, keep=keep)
    dataset = NuScenesDataset(synthetic_root)
    (scene,) = [scene for scene in dataset.scenes if scene.name == "scene-0061"]
    assert tuple(frames.tokens) == tuple(scene.sample_tokens) and len(frames) == 2
    assert bool(frames.inputs) == keep
    for index, token in enumerate(scene.sample_tokens):
        frame = frames[index]
        seen = dataset.observation(token, points=False)
        expected = preprocess(seen, frames.model)
        assert frame.inputs.ground is not None and expected.ground is not None
        assert torch.equal(frame.inputs.ground, expected.ground)
        truth = dataset.elements(token, GRID.x_range, GRID.y_range)
        assert len(truth) == len(frame.elements) > 0
        for kept, element in zip(frame.elements, truth, strict=True):
            assert (kept.label, kept.closed) == (element.label, element.closed)
            np.testing.assert_array_equal(kept.points, element.points)
        city = dataset.vector_map(dataset.scene_of(token).location)
        areas = city.areas(dataset.map_from_ego(token), GRID.x_range, GRID.y_range, LAYERS)
        assert frame.areas["drivable_area"].area > 10
        for layer in LAYERS:
            assert frame.areas[layer].area == pytest.approx(areas[layer].area, rel=1e-5, abs=1e-6)


def test_reused_when_there(synthetic_root: Path, tmp_path: Path, prepared: list[str]) -> None:
    first = load(synthetic_root, tmp_path)
    assert len(prepared) == 1
    second = load(synthetic_root, tmp_path)
    assert len(prepared) == 1
    np.testing.assert_array_equal(first.inputs["ground"], second.inputs["ground"])


def test_another_grid_or_split_is_another_cache(synthetic_root: Path, tmp_path: Path, prepared: list[str]) -> None:
    load(synthetic_root, tmp_path)
    other = load(synthetic_root, tmp_path, BEVGrid((-15.0, 15.0), (-9.0, 9.0), 1.0))
    assert other.inputs["ground"].shape[2:] == (36, 60)
    load(synthetic_root, tmp_path, split="val")
    assert len(prepared) == 3 and len([p for p in tmp_path.iterdir() if not p.name.startswith("index-")]) == 3


def test_goes_on_after_an_interruption(
    synthetic_root: Path, tmp_path: Path, prepared: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module.VectorStore, "joined", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load(synthetic_root, tmp_path)
    frames = load(synthetic_root, tmp_path)
    assert len(prepared) == 1, "the scene that was done is not done again"
    assert frames.inputs["ground"].any() and frames[1].elements


@pytest.mark.parametrize(
    ("name", "size"), [("points.npy", None), ("points.npy", 100), ("inputs/ground.npy", 100), ("inputs/ground.npy", 0)]
)
def test_a_damaged_cache_is_named(synthetic_root: Path, tmp_path: Path, name: str, size: int | None) -> None:
    load(synthetic_root, tmp_path)
    (file,) = tmp_path.glob(f"*/{name}")
    if size is None:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(DatasetError, match=r"is damaged .* delete it"):
        load(synthetic_root, tmp_path)


def test_a_place_that_cannot_be_written(synthetic_root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=r"cannot write the cache .*data\.cache="):
        load(synthetic_root, tmp_path / "file")


def test_unknown_split(synthetic_root: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no scene of a split 'trian'"):
        load(synthetic_root, tmp_path, split="trian")
