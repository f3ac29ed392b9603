"""The corruptions of `hdmap evaluate` as augmentation: any kind and strength, never those of an evaluation."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from hdmap_core.config import load_config
from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.errors import ConfigError
from hdmap_core.preprocess import camera_inputs
from training.config import AugmentConfig, TrainConfig
from training.corruptions import CORRUPTIONS, Corruption, corrupt
from training.data.batches import TrainBatches, draw_corruption
from training.data.keyframes import Keyframe, Keyframes, load_keyframes

RECIPES = Path(__file__).resolve().parents[3] / "config" / "recipes"
Load = Callable[..., TrainConfig]
PLAIN = ("augment.mirror=0", "augment.turn=0", "augment.blind=0", "augment.colour=0")


def load(root: Path, config: TrainConfig, *, keep_inputs: bool = True) -> Keyframes:
    return load_keyframes(root, "train", config.model, keep_inputs=keep_inputs, workers=1)


def ground(batches: TrainBatches, step: int) -> torch.Tensor:
    inputs = batches[step].inputs.ground
    assert inputs is not None
    return inputs


def test_all_kinds_and_strengths_are_drawn_as_often_as_asked() -> None:
    random = np.random.default_rng(0)
    drawn = [draw_corruption(AugmentConfig(corrupt=0.4), random) for _ in range(3000)]
    found = [corruption for corruption in drawn if corruption is not None]
    assert len(found) == pytest.approx(1200, abs=100)
    counts = [sum(corruption.name == name for corruption in found) for name in CORRUPTIONS]
    assert min(counts) > 70
    strengths = [corruption.severity for corruption in found]
    assert 1 <= min(strengths) < 1.05 and 2.95 < max(strengths) <= 3 and np.mean(strengths) == pytest.approx(2, abs=0.1)
    assert 0 not in {corruption.seed for corruption in found}, "the seed of evaluations"


def test_without_it_no_random_number_is_drawn() -> None:
    random = np.random.default_rng(0)
    assert draw_corruption(AugmentConfig(), random) is None
    assert random.random() == np.random.default_rng(0).random()


@pytest.mark.parametrize("name", ["fog", "calibration_noise", "missing_camera"])
def test_a_corrupted_keyframe_is_what_an_evaluation_would_see(
    name: str, synthetic_root: Path, tiny_config: Load
) -> None:
    config = tiny_config()
    corruption = Corruption(name, 2.5, seed=7)
    dataset = NuScenesDataset(synthetic_root)
    for keep_inputs in (True, False):
        frame = load(synthetic_root, config, keep_inputs=keep_inputs)[1]
        assert frame.corrupted is not None
        wanted = camera_inputs(corrupt(dataset.observation(frame.token), corruption), config.model).ground
        ours = frame.corrupted(corruption).ground
        assert ours is not None and wanted is not None and frame.inputs.ground is not None
        assert torch.equal(ours, wanted) and not torch.equal(ours, frame.inputs.ground)


def test_a_batch_is_corrupted_in_the_same_way_again_and_in_another_later(
    synthetic_root: Path, tiny_config: Load
) -> None:
    config = tiny_config(*PLAIN, "augment.corrupt=1", "optim.batch_size=2")
    first, second = (TrainBatches(load(synthetic_root, config), config) for _ in range(2))
    clean = {frame.token: frame.inputs.ground for frame in map(first.keyframes.__getitem__, range(2))}
    assert torch.equal(ground(first, 3), ground(second, 3))
    batches = [first[step] for step in range(6)]
    views = {
        token: [b.inputs.ground[b.tokens.index(token)] for b in batches if b.inputs.ground is not None]
        for token in clean
    }
    for token, corrupted in views.items():
        assert not any(torch.equal(view[None], clean[token]) for view in corrupted)
        assert not any(torch.equal(corrupted[0], view) for view in corrupted[1:])


def test_an_image_that_is_gone_costs_its_keyframe_only(synthetic_root: Path, tiny_config: Load, tmp_path: Path) -> None:
    root = tmp_path / "town"
    shutil.copytree(synthetic_root, root, ignore=shutil.ignore_patterns("cache"))
    config = tiny_config("augment.corrupt=1", "optim.batch_size=2")
    keyframes = load(root, config)
    lost = str(keyframes.tokens[0])
    frames = NuScenesDataset(root).tables.keyframe(lost)
    frames["CAM_FRONT"].path.unlink()
    batch = TrainBatches(keyframes, config)[0]
    assert set(batch.tokens) == {str(keyframes.tokens[1])} and "CAM_FRONT" in batch.faults[0]


def test_keyframes_without_images_are_refused(
    tiny_config: Load, keyframes: Callable[[TrainConfig], list[Keyframe]]
) -> None:
    config = tiny_config("augment.corrupt=1")
    with pytest.raises(ValueError, match="no images to corrupt"):
        TrainBatches(keyframes(config), config)[0]


def test_a_refiner_sees_no_images() -> None:
    with pytest.raises(ConfigError, match=r"augment\.corrupt=0"):
        load_config(TrainConfig, RECIPES / "pmapnet" / "hd_pretrain.yaml", ["augment.corrupt=0.5"])
