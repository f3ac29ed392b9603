"""Keyframes as training takes them: ground truth from a memory-mapped store, inputs from there or decoded now.

Decoding now happens at half the images' size where the model's images are not larger (`data.reduced_decoding`): within
a grey level, on average, of what the node makes of them (docs/results/data_loading.md), at about half the cost.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from hdmap_core.datasets.opening import cache_of, open_dataset
from hdmap_core.datasets.protocol import MapDataset
from hdmap_core.elements import MapElement
from hdmap_core.model_io import ModelInput
from hdmap_core.models import ModelConfig
from hdmap_core.observation.lidar_points import lidar_points
from hdmap_core.preprocess import camera_inputs, with_points_and_roads
from training.corruptions import Corruption, corrupt
from training.data.inspection import opened
from training.data.preparation import Preparation, kept_inputs, left_out, prepare
from training.data.vector_store import LAYERS, Areas, VectorStore

Cut = Callable[[np.ndarray], tuple[list[MapElement], Areas]]
_GROUND_IMAGES = (450, 800)
"""What ground pixels of corrupted images are made of, for a quarter of the time; clean ones are of whole images."""


@dataclass
class Keyframe:
    """One keyframe.

    Attributes:
        token: of the sample.
        inputs: a batch of one with what comes from the cameras; `complete` adds the rest.
        elements: ground truth, metres in the ego frame.
        areas: polygon layers within the grid, metres in the ego frame.
        points: (P, 5) LiDAR points of `lidar_points`, ego frame, or None when nobody asked for them.
        sd_lines: roads of the SD map, each (P, 2) metres in the ego frame; None when nobody asked for them.
        cut: ground truth and areas of the grid somewhere else, cut from the whole map: takes the (4, 4)
            ego_from_moved of a flat motion, answers in the moved frame. None where there is no map to cut from.
        corrupted: `inputs` as corrupted cameras give them. None where there are no images.
        seen_by: the same keyframe as the sources of a distillation see it, by their names.
    """

    token: str
    inputs: ModelInput
    elements: list[MapElement]
    areas: Areas
    points: np.ndarray | None = None
    sd_lines: tuple[np.ndarray, ...] | None = None
    cut: Cut | None = None
    corrupted: Callable[[Corruption], ModelInput] | None = None
    seen_by: "Mapping[str, Keyframe]" = field(default_factory=dict)


class KeyframeList(Protocol):
    """Keyframes by number: a list of them, or `Keyframes`, which reads them."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Keyframe: ...


