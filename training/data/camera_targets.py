"""Targets in the cameras' feature maps: map lines on the ground, and LiDAR depth.

A pixel's place in a feature map of (h, w) cells is taken relative to the image: pixel u lies in column
floor((u + 0.5) / W * w), whatever the backbone's stride and padding, as everywhere in the models.

Deliberate difference from MapTRv2 and MapQR: they project sampled points, drop those behind the camera and join the
rest, which draws lines that are not there. Here every segment is cut at the near plane and at the image's sides before
the division by depth. Straight segments stay straight in a pinhole image, so nothing need be sampled in between.
OpenCV does not draw them: its lines lose cells at the border where an end lies far outside.
"""

from collections.abc import Iterable

import numpy as np

NEAR = 0.1  # metres along the camera's axis, as CameraRig.project has it

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
        pixels = project_segments(np.concatenate(segments), projection, image_size)
        cells = _sampled((pixels + 0.5) / image_size[::-1] * feature_size[::-1])
        column, row = np.clip(np.floor(cells).astype(np.int64), 0, np.array(feature_size[::-1]) - 1).T
        mask[row, column] = 1
    return mask


def project_segments(segments: np.ndarray, projection: np.ndarray, image_size: Size) -> np.ndarray:
    """(S, 2, 3) segments in metres -> (T, 2, 2) segments in pixels, T <= S: what the camera sees of them."""
    ends = segments.astype(np.float64) @ projection[:, :3].T + projection[:, 3]
    height, width = image_size
    ends = _clipped(ends, (0, 0, 1), NEAR)
    for side in ((1, 0, 0.5), (-1, 0, width - 0.5), (0, 1, 0.5), (0, -1, height - 0.5)):
        ends = _clipped(ends, side, 0.0)
    return ends[..., :2] / ends[..., 2:]


def _clipped(ends: np.ndarray, normal: tuple[float, float, float], offset: float) -> np.ndarray:
    """(S, 2, 3) -> (T, 2, 3): of segments, in (u z, v z, z), the parts where their product with normal is >= offset."""
    excess = ends @ np.asarray(normal, np.float64) - offset
    touched = excess.max(axis=1, initial=-np.inf) >= 0
    ends, excess = ends[touched], excess[touched]
    fall = excess[:, 0] - excess[:, 1]
    share = excess[:, 0] / np.where(fall == 0, 1, fall)
    cut = ends[:, 0] + share[:, None] * (ends[:, 1] - ends[:, 0])
    return np.where(excess[..., None] < 0, cut[:, None], ends)


def _sampled(segments: np.ndarray) -> np.ndarray:
    """(S, 2, 2) segments in cells -> (P, 2): their ends, and where they pass the middle of a column or row.

    Of a flat segment the columns count, of a steep one the rows: a line of one cell's width whose cells do not depend
    on the direction or on where the segment began outside the image.
    """
    along = segments[:, 1] - segments[:, 0]
    index = np.arange(len(segments)), np.abs(along).argmax(axis=1)
    low, high = np.sort(np.stack([segments[:, 0][index], segments[:, 1][index]]), axis=0)
    first = np.ceil(low - 0.5)
    count = np.maximum(np.floor(high - 0.5) - first + 1, 0).astype(np.int64)
    owner = np.repeat(index[0], count)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    length = np.where(along[index] == 0, 1, along[index])
    share = (first[owner] + number + 0.5 - segments[:, 0][index][owner]) / length[owner]
    return np.concatenate([segments.reshape(-1, 2), segments[owner, 0] + share[:, None] * along[owner]])


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
    cells = np.floor((ends[:, :2] / ends[:, 2:] + 0.5) / image_size[::-1] * feature_size[::-1])
    inside = ((cells >= 0) & (cells < feature_size[::-1])).all(axis=1)
    column, row = cells[inside].astype(np.int64).T
    depth = np.full(feature_size, np.inf)
    np.minimum.at(depth, (row, column), ends[inside, 2])
    return np.where(np.isfinite(depth), depth, np.nan).astype(np.float32)
