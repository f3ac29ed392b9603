"""One image of every camera, from one firing cycle.

Surround cameras fire one after the other: nuScenes' six spread over 42.6 ms on a 50 ms clock, of which 12 in 20 ticks
are used, so that the next cycle may begin 7 ms after the last one ended. A plain time window cannot tell the two
apart once an image is lost. `CycleSynchronizer` therefore takes each camera's phase off its stamps; what remains is
the time of the cycle, the same for all cameras. Pure Python: the node and the offline replay use the same class.
"""

from collections import Counter, deque
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from hdmap_core.errors import ConfigError
from hdmap_ros.camera_phases import FREE, learn_phases, matching_window

MAX_OPEN_CYCLES = 3
LEARN_CYCLES = 6
_STAMP_HISTORY = 2 * LEARN_CYCLES


@dataclass(frozen=True)
class ImageSet:
    """Images of one cycle.

    Attributes:
        stamp_ns: reference time: the anchor camera's stamp, or where its image is missing, when it was due.
        messages: camera -> what was given to `add`.
        stamps_ns: camera -> stamp of its image.
        missing: cameras without an image, in the rig's order.
        waited_ns: from the arrival of the first image until the set was closed.
    """

    stamp_ns: int
    messages: dict[str, Any]
    stamps_ns: dict[str, int]
    missing: tuple[str, ...]
    waited_ns: int

    @property
    def complete(self) -> bool:
        """Whether every camera has an image."""
        return not self.missing

    @property
    def spread_ns(self) -> int:
        """Newest minus oldest stamp."""
        return max(self.stamps_ns.values()) - min(self.stamps_ns.values())


@dataclass(frozen=True)
class SyncConfig:
    """How sets are formed; times in nanoseconds.

    Attributes:
        cameras: names in the rig's order.
        anchor: the camera whose stamp is the set's.
        min_cameras: sets with fewer images are dropped.
        max_spread_ns: how far from the anchor a camera's phase is looked for.
        timeout_ns: a set is closed when no further image of it has arrived for this long; counted from the latest
            one, so that a bag played at half speed still makes complete sets.
        phases_ns: camera -> stamp minus the anchor's stamp; None: learnt from the first cycles.
        window_ns: how far a stamp may lie from its cycle once the phase is off; less than half the shortest cycle.
        jump_ns: a camera's stamp that goes back by more than this resets everything.
    """

    cameras: tuple[str, ...]
    anchor: str
    min_cameras: int
    max_spread_ns: int = 60_000_000
    timeout_ns: int = 75_000_000
    phases_ns: dict[str, int] | None = None
    window_ns: int = 24_000_000
    jump_ns: int = 500_000_000

    def __post_init__(self) -> None:
        if not self.cameras or len(set(self.cameras)) != len(self.cameras):
            raise ConfigError(f"cameras must be a list of different names, got {list(self.cameras)}")
        if self.anchor not in self.cameras:
            raise ConfigError(f"anchor camera {self.anchor!r} is not among the cameras {', '.join(self.cameras)}")
        if not 1 <= self.min_cameras <= len(self.cameras):
            raise ConfigError(f"min_cameras must lie in 1..{len(self.cameras)}, got {self.min_cameras}")
        if self.phases_ns is not None and set(self.phases_ns) != set(self.cameras):
            raise ConfigError(f"phases must name exactly the cameras {', '.join(self.cameras)}")


@dataclass
class SyncStatistics:
    """Counts since the start, plus the spreads of the latest sets.

    `complete` and `partial` sets were handed on; `incomplete` ones had too few images. `superseded` sets were closed
    unfinished because a newer one was complete (they count as partial or incomplete as well). Images: `late` ones
    came after their cycle was closed, `duplicate` ones twice, `unplaced` ones before their camera's phase was known.
    """

    complete: int = 0
    partial: int = 0
    incomplete: int = 0
    superseded: int = 0
    late: int = 0
    duplicate: int = 0
    unplaced: int = 0
    resets: int = 0
    missing: Counter[str] = field(default_factory=Counter)
    spreads_ns: deque[int] = field(default_factory=lambda: deque(maxlen=200))