@dataclass(frozen=True)
class Keyframes:
    """The keyframes of a split.

    Attributes:
        root: the data set's folder.
        version: which data set of it.
        cache: where its index lies, if it has one.
        model: what the inputs are made for.
        truth: the store.
        inputs: a memory map (F, ...) per field of `ModelInput` that is kept.
        sweeps: how many LiDAR sweeps are read, the keyframe's and those before it; 0: none.
        lidar_ground: the cameras' ground is what the keyframe's sweep shows of it.
        reduced: decode images at the smallest size that is enough.
        left_out: how many keyframes of the split are left out because they cannot be used.
    """

    root: Path
    version: str
    cache: Path
    model: ModelConfig
    truth: VectorStore
    inputs: dict[str, np.ndarray]
    sweeps: int = 0
    lidar_ground: bool = False
    reduced: bool = True
    left_out: int = 0

    @property
    def tokens(self) -> np.ndarray:
        """(F,) sample tokens."""
        return self.truth.tokens

    def __len__(self) -> int:
        return len(self.truth)

    def __getitem__(self, index: int) -> Keyframe:
        """Reads a keyframe.

        Raises:
            DatasetError, ImageError: naming a file that is missing or damaged.
        """
        return self.read(index)

    def read(self, index: int, cameras: ModelInput | None = None) -> Keyframe:
        """The same; `cameras` are its inputs that come from the cameras, where somebody has made them already."""
        token = str(self.tokens[index])
        kept = {name: torch.from_numpy(np.array(rows[index]))[None] for name, rows in self.inputs.items()}
        sees = not self.model.is_refiner
        images = cameras is None and not kept and sees
        points, inputs = None, cameras or ModelInput(**kept)
        if images or self.sweeps:
            observation = self.dataset.observation(
                token,
                images=images,
                points=self.sweeps > 0,
                at_least=self._enough,
                sweeps=max(1, self.sweeps),
                roads=False,
                lidar_ground=self.lidar_ground,
            )
            points = lidar_points(observation) if self.sweeps else None
            if images:
                inputs = camera_inputs(observation, self.model)
        return Keyframe(
            token,
            inputs,
            self.truth.elements(index),
            self.truth.areas(index),
            points,
            self.dataset.sd_lines(token) if self.model.sd_prior is not None else None,
            lambda ego_from_moved: self._cut(token, ego_from_moved),
            (lambda corruption: self._corrupted(token, corruption)) if sees else None,
        )

    @property
    def dataset(self) -> MapDataset:
        """What the keyframes are of."""
        return opened(self.root, self.version, self.cache)

    @property
    def _enough(self) -> tuple[int, int] | None:
        """(H, W) of images that will do; None where all of them is needed."""
        backbone = self.model.image_backbone
        return backbone.image_size if self.reduced and backbone is not None and not self.model.sees_ground else None

    def _corrupted(self, token: str, corruption: Corruption) -> ModelInput:
        ground_only = self.reduced and self.model.image_backbone is None
        enough = _GROUND_IMAGES if ground_only else self._enough
        observation = self.dataset.observation(
            token, points=self.sweeps > 0, at_least=enough, roads=False, lidar_ground=self.lidar_ground
        )
        return camera_inputs(corrupt(observation, corruption), self.model)

    def _cut(self, token: str, ego_from_moved: np.ndarray) -> tuple[list[MapElement], Areas]:
        model, dataset = self.model, self.dataset
        ranges = model.grid.x_range, model.grid.y_range
        elements = dataset.elements(token, *ranges, model.classes, model.crossings, ego_from_moved)
        return elements, dataset.areas(token, *ranges, LAYERS, ego_from_moved)


def load_keyframes(
    root: Path,
    split: str,
    model: ModelConfig,
    *,
    keep_inputs: bool,
    sweeps: int = 0,
    lidar_ground: bool = False,
    cache: Path | None = None,
    workers: int = 0,
    reduced: bool = True,
    version: str | None = None,
) -> Keyframes:
    """The keyframes of a split, prepared now or before (`hdmap prepare`).

    Args:
        root: a data set's folder (`open_dataset`).
        split: its name.
        model: what the keyframes are prepared for.
        keep_inputs: keep the model's inputs as well as the ground truth, so that no image is decoded again.
        sweeps: how many LiDAR sweeps to read, the keyframe's and those before it; 0: none.
        lidar_ground: the cameras' ground is what the keyframe's sweep shows of it (`MapDataset.observation`).
        cache: where prepared keyframes lie; `<root>/cache` by default.
        workers: processes that prepare; 0 = one per core.
        reduced: where images are decoded as they are needed, decode them at the smallest size that is enough.
        version: which data set of the folder; by default the one that the split tells.

    Raises:
        DatasetError: if the folder, the split or one of its files cannot be used.
        OutputError: if the cache cannot be written.
    """
    root, cache = Path(root), cache or cache_of(Path(root))
    version = open_dataset(root, version, split=split, cache=cache).version
    preparation = Preparation(
        root,
        cache,
        split,
        model,
        keep_inputs=keep_inputs,
        sweeps=sweeps,
        lidar_ground=lidar_ground,
        workers=workers,
        version=version,
    )
    folder = prepare(preparation)
    truth = VectorStore.read(folder)
    inputs, missing = kept_inputs(folder), len(left_out(folder))
    return Keyframes(root, version, cache, model, truth, inputs, sweeps, lidar_ground, reduced, missing)


def sweeps_for(model: ModelConfig) -> int:
    """How many LiDAR sweeps a keyframe of this model needs: for its LiDAR branch, or as ground truth of depth."""
    return model.lidar_sweeps or int(model.auxiliary is not None and model.auxiliary.depth is not None)


def complete(frame: Keyframe, model: ModelConfig) -> ModelInput:
    """All inputs of a keyframe, as `preprocess` makes them of an observation."""
    return with_points_and_roads(frame.inputs, frame.points, frame.sd_lines, model)
