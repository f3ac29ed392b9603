"""Vertical pillars over the BEV cells, projected into the cameras: which camera sees which cell, and where.

All of it in float32 and elementwise, so neither autocast nor TF32 touches it. `choose_views` has shapes that depend on
the sizes of the inputs only, for exports and GPUs; `pillars_in_reach` counts what the rig at hand sees.
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

_ROUNDING = 1e-5  # of the terms of a sum: a hundred times that of float32
_HEIGHT_SLACK = 1e-3  # metres


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


class PillarPairs(NamedTuple):
    """Every pillar with every camera that may see it, and nothing else; made once per rig (`pillars_in_reach`).

    Attributes:
        pillar: (P,) int64 index of the pillar among the B Q of the batch, ascending.
        camera: (P,) int64 index of the camera among the B N of the batch.
        foot: (3, P) float32 homogeneous pixel of the pillar's point at height zero.
        slope: (3, P) float32 what a metre of height adds to it.
        most: the most cameras that one pillar is paired with.
    """

    pillar: Tensor
    camera: Tensor
    foot: Tensor
    slope: Tensor
    most: int


class PairViews(NamedTuple):
    """What the cameras of `PillarPairs` see of anchors.

    Attributes:
        pillar: (P,) as in `PillarPairs`.
        camera: (P,) as in `PillarPairs`.
        points: (P, A, 2) float32 (x, y) of the anchors in that camera; 0 and 1 are the image's outer edges.
        share: (P,) float32 one over the number of cameras that see the pillar; 0 where this one does not.
        seen: (B, Q) bool: at least one camera sees the pillar.
    """

    pillar: Tensor
    camera: Tensor
    points: Tensor
    share: Tensor
    seen: Tensor


def with_points(views: PillarViews | PairViews, points: Tensor) -> PillarViews | PairViews:
    """Other points in the place of the anchors, as `_replace` gives, which PyTorch 2.6 does not export."""
    if isinstance(views, PairViews):
        return PairViews(views.pillar, views.camera, points, views.share, views.seen)
    return PillarViews(views.camera, points, views.seen)


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
    return _in_image(u, v, depth, image_size)


def _in_image(u: Tensor, v: Tensor, depth: Tensor, image_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Points (..., 2) and visible (...), see `project_pillars`, of homogeneous pixels."""
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


def pillars_in_reach(
    centres: Tensor,
    z_range: tuple[float, float],
    projection: Tensor,
    image_size: tuple[int, int],
    camera_mask: Tensor | None = None,
) -> PillarPairs:
    """Pairs every pillar with the cameras that see any of its points within a range of heights.

    Whether a point lies in an image is five inequalities that are linear in its height, so the heights at which a
    camera sees a pillar are one interval, known from the calibration alone. Nothing that `project_pillars` calls
    visible is left out: the image is widened by more than its rounding.

    Args:
        centres: (Q, 2) x, y of the pillars in metres, ego frame.
        z_range: the lowest and the highest z of any anchor, in metres.
        projection: (B, N, 3, 4), see `project_pillars`.
        image_size: (H, W) in pixels.
        camera_mask: (B, N) bool: which cameras are there.
    """
    matrix = projection.float()[..., None]
    terms = torch.stack([matrix[..., 0, :] * centres[:, 0], matrix[..., 1, :] * centres[:, 1]])
    foot = terms[0] + terms[1] + matrix[..., 3, :]  # (B, N, 3, Q)
    slope = matrix[..., 2, :]
    low, high = z_range[0] - _HEIGHT_SLACK, z_range[1] + _HEIGHT_SLACK
    size_of_terms = terms.abs().sum(dim=0) + slope.abs() * max(abs(low), abs(high)) + matrix[..., 3, :].abs()
    at_zero, per_metre = _inside(foot, image_size), _inside(slope, image_size)
    at_zero[..., 0, :] -= MIN_DEPTH
    u, v, depth = size_of_terms.unbind(dim=-2)
    across, down = u + (image_size[1] + 1) * depth, v + (image_size[0] + 1) * depth
    at_zero += _ROUNDING * torch.stack([depth, across, across, down, down], dim=-2)
    crossing = -at_zero / per_metre
    above = torch.where(per_metre > 0, crossing, low).amax(dim=-2).clamp(min=low)
    below = torch.where(per_metre < 0, crossing, high).amin(dim=-2).clamp(max=high)
    reached = (above <= below) & ((per_metre != 0) | (at_zero > 0)).all(dim=-2)
    if camera_mask is not None:
        reached = reached & camera_mask[:, :, None]
    sample, pillar, camera = reached.transpose(1, 2).nonzero(as_tuple=True)
    return PillarPairs(
        pillar=sample * len(centres) + pillar,
        camera=sample * projection.shape[1] + camera,
        foot=foot[sample, camera, :, pillar].t().contiguous(),
        slope=slope[sample, camera, :, 0].t().contiguous(),
        most=int(reached.sum(dim=1).amax()) if reached.numel() else 0,
    )


def project_pairs(pairs: PillarPairs, heights: Tensor, image_size: tuple[int, int]) -> PairViews:
    """What `project_pillars` and `choose_views` say, of the pairs that there are.

    Args:
        pairs: of these pillars and this rig.
        heights: (B, Q, A) z of the anchors in metres, within the range that the pairs were made for.
        image_size: (H, W) in pixels.
    """
    anchors = heights.float().flatten(0, 1)[pairs.pillar]
    u, v, depth = pairs.foot[..., None] + pairs.slope[..., None] * anchors
    points, visible = _in_image(u, v, depth, image_size)
    seen = visible.any(dim=-1)
    count = heights.new_zeros(heights.shape[0] * heights.shape[1], dtype=torch.float32)
    count = count.index_add(0, pairs.pillar, seen.float())
    share = seen / count.clamp(min=1)[pairs.pillar]
    return PairViews(pairs.pillar, pairs.camera, points, share, (count > 0).view(heights.shape[:2]))


def _inside(rows: Tensor, image_size: tuple[int, int]) -> Tensor:
    """(..., 3, Q) homogeneous pixels -> (..., 5, Q), all above zero (the first one above `MIN_DEPTH`) in the image."""
    u, v, depth = rows.unbind(dim=-2)
    height, width = image_size
    left, top = u + 0.5 * depth, v + 0.5 * depth
    return torch.stack([depth, left, width * depth - left, top, height * depth - top], dim=-2)
