"""A drive as a film: each map is fused with those before, drawn and added."""

from collections.abc import Sequence

import numpy as np

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.fusion.drive import Drive
from hdmap_core.fusion.ground import elements_to_fixed
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
        self.fuse(observation, elements)
        if observation.map_from_ego is not None:
            self._trace(observation.map_from_ego)
        shown = [element for element in elements if element.score >= self._min_score]
        return self._sheet.draw(observation, shown, truth, self._fused, clock, facts)

    def fuse(self, observation: Observation, elements: Sequence[MapElement]) -> None:
        """Adds a frame to the map of the drive and draws nothing; one without a pose is left out."""
        pose = observation.map_from_ego
        if pose is not None:
            full = all(observation.camera_mask)
            self.drive.number(elements, observation.stamp_ns, pose, full)
            self.drive.fuse(elements, pose, full)

    def _trace(self, pose: np.ndarray) -> None:
        """The fused map as lines, now and then: it takes the longer the longer the drive is."""
        if self._last is not None and not self.drive.restarted:
            self._way += float(np.linalg.norm(pose[:2, 3] - self._last[:2, 3]))
            self._last = pose
            if self._way - self._traced_at < max(_STRIDE, _SHARE * self._way):
                return
        local_map = self.drive.local_map
        assert local_map is not None
        self._fused = elements_to_fixed(local_map.elements(), local_map.fixed_from_map)
        self._traced_at, self._last = self._way, pose
