"""A score broken down: by distance from the car, by groups of frames (scene, weather ...), and per frame.

A distance band is a ring around the ego origin. Predicted and true lines are cut at the band's two circles and what
lies inside is scored like whole elements: a 60 m long boundary counts in every band that it passes, which the distance
of an element as such could not express. Both are cut by the same circles and left whole where nothing is cut off, so
ground truth scored against itself has AP 1 in every band. A predicted line that strays over a circle leaves a stub in
the other band; stubs shorter than `MIN_PIECE` do not count, on either side.

Groups differ from the overall score in one thing: a class without ground truth in the group has no AP (None) and does
not count in the group's mAP, because a quiet scene without a crossing says nothing about crossings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import shapely

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.metrics.chamfer_ap import (
    CLASSES,
    PROTOCOLS,
    ChamferScore,
    Frames,
    Matches,
    match_classes,
    pooled,
    pooled_score,
)

Groups = Mapping[str, Mapping[str, Sequence[str]]]
"""What is compared ("weather") -> name of the group ("rain") -> frame tokens."""

BAND_STEP = 10.0
"""Metres."""
MIN_PIECE = 1.0
"""Metres; shorter pieces of a line that a band's circle cut off are left out."""
_EGO = shapely.Point(0.0, 0.0)
_QUARTER = 32  # sides of a quarter of the polygon that stands for a circle
_INNER = 0.999 * np.cos(np.pi / (4 * _QUARTER))  # what lies within this share of the radius lies in that polygon


@dataclass(frozen=True)
class GroupScore:
    """The score of some frames, or of a part of all frames.

    Attributes:
        ap: class -> AP, the mean over the thresholds; None without ground truth of that class.
    """

    name: str
    num_frames: int
    num_truth: int
    num_predictions: int
    ap: Mapping[MapClass, float | None]

    @property
    def mean_ap(self) -> float | None:
        """Mean over the classes that have ground truth here; None if none has."""
        known = [ap for ap in self.ap.values() if ap is not None]
        return float(np.mean(known)) if known else None


@dataclass(frozen=True)
class Breakdown:
    """A score and its parts.

    Attributes:
        overall: all frames.
        groups: what is compared ("distance", "scene" ...) -> the groups.
        frame_f1: frame token -> F1, see `frame_f1`; frames with neither truth nor prediction are absent.
    """

    overall: ChamferScore
    groups: Mapping[str, Sequence[GroupScore]]
    frame_f1: Mapping[str, float]


def breakdown(
    predictions: Frames,
    truth: Frames,
    groups: Groups,
    bands: Sequence[tuple[float, float]],
    protocol: str = "maptr",
    classes: Sequence[MapClass] = CLASSES,
    min_score: float = 0.3,
) -> Breakdown:
    """Scores frames as `chamfer_ap` does, as a whole and in parts.

    Args:
        predictions: metres in the ego frame.
        truth: the same.
        groups: each frame may be in any number of groups.
        bands: (near, far) in metres, see `distance_bands`.
        protocol: one of `PROTOCOLS`.
        classes: which classes count.
        min_score: predictions below it do not count in `frame_f1`.

    Raises:
        ElementError: as `chamfer_ap`.
    """
    matches = match_classes(predictions, truth, protocol, classes)
    parts = {"distance": [_band_score(predictions, truth, band, protocol, classes) for band in bands]}
    for kind, members in groups.items():
        parts[kind] = [_group_score(name, tokens, matches, protocol) for name, tokens in members.items()]
    return Breakdown(pooled(matches, predictions, protocol), parts, frame_f1(matches, min_score))


def distance_bands(x_range: tuple[float, float], y_range: tuple[float, float]) -> list[tuple[float, float]]:
    """Bands of 10 m up to the farthest side of the region; its corners, farther still, are in none."""
    farthest = max(map(abs, (*x_range, *y_range)))
    return [(near, near + BAND_STEP) for near in np.arange(0.0, farthest - 0.5 * BAND_STEP, BAND_STEP).tolist()]


def clipped(elements: Sequence[MapElement], band: tuple[float, float]) -> list[MapElement]:
    """The parts of elements between two distances from the ego origin.

    Args:
        elements: of one frame, metres in the ego frame.
        band: (near, far) in metres.

    Returns:
        Elements wholly inside as they are; of others the pieces inside, open lines of the same class and score.
    """
    near, far = band
    result = []
    for element in elements:
        vertices = element.path.astype(np.float64)
        path = shapely.LineString(vertices)
        nearest, farthest = shapely.distance(path, _EGO), np.linalg.norm(vertices, axis=1).max()
        if nearest > far or farthest < near * _INNER:
            continue
        ring = _ring(*band)
        if (nearest > near and farthest < far * _INNER) or shapely.covers(ring, path):
            result.append(element)
            continue
        # A closed line that is cut elsewhere than at its first point would fall apart there as well.
        inside = shapely.line_merge(shapely.intersection(path, ring))
        for piece in shapely.get_parts(inside):
            if piece.length >= MIN_PIECE:
                points = shapely.get_coordinates(piece).astype(np.float32)
                result.append(replace(element, points=points, closed=False))
    return result


def frame_f1(matches: Matches, min_score: float = 0.3) -> dict[str, float]:
    """How good each frame is by itself: 2 TP / (predicted + true) over all classes, mean over the thresholds.

    Args:
        matches: of all classes.
        min_score: predictions below it do not count, as they are not drawn either.

    Returns:
        Frame token -> 0..1; without frames that have neither truth nor prediction.
    """
    tokens = next(iter(matches.values())).keys()
    result = {}
    for token in tokens:
        frames = [by_token[token] for by_token in matches.values()]
        kept = [frame.confidence >= min_score for frame in frames]
        total = sum(frame.num_truth + int(keep.sum()) for frame, keep in zip(frames, kept, strict=True))
        if total:
            hits = sum(frame.hits[:, keep].sum(axis=1) for frame, keep in zip(frames, kept, strict=True))
            result[token] = float(np.mean(2 * hits / total))
    return result


def _group_score(name: str, tokens: Sequence[str], matches: Matches, protocol: str) -> GroupScore:
    scores = {
        label: pooled_score([by_token[token] for token in tokens], PROTOCOLS[protocol])
        for label, by_token in matches.items()
    }
    return GroupScore(
        name,
        len(tokens),
        sum(score.num_truth for score in scores.values()),
        sum(score.num_predictions for score in scores.values()),
        {label: score.mean_ap if score.num_truth else None for label, score in scores.items()},
    )


def _band_score(
    predictions: Frames, truth: Frames, band: tuple[float, float], protocol: str, classes: Sequence[MapClass]
) -> GroupScore:
    inside = {token: clipped(elements, band) for token, elements in truth.items()}
    found = {token: clipped(elements, band) for token, elements in predictions.items()}
    matches = match_classes(found, inside, protocol, classes)
    return _group_score(f"{band[0]:g}-{band[1]:g} m", list(truth), matches, protocol)


@cache
def _ring(near: float, far: float) -> shapely.Polygon:
    inner, outer = (_EGO.buffer(radius, quad_segs=_QUARTER) for radius in (near, far))
    return shapely.difference(outer, inner)
