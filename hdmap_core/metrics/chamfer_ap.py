"""Average precision of map elements by Chamfer distance, as MapTR, MapQR and StreamMapNet compute it.

Procedure (MapTR's and StreamMapNet's evaluation code; quirks kept on purpose, as published numbers contain them):

1. Predictions and ground truth are resampled to `num_points` by arc length, ends included. A closed ring is sampled
   as a line that returns to its start, so its first point counts twice. MapTR leaves a predicted line that already has
   `num_points` vertices as it is.
2. Chamfer distance: the mean of the two directed mean distances to the nearest sample; metres, not squared.
3. MapTR only: pairs whose 2 m wide bands (flat ends, mitred corners) do not touch cannot match.
4. In order of falling score, each prediction goes to its nearest ground truth. It is a true positive if that is within
   the threshold and still free, otherwise a false positive; it gets no second choice.
5. Frames are pooled, precision and recall accumulated by falling score; AP is the area under the envelope (VOC 2010).
6. A class's AP is the mean over the thresholds; mAP the mean over the classes, 0 for one without ground truth.

Ours: equal scores keep the order of frames and predictions (theirs is undefined), and frames are matched by token. A
ground-truth frame without prediction counts as one without elements; a predicted frame without ground truth is an
error.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
import shapely

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.errors import ElementError
from hdmap_core.metrics.chamfer_distance import chamfer_distances, resampled, within_bands

Frames = Mapping[str, Sequence[MapElement]]
"""Frame token -> elements, metres."""
CLASSES = (MapClass.DIVIDER, MapClass.PED_CROSSING, MapClass.BOUNDARY)


@dataclass(frozen=True)
class ChamferProtocol:
    """What distinguishes one paper's score from another's.

    Attributes:
        thresholds: metres.
        num_points: samples per line.
        band_width: metres to each side; pairs whose bands do not touch cannot match. None: no such filter.
        simplify_truth: tolerance in metres by which ground truth is simplified first; 0: not at all.
        keeps_sampled: a prediction that has `num_points` vertices is not resampled.
    """

    thresholds: tuple[float, ...] = (0.5, 1.0, 1.5)
    num_points: int = 100
    band_width: float | None = 2.0
    simplify_truth: float = 0.0
    keeps_sampled: bool = True


PROTOCOLS = {
    "maptr": ChamferProtocol(),
    "mapqr": ChamferProtocol(thresholds=(0.2, 0.5, 1.0)),
    "streammapnet": ChamferProtocol((0.5, 1.0, 1.5), 200, None, 0.2, keeps_sampled=False),
    # 100 m x 50 m instead of 60 m x 30 m.
    "streammapnet-100x50": ChamferProtocol((1.0, 1.5, 2.0), 200, None, 0.2, keeps_sampled=False),
}


@dataclass(frozen=True)
class ClassAP:
    """One class over all frames, `ap`: threshold in metres -> average precision."""

    num_truth: int
    num_predictions: int
    ap: Mapping[float, float]

    @property
    def mean_ap(self) -> float:
        """Mean over the thresholds."""
        return float(np.mean(list(self.ap.values())))


@dataclass(frozen=True)
class ClassScore(ClassAP):
    """One class over all frames, with its curves.

    Attributes:
        recall: threshold -> share of the ground truth that was found at all.
        curves: threshold -> (recall, precision), each (num_predictions,), by falling score.
    """

    recall: Mapping[float, float]
    curves: Mapping[float, tuple[np.ndarray, np.ndarray]] = field(repr=False)


C = TypeVar("C", bound=ClassAP)


@dataclass(frozen=True)
class Score(Generic[C]):
    """The score of a set of frames.

    Attributes:
        protocol: its name.
        frames_without_prediction: ground-truth frames for which there was no line at all; scored as empty.
    """

    protocol: str
    classes: Mapping[MapClass, C]
    num_frames: int
    frames_without_prediction: int

    @property
    def mean_ap(self) -> float:
        """mAP: mean over the classes."""
        return float(np.mean([score.mean_ap for score in self.classes.values()]))


class ChamferScore(Score[ClassScore]):
    """By Chamfer distance."""


def chamfer_ap(
    predictions: Frames, truth: Frames, protocol: str = "maptr", classes: Sequence[MapClass] = CLASSES
) -> ChamferScore:
    """Scores predicted frames against ground truth.

    Args:
        predictions: what was found.
        truth: in the same frame of reference.
        protocol: one of `PROTOCOLS`.
        classes: which classes count; elements of others are ignored.

    Raises:
        ElementError: if the protocol is unknown, there is no frame, or a predicted frame has no ground truth.
    """
    return pooled(match_classes(predictions, truth, protocol, classes), predictions, protocol)


@dataclass(frozen=True)
class FrameMatches:
    """One class in one frame.

    Attributes:
        confidence: (N,) scores of the predictions.
        hits: (thresholds, N) bool: which predictions are true positives.
    """

    num_truth: int
    confidence: np.ndarray
    hits: np.ndarray


Matches = Mapping[MapClass, Mapping[str, FrameMatches]]
"""Class -> frame token -> matches."""


def match_classes(predictions: Frames, truth: Frames, protocol: str, classes: Sequence[MapClass] = CLASSES) -> Matches:
    """The matches of every frame of the ground truth, in its order; see `chamfer_ap`."""
    if protocol not in PROTOCOLS:
        raise ElementError(f"unknown protocol {protocol!r}; known are {', '.join(PROTOCOLS)}")
    check_frames(predictions, truth)
    rules = PROTOCOLS[protocol]
    matches: dict[MapClass, dict[str, FrameMatches]] = {label: {} for label in classes}
    for label in classes:
        for token, elements in truth.items():
            wanted = [element for element in elements if element.label == label]
            found = [element for element in predictions.get(token, ()) if element.label == label]
            confidence = np.array([element.score for element in found], dtype=np.float64)
            taken = match_to_truth(found, wanted, confidence, rules)
            matches[label][token] = FrameMatches(len(wanted), confidence, taken >= 0)
    return matches


def check_frames(predictions: Collection[str], truth: Collection[str]) -> None:
    """Checks that predicted frames can be scored, by their tokens.

    Raises:
        ElementError: if there is no true frame, or a predicted frame has no ground truth.
    """
    if not truth:
        raise ElementError("there is no ground-truth frame to score against")
    extra = [token for token in predictions if token not in truth]
    if extra:
        shown = ", ".join(extra[:3]) + (", ..." if len(extra) > 3 else "")
        raise ElementError(
            f"{len(extra)} predicted frames have no ground truth ({shown}); give the ground truth of the same split"
        )


def pooled(matches: Matches, predictions: Collection[str], protocol: str) -> ChamferScore:
    """The score of matched frames; `predictions` says which of them were predicted at all."""
    tokens = next(iter(matches.values())).keys()
    return ChamferScore(
        protocol=protocol,
        classes={label: pooled_score(frames.values(), PROTOCOLS[protocol]) for label, frames in matches.items()},
        num_frames=len(tokens),
        frames_without_prediction=sum(token not in predictions for token in tokens),
    )


def pooled_score(frames: Iterable[FrameMatches], rules: ChamferProtocol) -> ClassScore:
    """The score of one class over these frames together; equal confidences keep the frames' order."""
    frames = list(frames)
    num_truth = sum(frame.num_truth for frame in frames)
    confidence = np.concatenate([np.zeros(0), *(frame.confidence for frame in frames)])
    nothing = np.zeros((len(rules.thresholds), 0), bool)
    order = np.argsort(-confidence, kind="stable")
    hits = np.concatenate([nothing, *(frame.hits for frame in frames)], axis=1)[:, order]
    num_predictions = len(confidence)
    curves = {}
    for threshold, is_hit in zip(rules.thresholds, hits, strict=True):
        true_positives = np.cumsum(is_hit)
        curves[threshold] = (true_positives / max(num_truth, 1), true_positives / np.arange(1, num_predictions + 1))
    return ClassScore(
        num_truth=num_truth,
        num_predictions=num_predictions,
        ap={threshold: average_precision(*curve) for threshold, curve in curves.items()},
        recall={threshold: float(recall[-1]) if len(recall) else 0.0 for threshold, (recall, _) in curves.items()},
        curves=curves,
    )


