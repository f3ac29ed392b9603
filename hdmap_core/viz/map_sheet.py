"""A still picture of one frame: the images with the map in them, above the map from above."""

from collections.abc import Sequence

import numpy as np

from hdmap_core.elements import MapElement
from hdmap_core.geometry import BEVGrid
from hdmap_core.observation import Observation
from hdmap_core.viz.camera_mosaic import draw_cameras
from hdmap_core.viz.strokes import BACKGROUND, MARGIN, legend, write
from hdmap_core.viz.top_view import draw_bev

_HEADER = 64
_LEGEND = 560  # pixels beside the view from above
PIXELS_PER_METRE = 20
"""Of the view from above."""


def draw_map(
    observation: Observation,
    elements: Sequence[MapElement],
    truth: Sequence[MapElement] | None,
    grid: BEVGrid,
    title: str = "",
    facts: Sequence[str] = (),
    min_score: float = 0.3,
    ground: np.ndarray | None = None,
) -> np.ndarray:
    """The camera images with the elements projected into them, above the bird's-eye view.

    Args:
        observation: the frame; a missing image stays dark.
        elements: the prediction; those below `min_score` are not drawn.
        truth: ground truth drawn thin and white under the prediction, or None.
        grid: the region of the bird's-eye view.
        title: above the picture; the frame's token by default.
        facts: lines of text beside the bird's-eye view.
        min_score: see `elements`.
        ground: see `draw_bev`; of `PIXELS_PER_METRE`.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    shown = [element for element in elements if element.score >= min_score]
    mosaic = draw_cameras(observation, shown, truth or ())
    bev = draw_bev(observation, shown, truth, grid, PIXELS_PER_METRE, ground)
    width = max(mosaic.shape[1], bev.shape[1] + _LEGEND) + 2 * MARGIN
    canvas = np.full((_HEADER + mosaic.shape[0] + bev.shape[0] + 3 * MARGIN, width, 3), BACKGROUND, np.uint8)
    top, left = _HEADER + MARGIN // 2, (width - mosaic.shape[1]) // 2
    canvas[top : top + mosaic.shape[0], left : left + mosaic.shape[1]] = mosaic
    top += mosaic.shape[0] + MARGIN
    canvas[top : top + bev.shape[0], MARGIN : MARGIN + bev.shape[1]] = bev
    write(canvas, (MARGIN, 20), title or f"hdmap_ros   {observation.token}", 30)
    words = ("the car drives to the right; metres from it", "", *facts)
    legend(canvas, (2 * MARGIN + bev.shape[1], top), shown, truth is not None, words)
    return canvas
