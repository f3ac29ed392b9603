"""Whether a map goes on from the one before: poses and stamps that jump begin a new drive."""

import numpy as np

_PAUSE_S = 60.0  # a longer silence begins a new drive
_FASTEST = 80.0  # metres per second that no car drives
_SLACK_M = 1.0  # by which odometry may correct itself at once


class Continuity:
    """Compares each map's stamp and pose with those of the last."""

    def __init__(self) -> None:
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
        if seconds > _PAUSE_S:
            return f"no map for {seconds:.1f} s"
        metres = float(np.linalg.norm(fixed_from_ego[:3, 3] - last[1][:3, 3]))
        if metres > _SLACK_M + _FASTEST * seconds:
            return f"the car's pose jumped by {metres:.1f} m in {seconds:.2f} s"
        return ""
