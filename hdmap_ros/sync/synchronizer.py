"""One image of every camera, from one firing cycle.

Surround cameras fire one after the other: nuScenes' six spread over 42.6 ms on a 50 ms clock, of which 12 in 20 ticks
are used, so that the next cycle may begin 7 ms after the last one ended. A plain time window cannot tell the two
apart once an image is lost. `CycleSynchronizer` therefore takes each camera's phase off its stamps; what remains is
the time of the cycle, the same for all cameras. Phases are followed (`rig_phases.py`), so clocks may drift and step.
Pure Python: the node and the offline replay use the same class.
"""

from collections import deque
from threading import Lock
from typing import Any

from hdmap_ros.sync.camera_state import HISTORY, Camera
from hdmap_ros.sync.image_sets import ImageSet, SyncConfig, SyncStatistics
from hdmap_ros.sync.rig_phases import RigPhases

LEARN_IMAGES = 6
MAX_OPEN_CYCLES = 32
_IDLE_IMAGES = 8

_Image = tuple[str, int, Any, int]
"""Camera, stamp, message, arrival."""


class _Cycle:
    __slots__ = ("first_arrival_ns", "images", "last_arrival_ns", "ref_ns")

    def __init__(self, ref_ns: int, arrival_ns: int) -> None:
        self.ref_ns = ref_ns
        self.first_arrival_ns = self.last_arrival_ns = arrival_ns
        self.images: dict[str, tuple[int, Any]] = {}


