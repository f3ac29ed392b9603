"""An endless, seeded stream of batches that can be entered at any step."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch.utils.data import Dataset

from hdmap_core.model_io import ModelInput, stack
from hdmap_core.preprocess import ground_grid
from training.config import TrainConfig
from training.data.augment import augment
from training.data.auxiliary_targets import AuxiliaryTargets, build_auxiliary_targets
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

    def __init__(
        self, keyframes: Sequence[Keyframe], config: TrainConfig, feature_size: tuple[int, int] | None = None
    ) -> None:
        self.keyframes = keyframes
        self.config = config
        self.feature_size = feature_size

    def __len__(self) -> int:
        return self.config.optim.steps

    def __getitem__(self, step: int) -> Batch:
        size, frames = self.config.optim.batch_size, len(self.keyframes)
        positions = range(step * size, (step + 1) * size)
        return make_batch([self._sample(position, frames) for position in positions], self.config, self.feature_size)

    def _sample(self, position: int, frames: int) -> Keyframe:
        index = self._shuffled(position // frames)[position % frames]
        random = np.random.default_rng((self.config.seed, 1, position))
        return augment(self.keyframes[index], self.config.augment, random)

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self.config.seed, 0, epoch)).permutation(len(self.keyframes))


def make_batch(frames: Sequence[Keyframe], config: TrainConfig, feature_size: tuple[int, int] | None = None) -> Batch:
    """Stacks keyframes and builds their targets; `feature_size` (h, w) is that of the backbone, if there is one."""
    model = config.model
    inputs = stack([frame.inputs for frame in frames])
    targets = build_targets(
        [frame.elements for frame in frames],
        grid=model.grid,
        mask_grid=ground_grid(model.grid),
        classes=model.classes,
        num_points=model.vectors.num_points if model.vectors else 2,
        line_width=config.loss.line_width,
        closed_orders=config.loss.closed_orders,
    )
    if model.auxiliary is not None:
        targets = replace(targets, auxiliary=_auxiliary(frames, inputs, config, feature_size))
    return Batch(inputs, targets, tuple(frame.token for frame in frames))


def _auxiliary(
    frames: Sequence[Keyframe], inputs: ModelInput, config: TrainConfig, feature_size: tuple[int, int] | None
) -> AuxiliaryTargets:
    model = config.model
    assert model.auxiliary is not None
    return build_auxiliary_targets(
        model.auxiliary,
        grid=model.grid,
        elements=[[element for element in frame.elements if element.label in model.classes] for frame in frames],
        areas=[frame.areas for frame in frames],
        projection=inputs.projection,
        camera_mask=inputs.camera_mask,
        image_size=model.backbone.image_size if model.backbone else None,
        feature_size=feature_size,
        points=[frame.points for frame in frames],
    )
