"""A drive: each map's elements get their numbers and go into the fused map; what breaks a drive begins a new one."""

from collections.abc import Sequence

import numpy as np

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.fusion.association import Tracker
from hdmap_core.fusion.continuity import Continuity
from hdmap_core.fusion.local_map import LocalMap
from hdmap_core.geometry import BEVGrid


class Drive:
    """What node and replay keep from map to map. For each map `number`, then `fuse`.

    Args:
        classes: of the model.
        region: in which the model can see.
        reach: see `LocalMap`; 0: no local map.

    Attributes:
        local_map: the fused map; None without one.
        breaks: how often a drive ended by itself, because stamps or poses jumped.
        restarted: whether the last map was the first of a drive.
    """

    def __init__(self, classes: Sequence[MapClass], region: BEVGrid, reach: float) -> None:
        self.local_map = LocalMap(classes, reach) if reach > 0 else None
        self.breaks = 0
        self.restarted = True
        self._region = region
        self._tracker = Tracker()
        self._continuity = Continuity()
        self._begins = True

    def reset(self) -> None:
        """Begins a new drive: nothing is known."""
        self._begins = True
        self._tracker.reset()
        self._continuity.reset()
        if self.local_map is not None:
            self.local_map.reset()

    def number(
        self, elements: Sequence[MapElement], stamp_ns: int, fixed_from_ego: np.ndarray, full: bool = True
    ) -> tuple[list[MapElement], str]:
        """Gives the elements of a map their numbers.

        Args:
            elements: metres, ego frame.
            stamp_ns: the map's time.
            fixed_from_ego: (4, 4) the car's pose at that time in a frame that does not move.
            full: see `Tracker.update`.

        Returns:
            The elements in the same order, and why the drive before ended, if it did.
        """
        broken = self._continuity.break_before(stamp_ns, fixed_from_ego)
        if broken:
            self.breaks += 1
            self.reset()
            self._continuity.break_before(stamp_ns, fixed_from_ego)
        self.restarted, self._begins = self._begins, False
        return self._tracker.update(elements, fixed_from_ego, self._region, full), broken

    def fuse(self, elements: Sequence[MapElement], fixed_from_ego: np.ndarray, full: bool = True) -> None:
        """Adds the same map to the local map, if there is one; see `LocalMap.update`."""
        if self.local_map is not None:
            self.local_map.update(elements, fixed_from_ego, self._region, full)