class CycleSynchronizer:
    """Collects image sets; see the module's docstring.

    `add` and `poll` return the sets that became ready, oldest first, with increasing `stamp_ns`; the caller hands them
    on, so no foreign code runs under the lock. Memory is bounded by the open cycles. Until the phases are known (two
    cycles with a pause between them, six to twelve images of a camera, or silence) images are held back, then sorted
    into cycles as if they had just come.
    """

    def __init__(self, config: SyncConfig) -> None:
        self.config = config
        self.statistics = SyncStatistics()
        self._lock = Lock()
        self._closed_stamp_ns: int | None = None
        self._begin()

    def _begin(self) -> None:
        self._rig = RigPhases(self.config, self.statistics)
        self._held: list[_Image] = []
        self._stepped: dict[str, deque[_Image]] = {}
        self._open: list[_Cycle] = []
        self._closed_ref_ns: int | None = None
        self._idle = 0

    def add(self, camera: str, stamp_ns: int, message: Any, arrival_ns: int) -> list[ImageSet]:
        """Takes one image.

        Args:
            camera: one of the configured names.
            stamp_ns: exposure time.
            message: handed through.
            arrival_ns: now, on a clock that never jumps (only differences matter).
        """
        with self._lock:
            return self._take(camera, stamp_ns, message, arrival_ns)

    def poll(self, now_ns: int) -> list[ImageSet]:
        """Closes sets that have waited long enough; call it a few times per cycle."""
        with self._lock:
            if self._open:
                return self._expire(now_ns)
            if self._held and now_ns - self._held[-1][3] > 2 * self.config.timeout_ns:
                return self._learn(now_ns, force=True)
            return []

    def flush(self) -> list[ImageSet]:
        """Closes everything: the end of a recording."""
        with self._lock:
            ready = self._learn(self._held[-1][3], force=True) if self._held else []
            return ready + self._close_all()

    def reset(self) -> None:
        """Forgets images and phases, keeps the counts."""
        with self._lock:
            self._closed_stamp_ns = None
            self._begin()

    def _take(self, name: str, stamp_ns: int, message: Any, arrival_ns: int) -> list[ImageSet]:
        rig = self._rig
        camera = rig.cameras[name]
        stamps = camera.stamps
        if stamps:
            gap_ns = stamp_ns - stamps[-1]
            if -self.config.jump_ns <= gap_ns <= 0 and stamp_ns in stamps:
                self.statistics.duplicate += 1
                return []
            drift_ns = gap_ns - arrival_ns + camera.arrivals[-1]
            if drift_ns > rig.window_ns or drift_ns < -rig.window_ns or gap_ns < -self.config.jump_ns:
                self._notice_step(camera, stamp_ns, arrival_ns, gap_ns)
        stamps.append(stamp_ns)
        camera.arrivals.append(arrival_ns)
        if camera.missed:
            silent, camera.missed = camera.missed, 0
            if silent > 1:
                rig.count_awaited()
        if not rig.known:
            self._held.append((name, stamp_ns, message, arrival_ns))
            return self._learn(arrival_ns, force=False)
        self._idle += 1
        if camera.phase_ns is None or (camera.free and rig.is_due(camera)):
            if camera.step_ns:
                kept = self._stepped.setdefault(name, deque(maxlen=_IDLE_IMAGES))
                kept.append((name, stamp_ns, message, arrival_ns))
                if self._rig_stepped():
                    return self._start_again()
            if not rig.find(camera, [cycle.ref_ns for cycle in self._open]):
                self.statistics.unplaced += 1
                return self._expire(arrival_ns)
            self._stepped.pop(name, None)
        if self._idle > 2 * _IDLE_IMAGES and self._idle > _IDLE_IMAGES * rig.alive:
            return self._start_again()  # the phases are wrong altogether
        ready = self._expire(arrival_ns) if self._open else []
        placed = self._place(camera, stamp_ns, message, arrival_ns)
        return ready + placed if ready else placed

    def _learn(self, now_ns: int, force: bool) -> list[ImageSet]:
        """Learns the phases once there are images enough, then takes what was held back."""
        rig = self._rig
        anchor = len(rig.anchor.stamps)
        most = anchor or max(len(camera.stamps) for camera in rig.cameras.values()) - LEARN_IMAGES // 2
        force = force or most >= HISTORY or len(self._held) >= HISTORY * len(rig.cameras)
        due = most >= LEARN_IMAGES and len(self._held) % len(rig.cameras) == 0
        if not (rig.learn(force) if force else rig.glimpse() or (due and rig.learn(force))):
            return []
        held, self._held = self._held, []
        ready: list[ImageSet] = []
        for name, stamp_ns, message, arrival_ns in held:
            placed = self._expire(arrival_ns)
            placed += self._place(self._rig.cameras[name], stamp_ns, message, arrival_ns)
            ready += [entry.held_for(now_ns - arrival_ns) for entry in placed]
        return ready + self._expire(now_ns)

    def _notice_step(self, camera: Camera, stamp_ns: int, arrival_ns: int, gap_ns: int) -> None:
        rig = self._rig
        if not rig.known:
            if gap_ns < -self.config.jump_ns:
                self._forget_held(camera)
            return
        if camera.phase_ns is None:
            return
        step_ns = rig.notice_step(camera, stamp_ns, arrival_ns)
        if step_ns or gap_ns < -self.config.jump_ns:
            rig.lose(camera, step_ns or gap_ns)

    def _forget_held(self, camera: Camera) -> None:
        """While phases are learnt, a camera's stamps went far back: its older images belong to another time."""
        self._held = [image for image in self._held if image[0] != camera.name]
        camera.stamps.clear()
        camera.arrivals.clear()
        if camera is self._rig.anchor:
            self.statistics.resets += 1
            self._closed_stamp_ns = None

    def _rig_stepped(self) -> bool:
        """Whether most cameras' clocks were set: a bag that loops or is wound, a computer that was set by NTP."""
        stepped = sum(bool(camera.step_ns) for camera in self._rig.cameras.values())
        return 2 * stepped > self._rig.alive

    def _start_again(self) -> list[ImageSet]:
        """Learns everything anew, with the images since the step."""
        steps = sorted(camera.step_ns for camera in self._rig.cameras.values() if camera.step_ns)
        kept = sorted((image for images in self._stepped.values() for image in images), key=lambda image: image[3])
        ready = self._close_all()
        self.statistics.unplaced -= max(len(kept) - 1, 0)
        if steps and steps[len(steps) // 2] < -self.config.jump_ns:
            self.statistics.resets += 1
            self._closed_stamp_ns = None
        before = self._rig.cameras
        self._begin()
        for camera in self._rig.cameras.values():
            camera.home = before[camera.name].home
        for image in kept:
            ready += self._take(*image)
        return ready

    def _place(self, camera: Camera, stamp_ns: int, message: Any, arrival_ns: int) -> list[ImageSet]:
        if camera.free:
            return self._place_free(camera, stamp_ns, message, arrival_ns)
        if camera.phase_ns is None:
            self.statistics.unplaced += 1
            return []
        window_ns = self._rig.window_ns
        ref_ns = stamp_ns - camera.phase_ns
        nearest, distance_ns = None, 1 << 62
        for cycle in self._open:
            away_ns = abs(ref_ns - cycle.ref_ns)
            if away_ns < distance_ns:
                nearest, distance_ns = cycle, away_ns
        ready: list[ImageSet] = []
        if nearest is None or distance_ns > window_ns:
            if self._closed_ref_ns is not None and ref_ns <= self._closed_ref_ns + window_ns:
                self.statistics.late += 1
                self.statistics.late_by_camera[camera.name] += 1
                self._rig.note_late(camera)
                return []
            if nearest is None or self._is_minority(nearest):  # that one may be what lies off
                distance_ns = 1 << 62
            if self._closed_ref_ns is not None:
                distance_ns = min(distance_ns, ref_ns - self._closed_ref_ns)
            if 2 * distance_ns <= 3 * window_ns:  # no two cycles are so close
                self.statistics.unplaced += 1
                self._rig.strayed(camera)
                return []
            if len(self._open) >= min(MAX_OPEN_CYCLES, 3 + self.config.timeout_ns // self._rig.gap_ns):
                ready += self._close(self._open[0], arrival_ns)
            nearest = _Cycle(ref_ns, arrival_ns)
            self._open.append(nearest)
            if len(self._open) > 1 and ref_ns < self._open[-2].ref_ns:
                self._open.sort(key=lambda cycle: cycle.ref_ns)
        images = nearest.images
        if camera.name in images:
            self.statistics.unplaced += 1
            if distance_ns >= abs(images[camera.name][0] - camera.phase_ns - nearest.ref_ns):
                return ready
        images[camera.name] = (stamp_ns, message)
        nearest.last_arrival_ns = arrival_ns
        nearest.ref_ns += (ref_ns - nearest.ref_ns) // len(images)
        if len(images) >= self._rig.awaited and (not self._rig.awaited_free or self._is_full(nearest)):
            while self._open[0] is not nearest:
                self.statistics.superseded += 1
                ready += self._close(self._open[0], arrival_ns)
            ready += self._close(nearest, arrival_ns)
        return ready

    def _place_free(self, camera: Camera, stamp_ns: int, message: Any, arrival_ns: int) -> list[ImageSet]:
        camera.waiting.append((stamp_ns, message))
        ready: list[ImageSet] = []
        while self._open and self._is_full(self._open[0]):
            ready += self._close(self._open[0], arrival_ns)
        return ready

    def _is_full(self, cycle: _Cycle) -> bool:
        """Whether waiting longer brings nothing: every camera's image is in, and no free camera's next is nearer."""
        if len(cycle.images) < self._rig.awaited:
            return False
        target_ns = cycle.ref_ns + self._rig.anchor_ns
        for camera in self._rig.awaited_free:
            newest_ns = camera.stamps[-1] - camera.phase_ns  # type: ignore[operator]
            gap_ns = camera.stamps[-1] - camera.stamps[-2] if len(camera.stamps) > 1 else 0
            if 2 * newest_ns + gap_ns < 2 * target_ns:
                return False
        return True

    def _expire(self, now_ns: int) -> list[ImageSet]:
        due_ns = now_ns - self.config.timeout_ns
        for cycle in self._open:  # called with every image: no comprehension where nothing is due
            if cycle.last_arrival_ns <= due_ns:
                break
        else:
            return []
        ready: list[ImageSet] = []
        for cycle in [cycle for cycle in self._open if cycle.last_arrival_ns <= due_ns]:
            if cycle not in self._open:
                continue
            if not self._is_minority(cycle):
                while self._open[0] is not cycle:  # oldest first keeps the output in order
                    ready += self._close(self._open[0], now_ns)
            ready += self._close(cycle, now_ns)
        return ready

    def _close_all(self) -> list[ImageSet]:
        ready: list[ImageSet] = []
        while self._open:
            ready += self._close(self._open[0], self._open[0].first_arrival_ns)
        return ready

    def _is_minority(self, cycle: _Cycle) -> bool:
        return 2 * len(cycle.images) < self._rig.awaited

    def _close(self, cycle: _Cycle, now_ns: int) -> list[ImageSet]:
        config, rig = self.config, self._rig
        self._open.remove(cycle)
        images = cycle.images
        minority = self._is_minority(cycle)
        anchor_ns = rig.anchor_ns
        stamp_ns = cycle.ref_ns + anchor_ns
        if config.anchor in images:
            stamp_ns = images[config.anchor][0] - rig.anchor.clock_ns
        for camera in rig.cameras.values():
            if camera.free and camera.waiting and (found := camera.take_nearest(stamp_ns, config.max_spread_ns)):
                images[camera.name] = found
        if not minority:
            cycle.ref_ns = rig.follow(images, cycle.ref_ns)
            self._idle = 0
        if len(images) < len(rig.cameras):
            rig.note_missing(images, cycle.ref_ns, minority)
        enough = len(images) >= config.min_cameras
        if enough or not minority:
            self._closed_ref_ns = max(cycle.ref_ns, self._closed_ref_ns or cycle.ref_ns)
        return self._hand_on(cycle, stamp_ns, now_ns)

    def _hand_on(self, cycle: _Cycle, stamp_ns: int, now_ns: int) -> list[ImageSet]:
        config, statistics, cameras = self.config, self.statistics, self._rig.cameras
        messages: dict[str, Any] = {}
        stamps_ns: dict[str, int] = {}
        missing = []
        anchored = config.anchor in cycle.images
        for name, camera in cameras.items():
            image = cycle.images.get(name)
            if image is not None and not (anchored and camera.far):
                stamps_ns[name] = camera.mended(image[0], cycle.ref_ns)
                messages[name] = image[1]
            else:
                missing.append(name)
                statistics.missing[name] += 1
        stamp_ns = stamps_ns.get(config.anchor, stamp_ns)
        if len(messages) < config.min_cameras or (
            self._closed_stamp_ns is not None and stamp_ns <= self._closed_stamp_ns
        ):
            statistics.incomplete += 1
            return []
        self._closed_stamp_ns = stamp_ns
        waited_ns = now_ns - cycle.first_arrival_ns
        ready = ImageSet(stamp_ns, messages, stamps_ns, tuple(missing), waited_ns, now_ns - cycle.last_arrival_ns)
        statistics.spreads_ns.append(ready.spread_ns)
        if missing:
            statistics.partial += 1
        else:
            statistics.complete += 1
        return [ready]
