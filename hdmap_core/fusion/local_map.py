"""The fused map: elements of successive maps as evidence on the ground, traced to lines and outlines again.

Each map is drawn into tiles that lie still in the fixed frame, its lines as wide as they are uncertain, weighted by
their score and less the farther from the car they are. What a map could see and did not draw counts against it. So
elements merge instead of piling up, a gap behind a parked car closes when a later map sees it, and what was seen once
and never again goes. The share of looks that saw a cell is a probability; lines are traced from it as from a network's
masks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.fusion.association import Tracker
from hdmap_core.fusion.cropping import cropped
from hdmap_core.fusion.evidence import EvidenceTiles
from hdmap_core.fusion.ground import to_fixed
from hdmap_core.fusion.stitching import stitched
from hdmap_core.geometry import BEVGrid, polyline, se3
from hdmap_core.postprocess.masks import LineJoining, MaskDecodeConfig, decode_masks, trust_in_length

# The first six are those of docs/results/map_over_time.md.
_RESOLUTION = 0.2  # metres, of the cells
_NEAR_M = 15.0  # at this distance from the car a look counts half as much as at the car
_MEMORY = 10.0  # so many looks from close by count; older ones fade as newer ones come
_DOUBT = 0.05  # so many looks that saw nothing are taken for granted
_STRIDE_M = 1.0  # between the looks of a car; maps between them show the same again and are left out
_STANDING = 0.02  # so much of a stride each map of a car that stands counts
_BLOCK_TILES = 40  # 384 m of 0.2 m cells, more than the default reach needs
_LEAST_TRUST = 0.1  # in a line of half a metre; shorter ones are drawn no stronger
_DEVIATIONS = 2.5  # so far a drawn line reaches to each side
_ALMOST = 0.999  # of a stride, which a sum of rounded parts may miss
_SHIFT = 5  # OpenCV draws with 1/32 cell accuracy


@dataclass(frozen=True)
class _Layer:
    """How a class is drawn and traced.

    Attributes:
        decode: how lines and outlines are traced.
        spread: standard deviation of a line's place in one map, metres.
    """

    decode: MaskDecodeConfig
    spread: float = 0.3


# A divider ends at a crossing; a boundary goes on behind the cars that are parked along it. Evidence is smooth already.
_LINE = LineJoining(smoothing=0.0, max_gap=2.0, touching=2.0, max_turn=40.0)
_KERB = LineJoining(smoothing=0.0, max_gap=4.0, touching=4.0, max_turn=110.0)
_LINES = _Layer(MaskDecodeConfig(threshold=0.3, line=_LINE))
_LAYERS = {
    MapClass.DIVIDER: _LINES,
    MapClass.PED_CROSSING: _Layer(MaskDecodeConfig(threshold=0.2, outline_level=0.7)),
    MapClass.BOUNDARY: _Layer(MaskDecodeConfig(threshold=0.2, boundary=_KERB), spread=0.4),
    MapClass.CENTERLINE: _LINES,
}


class LocalMap:
    """Grows along a drive. Coordinates inside are metres from `anchor`, so that single precision does.

    Args:
        classes: which elements it holds.
        reach: what is farther from the car is forgotten, metres; infinity: nothing is.
    """

    def __init__(self, classes: Sequence[MapClass], reach: float) -> None:
        self.classes = tuple(classes)
        self.reach = reach
        self._tracker = Tracker(reach=np.inf)
        self.reset()

    def reset(self) -> None:
        """Forgets everything; numbers of elements are not used again."""
        self.anchor: np.ndarray | None = None
        self._tiles = EvidenceTiles(len(self.classes), _RESOLUTION)
        self._tracker.reset()
        self._pose = np.eye(4)
        self._strides = 0.0  # since the last map that was added

    @property
    def fixed_from_map(self) -> np.ndarray:
        """(4, 4): where the elements' frame lies; its height is the car's."""
        anchor = np.zeros(2) if self.anchor is None else self.anchor
        return se3.se3(np.eye(3), [*anchor, self._pose[2, 3]])

    @property
    def extent(self) -> BEVGrid | None:
        """The window around all that was seen, in the elements' frame; None before the first map."""
        return self._tiles.extent()

    def update(
        self, elements: Sequence[MapElement], fixed_from_ego: np.ndarray, region: BEVGrid, full: bool = True
    ) -> None:
        """Adds a map.

        Args:
            elements: metres, ego frame; those of other classes are left out.
            fixed_from_ego: (4, 4) the car's pose.
            region: in which the map could have elements.
            full: whether it could see all of the region; if not, what it did not draw counts against nothing.
        """
        is_first = self.anchor is None
        if self.anchor is None:
            self.anchor = np.round(fixed_from_ego[:2, 3])
        moved = float(np.linalg.norm(fixed_from_ego[:2, 3] - self.anchor - self._pose[:2, 3]))
        self._strides += max(_STANDING, moved / _STRIDE_M)
        self._pose = fixed_from_ego.copy()
        self._pose[:2, 3] -= self.anchor
        if self._strides < _ALMOST and not is_first:
            return
        self._strides = 0.0
        (x_min, x_max), (y_min, y_max) = region.x_range, region.y_range
        corners = to_fixed(np.array([[x_min, y_min], [x_max, y_min], [x_max, y_max], [x_min, y_max]]), self._pose)
        window = self._tiles.window(corners.min(axis=0), corners.max(axis=0))
        looks = self._looks(window, corners)
        evidence = self._drawn(elements, window)
        evidence *= looks
        self._tiles.add(window, evidence, looks if full else evidence.max(axis=0), _MEMORY)
        if np.isfinite(self.reach):
            self._tiles.forget_beyond(self._pose[:2, 3], self.reach)

    def elements(self) -> list[MapElement]:
        """What is known, with numbers, in metres from `anchor` along the axes of the fixed frame."""
        if self._tiles.span() <= _BLOCK_TILES:
            window = self.extent
            traced = [] if window is None else self._traced(window)
        else:  # the memory of a long drive is that of its way, not of the box around it
            traced = stitched(
                [
                    piece
                    for block in self._tiles.blocks(_BLOCK_TILES)
                    for piece in cropped(self._traced(self._tiles.grown(block)), np.eye(4), block)
                ]
            )
        return self._tracker.update(traced, np.eye(4), None)

    def _traced(self, window: BEVGrid) -> list[MapElement]:
        evidence, looks = self._tiles.read(window)
        evidence /= looks + _DOUBT
        if {MapClass.DIVIDER, MapClass.PED_CROSSING} <= set(self.classes):
            # A divider ends at a crossing. From afar it is seen before the crossing is, and drawn through it.
            crossing = evidence[self.classes.index(MapClass.PED_CROSSING)]
            evidence[self.classes.index(MapClass.DIVIDER)] *= np.maximum(1 - 2 * crossing, 0)
        return [
            element
            for label, layer in zip(self.classes, evidence, strict=True)
            for element in decode_masks(layer[None], _LAYERS[label].decode, classes=[label], grid=window)
        ]

    def _looks(self, window: BEVGrid, corners: np.ndarray) -> np.ndarray:
        """(Y, X) float32: how much a look at each cell counts; 0 outside the region."""
        seen = np.zeros(window.shape, np.float32)
        cv2.fillConvexPoly(seen, np.round(window.to_cells(corners)).astype(np.int32), 1)
        x, y = (
            np.arange(cells, dtype=np.float32) * window.resolution + (low + window.resolution / 2 - car)
            for cells, low, car in zip(
                window.shape[::-1], (window.x_range[0], window.y_range[0]), self._pose[:2, 3], strict=True
            )
        )
        near = _NEAR_M**2
        seen /= np.add.outer(y**2 / near + 1, x**2 / near)
        return seen

    def _drawn(self, elements: Sequence[MapElement], window: BEVGrid) -> np.ndarray:
        """(K, Y, X) float32 in 0..1: the elements as wide as they are uncertain, as strong as their score."""
        shades = np.zeros((len(self.classes), *window.shape), np.uint8)
        for element in sorted(elements, key=lambda element: element.score):
            if element.label not in self.classes:
                continue
            layer = shades[self.classes.index(element.label)]
            cells = window.to_cells(to_fixed(element.points.astype(np.float64), self._pose))
            points = [np.round(cells * (1 << _SHIFT)).astype(np.int32)]
            if element.closed and element.label is MapClass.PED_CROSSING:
                cv2.fillPoly(layer, points, round(255 * element.score), cv2.LINE_8, _SHIFT)
            else:  # what is cut off at the border is short, but no less sure where it is
                trust = max(trust_in_length(polyline.length(element.points, element.closed)), _LEAST_TRUST)
                shade = round(255 * min(element.score / trust, 1.0))
                cv2.polylines(layer, points, element.closed, shade, 1, cv2.LINE_AA, _SHIFT)
        drawn = np.zeros(shades.shape, np.float32)
        for label, layer, smooth in zip(self.classes, shades, drawn, strict=True):
            sigma = _LAYERS[label].spread / window.resolution
            # A line of one cell keeps its shade at its middle; an area keeps it inside.
            strength = 1.0 if label is MapClass.PED_CROSSING else sigma * np.sqrt(2 * np.pi)
            radius = math.ceil(_DEVIATIONS * sigma)
            x, y, width, height = cv2.boundingRect(layer)
            part = np.s_[max(y - radius, 0) : y + height + radius, max(x - radius, 0) : x + width + radius]
            if width:
                blurred = cv2.GaussianBlur(
                    layer[part] * np.float32(strength / 255),
                    (2 * radius + 1, 2 * radius + 1),
                    sigma,
                    borderType=cv2.BORDER_CONSTANT,
                )
                np.minimum(blurred, 1.0, out=smooth[part])
        return drawn
