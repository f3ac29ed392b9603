"""The cameras' phases, followed all the time.

Every closed cycle moves each phase a little towards where its image lay (crystals drift), and at once when a few
images in a row lie off on the same side (a clock was set). A camera whose images fit no cycle is lost: it is left out,
so that it holds nobody back, and found again from its next few stamps. What has no phase is free: joined by nearness.
No camera is special: cycles are what most cameras agree on, so the anchor may step, drift or die like any other.
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping

from hdmap_ros.sync.camera_clocks import AHEAD_NS, DELAY_NS, History, clock_error, clock_lead, clock_step, usual_offset
from hdmap_ros.sync.camera_phases import choose_reference, learn_phases, phases_at_pause, usual_gaps
from hdmap_ros.sync.camera_state import HISTORY, Camera, Place
from hdmap_ros.sync.image_sets import Move, SyncConfig, SyncStatistics
from hdmap_ros.sync.lost_cameras import (
    FIND_AFTER,
    SURE_RATE,
    Found,
    Surroundings,
    half_period_ns,
    is_fast,
    returned_to,
    search,
)

SILENT_CYCLES = 24
_FIRST_GAPS_NS = (50_000_000, 120_000_000)
_REFRESH_CYCLES = 16
_REMEMBER_CYCLES = 256
_WATCH = 3
_LOST_SCORE = 4
_FREE_RETRY = 4 * HISTORY
_SMALL_MOVE_NS = 5_000_000


class RigPhases:
    """All cameras of a rig.

    Attributes:
        cameras: by name.
        gap_ns: shortest usual gap between two cycles.
        window_ns: how far an image may lie from its cycle once the phase is off: less than half a gap.
        awaited: how many cameras with a phase deliver.
        awaited_free: free cameras that deliver.
    """

    def __init__(self, config: SyncConfig, statistics: SyncStatistics) -> None:
        self._config = config
        self._statistics = statistics
        self.cameras = {name: Camera(name) for name in config.cameras}
        self.anchor = self.cameras[config.anchor]
        self._refs: deque[int] = deque(maxlen=2 * HISTORY)
        self._latest: Collection[str] = ()
        self._followed = 0
        self._set_gaps(*_FIRST_GAPS_NS)
        self.known = len(config.cameras) == 1
        if self.known:
            self._lock(self.anchor, 0)
        self.count_awaited()

    @property
    def anchor_ns(self) -> int:
        """When the anchor fires, on the rig's clock."""
        anchor = self.anchor
        return anchor.phase_ns - anchor.clock_ns if anchor.phase_ns is not None and not anchor.free else 0

    def count_awaited(self) -> None:
        """Counts the cameras that a cycle waits for: those that deliver."""
        alive = [camera for camera in self.cameras.values() if camera.missed < SILENT_CYCLES]
        self.awaited = sum(camera.locked for camera in alive)
        self.awaited_free = [camera for camera in alive if camera.free]
        self.alive = sum(bool(camera.stamps or camera.before[0]) for camera in alive)

    def glimpse(self) -> bool:
        """Takes the first phases from a pause between two cycles; False if it does not show them."""
        config, stamps = self._config, {name: camera.stamps for name, camera in self.cameras.items()}
        phases = phases_at_pause(stamps, config.anchor, config.max_spread_ns)
        if not phases or any(abs(self._raw_lead(camera) or 0) > DELAY_NS for camera in self.cameras.values()):
            return False
        gap_ns, period_ns = usual_gaps(stamps.values()) or _FIRST_GAPS_NS
        self._set_gaps(min(gap_ns, _FIRST_GAPS_NS[0]), period_ns)  # the next cycles may be closer
        for name, phase_ns in phases.items():
            self._lock(self.cameras[name], phase_ns)
        self.known = True
        self.count_awaited()
        return True

    def learn(self, force: bool) -> bool:
        """Finds the first phases of all cameras; False if more images are needed to be sure."""
        cameras, config = self.cameras, self._config
        stamps = {name: sorted(camera.stamps) for name, camera in cameras.items() if camera.stamps}
        raw_leads = {name: self._raw_lead(cameras[name]) or 0 for name in stamps}
        if len(stamps) == 2:
            raw_leads[config.anchor] = 0  # of two, the anchor is right
        leads = {name: clock_error(lead) for name, lead in raw_leads.items()}
        gaps = {name: gap for name in stamps if (gap := cameras[name].period_ns)}
        in_time = [name for name in gaps if abs(raw_leads[name]) <= DELAY_NS] or list(gaps) or list(stamps)
        reference = choose_reference(in_time, gaps, config.anchor)
        alike = [entry for name, entry in stamps.items() if 2 * gaps.get(name, 0) >= gaps.get(reference, 0)]
        self._set_gaps(*(usual_gaps(alike) or _FIRST_GAPS_NS))
        expected = {name: leads[name] or (home.right_ns if (home := cameras[name].home) else 0) for name in stamps}
        found = learn_phases(stamps, reference, expected, self._near_ns, self.window_ns)
        fast = {name for name in gaps if is_fast(gaps[name], self._period_ns)} - {reference}
        sure = {name for name, phase in found.items() if phase.rate >= SURE_RATE and phase.hits > FIND_AFTER} - fast
        if not force and any(len(stamps[name]) > 1 and name not in sure for name in stamps):
            return False
        few = len(stamps[reference]) <= FIND_AFTER  # all that came before it went quiet
        for name, phase in found.items():
            if name in sure or name == reference or few:
                self._lock(cameras[name], phase.phase_ns)
                cameras[name].clock_ns = phase.phase_ns if leads[name] else 0
        for camera in cameras.values():
            self._limit(camera)
        self.known = True
        self._refresh()
        self.count_awaited()
        return True

    def follow(self, images: Mapping[str, tuple[int, object]], ref_ns: int) -> int:
        """Moves the phases towards a closed cycle's images; returns the time that they agree on."""
        cameras = self.cameras
        offsets: list[tuple[int, Camera, int]] = []
        for name, (stamp_ns, _) in images.items():
            camera = cameras[name]
            if camera.phase_ns is not None and not camera.free:
                offsets.append((stamp_ns - camera.phase_ns, camera, camera.phase_ns))
        if not offsets:
            return ref_ns
        refs = sorted([ref for ref, _, _ in offsets])
        middle = len(refs) // 2
        ref_ns = refs[middle] if len(refs) % 2 else (refs[middle - 1] + refs[middle]) // 2
        if len(refs) == 2:  # of two, the anchor is right
            ref_ns = next((ref for ref, camera, _ in offsets if camera is self.anchor), ref_ns)
        quiet = self.window_ns // 3
        reach = 5 * self._config.max_spread_ns // 4
        anchor_ns = self.anchor_ns
        for ref, camera, phase_ns in offsets:
            residual = ref - ref_ns
            size = residual if residual >= 0 else -residual
            camera.noise_ns += ((size if size < quiet else quiet) - camera.noise_ns) >> 3
            if camera.clock_ns and size + abs(camera.slope_ns) > self._period_ns >> 8:
                camera.slope_ns += residual >> 3  # no crystal drifts so fast: it is the clock
                camera.clock_ns += (residual >> 1) + camera.slope_ns
                camera.phase_ns = phase_ns = phase_ns + (residual >> 1) + camera.slope_ns
                self._blame_clock(camera, camera.clock_ns)  # it may be right again
            elif size <= quiet or size <= 3 * camera.noise_ns:
                camera.slope_ns += residual >> 7
                camera.phase_ns = phase_ns = phase_ns + (residual >> 3) + camera.slope_ns
                if camera.strays:
                    camera.strays.clear()
            else:
                phase_ns = self._stray(camera, phase_ns, residual)
            if camera.off:
                camera.off -= 1
            distance = phase_ns - camera.clock_ns - anchor_ns
            camera.far = not -reach <= distance <= reach
            if not -camera.limit_ns <= distance <= camera.limit_ns:
                camera.phase_ns = phase_ns - (self._period_ns if distance > 0 else -self._period_ns)
                camera.wrapped = 1
                if not camera.clock_ns:
                    camera.home, camera.watched = None, 0
        self._refs.append(ref_ns)
        self._latest = tuple(images)
        self._followed += 1
        if self._followed % _REFRESH_CYCLES == 0:
            self._refresh()
        return ref_ns

    def note_missing(self, images: Collection[str], ref_ns: int, minority: bool) -> None:
        """Counts who is missing in a closed cycle; few images beside a good cycle that lacks them have strayed."""
        near = bool(self._refs) and 4 * abs(ref_ns - self._refs[-1]) < 5 * self._period_ns
        alone = minority and near and 4 * len(self._latest) >= 3 * self.awaited
        for name, camera in self.cameras.items():
            if name not in images:
                camera.missed += 1
                if camera.phase_ns is not None and not camera.clock_ns and camera.missed < SILENT_CYCLES:
                    camera.phase_ns += camera.slope_ns
                if camera.missed == SILENT_CYCLES:
                    self.count_awaited()
            elif alone and name not in self._latest and camera.locked:
                self.strayed(camera)

    def strayed(self, camera: Camera) -> None:
        """Notes that an image fits no cycle, or one that hardly another camera shares."""
        camera.off += 2
        if camera.off >= _LOST_SCORE and self.awaited > 1:
            if self.awaited == 2 and camera is self.anchor:  # of two, the anchor is right
                camera = next(other for other in self.cameras.values() if other.locked and other is not camera)
            self.lose(camera, 0)

    def notice_step(self, camera: Camera, stamp_ns: int, arrival_ns: int) -> int:
        """By how much a camera's clock was set before this image; 0 if it was not."""
        history = (camera.stamps, camera.arrivals)
        return clock_step(history, self._others(camera), stamp_ns, arrival_ns, self.window_ns)

    def lose(self, camera: Camera, step_ns: int) -> None:
        """Forgets a phase, to find it again from the images to come."""
        camera.remember(self._offset(camera))
        camera.lose(step_ns)
        self.count_awaited()

    def is_due(self, camera: Camera) -> bool:
        """Whether to look for the phase of a free camera again; counts its images."""
        camera.tried += 1
        return camera.tried % (HISTORY if camera.home else _FREE_RETRY) == 0

    def find(self, camera: Camera, open_refs_ns: Iterable[int]) -> bool:
        """Tries to place a lost or new camera with each image that it delivers, a free one when it is due."""
        camera.tried += not camera.free
        config, refs_ns, others = self._config, sorted({*self._refs, *open_refs_ns}), self._others(camera)
        rig = Surroundings(refs_ns, others, self.anchor_ns, self.window_ns, self._period_ns, config.max_spread_ns)
        if camera.step_ns and (place := returned_to(camera, rig)):
            camera.take_back(place)
            self._lock(camera, place.phase_ns)
            self.count_awaited()
            return True
        fast = camera.free and is_fast(camera.period_ns, self._period_ns)
        if fast or len(camera.stamps) < FIND_AFTER or len(self._refs) < FIND_AFTER:
            return camera.free
        found = search(camera, rig)
        if found and found.recurs:
            self._settle(camera, found)
        elif found and not camera.free:
            camera.phase_ns, camera.clock_ns, _ = found
            camera.free, camera.step_ns = True, 0
            self.count_awaited()
        return camera.phase_ns is not None

    def note_late(self, camera: Camera) -> None:
        """A camera that drifted on to the next cycle's image, and that comes too late: back to the earlier one."""
        if camera.wrapped:
            camera.wrapped += 1
        if camera.wrapped == 3 and camera.phase_ns is not None:
            distance = camera.phase_ns - camera.clock_ns - self.anchor_ns
            earlier = distance - self._period_ns
            camera.wrapped = 0
            if 4 * abs(earlier) <= 5 * self._config.max_spread_ns:
                camera.phase_ns -= self._period_ns
                camera.limit_ns = max(camera.limit_ns, 5 * self._config.max_spread_ns // 4)

    def _lock(self, camera: Camera, phase_ns: int) -> None:
        camera.phase_ns, camera.free, camera.step_ns, camera.off, camera.slope_ns = phase_ns, False, 0, 0, 0
        camera.noise_ns, camera.far, camera.watched = self.window_ns // 3, False, _WATCH
        self._limit(camera)

    def _limit(self, camera: Camera) -> None:
        """How far a phase may drift until the camera's next image is nearer to the anchor."""
        distance = abs((camera.phase_ns or 0) - camera.clock_ns - self.anchor_ns)
        camera.limit_ns = max(half_period_ns(self._period_ns), distance + 2 * _SMALL_MOVE_NS)

    def _settle(self, camera: Camera, found: Found) -> None:
        """Takes the phase that was found, and what of it is the clock's error."""
        moved_ns = found.phase_ns - camera.last.phase_ns if camera.last else 0
        self._lock(camera, found.phase_ns)
        self._blame_clock(camera, found.clock_ns)
        if abs(moved_ns) > _SMALL_MOVE_NS:
            self._report(camera, moved_ns)
        self.count_awaited()

    def _stray(self, camera: Camera, phase_ns: int, residual_ns: int) -> int:
        """Notes an image far off its phase; with the third in a row the phase has moved there."""
        strays = camera.strays
        if strays and (strays[-1] > 0) != (residual_ns > 0):
            strays.clear()
        strays.append(residual_ns)
        if len(strays) < 3:
            return phase_ns
        shift_ns = sorted(strays)[1]
        strays.clear()
        camera.phase_ns = phase_ns + shift_ns
        self._blame_clock(camera, camera.clock_ns + shift_ns)
        if abs(shift_ns) > 16 * abs(camera.slope_ns):
            self._report(camera, shift_ns)
        return phase_ns + shift_ns

    def _blame_clock(self, camera: Camera, clock_ns: int) -> None:
        """Takes a clock's error, unless the phase lies where a right clock's may."""
        assert camera.phase_ns is not None
        others = [other for other in self.cameras.values() if other.locked and other is not camera]
        near = others if camera is self.anchor else [self.anchor] if self.anchor.locked else []
        places = [entry.phase_ns - entry.clock_ns for entry in near if entry.phase_ns is not None] or [0]
        distance = max((camera.phase_ns - place for place in places), key=abs)
        camera.clock_ns = clock_ns if abs(distance) > self._config.max_spread_ns else 0
        for entry in others if camera is self.anchor else [camera]:
            self._limit(entry)

    def _report(self, camera: Camera, moved_ns: int) -> None:
        self._statistics.note(Move(camera.name, moved_ns, camera.stamps[-1] if camera.stamps else 0))

    def _others(self, camera: Camera) -> list[History]:
        return [
            ([stamp_ns - other.clock_ns for stamp_ns in other.stamps], other.arrivals)
            for other in self.cameras.values()
            if other is not camera and other.missed < SILENT_CYCLES and (other.phase_ns is not None or not self.known)
        ]

    def _raw_lead(self, camera: Camera) -> int | None:
        """How far a camera's stamps run ahead of the others'; None where arrivals tell nothing."""
        return clock_lead((camera.stamps, camera.arrivals), self._others(camera))

    def _offset(self, camera: Camera) -> int | None:
        """How far a camera's stamps lie from the others' at their arrival; of a time when arrivals told it."""
        offset_ns = usual_offset(camera.latest(HISTORY // 2), self._others(camera))
        return camera.home.offset_ns if offset_ns is None and camera.home else offset_ns

    def _refresh(self) -> None:
        """Looks at the gaps again, and at cameras that were said to be ahead."""
        locked = [camera for camera in self.cameras.values() if camera.locked]
        gaps = usual_gaps([camera.stamps for camera in locked])
        if not gaps:
            return
        self._set_gaps(*gaps)
        for camera in locked:
            camera.limit_ns = max(camera.limit_ns, half_period_ns(self._period_ns))
            if camera.home and (camera.watched or camera.clock_ns):
                self._look_again(camera, camera.home)
            elif not camera.home or self._followed % _REMEMBER_CYCLES == 0:
                camera.remember(self._offset(camera))
            lead_ns = self._raw_lead(camera) if camera.clock_ns > AHEAD_NS else None
            if lead_ns is not None and 2 * lead_ns < camera.clock_ns:
                self.lose(camera, 0)
                camera.last = camera.home = None

    def _look_again(self, camera: Camera, home: Place) -> None:
        """Holds a place that was found against where the camera was before; whole cycles off, it is lost again."""
        offset_ns = usual_offset(camera.latest(HISTORY // 2), self._others(camera))
        if offset_ns is None or home.offset_ns is None or camera.phase_ns is None:
            return
        off_ns = (offset_ns - home.offset_ns) - (camera.phase_ns - home.phase_ns)
        if 10 * abs(off_ns) <= 7 * self.gap_ns:
            camera.doubted, camera.watched = False, max(camera.watched - 1, 0)
        elif camera.doubted and camera.clock_ns == home.clock_ns:  # found there again: it comes later than before
            camera.doubted, camera.watched = False, 0
            camera.home = Place(camera.phase_ns, camera.clock_ns, offset_ns)
        else:
            camera.doubted = True
            self.lose(camera, 0)

    @property
    def _near_ns(self) -> int:
        """How far from the anchor a phase is looked for."""
        return min(self._config.max_spread_ns, half_period_ns(self._period_ns))

    def _set_gaps(self, gap_ns: int, period_ns: int) -> None:
        if 10 * gap_ns > 7 * period_ns:
            gap_ns = period_ns  # a regular clock; what is shorter is jitter
        self.gap_ns, self._period_ns = gap_ns, period_ns
        self.window_ns = min(self._config.max_spread_ns, gap_ns * 48 // 100)
