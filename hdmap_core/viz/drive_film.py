"""A drive as a film: each map is fused with those before, drawn and added."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.fusion.drive import Drive
from hdmap_core.fusion.ground import to_fixed
from hdmap_core.geometry import BEVGrid
from hdmap_core.observation import Observation
from hdmap_core.viz.film_sheet import FilmSheet

_STRIDE = 2.0  # metres the car drives until the fused map is traced again
_SHARE = 0.02  # of its way so far, as a long map takes longer


class DriveFilm:
    """Makes the pictures of a drive, one after the other.

    Args:
        sheet: draws them.
        classes: of the model.
        grid: in which it can see.
        min_score: elements with a lower score are not drawn; the fused map weighs all.
    """

    def __init__(self, sheet: FilmSheet, classes: Sequence[MapClass], grid: BEVGrid, min_score: float) -> None:
        self.drive = Drive(classes, grid, np.inf)
        self._sheet, self._min_score = sheet, min_score
        self._fused: list[MapElement] = []
        self._way = self._traced_at = 0.0
        self._last: np.ndarray | None = None

    def draw(
        self,
        observation: Observation,
        elements: Sequence[MapElement],
        truth: Sequence[MapElement] | None = None,
        clock: str = "",
        facts: Sequence[str] = (),
    ) -> np.ndarray:
        """The next picture, (H, W, 3) uint8 RGB; see `FilmSheet.draw`.

        Args:
            observation: the frame, with its pose if the drive's map is to grow.
            elements: of its prediction, of any score, metres, ego frame.
            truth: of the frame.
            clock: at the upper right.
            facts: beside the map.
        """
        pose = observation.map_from_ego
        if pose is not None:
            self._fuse(observation, elements, pose)
        shown = [element for element in elements if element.score >= self._min_score]
        return self._sheet.draw(observation, shown, truth, self._fused, clock, facts)

    def _fuse(self, observation: Observation, elements: Sequence[MapElement], pose: np.ndarray) -> None:
        full = all(observation.camera_mask)
        self.drive.number(elements, observation.stamp_ns, pose, full)
        self.drive.fuse(elements, pose, full)
        if self._last is not None:
            self._way += float(np.linalg.norm(pose[:2, 3] - self._last[:2, 3]))
        if self._last is None or self.drive.restarted or self._way - self._traced_at >= self._until_next():
            local_map = self.drive.local_map
            assert local_map is not None
            self._fused = in_map(local_map.elements(), local_map.fixed_from_map)
            self._traced_at = self._way
        self._last = pose

    def _until_next(self) -> float:
        return max(_STRIDE, _SHARE * self._way)


def in_map(elements: Sequence[MapElement], map_from_ego: np.ndarray) -> list[MapElement]:
    """Elements of the ego frame, on the plane of the map's frame."""
    return [replace(e, points=to_fixed(e.points.astype(np.float64), map_from_ego)) for e in elements]
