"""What goes into a MapModel and what comes out of it.

Not frozen: Lightning Fabric walks through a model's inputs and outputs and refuses frozen dataclasses.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import Self


class TensorRecord:
    """A dataclass of tensors, or of such records, that moves as one; what is None stays."""

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """The same on another device."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        moved = {name: v.to(device, non_blocking=non_blocking) for name, v in values.items() if v is not None}
        return replace(self, **moved)  # type: ignore[type-var]


@dataclass
class ModelInput(TensorRecord):
    """A batch of preprocessed observations; a slot that needs a field that is None says so.

    Attributes:
        ground: (B, 4, 2Y, 2X) uint8: the cameras' pixels on the plane z = 0 of the ego frame, at half the cell size of
            the BEV grid: R, G, B, and 255 where any camera sees the place.
        images: (B, N, 3, H, W) uint8 RGB at the size that the model's backbone asks for; a missing camera is black.
        projection: (B, N, 3, 4) float32: homogeneous ego points in metres -> (u z, v z, z), pixels of `images` (the
            centre of the top-left one is (0, 0)) and depth in metres. All that a model knows of the calibration.
        camera_mask: (B, N) bool: which cameras are there.
        points: (B, P, 5) float32 LiDAR points of one or more sweeps: x, y, z in metres (ego frame), intensity 0..255,
            age in seconds; rows behind `point_count` are padding.
        point_count: (B,) int64: how many rows of `points` are points; 0 where there was no sweep.
        sd_raster: (B, 1, Y, X) float32 roads of the SD map on the BEV grid: 1 on a road, -1 elsewhere.
        semantic: (B, 1 + K, Y, X) float32: a map as a raster, for a model that is nothing but an HD-map refiner.
    """

    ground: Tensor | None = None
    images: Tensor | None = None
    projection: Tensor | None = None
    camera_mask: Tensor | None = None
    points: Tensor | None = None
    point_count: Tensor | None = None
    sd_raster: Tensor | None = None
    semantic: Tensor | None = None


_PER_CAMERA = ("images", "projection", "camera_mask")


def stack(inputs: Sequence[ModelInput]) -> ModelInput:
    """One batch of several; every field must be present in all of them or in none.

    Points are padded to the longest, cameras with missing ones to the largest rig.
    """
    columns: dict[str, Any] = {}
    for f in fields(ModelInput):
        values = [getattr(item, f.name) for item in inputs]
        present = [value for value in values if value is not None]
        if present and len(present) < len(values):
            raise ValueError(f"only {len(present)} of {len(values)} inputs have the field {f.name!r}")
        if f.name == "points":
            most = max((len(points[0]) for points in present), default=0)
            present = [functional.pad(points, (0, 0, 0, most - points.shape[1])) for points in present]
        if f.name in _PER_CAMERA:
            most = max((value.shape[1] for value in present), default=0)
            present = [_with_cameras(value, most) for value in present]
        columns[f.name] = torch.cat(present) if present else None
    return ModelInput(**columns)


def _with_cameras(value: Tensor, count: int) -> Tensor:
    """(B, N, ...) -> (B, count, ...) with zeros for cameras that are missing."""
    lacking = count - value.shape[1]
    return value if not lacking else torch.cat([value, value.new_zeros(len(value), lacking, *value.shape[2:])], dim=1)


@dataclass
class VectorOutput:
    """Polylines of every decoder layer.

    Attributes:
        logits: (L, B, Q, K) class logits, sigmoid convention.
        points: (L, B, Q, P, 2) in [0, 1] over the BEV grid's ranges, (x, y).
        one_to_many: the same of the queries that only training has (MapTRv2, section 3.4); None otherwise.
        queries: (B, Q, C) what the last layer knows of each instance; distillation may look at it.
    """

    logits: Tensor
    points: Tensor
    one_to_many: "VectorOutput | None" = None
    queries: Tensor | None = None


@dataclass
class AuxiliaryOutput:
    """Logits of the heads that only training has; None: not asked for.

    Attributes:
        surface: (B, S, Y, X) road surfaces in the BEV (MapFM's ARSS head), one channel per surface layer.
        bev_lines: (B, 1, Y, X) map lines of any class in the BEV.
        image_lines: (B, N, 1, h, w) map lines of any class in the cameras' feature maps.
        depth: (B, N, D, h, w) over depth bins.
    """

    surface: Tensor | None = None
    bev_lines: Tensor | None = None
    image_lines: Tensor | None = None
    depth: Tensor | None = None


@dataclass
class DenseOutput:
    """Rasters on the BEV grid, from which lines are made by clustering (HDMapNet, section III-C).

    Attributes:
        semantic: (B, 1 + K, Y, X) logits of a softmax; channel 0 is the background, then the classes in their order.
        embedding: (B, E, Y, X): near one another for cells of one instance, far apart for others.
        direction: (B, 1 + D, Y, X) logits of a softmax over directions of the line through a cell; channel 0: none,
            channel 1 + d: (d - 0.5) ... (d + 0.5) times 360 / D degrees, counter-clockwise from x (forward).
    """

    semantic: Tensor
    embedding: Tensor
    direction: Tensor


@dataclass
class ModelOutput:
    """None: this model does not make it.

    Attributes:
        vectors: polylines of the vector head.
        semantic: (B, K, 2Y, 2X) logits per class at half the grid's cell size.
        dense: rasters of the dense heads; of the refiner, in a model that has one.
        unrefined: what the dense heads said before the refiner; None in a model without one.
        auxiliary: heads that only training has.
        taps: named BEV features (B, C, Y, X) that distillation may look at.
    """

    vectors: VectorOutput | None = None
    semantic: Tensor | None = None
    dense: DenseOutput | None = None
    unrefined: DenseOutput | None = None
    auxiliary: AuxiliaryOutput | None = None
    taps: dict[str, Tensor] = field(default_factory=dict)
