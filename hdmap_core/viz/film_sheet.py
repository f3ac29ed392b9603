"""One picture of a drive's film: the cameras, the map around the car, and beside them the map of the whole drive."""

from collections.abc import Sequence

import cv2
import numpy as np

from hdmap_core.elements import MapElement
from hdmap_core.geometry import BEVGrid
from hdmap_core.observation import Observation
from hdmap_core.viz.camera_mosaic import draw_cameras, tile_in
from hdmap_core.viz.drive_panel import DrivePanel
from hdmap_core.viz.strokes import BACKGROUND, FAINT, MARGIN, legend, write
from hdmap_core.viz.top_view import GroundMemory, draw_bev, pixel_grid

SIZE = (1080, 1920)
"""(H, W) of a film in pixels."""
_HEADER = 56
_PANEL = 580  # pixels of the column with the drive's map
_CAMERAS = 476  # pixels of the cameras' height
_LEGEND = 270


class FilmSheet:
    """Draws a drive frame by frame.

    Args:
        title: above the pictures.
        grid: the region around the car.
        way: (N, 2) metres in the map's frame, where the car will drive, as far as that is known ahead.
        true_map: true elements around all of the drive, metres in the map's frame; beside the fused map.
    """

    def __init__(
        self,
        title: str,
        grid: BEVGrid,
        way: np.ndarray | None = None,
        true_map: Sequence[MapElement] | None = None,
    ) -> None:
        self.title, self.grid, self.way, self.true_map = title, grid, way, true_map
        self._panel: DrivePanel | None = None
        self._box = (0, 0)

    def _begin(self, observation: Observation) -> None:
        has_pose = observation.map_from_ego is not None
        width = SIZE[1] - 2 * MARGIN - (_PANEL + MARGIN if has_pose else 0)
        self._left_width = width
        top = _HEADER + _CAMERAS + MARGIN // 2
        self._box = (SIZE[0] - MARGIN - top, width - _LEGEND)
        per_metre = min(self._box[0] / self.grid.size[1], self._box[1] / self.grid.size[0])
        self._per_metre = max(1, int(per_metre))
        self._memory = GroundMemory(pixel_grid(self.grid, self._per_metre))
        if has_pose:
            height = SIZE[0] - _HEADER - MARGIN
            rows = height if self.true_map is None else (height - MARGIN // 2) // 2
            self._panel = DrivePanel((rows, _PANEL), self.way)

    def draw(
        self,
        observation: Observation,
        elements: Sequence[MapElement],
        truth: Sequence[MapElement] | None = None,
        fused: Sequence[MapElement] = (),
        clock: str = "",
        facts: Sequence[str] = (),
    ) -> np.ndarray:
        """The next picture.

        Args:
            observation: the frame.
            elements: what is drawn of its prediction, metres, ego frame.
            truth: of the frame, thin and white.
            fused: the map of the drive so far, metres in the map's frame.
            clock: at the upper right.
            facts: lines of text under the legend.

        Returns:
            (H, W, 3) uint8 RGB of `SIZE`.
        """
        if not any(self._box):
            self._begin(observation)
        canvas = np.full((*SIZE, 3), BACKGROUND, np.uint8)
        write(canvas, (MARGIN, 16), self.title, 26)
        write(canvas, (SIZE[1] - MARGIN, 18), clock, 22, FAINT, "ra")
        mosaic = draw_cameras(
            observation, elements, truth or (), tile_in(observation.rig, (_CAMERAS, self._left_width))
        )
        left = MARGIN + (self._left_width - mosaic.shape[1]) // 2
        canvas[_HEADER : _HEADER + mosaic.shape[0], left : left + mosaic.shape[1]] = mosaic
        ground = self._memory.update(observation)
        bev = _shrunk(draw_bev(None, elements, truth, self.grid, self._per_metre, ground), self._box)
        top = _HEADER + _CAMERAS + MARGIN // 2
        canvas[top : top + bev.shape[0], MARGIN : MARGIN + bev.shape[1]] = bev
        corner = (2 * MARGIN + bev.shape[1], top)
        legend(canvas, corner, elements, truth is not None, ("metres around the car", *facts), 20)
        if self._panel is not None and observation.map_from_ego is not None:
            self._draw_panels(canvas, ground, observation.map_from_ego, fused)
        return canvas

    def _draw_panels(
        self, canvas: np.ndarray, ground: np.ndarray, pose: np.ndarray, fused: Sequence[MapElement]
    ) -> None:
        assert self._panel is not None
        left = SIZE[1] - MARGIN - _PANEL
        panel, top = self._panel, _HEADER
        panel.move(pose)
        panel.add_ground(ground, pixel_grid(self.grid, self._per_metre), pose)
        pictures = [panel.draw(fused, "the map of the drive, fused")]
        if self.true_map is not None:
            pictures.append(panel.draw(self.true_map, "ground truth"))
        for picture in pictures:
            canvas[top : top + len(picture), left:-MARGIN] = picture
            top += len(picture) + MARGIN // 2


def _shrunk(picture: np.ndarray, box: tuple[int, int]) -> np.ndarray:
    """A picture in its shape that fits into a box (H, W), for grids whose cells suit no whole number of pixels."""
    scale = min(box[0] / picture.shape[0], box[1] / picture.shape[1])
    if scale >= 1:
        return picture
    size = int(picture.shape[1] * scale), int(picture.shape[0] * scale)
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
