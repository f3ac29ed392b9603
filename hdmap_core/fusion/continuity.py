"""Whether a map goes on from the one before: poses and stamps that jump begin a new drive."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Limits:
    """What a drive does between two maps.

    Attributes:
        pause_s: a longer silence begins a new drive.
        speed: metres per second that no car drives.
        slack: metres that odometry may correct itself by at once.
    """

    pause_s: float = 60.0
    speed: float = 80.0
    slack: float = 1.0


class Continuity:
    """Compares each map's stamp and pose with those of the last."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._last: tuple[int, np.ndarray] | None = None

    def reset(self) -> None:
        """The next map is the first of a drive."""
        self._last = None

    def break_before(self, stamp_ns: int, fixed_from_ego: np.ndarray) -> str:
        """Why this map does not go on from the last; empty if it does, or is the first.

        Args:
            stamp_ns: of the map.
            fixed_from_ego: (4, 4) the car's pose then.
        """
        last, self._last = self._last, (stamp_ns, fixed_from_ego)
        if last is None:
            return ""
        seconds = (stamp_ns - last[0]) * 1e-9
        if seconds < 0:
            return f"time went back by {-seconds:.1f} s"
        if seconds > self.limits.pause_s:
            return f"no map for {seconds:.1f} s"
        metres = float(np.linalg.norm(fixed_from_ego[:3, 3] - last[1][:3, 3]))
        if metres > self.limits.slack + self.limits.speed * seconds:
            return f"the car's pose jumped by {metres:.1f} m in {seconds:.2f} s"
        return ""
