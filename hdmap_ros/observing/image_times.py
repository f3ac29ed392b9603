"""When an image was taken: its stamp says so, and nothing else where any camera of the rig has stamps.

A driver that knows no time leaves the stamp 0. The arrival of such an image is late by exposure, transport and whatever
kept the receiver busy: 30 ms are 0.3 m at 10 m/s. So a camera without stamps beside cameras that have them is left out.
Where no camera of a rig has stamps, all are on one clock, that of their arrivals, which is then used as long as the
receiver keeps up (decision 33).
"""

from hdmap_ros.problems import Problems

WAIT_NS = 1_000_000_000
"""So long stamps are waited for."""
LATE_NS = 30_000_000
"""A receiver that looks every 20 ms whether anything is due is at most that late while it keeps up."""
REST_NS = 60_000_000
"""So long after it was away it works off what had come meanwhile."""
_IN_A_ROW = 3
"""Images with a stamp that make a camera one that has stamps: one odd header must not set the others aside."""


class ImageTimes:
    """Tells the time of each image, or that nobody knows it.

    Args:
        cameras: how many there are.
        problems: is told of images without a stamp, as `zero_stamp`.
        clock: what is used where no camera has stamps.

    Attributes:
        stamped: whether any camera has stamps; None: not known yet. Once it has, it stays so.
    """

    def __init__(self, cameras: int, problems: Problems, clock: str, stamped: bool | None = None) -> None:
        self.stamped = stamped
        self._cameras, self._problems, self._clock = cameras, problems, clock
        self._in_a_row: dict[str, int] = {}  # camera -> its latest images that had a stamp
        self._since_ns: int | None = None  # the first image without one
        self._looked_ns: int | None = None
        self._back_ns = 0  # when it had been away last

    def looked(self, now_ns: int) -> None:
        """Notes that the receiver has come to look whether anything is due."""
        if self._looked_ns is None or now_ns - self._looked_ns > LATE_NS:
            self._back_ns = now_ns
        self._looked_ns = now_ns

    def taken_ns(self, camera: str, stamp_ns: int, now_ns: int, clock_ns: int) -> int | None:
        """When an image was taken; None: it has to be left out.

        Args:
            camera: its name.
            stamp_ns: its header's.
            now_ns: its arrival, on the clock of `looked`.
            clock_ns: its arrival, on the clock that stands for stamps where there are none.
        """
        if stamp_ns:
            self._in_a_row[camera] = in_a_row = self._in_a_row.get(camera, 0) + 1
            if in_a_row >= _IN_A_ROW:
                self.stamped = True
            return stamp_ns
        self._in_a_row[camera] = 0
        if self.stamped is None:
            self._judge(now_ns)
        if self.stamped is None:
            why, taken_ns = "it is left out until it is known whether any camera has stamps", None
        elif self.stamped:
            why, taken_ns = "it is left out, as nothing tells when they were taken; stamp them in its driver", None
        elif self._is_late(now_ns):
            why, taken_ns = "their time of arrival is not used while the node is short of CPU", None
        else:
            why, taken_ns = f"{self._clock} is used, as no camera has stamps", clock_ns
        self._problems.add("zero_stamp", camera, f"camera {camera}: its images have no stamp (0); {why}")
        return taken_ns

    def _judge(self, now_ns: int) -> None:
        self._since_ns = now_ns if self._since_ns is None else self._since_ns
        if now_ns - self._since_ns > WAIT_NS:
            self.stamped = any(self._in_a_row.values())
        elif len(self._in_a_row) == self._cameras and not any(self._in_a_row.values()):
            self.stamped = False

    def _is_late(self, now_ns: int) -> bool:
        """Whether the image may have waited: the receiver was away just now, or has hardly come back."""
        if self._looked_ns is None:  # it never looks: a recording
            return False
        return now_ns - self._looked_ns > LATE_NS or now_ns - self._back_ns < REST_NS
