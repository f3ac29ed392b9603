"""Arc-line paths of the map expansion (`arcline_path_3`) as polylines: centre lines of lanes and lane connectors.

The path of a lane is a chain of pieces in the driving direction. A piece is a Dubins curve: from `start_pose` (x, y,
yaw) three segments of the lengths `segment_length`, whose letters in `shape` say whether each turns left (L) or right
(R) on a circle of `radius` or goes straight (S).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hdmap_core.errors import DatasetError

SHAPES = ("LSL", "LSR", "RSL", "RSR", "LRL", "RLR")
_TURN = {"L": 1.0, "S": 0.0, "R": -1.0}
_SHORT = 1e-3  # metres; a shorter segment gets no vertex of its own


def polylines(paths: Mapping[str, Sequence[Mapping[str, Any]]], step: float = 0.5) -> dict[str, np.ndarray]:
    """The polylines of paths, in the driving direction.

    Vertices lie on the path: at the ends of its segments and, on arcs, at most `step` apart, so that the polyline is
    never farther than step² / (8 radius) from an arc. Where two pieces meet, the later one's `start_pose` counts.

    Args:
        paths: token of the lane or connector -> its pieces.
        step: metres.

    Returns:
        Token -> (P, 2) float64, metres in the map frame, P >= 2; paths without extent are left out.

    Raises:
        DatasetError: naming the token and number of a piece that lacks a field or has one that cannot be.
    """
    for token, pieces in paths.items():
        if not isinstance(pieces, Sequence):
            raise DatasetError(f"the arcline_path_3 of {token!r} is no list of pieces")
    rows = [_row(piece, token, index) for token, pieces in paths.items() for index, piece in enumerate(pieces)]
    table = np.array(rows, dtype=np.float64).reshape(-1, 9)
    start, curvature, length = table[:, :3], table[:, 3:6], table[:, 6:]
    turned = np.cumsum(curvature * length, axis=1)
    heading = start[:, 2:] + np.pad(turned[:, :-1], ((0, 0), (1, 0)))
    corners = start[:, None, :2] + np.cumsum(_advance(heading, curvature, length), axis=1)  # where each segment ends
    origin = np.concatenate([start[:, None, :2], corners[:, :-1]], axis=1)  # where each segment begins

    steps = np.where(curvature == 0, 1, np.ceil(length / step)).astype(np.int64)
    steps[length < _SHORT] = 0
    segment = np.repeat(np.arange(steps.size), steps.ravel())
    number = np.arange(len(segment)) - np.repeat(np.cumsum(steps) - steps.ravel(), steps.ravel())
    along = number * (length / np.maximum(steps, 1)).ravel()[segment]
    # Every segment gives its vertices but the last, which is the first of the next one.
    vertices = origin.reshape(-1, 2)[segment] + _advance(heading.ravel()[segment], curvature.ravel()[segment], along)

    result, piece, vertex = {}, 0, 0
    for token, pieces in paths.items():
        count = int(steps[piece : piece + len(pieces)].sum())
        piece += len(pieces)
        if count:
            result[token] = np.concatenate([vertices[vertex : vertex + count], corners[piece - 1, -1:]])
        vertex += count
    return result


def _advance(heading: np.ndarray, curvature: np.ndarray, length: np.ndarray) -> np.ndarray:
    """(..., 2): from where a segment begins to `length` metres along it; by its chord, straight or not."""
    half_turn = curvature * length / 2
    chord = length * np.sinc(half_turn / np.pi)
    return chord[..., None] * np.stack([np.cos(heading + half_turn), np.sin(heading + half_turn)], axis=-1)


def _row(piece: Mapping[str, Any], token: str, index: int) -> list[float]:
    """x, y, yaw, three curvatures, three lengths."""
    try:
        pose, radius = [float(value) for value in piece["start_pose"]], float(piece["radius"])
        lengths, shape = [float(value) for value in piece["segment_length"]], piece["shape"]
    except (KeyError, TypeError, ValueError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else f"is malformed ({error})"
    else:
        if shape not in SHAPES:
            reason = f"has the shape {shape!r}; known are {', '.join(SHAPES)}"
        elif len(pose) != 3 or len(lengths) != 3 or not np.isfinite([*pose, *lengths]).all():
            reason = "needs a start_pose and a segment_length of 3 finite numbers each"
        elif min(lengths) < -_SHORT or not radius > 0:
            reason = f"needs lengths that are not negative and a positive radius, got {lengths} and {radius}"
        else:
            return [*pose, *(_TURN[letter] / radius for letter in shape), *(max(value, 0.0) for value in lengths)]
    raise DatasetError(f"piece {index} of the arcline_path_3 of {token!r} {reason}")
