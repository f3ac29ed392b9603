"""An endless, seeded stream of batches that can be entered at any step."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Dataset

from hdmap_core.model_io import ModelInput, stack
from hdmap_core.preprocess import ground_grid
from training.config import TrainConfig
from training.data.augment import augment
from training.data.keyframes import Keyframe
from training.data.targets import Targets, build_targets


@dataclass(frozen=True)
class Batch:
    """Inputs, targets and the tokens of the frames they come from."""

    inputs: ModelInput
    targets: Targets
    tokens: tuple[str, ...]


class TrainBatches(Dataset[Batch]):
    """Item i is the batch of step i: each epoch a new permutation, each sample its own random numbers.

    A batch depends on nothing but the seed and the step, so a resumed run sees what an uninterrupted one would.
    """

    def __init__(self, keyframes: Sequence[Keyframe], config: TrainConfig) -> None:
        self.keyframes = keyframes
        self.config = config

    def __len__(self) -> int:
        return self.config.optim.steps

    def __getitem__(self, step: int) -> Batch:
        size, frames = self.config.optim.batch_size, len(self.keyframes)
        positions = range(step * size, (step + 1) * size)
        return make_batch([self._sample(position, frames) for position in positions], self.config)

    def _sample(self, position: int, frames: int) -> Keyframe:
        index = self._shuffled(position // frames)[position % frames]
        random = np.random.default_rng((self.config.seed, 1, position))
        return augment(self.keyframes[index], self.config.augment, random)

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self.config.seed, 0, epoch)).permutation(len(self.keyframes))


def make_batch(frames: Sequence[Keyframe], config: TrainConfig) -> Batch:
    """Stacks keyframes and builds their targets."""
    model = config.model
    targets = build_targets(
        [frame.elements for frame in frames],
        grid=model.grid,
        mask_grid=ground_grid(model.grid),
        classes=model.classes,
        num_points=model.vectors.num_points if model.vectors else 2,
        line_width=config.loss.line_width,
    )
    return Batch(stack([frame.inputs for frame in frames]), targets, tuple(frame.token for frame in frames))
