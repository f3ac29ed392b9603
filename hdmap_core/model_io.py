"""What goes into a MapModel and what comes out of it.

Not frozen: Lightning Fabric walks through a model's inputs and outputs and refuses frozen dataclasses.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass
class ModelInput:
    """A batch of preprocessed observations; a slot that needs a field that is None says so.

    Attributes:
        ground: (B, 4, 2Y, 2X) uint8: the cameras' pixels on the plane z = 0 of the ego frame, at half the cell size of
            the BEV grid: R, G, B, and 255 where any camera sees the place.
    """

    ground: Tensor | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "ModelInput":
        """The batch on another device."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(
            self, **{k: v.to(device, non_blocking=non_blocking) for k, v in moved.items() if isinstance(v, Tensor)}
        )


def stack(inputs: Sequence[ModelInput]) -> ModelInput:
    """One batch of several; every field must be present in all of them or in none."""
    columns: dict[str, Any] = {}
    for f in fields(ModelInput):
        values = [getattr(item, f.name) for item in inputs]
        present = [value for value in values if value is not None]
        if present and len(present) < len(values):
            raise ValueError(f"only {len(present)} of {len(values)} inputs have the field {f.name!r}")
        columns[f.name] = torch.cat(present) if present else None
    return ModelInput(**columns)


@dataclass
class VectorOutput:
    """Polylines of every decoder layer.

    Attributes:
        logits: (L, B, Q, K) class logits, sigmoid convention.
        points: (L, B, Q, P, 2) in [0, 1] over the BEV grid's ranges, (x, y).
    """

    logits: Tensor
    points: Tensor


@dataclass
class ModelOutput:
    """None: this model does not make it.

    Attributes:
        vectors: polylines of the vector head.
        semantic: (B, K, 2Y, 2X) logits per class at half the grid's cell size.
        taps: named BEV features (B, C, Y, X) that distillation may look at.
    """

    vectors: VectorOutput | None = None
    semantic: Tensor | None = None
    taps: dict[str, Tensor] = field(default_factory=dict)
