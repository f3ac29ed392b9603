"""What the synchroniser knows of one camera."""

from collections import deque
from typing import Any, NamedTuple

from hdmap_ros.sync.camera_clocks import History
from hdmap_ros.sync.camera_phases import usual_gaps

HISTORY = 12
FREE_IMAGES = 4


class Place(NamedTuple):
    """Where a camera was: its phase, its clock's error, how far its stamps lay from the others' at their arrival."""

    phase_ns: int
    clock_ns: int
    offset_ns: int | None

    @property
    def right_ns(self) -> int:
        """The phase without the clock's error."""
        return self.phase_ns - self.clock_ns


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
        before: stamps and arrivals before it was lost.
        last: where it was then.
        home: where it was when its clock was last right; where it never was, when it was first lost.
        watched: how often its place has to be looked at again; meanwhile `home` stays.
        doubted: it was found out of its place once, and is lost for that.
        waiting: stamps and messages of its latest images while it is free, for sets to come.
    """

    __slots__ = (
        "arrivals", "before", "clock_ns", "doubted", "far", "free", "home", "last", "limit_ns", "missed", "name",
        "noise_ns", "off", "phase_ns", "slope_ns", "stamps", "step_ns", "strays", "tried", "waiting", "watched",
        "wrapped",
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
        self.free = self.far = self.doubted = False
        self.missed = self.off = self.tried = self.watched = self.wrapped = 0
        self.strays: list[int] = []
        self.step_ns = 0
        self.before: History = ((), ())
        self.last: Place | None = None
        self.home: Place | None = None
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

    def mended(self, stamp_ns: int, ref_ns: int) -> int:
        """The stamp of an image of a cycle; where the clock is wrong, when the camera fires in a cycle tells more."""
        if self.clock_ns and self.phase_ns is not None and not self.free:
            return ref_ns + self.phase_ns - self.clock_ns
        return stamp_ns - self.clock_ns

    def latest(self, number: int) -> History:
        """Stamps and arrivals of its latest images, at most so many."""
        return list(self.stamps)[-number:], list(self.arrivals)[-number:]

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

    def remember(self, offset_ns: int | None) -> None:
        """Keeps in mind where it is, with how far its stamps lie from the others'."""
        if self.phase_ns is not None and not self.free:
            self.last = Place(self.phase_ns, self.clock_ns, offset_ns)
            if self.home is None or not (self.clock_ns or self.watched):
                self.home = self.last

    def lose(self, step_ns: int) -> None:
        """Forgets the phase."""
        self.before = (tuple(self.stamps), tuple(self.arrivals))
        self.stamps.clear()
        self.arrivals.clear()
        self.phase_ns, self.free, self.far, self.step_ns = None, False, False, step_ns
        self.off = self.tried = 0
        self.strays.clear()

    def take_back(self, place: Place) -> None:
        """Undoes `lose`; only the latest image lies where it was before."""
        self.phase_ns, self.clock_ns = place.phase_ns, place.clock_ns
        for times in (self.stamps, self.arrivals):
            while len(times) > 1:
                times.popleft()
