"""Average precision of rasterised lines, as HDMapNet and P-MapNet publish it. To compare with their tables only.

Procedure (HDMapNet's and P-MapNet's evaluation code). What makes its figures unlike any other AP is kept, since the
published numbers contain it:

1. Predicted and true lines are drawn again with OpenCV's thickness 5, class by class; where lines of a class overlap,
   the later one covers the earlier. A line is then the set of its cells: distances are those of thick rasters. A line
   that the region cuts into pieces, or that crosses itself, counts as several (both come of shapely's intersection).
2. Distance: HDMapNet takes the mean of both directed mean distances. P-MapNet takes only that from prediction to truth,
   so a quarter of a line, well placed, counts as the whole line.
3. Matching: the pair with the smallest distance of the whole frame first, whatever the scores, one to one, while it is
   strictly below the threshold. P-MapNet also wants an IoU of 0.1; a best pair that fails it takes both its lines out.
4. Predictions are accumulated in order of *rising* confidence, so false positives with low scores cost the most and a
   detector whose scores are worth something is punished for them. (HDMapNet's paper describes falling order.)
5. AP is the mean of the precision envelope at recall 0.1, 0.2 ... 1.0, per frame and class, then the mean over the
   frames that have a true or a predicted line of the class; a frame with false positives only counts as 0.
6. Crossings are two open edges, not outlines (`crossing_edges`).

Thresholds: HDMapNet's paper says 0.2, 0.5 and 1.0 m ("hdmapnet"), its code has 2, 4 and 6 m ("hdmapnet-code"), P-MapNet
uses 0.5, 1.0 and 1.5 m ("pmapnet").

Not copied: confidences that go to other lines when a line is cut into pieces, ids that wrap above 255, and P-MapNet's
fixed canvas of 600 x 800 cells for the IoU, which is taken on the grid here. Ours: equal
scores keep the order of elements, frames are matched by token, and a class that occurs nowhere has AP 0, not NaN.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.elements.crossing_edges import crossing_edges
from hdmap_core.errors import ElementError
from hdmap_core.geometry import BEVGrid
from hdmap_core.metrics.chamfer_ap import CLASSES, APScore, ChamferScore, Frames, Score, chamfer_ap, check_frames
from hdmap_core.metrics.raster_lines import RasterLines, distances, draw, overlaps

_RECALLS = np.arange(1, 11) / 10 - 1e-6  # recalls are quotients: 3 of 10 lines must reach 0.3


@dataclass(frozen=True)
class RasterProtocol:
    """What distinguishes one paper's figure from the other's.

    Attributes:
        thresholds: metres.
        symmetric: distance in both directions, not only from prediction to truth.
        min_iou: of the two sets of cells; 0 for no such condition.
        thickness: OpenCV's, of the drawn lines; 5 comes out 7 cells wide.
    """

    thresholds: tuple[float, ...]
    symmetric: bool = True
    min_iou: float = 0.0
    thickness: int = 5


RASTER_PROTOCOLS = {
    "hdmapnet": RasterProtocol((0.2, 0.5, 1.0)),
    "hdmapnet-code": RasterProtocol((2.0, 4.0, 6.0)),
    "pmapnet": RasterProtocol((0.5, 1.0, 1.5), symmetric=False, min_iou=0.1),
}


@dataclass(frozen=True)
class RasterClassScore(APScore):
    """One class over all frames, of lines after cutting.

    Attributes:
        num_frames: frames that have true or predicted ones; `ap` is the mean over these.
    """

    num_frames: int


class RasterScore(Score[RasterClassScore]):
    """Of lines in rasters."""


def raster_ap(
    predictions: Frames,
    truth: Frames,
    protocol: str = "hdmapnet",
    classes: Sequence[MapClass] = CLASSES,
    grid: BEVGrid | None = None,
) -> RasterScore:
    """Scores predicted frames against ground truth.

    Args:
        predictions: what was found.
        truth: in the same frame of reference.
        protocol: one of `RASTER_PROTOCOLS`.
        classes: which classes count; elements of others are ignored.
        grid: region and cells that the lines are drawn in; 60 x 30 m in cells of 0.15 m if None.

    Raises:
        ElementError: if the protocol is unknown, there is no frame, or a predicted frame has no ground truth.
    """
    if protocol not in RASTER_PROTOCOLS:
        raise ElementError(f"unknown protocol {protocol!r}; known are {', '.join(RASTER_PROTOCOLS)}")
    check_frames(predictions, truth)
    rules, grid = RASTER_PROTOCOLS[protocol], grid or BEVGrid(resolution=0.15)
    frames = [(crossing_edges(predictions.get(token, ())), crossing_edges(wanted)) for token, wanted in truth.items()]
    return RasterScore(
        protocol=protocol,
        classes={label: _class_score(label, frames, rules, grid) for label in classes},
        num_frames=len(truth),
        frames_without_prediction=sum(token not in predictions for token in truth),
    )


def published_and_honest(
    predictions: Frames,
    truth: Frames,
    protocol: str = "hdmapnet",
    classes: Sequence[MapClass] = CLASSES,
    grid: BEVGrid | None = None,
) -> tuple[RasterScore, ChamferScore]:
    """A paper's figure, see `raster_ap`, and MapTR's vector AP of the same lines, crossings as two edges in both."""
    found = {token: crossing_edges(elements) for token, elements in predictions.items()}
    wanted = {token: crossing_edges(elements) for token, elements in truth.items()}
    return raster_ap(predictions, truth, protocol, classes, grid), chamfer_ap(found, wanted, "maptr", classes)


def _class_score(
    label: MapClass,
    frames: Sequence[tuple[Sequence[MapElement], Sequence[MapElement]]],
    rules: RasterProtocol,
    grid: BEVGrid,
) -> RasterClassScore:
    num_truth, num_predictions, per_frame = 0, 0, []
    for elements in frames:
        found, wanted = (
            draw([element for element in side if element.label is label], grid, rules.thickness) for side in elements
        )
        num_predictions += len(found.cells)
        num_truth += len(wanted.cells)
        if len(found.cells) or len(wanted.cells):
            matched = match_lines(found, wanted, rules, grid.resolution)
            hits = (matched < threshold for threshold in rules.thresholds)
            per_frame.append([frame_ap(hit, found.score, len(wanted.cells)) for hit in hits])
    ap = np.mean(per_frame, axis=0) if per_frame else np.zeros(len(rules.thresholds))
    by_threshold = dict(zip(rules.thresholds, ap.tolist(), strict=True))
    return RasterClassScore(num_truth, num_predictions, by_threshold, len(per_frame))


def match_lines(found: RasterLines, wanted: RasterLines, rules: RasterProtocol, resolution: float) -> np.ndarray:
    """(N,) metres from each predicted line to the true line that it is matched with; infinity for none.

    The nearest pairs go first, so what is below a threshold is what the published code, which matches anew for every
    threshold, would find with it.
    """
    result = np.full(len(found.cells), np.inf)
    if not len(found.cells) or not len(wanted.cells):
        return result
    limit = max(rules.thresholds)
    distance = distances(found, wanted, resolution, symmetric=rules.symmetric, limit=limit)
    allowed = overlaps(found, wanted) >= rules.min_iou
    rows, columns = np.unravel_index(np.argsort(distance, axis=None, kind="stable"), distance.shape)
    row_taken, column_taken = np.zeros(len(found.cells), bool), np.zeros(len(wanted.cells), bool)
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        if distance[row, column] < limit and not (row_taken[row] or column_taken[column]):
            row_taken[row] = column_taken[column] = True
            if allowed[row, column]:
                result[row] = distance[row, column]
    return result


def frame_ap(hits: np.ndarray, score: np.ndarray, num_truth: int) -> float:
    """Average precision of one frame and class: (N,) bool hits, accumulated by rising score."""
    if not num_truth or not len(hits):
        return 0.0
    true_positives = np.cumsum(hits[np.argsort(score, kind="stable")])
    precision = true_positives / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    first = np.searchsorted(true_positives / num_truth, _RECALLS)
    return float(np.append(envelope, 0.0)[first].mean())
