"""A car's poses over time from a text file: TUM's format, which visual and LiDAR odometry programs write.

A line is `time x y z qx qy qz qw`: seconds, metres, a quaternion with w last; lines that begin with # are comments.
"""

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from hdmap_core.errors import DatasetError
from hdmap_core.geometry.se3 import se3

_LONGEST_GAP_S = 1.0
_SAME_S = 1e-6  # that rounding may put between a stamp and the same time in the file


class Trajectory:
    """Poses at any time between the first and the last; between two of them the car moves evenly.

    Args:
        path: the file.

    Raises:
        DatasetError: naming file and line of what is no pose.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = enumerate(_text(path).splitlines(), start=1)
        rows = [row for number, line in lines if (row := _row(path, number, line))]
        if len(rows) < 2:
            raise DatasetError(f"{path}: {len(rows)} poses; expected at least two lines of `time x y z qx qy qz qw`")
        table = np.array(rows)
        if (np.diff(table[:, 0]) <= 0).any():
            late = int(np.argmax(np.diff(table[:, 0]) <= 0))
            raise DatasetError(f"{path}: the time {table[late + 1, 0]} does not come after {table[late, 0]}")
        self._times, self._places = table[:, 0], table[:, 1:4]
        self._turns = Slerp(self._times, Rotation.from_quat(table[:, 4:]))

    def at(self, seconds: float) -> np.ndarray:
        """(4, 4) float64 pose.

        Raises:
            DatasetError: beyond the file's ends, and in a gap of more than a second.
        """
        nearest = float(self._times[np.abs(self._times - seconds).argmin()])
        seconds = nearest if abs(nearest - seconds) < _SAME_S else seconds
        after = int(np.searchsorted(self._times, seconds))
        if not self._times[0] <= seconds <= self._times[-1]:
            raise DatasetError(
                f"{self.path}: has no pose at {seconds:.3f} s; it goes from {self._times[0]:.3f} to "
                f"{self._times[-1]:.3f} s"
            )
        if seconds < self._times[after] and self._times[after] - self._times[after - 1] > _LONGEST_GAP_S:
            raise DatasetError(f"{self.path}: has no pose within a second of {seconds:.3f} s")
        place = [np.interp(seconds, self._times, self._places[:, axis]) for axis in range(3)]
        return se3(self._turns(seconds).as_matrix(), place)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"cannot read {path}: {error}") from None


def _row(path: Path, number: int, line: str) -> list[float] | None:
    words = line.replace(",", " ").split()
    if not words or words[0].startswith("#"):
        return None
    try:
        row = [float(word) for word in words]
    except ValueError:
        row = []
    if len(row) != 8 or not np.isfinite(row).all() or np.linalg.norm(row[4:]) < 1e-8:
        raise DatasetError(f"{path}, line {number}: expected `time x y z qx qy qz qw`, finite, got {line!r:.60}")
    return row
