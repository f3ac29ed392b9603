"""Vertical pillars over the BEV cells, projected into the cameras: which camera sees which cell, and where.

All of it in float32 and elementwise, so neither autocast nor TF32 touches it, and with shapes that depend on the
sizes of the inputs only.
"""

from typing import NamedTuple

import torch
from torch import Tensor

MIN_DEPTH = 0.1
"""Metres in front of the image plane below which a point is not visible; that of `CameraRig.project`."""

ANCHOR_MARGIN = 0.5
"""Metres between the ends of the height range and BEVFormer's lowest and highest anchor."""

OUTSIDE = -1e3
"""Image coordinate given to points behind a camera: far enough away that no sampling offset leads back."""


class PillarViews(NamedTuple):
    """Up to V cameras per pillar, those that see it first.

    Attributes:
        camera: (B, V, Q) int64 index of the camera.
        points: (B, V, Q, A, 2) float32 (x, y) of the anchors in that camera; 0 and 1 are the image's outer edges.
        seen: (B, V, Q) bool: at least one anchor of the pillar is visible there.
    """

    camera: Tensor
    points: Tensor
    seen: Tensor


def anchor_heights(z_range: tuple[float, float], anchors: int, *, ends: bool) -> Tensor:
    """(A,) metres, evenly spaced: from end to end of the range (MapQR), or half a metre inside of them (BEVFormer).

    Half a metre whatever the range and A: at MapTR's 4 m and four anchors these are the centres of equal parts, at
    BEVFormer's own 8 m they are not.
    """
    margin = 0.0 if ends else ANCHOR_MARGIN
    return torch.linspace(z_range[0] + margin, z_range[1] - margin, anchors)


def project_pillars(
    centres: Tensor, heights: Tensor, projection: Tensor, image_size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Projects the anchors of every pillar into every camera.

    Args:
        centres: (Q, 2) x, y of the pillars in metres, ego frame.
        heights: (B or 1, Q, A) z of their anchors in metres.
        projection: (B, N, 3, 4) homogeneous ego points -> (u z, v z, z), pixel centres at whole numbers.
        image_size: (H, W) in pixels, the same for all cameras.

    Returns:
        points (B, N, Q, A, 2), 0 and 1 being the image's outer edges and `OUTSIDE` if behind the camera; visible
        (B, N, Q, A) bool: in front of the camera and strictly inside the image.
    """
    matrix = projection.float()[..., None]
    foot = matrix[..., 0, :] * centres[:, 0] + matrix[..., 1, :] * centres[:, 1] + matrix[..., 3, :]
    homogeneous = foot[..., None] + matrix[..., 2, :, None] * heights.float()[:, None, None]  # (B, N, 3, Q, A)
    u, v, depth = homogeneous.unbind(dim=2)
    front = depth > MIN_DEPTH
    depth = depth.clamp(min=MIN_DEPTH)
    height, width = image_size
    points = torch.stack([(u / depth + 0.5) / width, (v / depth + 0.5) / height], dim=-1)
    points = torch.where(front[..., None], points, OUTSIDE)
    return points, front & ((points > 0) & (points < 1)).all(dim=-1)


def choose_views(points: Tensor, visible: Tensor, max_views: int | None = None) -> PillarViews:
    """Sorts the cameras of every pillar: most visible anchors first, then those nearest to the image's centre.

    With `max_views` at least as large as the number of cameras that see any pillar, nothing is lost. The sorting
    does not look at the cameras' order.

    Args:
        points: (B, N, Q, A, 2) and
        visible: (B, N, Q, A), of `project_pillars`; cameras that are missing see nothing.
        max_views: V; None keeps all N.
    """
    count = visible.sum(dim=-1)
    with torch.no_grad():
        off_centre = (points * 2 - 1).abs().amax(dim=-1)  # in (0, 1) where visible
        rank = count - torch.where(visible, off_centre, 0).sum(dim=-1) / (count + 1)
        views = points.shape[1] if max_views is None else min(max_views, points.shape[1])
        camera = rank.topk(views, dim=1).indices
    anchors = camera[..., None, None].expand(-1, -1, -1, *points.shape[-2:])
    return PillarViews(camera, points.gather(1, anchors), (count > 0).gather(1, camera))
