"""A drive: each map's elements get their numbers and go into the fused map; what breaks the drive begins a new one."""

from collections.abc import Sequence

import numpy as np

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.fusion.association import Tracker
from hdmap_core.fusion.continuity import Continuity
from hdmap_core.fusion.local_map import LocalMap
from hdmap_core.geometry import BEVGrid

NO_POSE = "the car's pose in the fixed frame is not known: elements are numbered anew in each map, the local map pauses"


class Drive:
    """What node and replay keep from map to map.

    Args:
        classes: of the model.
        region: in which the model can see.
        reach: see `LocalMap`; 0: no local map.

    Attributes:
        local_map: the fused map; None without one.
        resets: how often a drive ended and a new one began.
        paused: why the last map was not joined to those before; empty if it was.
        restarted: whether the last map was the first of a drive.
    """

    def __init__(self, classes: Sequence[MapClass], region: BEVGrid, reach: float) -> None:
        self.local_map = LocalMap(classes, reach) if reach > 0 else None
        self.resets = 0
        self.paused = ""
        self.restarted = True
        self._region = region
        self._tracker = Tracker()
        self._continuity = Continuity()
        self._has_begun = False

    def reset(self) -> None:
        """Begins a new drive: nothing is known."""
        self.resets += self._has_begun
        self._has_begun = False
        self._tracker.reset()
        self._continuity.reset()
        if self.local_map is not None:
            self.local_map.reset()

    def add(
        self, elements: Sequence[MapElement], stamp_ns: int, fixed_from_ego: np.ndarray | None, full: bool = True
    ) -> tuple[list[MapElement], str]:
        """Takes a map.

        Args:
            elements: metres, ego frame.
            stamp_ns: its time.
            fixed_from_ego: (4, 4) the car's pose at that time in a frame that does not move; None: not known.
            full: whether every camera contributed; if not, what is not there counts against nothing.

        Returns:
            The elements in the same order with their numbers, and why the drive before ended, if it did.
        """
        if fixed_from_ego is None:
            self.paused, self.restarted = NO_POSE, True
            return self._tracker.fresh(elements), ""
        reason = self._continuity.break_before(stamp_ns, fixed_from_ego)
        if reason:
            self.reset()
            self._continuity.break_before(stamp_ns, fixed_from_ego)
        self.paused, self.restarted = "", not self._has_begun
        self._has_begun = True
        numbered = self._tracker.update(elements, fixed_from_ego, self._region)
        if self.local_map is not None:
            self.local_map.update(elements, fixed_from_ego, self._region, full)
        return numbered, reason
