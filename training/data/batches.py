"""An endless, seeded stream of batches that can be entered at any step."""

import os
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import partial
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from hdmap_core.elements import MapElement
from hdmap_core.errors import DatasetError, ImageError
from hdmap_core.model_io import ModelInput, stack
from hdmap_core.models import ModelConfig
from hdmap_core.preprocess import ground_grid
from hdmap_core.running.parallel import one_thread
from training.config import AugmentConfig, TrainConfig
from training.corruptions import CORRUPTIONS, SEVERITIES, Corruption
from training.data.augment import augment, augment_seen
from training.data.auxiliary_targets import AuxiliaryTargets, build_auxiliary_targets
from training.data.dense_targets import DenseTargets, build_dense_targets
from training.data.distortion import Distortion, collate, distort, draw_distortion
from training.data.keyframes import Keyframe, KeyframeList, complete
from training.data.masking import draw_hidden
from training.data.targets import Targets, build_targets

_MOST_WORKERS = 16
_PREFETCHED = 2  # batches per worker
_UNREADABLE_IN_A_ROW = 3  # keyframes
_POINTS = 20  # of a true line where no vector head says how many, but a distillation looks at places along it
T = TypeVar("T")


@dataclass(frozen=True)
class Batch:
    """Inputs, targets and the tokens of the frames they come from.

    Attributes:
        distortion: what `to` does to the images once they are on the device.
        hidden: (B, K, Y, X) bool: which cells of the map a masked autoencoder must complete; None for other objectives.
        faults: what is wrong with keyframes that could not be read, whose place others took.
        seen_by: the same frames as the inputs of each source of a distillation.
    """

    inputs: ModelInput
    targets: Targets
    tokens: tuple[str, ...]
    distortion: Distortion | None = None
    hidden: Tensor | None = None
    faults: tuple[str, ...] = ()
    seen_by: dict[str, ModelInput] = field(default_factory=dict)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """The batch on a device, its images distorted there; of pinned memory the copy need not be waited for."""
        inputs = self.inputs.to(device, non_blocking=non_blocking)
        if self.distortion is not None and inputs.images is not None:
            moved = self.distortion.to(device, non_blocking=non_blocking)
            inputs.images = distort(inputs.images, moved, inputs.camera_mask)
        hidden = None if self.hidden is None else self.hidden.to(device, non_blocking=non_blocking)
        seen_by = {name: seen.to(device, non_blocking=non_blocking) for name, seen in self.seen_by.items()}
        targets = self.targets.to(device, non_blocking=non_blocking)
        return Batch(inputs, targets, self.tokens, hidden=hidden, faults=self.faults, seen_by=seen_by)

    def pin_memory(self) -> "Batch":
        """The batch in page-locked memory; DataLoader calls this."""
        return _pinned(self)


def load_batches(
    batches: Dataset[Batch],
    order: Sequence[int],
    workers: int = 0,
    *,
    pin_memory: bool = False,
    local_processes: int = 1,
    on_start: Callable[[int], object] = lambda worker: None,
) -> DataLoader[Batch]:
    """Batches in this order, made ahead by worker processes; how many of these does not change them.

    From here on OpenCV has one thread in this process too: workers are forks of it, and one that inherits a pool whose
    threads stayed behind waits for them for ever, or crashes.

    Args:
        batches: item i is batch i.
        order: which.
        workers: processes; 0 = one per core, at most 16.
        pin_memory: bring them into page-locked memory, from where a GPU takes them without waiting.
        local_processes: how many training processes share this machine's cores.
        on_start: called first in each worker, with its number.
    """
    cv2.setNumThreads(1)
    cores = len(os.sched_getaffinity(0)) // local_processes
    return DataLoader(
        Subset(batches, order),
        batch_size=None,
        num_workers=workers or max(1, min(_MOST_WORKERS, cores)),
        prefetch_factor=_PREFETCHED,
        pin_memory=pin_memory,
        worker_init_fn=partial(_start_worker, on_start),
    )


