"""Targets in the cameras' feature maps: map lines on the ground, and LiDAR depth.

A pixel's place in a feature map of (h, w) cells is taken relative to the image: column (u + 0.5) / W * w - 0.5,
whatever the backbone's stride and padding, as everywhere in the models.

Deliberate difference from MapTRv2 and MapQR: they project sampled points, drop those behind the camera and join the
rest, which draws lines that are not there. Here every segment is cut at the near plane first. Straight segments stay
straight in a pinhole image, so nothing need be sampled in between.
"""

from collections.abc import Iterable

import cv2
import numpy as np

NEAR = 0.1  # metres along the camera's axis, as CameraRig.project has it
_SHIFT = 6  # OpenCV draws with 1/64 cell accuracy
_REACH = 1e6  # cells; OpenCV's fixed-point numbers end at 3e7

Size = tuple[int, int]


def line_mask(lines: Iterable[np.ndarray], projection: np.ndarray, image_size: Size, feature_size: Size) -> np.ndarray:
    """Lines drawn one cell wide into one camera's feature map; what hides them is not considered.

    Args:
        lines: each (P, 3) metres, ego frame; a ring repeats its first point.
        projection: (3, 4), homogeneous ego points -> (u z, v z, z).
        image_size: (H, W) in pixels that the projection is for.
        feature_size: (h, w) in cells.

    Returns:
        (h, w) uint8, 1 on the lines.
    """
    mask = np.zeros(feature_size, np.uint8)
    segments = [np.stack([line[:-1], line[1:]], axis=1) for line in lines]
    if segments:
        pixels = project_segments(np.concatenate(segments), projection)
        cells = np.clip(_to_cells(pixels, image_size, feature_size), -_REACH, _REACH)
        fixed_point = np.round(cells * (1 << _SHIFT)).astype(np.int32)
        cv2.polylines(mask, list(fixed_point), False, 1, 1, cv2.LINE_8, _SHIFT)
    return mask


def project_segments(segments: np.ndarray, projection: np.ndarray) -> np.ndarray:
    """(S, 2, 3) segments in metres -> (T, 2, 2) segments in pixels, T <= S: only what lies beyond the near plane."""
    ends = segments.astype(np.float64) @ projection[:, :3].T + projection[:, 3]
    ends = ends[ends[..., 2].max(axis=1) > NEAR]
    start, along = ends[:, 0], ends[:, 1] - ends[:, 0]
    share = (NEAR - start[:, 2]) / np.where(along[:, 2] == 0, 1, along[:, 2])
    cut = start + share[:, None] * along  # where the segment meets the near plane, if it does
    ends = np.where(ends[..., 2:] < NEAR, cut[:, None], ends)
    return ends[..., :2] / ends[..., 2:]


def nearest_depth(
    points: np.ndarray,
    projection: np.ndarray,
    image_size: Size,
    feature_size: Size,
    depth_range: tuple[float, float],
) -> np.ndarray:
    """Depth of the nearest point in each cell of one camera's feature map.

    Points out of range are left out first: returns from the car itself, which the camera does not see past the roof,
    must not stand for what is behind them.

    Args:
        points: (P, 3 or more) metres, ego frame.
        projection: (3, 4), homogeneous ego points -> (u z, v z, z).
        image_size: (H, W) in pixels that the projection is for.
        feature_size: (h, w) in cells.
        depth_range: metres along the camera's axis; the end is not included.

    Returns:
        (h, w) float32 metres, NaN where no point is.
    """
    ends = points[:, :3].astype(np.float64) @ projection[:, :3].T + projection[:, 3]
    ends = ends[(ends[:, 2] >= max(depth_range[0], NEAR)) & (ends[:, 2] < depth_range[1])]
    cells = np.floor(_to_cells(ends[:, :2] / ends[:, 2:], image_size, feature_size) + 0.5)
    inside = ((cells >= 0) & (cells < feature_size[::-1])).all(axis=1)
    column, row = cells[inside].astype(np.int64).T
    depth = np.full(feature_size, np.inf)
    np.minimum.at(depth, (row, column), ends[inside, 2])
    return np.where(np.isfinite(depth), depth, np.nan).astype(np.float32)


def _to_cells(pixels: np.ndarray, image_size: Size, feature_size: Size) -> np.ndarray:
    """(..., 2) pixels (u, v) -> continuous (column, row); the centre of cell (0, 0) is (0, 0)."""
    return (pixels + 0.5) / image_size[::-1] * feature_size[::-1] - 0.5
