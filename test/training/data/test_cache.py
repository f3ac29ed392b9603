from pathlib import Path

import numpy as np
import pytest

from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.elements import MapClass
from hdmap_core.errors import DatasetError, OutputError
from hdmap_core.geometry import BEVGrid
from hdmap_core.preprocess import ground_pixels
from training.data import cache as module
from training.data.cache import Keyframes, load_keyframes

GRID = BEVGrid((-15.0, 15.0), (-9.0, 9.0), 0.6)
CLASSES = (MapClass.DIVIDER, MapClass.PED_CROSSING, MapClass.BOUNDARY)


def load(root: Path, cache: Path | None, grid: BEVGrid = GRID, split: str = "train") -> Keyframes:
    return load_keyframes(root, split, grid=grid, classes=CLASSES, cache=cache, workers=1)


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Tokens of the frames that are prepared, as they are."""
    tokens: list[str] = []
    original = module._prepare_one

    def spy(job):
        tokens.append(job[1])
        return original(job)

    monkeypatch.setattr(module, "_prepare_one", spy)
    return tokens


def test_frames_are_those_of_the_data_set(synthetic_root: Path, tmp_path: Path) -> None:
    frames = load(synthetic_root, tmp_path)
    dataset = NuScenesDataset(synthetic_root)
    (scene,) = [scene for scene in dataset.scenes if scene.name == "scene-0061"]
    assert frames.tokens == tuple(scene.sample_tokens) and len(frames) == 2
    for index, token in enumerate(frames.tokens):
        np.testing.assert_array_equal(
            frames.ground[index], ground_pixels(dataset.observation(token, points=False), GRID)
        )
        truth = dataset.elements(token, GRID.x_range, GRID.y_range, CLASSES)
        assert len(truth) == len(frames.elements[index]) > 0
        for kept, element in zip(frames.elements[index], truth, strict=True):
            assert (kept.label, kept.closed) == (element.label, element.closed)
            np.testing.assert_allclose(kept.points, element.points, atol=6e-4)


def test_reused_when_there(synthetic_root: Path, tmp_path: Path, prepared: list[str]) -> None:
    first = load(synthetic_root, tmp_path)
    assert len(prepared) == 2
    second = load(synthetic_root, tmp_path)
    assert len(prepared) == 2
    np.testing.assert_array_equal(first.ground, second.ground)


def test_another_grid_or_split_is_another_cache(synthetic_root: Path, tmp_path: Path, prepared: list[str]) -> None:
    load(synthetic_root, tmp_path)
    assert load(synthetic_root, tmp_path, BEVGrid((-15.0, 15.0), (-9.0, 9.0), 1.0)).ground.shape[2:] == (36, 60)
    load(synthetic_root, tmp_path, split="val")
    assert len(prepared) == 6 and len(list(tmp_path.iterdir())) == 3


def test_made_again_after_an_interruption(
    synthetic_root: Path, tmp_path: Path, prepared: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_elements", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load(synthetic_root, tmp_path)
    (folder,) = tmp_path.iterdir()
    (folder / "ground.npy").write_bytes(b"half a file")
    assert load(synthetic_root, tmp_path).ground.any()
    assert len(prepared) == 4


@pytest.mark.parametrize("damage", ["delete", "truncate"])
def test_a_damaged_cache_is_named(synthetic_root: Path, tmp_path: Path, damage: str) -> None:
    load(synthetic_root, tmp_path)
    (file,) = tmp_path.glob("*/ground.npy")
    if damage == "delete":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(DatasetError, match=r"is damaged .* delete it"):
        load(synthetic_root, tmp_path)


def test_a_place_that_cannot_be_written(synthetic_root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=r"cannot write the cache .*data\.cache="):
        load(synthetic_root, tmp_path / "file")


def test_unknown_split(synthetic_root: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no scene of a split 'trian'"):
        load(synthetic_root, tmp_path, split="trian")