class TrainBatches(Dataset[Batch]):
    """Item i is the batch of step i: each epoch a new permutation, each sample its own random numbers.

    A batch depends on nothing but the seed and the step, so a resumed run sees what an uninterrupted one would.
    """

    def __init__(
        self,
        keyframes: KeyframeList,
        config: TrainConfig,
        feature_size: tuple[int, int] | None = None,
        sources: Mapping[str, ModelConfig] | None = None,
    ) -> None:
        self.keyframes = keyframes
        self.config = config
        self.feature_size = feature_size
        self.sources = sources or {}

    def __len__(self) -> int:
        return self.config.optim.steps

    def __getitem__(self, step: int) -> Batch:
        size, frames = self.config.optim.batch_size, len(self.keyframes)
        positions = range(step * size, (step + 1) * size)
        samples = [self._sample(position, frames) for position in positions]
        batch = make_batch([sample.frame for sample in samples], self.config, self.feature_size)
        hidden = [sample.hidden for sample in samples if sample.hidden is not None]
        seen_by = {
            name: stack([complete(sample.frame.seen_by[name], model) for sample in samples])
            for name, model in self.sources.items()
        }
        return replace(
            batch,
            distortion=collate([sample.distortion for sample in samples]),
            hidden=torch.from_numpy(np.stack(hidden)) if hidden else None,
            faults=tuple(fault for sample in samples for fault in sample.faults),
            seen_by=seen_by,
        )

    def _sample(self, position: int, frames: int) -> "_Sample":
        random = np.random.default_rng((self.config.seed, 1, position))
        keyframe, faults = self._readable(position, frames, draw_corruption(self.config.augment, random))
        seen_by = {
            name: augment_seen(keyframe.seen_by[name], self.config.augment, deepcopy(random), model.grid)
            for name, model in self.sources.items()
        }
        frame = replace(augment(keyframe, self.config.augment, random, self.config.model.grid), seen_by=seen_by)
        images, model = frame.inputs.images, self.config.model
        distortion = hidden = None
        if images is not None:
            distortion = draw_distortion(self.config.augment, images.shape[1], images.shape[3], random)
        if self.config.objective == "masked_autoencoder":
            hidden = draw_hidden(self.config.masking, model.classes, model.grid.shape, random)
        return _Sample(frame, distortion, hidden, tuple(faults))

    def _readable(self, position: int, frames: int, corruption: Corruption | None) -> tuple[Keyframe, list[str]]:
        """The keyframe of a position, or the next one of the epoch that can be read, and what is wrong with the others.

        One damaged file must not end a run of days; several in a row mean that something else is wrong.
        """
        order, faults = self._shuffled(position // frames), list[str]()
        while True:
            try:
                keyframe = self.keyframes[int(order[(position + len(faults)) % frames])]
                return _corrupted(keyframe, corruption), faults
            except (DatasetError, ImageError) as error:
                faults.append(str(error))
                if len(faults) == _UNREADABLE_IN_A_ROW:
                    raise

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self.config.seed, 0, epoch)).permutation(len(self.keyframes))


def draw_corruption(config: AugmentConfig, random: np.random.Generator) -> Corruption | None:
    """Any kind at any severity with probability `config.corrupt`; nothing is drawn from `random` where that is 0."""
    if not config.corrupt or random.random() >= config.corrupt:
        return None
    kind = CORRUPTIONS[int(random.integers(len(CORRUPTIONS)))]
    seed = int(random.integers(1, 2**31))  # 0 is that of evaluations
    return Corruption(kind, random.uniform(SEVERITIES[0], SEVERITIES[-1]), seed)


def _corrupted(frame: Keyframe, corruption: Corruption | None) -> Keyframe:
    if corruption is None:
        return frame
    if frame.corrupted is None:
        raise ValueError(f"keyframe {frame.token} has no images to corrupt; set augment.corrupt to 0")
    return replace(frame, inputs=frame.corrupted(corruption))


class _Sample(NamedTuple):
    frame: Keyframe
    distortion: Distortion | None
    hidden: np.ndarray | None
    faults: tuple[str, ...]


def make_batch(frames: Sequence[Keyframe], config: TrainConfig, feature_size: tuple[int, int] | None = None) -> Batch:
    """Stacks keyframes and builds their targets; `feature_size` (h, w) is that of the backbone, if there is one."""
    model = config.model
    inputs = stack([complete(frame, model) for frame in frames])
    targets = build_targets(
        [frame.elements for frame in frames],
        grid=model.grid,
        mask_grid=ground_grid(model.grid) if model.segmentation else None,
        classes=model.classes,
        num_points=_num_points(config),
        line_width=config.loss.line_width,
        closed_orders=config.loss.closed_orders,
    )
    if model.auxiliary is not None:
        targets = replace(targets, auxiliary=_auxiliary(frames, inputs, config, feature_size))
    if model.dense_heads is not None:
        targets = replace(targets, dense=dense_targets([frame.elements for frame in frames], model))
    return Batch(inputs, targets, tuple(frame.token for frame in frames))


def _num_points(config: TrainConfig) -> int:
    """Of true polylines; without vectors only some terms of a distillation look at them."""
    if config.model.vectors is not None:
        return config.model.vectors.num_points
    return _POINTS if config.distillation else 2


def dense_targets(frames: Sequence[Sequence[MapElement]], model: ModelConfig) -> DenseTargets:
    """Rasters of the frames' ground truth as the dense heads of this model should make them."""
    heads = model.dense_heads
    assert heads is not None
    return build_dense_targets(
        frames,
        grid=model.grid,
        classes=model.classes,
        thickness_cells=heads.line_cells,
        directions=heads.directions,
    )


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
        points=[None if frame.points is None else frame.points[frame.points[:, 4] == 0] for frame in frames],
    )


def _pinned(value: T) -> T:
    if isinstance(value, Tensor):
        return value.pin_memory()  # type: ignore[return-value]
    if isinstance(value, dict):
        return {name: _pinned(each) for name, each in value.items()}  # type: ignore[return-value]
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _pinned(getattr(value, f.name)) for f in fields(value)})
    return value


def _start_worker(on_start: Callable[[int], object], worker: int) -> None:
    one_thread()
    on_start(worker)