def match_to_truth(
    found: Sequence[MapElement], wanted: Sequence[MapElement], confidence: np.ndarray, rules: ChamferProtocol
) -> np.ndarray:
    """(thresholds, predictions) int: the true line that each prediction of one frame and class takes, -1: none."""
    taken = np.full((len(rules.thresholds), len(found)), -1)
    if not wanted or not found:
        return taken
    keep = rules.num_points if rules.keeps_sampled else None
    lines = np.stack([resampled(element.path.astype(np.float64), rules.num_points, keep) for element in found])
    targets = np.stack([resampled(_truth_path(element, rules), rules.num_points) for element in wanted])
    distance = chamfer_distances(lines, targets, max(rules.thresholds))
    if rules.band_width is not None:
        candidates = np.isfinite(distance)
        distance[candidates & ~within_bands(lines, targets, candidates, rules.band_width)] = np.inf
    nearest = distance.argmin(axis=1)
    shortest = distance[np.arange(len(found)), nearest]
    order = np.argsort(-confidence, kind="stable")
    for row, threshold in enumerate(rules.thresholds):
        close = order[shortest[order] <= threshold]
        # The first of those that chose the same ground truth takes it.
        first = close[np.unique(nearest[close], return_index=True)[1]]
        taken[row, first] = nearest[first]
    return taken


def average_precision(recall: np.ndarray, precision: np.ndarray) -> float:
    """Area under the precision envelope over recall (VOC 2010, all points)."""
    recall = np.concatenate([[0.0], recall])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall) * envelope))


def _truth_path(element: MapElement, rules: ChamferProtocol) -> np.ndarray:
    path = element.path.astype(np.float64)
    if rules.simplify_truth:
        path = shapely.get_coordinates(shapely.simplify(shapely.LineString(path), rules.simplify_truth))
    return path
