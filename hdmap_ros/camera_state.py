"""What the synchroniser knows of one camera."""

from collections import deque
from statistics import median_low
from typing import Any

from hdmap_ros.camera_clocks import History, playback_rate, shift_since
from hdmap_ros.camera_phases import usual_gaps

HISTORY = 12
FREE_IMAGES = 4


class Camera:
    """What is known of one camera.

    Attributes:
        stamps, arrivals: of its latest images; since it was lost, where it is.
        phase_ns: stamp minus the cycle's time; None while it is not known.
        clock_ns: how much of that is its clock's error.
        free: its images follow no cycle; the nearest one is taken.
        slope_ns: by how much its phase drifts per cycle.
        noise_ns: how far its images usually lie from its phase.
        limit_ns: how far its phase may drift from the anchor's before its next image is the nearer one.
        far: its phase lies further from the anchor's than its images may.
        missed: cycles closed since it last delivered.
        off: score of images that fit no cycle.
        tried: images since it was lost, or free.
        wrapped: 1 after it drifted on to its next image, more with every image that then came late.
        strays: the latest images in a row that lay far off on the same side.
        step_ns: what its clock was set by when it was lost; 0: it was lost for another reason.
        before, last_phase_ns: stamps and arrivals, and phase, before it was lost.
        waiting: stamps and messages of its latest images while it is free, for sets to come.
    """

    __slots__ = (
        "arrivals", "before", "clock_ns", "far", "free", "last_phase_ns", "limit_ns", "missed", "name", "noise_ns",
        "off", "phase_ns", "slope_ns", "stamps", "step_ns", "strays", "tried", "waiting", "wrapped",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.stamps: deque[int] = deque(maxlen=HISTORY)
        self.arrivals: deque[int] = deque(maxlen=HISTORY)
        self.phase_ns: int | None = None
        self.clock_ns = 0
        self.slope_ns = 0
        self.noise_ns = 0
        self.limit_ns = 0
        self.free = self.far = False
        self.missed = self.off = self.tried = self.wrapped = 0
        self.strays: list[int] = []
        self.step_ns = 0
        self.before: History = ((), ())
        self.last_phase_ns: int | None = None
        self.waiting: deque[tuple[int, Any]] = deque(maxlen=FREE_IMAGES)

    @property
    def locked(self) -> bool:
        """Whether it follows the rig's cycles."""
        return self.phase_ns is not None and not self.free

    @property
    def period_ns(self) -> int:
        """Median gap between its images; 0 without two."""
        gaps = usual_gaps([self.stamps])
        return gaps[1] if gaps else 0

    def take_nearest(self, stamp_ns: int, reach_ns: int) -> tuple[int, Any] | None:
        """The waiting image nearest to a stamp; it and the older ones are used up."""
        offset_ns = stamp_ns + (self.phase_ns or 0)
        best, best_ns = None, reach_ns + 1
        for image in self.waiting:
            away_ns = abs(image[0] - offset_ns)
            if away_ns < best_ns:
                best, best_ns = image, away_ns
        if best is not None:
            while self.waiting.popleft() is not best:
                pass
        return best

    def lose(self, step_ns: int) -> None:
        """Forgets the phase; what was known is kept aside."""
        self.before = (tuple(self.stamps), tuple(self.arrivals))
        self.stamps.clear()
        self.arrivals.clear()
        self.last_phase_ns = self.phase_ns if self.locked else None
        self.phase_ns, self.free, self.far, self.step_ns = None, False, False, step_ns
        self.off = self.tried = 0
        self.strays.clear()

    def take_back(self, tolerance_ns: int) -> bool:
        """Undoes `lose` if the latest image lies where it was expected: the step was one odd image."""
        rate = playback_rate([self.before])
        if rate is None or self.last_phase_ns is None or self.stamps[-1] <= self.before[0][-1]:
            return False
        if abs(shift_since(self.before, self.stamps[-1], self.arrivals[-1], rate)) > tolerance_ns:
            return False
        self.phase_ns, self.step_ns = self.last_phase_ns, 0
        newest = self.stamps[-1], self.arrivals[-1]
        self.stamps = deque([*self.before[0], newest[0]], maxlen=HISTORY)
        self.arrivals = deque([*self.before[1], newest[1]], maxlen=HISTORY)
        return True

    def moved_ns(self) -> int:
        """How far a lost camera's stamps moved against its arrivals; 0 where arrivals tell nothing exact."""
        rate = playback_rate([self.before])
        if rate != 1.0:
            return 0
        images = zip(self.stamps, self.arrivals, strict=True)
        return median_low(shift_since(self.before, stamp, arrival, rate) for stamp, arrival in images)