@dataclass
class _Cycle:
    ref_ns: int
    first_arrival_ns: int
    last_arrival_ns: int
    images: dict[str, tuple[int, Any]] = field(default_factory=dict)


class CycleSynchronizer:
    """Collects image sets; see the module's docstring.

    `add` and `poll` return the sets that became ready, oldest first, with increasing `stamp_ns`; the caller hands them
    on, so no foreign code runs under the lock. Memory is bounded by the open cycles. Until the phases are known (six
    images of one camera, or silence) images are held back, then sorted into cycles as if they had just come.
    """

    def __init__(self, config: SyncConfig) -> None:
        self.config = config
        self.statistics = SyncStatistics()
        self._lock = Lock()
        self._clear()

    def _clear(self) -> None:
        config = self.config
        self._phases: dict[str, int] | None = dict(config.phases_ns) if config.phases_ns else None
        if len(config.cameras) == 1:
            self._phases = {config.anchor: 0}
        self._window_ns = config.window_ns
        self._stamps: dict[str, deque[int]] = {name: deque(maxlen=_STAMP_HISTORY) for name in config.cameras}
        self._held: list[tuple[str, int, Any, int]] = []
        self._open: list[_Cycle] = []
        self._free: dict[str, tuple[int, Any]] = {}
        self._closed_ref_ns: int | None = None
        self._closed_stamp_ns: int | None = None

    @property
    def phases_ns(self) -> dict[str, int] | None:
        """The cameras' phases against the anchor as far as known; None while they are being learnt."""
        with self._lock:
            if self._phases is None:
                return None
            origin = self._anchor_phase()
            return {name: phase - origin for name, phase in self._phases.items() if phase != FREE}

    def add(self, camera: str, stamp_ns: int, message: Any, arrival_ns: int) -> list[ImageSet]:
        """Takes one image.

        Args:
            camera: one of the configured names.
            stamp_ns: exposure time.
            message: handed through.
            arrival_ns: now, on a clock that never jumps (only differences matter).
        """
        with self._lock:
            stamps = self._stamps[camera]
            if stamps and stamp_ns < stamps[-1] - self.config.jump_ns:
                self.statistics.resets += 1
                self._clear()
                stamps = self._stamps[camera]
            if stamp_ns in stamps:
                self.statistics.duplicate += 1
                return []
            stamps.append(stamp_ns)
            if self._phases is None:
                self._held.append((camera, stamp_ns, message, arrival_ns))
                return self._learn(arrival_ns) if len(stamps) >= LEARN_CYCLES else []
            if camera not in self._phases and not self._learn_newcomer(camera):
                self.statistics.unplaced += 1
                return []
            return self._expire(arrival_ns) + self._place(camera, stamp_ns, message, arrival_ns)

    def poll(self, now_ns: int) -> list[ImageSet]:
        """Closes sets that have waited long enough; call it a few times per cycle."""
        with self._lock:
            if self._phases is None:
                quiet = bool(self._held) and now_ns - self._held[-1][3] > 2 * self.config.timeout_ns
                return self._learn(now_ns) if quiet else []
            return self._expire(now_ns)

    def flush(self) -> list[ImageSet]:
        """Closes everything: the end of a recording."""
        with self._lock:
            ready = self._learn(self._held[-1][3]) if self._held else []
            while self._open:
                ready += self._close(self._open[0], self._open[0].first_arrival_ns)
            return ready

    def reset(self) -> None:
        """Forgets images and phases, keeps the counts."""
        with self._lock:
            self._clear()

    def _learn(self, now_ns: int) -> list[ImageSet]:
        config = self.config
        self._phases = learn_phases(self._stamps, config.anchor, config.max_spread_ns, config.window_ns // 2)
        self._window_ns = matching_window(self._stamps, config.window_ns)
        held, self._held = self._held, []
        ready: list[ImageSet] = []
        for camera, stamp_ns, message, arrival_ns in held:
            ready += self._expire(arrival_ns) + self._place(camera, stamp_ns, message, arrival_ns)
        return ready + self._expire(now_ns)

    def _learn_newcomer(self, camera: str) -> bool:
        """Finds the phase of a camera that was silent when the others' were learnt."""
        assert self._phases is not None
        if len(self._stamps[camera]) < LEARN_CYCLES:
            return False
        config = self.config
        phased = [name for name, phase in self._phases.items() if phase != FREE]
        known = max(phased, key=lambda name: self._stamps[name][-1])  # one that is alive
        pair = {known: self._stamps[known], camera: self._stamps[camera]}
        phase = learn_phases(pair, known, config.max_spread_ns, config.window_ns // 2)[camera]
        self._phases[camera] = phase if phase == FREE else phase + self._phases[known]
        return True

    def _place(self, camera: str, stamp_ns: int, message: Any, arrival_ns: int) -> list[ImageSet]:
        assert self._phases is not None
        phase = self._phases[camera]
        if phase == FREE:
            self._free[camera] = (stamp_ns, message)
            return []
        ref_ns = stamp_ns - phase
        if self._closed_ref_ns is not None and ref_ns <= self._closed_ref_ns + self._window_ns:
            self.statistics.late += 1
            return []
        near = [cycle for cycle in self._open if abs(ref_ns - cycle.ref_ns) <= self._window_ns]
        ready: list[ImageSet] = []
        if near:
            cycle = min(near, key=lambda cycle: abs(ref_ns - cycle.ref_ns))
        else:
            if len(self._open) == MAX_OPEN_CYCLES:
                ready += self._close(self._open[0], arrival_ns)
            cycle = _Cycle(ref_ns, arrival_ns, arrival_ns)
            self._open = sorted([*self._open, cycle], key=lambda cycle: cycle.ref_ns)
        if camera not in cycle.images or stamp_ns > cycle.images[camera][0]:
            cycle.images[camera] = (stamp_ns, message)
            cycle.last_arrival_ns = arrival_ns
        if all(name in cycle.images for name, phase in self._phases.items() if phase != FREE) and not self._unknown():
            while self._open[0] is not cycle:
                self.statistics.superseded += 1
                ready += self._close(self._open[0], arrival_ns)
            ready += self._close(cycle, arrival_ns)
        return ready

    def _anchor_phase(self) -> int:
        phase = (self._phases or {}).get(self.config.anchor, 0)
        return 0 if phase == FREE else phase

    def _unknown(self) -> bool:
        """Whether a camera may still turn up whose phase is not known."""
        assert self._phases is not None
        return len(self._phases) < len(self.config.cameras)

    def _expire(self, now_ns: int) -> list[ImageSet]:
        ready: list[ImageSet] = []
        while any(now_ns - cycle.last_arrival_ns >= self.config.timeout_ns for cycle in self._open):
            ready += self._close(self._open[0], now_ns)  # oldest first keeps the output in order
        return ready

    def _close(self, cycle: _Cycle, now_ns: int) -> list[ImageSet]:
        config, statistics = self.config, self.statistics
        self._open.remove(cycle)
        self._closed_ref_ns = cycle.ref_ns
        due_ns = cycle.ref_ns + self._anchor_phase()
        stamp_ns = cycle.images[config.anchor][0] if config.anchor in cycle.images else due_ns
        for name, (free_stamp_ns, message) in list(self._free.items()):
            if abs(free_stamp_ns - stamp_ns) <= config.max_spread_ns:
                cycle.images[name] = (free_stamp_ns, message)
                del self._free[name]
        missing = tuple(name for name in config.cameras if name not in cycle.images)
        statistics.missing.update(missing)
        ordered = self._closed_stamp_ns is None or stamp_ns > self._closed_stamp_ns
        if len(cycle.images) < config.min_cameras or not ordered:
            statistics.incomplete += 1
            return []
        self._closed_stamp_ns = stamp_ns
        images = {name: cycle.images[name] for name in config.cameras if name in cycle.images}
        ready = ImageSet(
            stamp_ns,
            {name: message for name, (_, message) in images.items()},
            {name: stamp for name, (stamp, _) in images.items()},
            missing,
            now_ns - cycle.first_arrival_ns,
        )
        statistics.spreads_ns.append(ready.spread_ns)
        if missing:
            statistics.partial += 1
        else:
            statistics.complete += 1
        return [ready]
