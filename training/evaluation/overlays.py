"""Map elements as layers of SVG over the gallery's pictures, so that a reader can switch them off and choose scores."""

from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import TypeAlias

import numpy as np
import shapely

from hdmap_core.elements import MapElement
from hdmap_core.geometry import BEVGrid, CameraRig
from hdmap_core.viz.camera_mosaic import projected

MIN_SCORE = 0.3
"""Predictions below it are not shown at first, and do not count in a frame's F1."""
LOWEST_SCORE = 0.05
"""Predictions below it are in no picture, whatever the reader chooses."""
_SIMPLER_PX = 0.4
_Strokes: TypeAlias = Callable[[MapElement], Iterable[tuple[np.ndarray, float]]]  # lines in pixels with their widths
_THICK_M = 10.0  # metres from the camera at which a line has its plain width


def bev_layers(grid: BEVGrid, predicted: Sequence[MapElement], truth: Sequence[MapElement]) -> str:
    """The layers of a view from above, the car's front to the right.

    Args:
        grid: of the picture's pixels.
        predicted: metres, ego frame.
        truth: metres, ego frame.
    """

    def strokes(element: MapElement) -> Iterable[tuple[np.ndarray, float]]:
        line = element.path
        yield grid.to_cells(line.astype(np.float64)) * [1, -1] + [0, grid.shape[0] - 1], 4.0

    return _layers(predicted, truth, strokes)


def camera_layers(rig: CameraRig, predicted: Sequence[MapElement], truth: Sequence[MapElement]) -> str:
    """The layers of one camera's image.

    Args:
        rig: of this camera alone, in the picture's pixels.
        predicted: metres, ego frame; they lie on its ground.
        truth: metres, ego frame.
    """
    plain = max(2.0, rig.image_sizes[0][0] / 120)

    def strokes(element: MapElement) -> Iterable[tuple[np.ndarray, float]]:
        for line, depth in projected(rig, element)[0]:
            yield line, float(np.clip(plain * _THICK_M / depth, 1.0, 3 * plain))

    return _layers(predicted, truth, strokes)


def _layers(predicted: Sequence[MapElement], truth: Sequence[MapElement], strokes: _Strokes) -> str:
    sure = [element for element in predicted if element.score >= LOWEST_SCORE]
    groups = (("truth", truth), ("predicted", sorted(sure, key=lambda element: element.score)))
    return "".join(
        f'<g class="{name}">{"".join(_element(element, strokes) for element in some)}</g>' for name, some in groups
    )


def _element(element: MapElement, strokes: _Strokes) -> str:
    paths = "".join(f'<path d="{_path(line)}" stroke-width="{width:.1f}"/>' for line, width in strokes(element))
    if not paths:
        return ""
    label = element.label.value
    title = f"{label.replace('_', ' ')} {element.score:.2f}"
    weak = " weak" if element.score < MIN_SCORE else ""
    return f'<g class="{label}{weak}" data-score="{element.score:.3f}"><title>{escape(title)}</title>{paths}</g>'


def _path(line: np.ndarray) -> str:
    points = shapely.get_coordinates(shapely.simplify(shapely.LineString(line), _SIMPLER_PX))
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
