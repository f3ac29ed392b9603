"""An endless, seeded stream of batches that can be entered at any step."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from hdmap_core.model_io import ModelInput
from hdmap_core.preprocess import ground_grid
from training.config import TrainConfig
from training.data.augment import augment
from training.data.cache import Keyframes
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

    def __init__(self, keyframes: Keyframes, config: TrainConfig) -> None:
        self.keyframes = keyframes
        self.config = config

    def __len__(self) -> int:
        return self.config.optim.steps

    def __getitem__(self, step: int) -> Batch:
        size, frames = self.config.optim.batch_size, len(self.keyframes)
        positions = range(step * size, (step + 1) * size)
        indices = [self._shuffled(position // frames)[position % frames] for position in positions]
        randoms = [np.random.default_rng((self.config.seed, 1, position)) for position in positions]
        samples = [
            augment(self.keyframes.ground[index], self.keyframes.elements[index], self.config.augment, random)
            for index, random in zip(indices, randoms, strict=True)
        ]
        return make_batch(
            [ground for ground, _ in samples],
            [elements for _, elements in samples],
            tuple(self.keyframes.tokens[index] for index in indices),
            self.config,
        )

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self.config.seed, 0, epoch)).permutation(len(self.keyframes))


def make_batch(
    ground: Sequence[np.ndarray], elements: Sequence[Sequence], tokens: tuple[str, ...], config: TrainConfig
) -> Batch:
    """Stacks keyframes and builds their targets."""
    model = config.model
    targets = build_targets(
        elements,
        grid=model.grid,
        mask_grid=ground_grid(model.grid),
        classes=model.classes,
        num_points=model.vectors.num_points if model.vectors else 2,
        line_width=config.loss.line_width,
    )
    return Batch(ModelInput(ground=torch.from_numpy(np.stack(ground))), targets, tokens)
