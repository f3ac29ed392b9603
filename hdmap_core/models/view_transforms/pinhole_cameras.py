"""Projections taken apart: what a view transform asks of cameras beside where a point falls."""

from typing import NamedTuple

import torch
from torch import Tensor


class PinholeCameras(NamedTuple):
    """What projections without skew, K [R | t], are made of; all zero for missing cameras.

    Attributes:
        focal: (B, N, 2) along u and v, in pixels.
        centre: (B, N, 2) principal point (u, v), in pixels.
        lateral: (B, N, 4) row: homogeneous ego points -> metres to the camera's right.
        depth: (B, N, 4) row: homogeneous ego points -> metres along its optical axis.
    """

    focal: Tensor
    centre: Tensor
    lateral: Tensor
    depth: Tensor

    @classmethod
    def of(cls, projection: Tensor) -> "PinholeCameras":
        """Takes (B, N, 3, 4) apart, elementwise, so that TF32 leaves it alone."""
        depth = projection[..., 2:, :]
        centre = (projection[..., :2, :3] * depth[..., :3]).sum(dim=-1, keepdim=True)
        scaled = projection[..., :2, :] - centre * depth
        focal = torch.linalg.vector_norm(scaled[..., :3], dim=-1, keepdim=True)
        lateral = (scaled / focal.clamp(min=1e-6))[..., 0, :]
        return cls(focal.squeeze(-1), centre.squeeze(-1), lateral, depth.squeeze(-2))
