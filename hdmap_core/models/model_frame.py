"""A model whose BEV stands in another frame than the ego frame: weights that were trained around the LiDAR."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hdmap_core.geometry import BEVGrid
from hdmap_core.model_io import VectorOutput

Matrix = tuple[tuple[float, float, float, float], ...]


def in_model_frame(projection: Tensor, ego_from_model: Tensor | Sequence[Sequence[float]]) -> Tensor:
    """Projections of points of the model's frame.

    Args:
        projection: (B, N, 3, 4) homogeneous ego points -> (u z, v z, z).
        ego_from_model: (4, 4) rigid; a tensor on the same device, where nothing is to be copied there.

    Returns:
        (B, N, 3, 4) float32.
    """
    pose = torch.as_tensor(ego_from_model, dtype=torch.float32, device=projection.device)
    return (projection.float()[..., None] * pose).sum(dim=-2)  # elementwise, so that TF32 leaves it alone


class PointsToEgo(nn.Module):
    """Polylines over the model's grid -> over the same ranges of the ego frame, where they may lie a little outside.

    A point is one of the road, the plane z = 0 of the ego frame, straight along the model's z axis.
    """

    turn: Tensor
    shift: Tensor

    def __init__(self, ego_from_model: Sequence[Sequence[float]], grid: BEVGrid) -> None:
        super().__init__()
        pose = torch.tensor(ego_from_model, dtype=torch.float64)
        rotation, translation = pose[:3, :3], pose[:3, 3]
        height = -torch.cat([rotation[2, :2], translation[2:]]) / rotation[2, 2]  # of the road, by x, y and 1
        turn = rotation[:2, :2] + rotation[:2, 2:] * height[:2]
        shift = translation[:2] + rotation[:2, 2] * height[2]
        size, low = (turn.new_tensor(values) for values in (grid.size, (grid.x_range[0], grid.y_range[0])))
        self.register_buffer("turn", (turn * size / size[:, None]).float(), persistent=False)
        self.register_buffer("shift", ((turn @ low + shift - low) / size).float(), persistent=False)

    def forward(self, vectors: VectorOutput) -> VectorOutput:
        """The same with other points."""
        points = (vectors.points[..., None, :] * self.turn).sum(dim=-1) + self.shift
        more = None if vectors.one_to_many is None else self(vectors.one_to_many)
        return VectorOutput(vectors.logits, points, more, vectors.queries)
