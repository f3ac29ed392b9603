from collections.abc import Callable

import numpy as np
import torch

from training.config import TrainConfig
from training.data.batches import Batch, TrainBatches
from training.data.keyframes import Keyframe

Load = Callable[..., TrainConfig]
Make = Callable[[TrainConfig], list[Keyframe]]


def equal(a: Batch, b: Batch) -> bool:
    assert a.inputs.ground is not None and b.inputs.ground is not None
    return a.tokens == b.tokens and torch.equal(a.inputs.ground, b.inputs.ground)


def test_a_batch_depends_on_seed_and_step_only(tiny_config: Load, keyframes: Make) -> None:
    config = tiny_config()
    first, second = (TrainBatches(keyframes(config), config) for _ in range(2))
    assert len(first) == 20
    _ = [second[step] for step in range(5)]
    assert all(equal(first[step], second[step]) for step in (7, 0, 19))
    other = tiny_config("seed=1")
    assert not all(equal(first[step], TrainBatches(keyframes(other), other)[step]) for step in range(3))


def test_every_epoch_sees_every_frame_once_in_another_order(tiny_config: Load, keyframes: Make) -> None:
    config = tiny_config()
    batches = TrainBatches(keyframes(config), config)
    seen = [token for step in range(15) for token in batches[step].tokens]
    epochs = [seen[start : start + 5] for start in range(0, 30, 5)]
    assert all(sorted(epoch) == sorted(epochs[0]) and len(set(epoch)) == 5 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_the_same_frame_is_augmented_anew(tiny_config: Load, keyframes: Make) -> None:
    config = tiny_config("optim.batch_size=5")
    batches = TrainBatches(keyframes(config), config)
    views = []
    for step in range(4):
        batch = batches[step]
        assert batch.inputs.ground is not None
        views.append(batch.inputs.ground[batch.tokens.index("frame-2")].numpy())
    assert any(not np.array_equal(views[0], view) for view in views[1:])


def test_targets_lie_on_the_pixels(tiny_config: Load, keyframes: Make) -> None:
    config = tiny_config("augment.blind=0", "optim.batch_size=5")
    batch = TrainBatches(keyframes(config), config)[3]
    assert batch.inputs.ground is not None
    bright = batch.inputs.ground[:, :3].float().mean(dim=1) > 128
    masks = batch.targets.masks[:, 0].bool()
    assert masks.any() and (bright & masks).sum() / masks.sum() > 0.6
    assert batch.targets.labels.tolist() == [[0]] * 5
