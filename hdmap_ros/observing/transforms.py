"""A small transform tree: /tf and /tf_static in, transforms between any two frames at any two times out.

Used live and offline, with or without a sourced ROS (the ROS wheels bring no tf2_ros). Like tf2 it keeps ten seconds
before the newest sample in whatever order they come, interpolates between samples, never extrapolates, and can travel
in time through a fixed frame. Unlike tf2 it follows a recording that begins anew without being cleared, and a frame
with two parents loses neither.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable
from threading import Condition
from typing import Any

import numpy as np

from hdmap_core.errors import CalibrationError
from hdmap_core.geometry.se3 import inverse, rotation_from_quaternion, se3
from hdmap_ros.stamps import stamp_to_ns

CACHE_NS = 10_000_000_000
_ANEW_NS = 2_000_000_000
_AHEAD_NS = 500_000_000
_LATE_NS = 500_000_000
LATE_PATIENCE = 5
"""How many times as long as for others a lookup waits for motion that is on its way."""


class TransformError(CalibrationError):
    """Two frames that are not connected, or not at that time."""


class UnconnectedError(TransformError):
    """Two frames that nothing connects, at no time."""


class LateError(TransformError):
    """Motion that ends less than half a second before the time that is asked for: its next samples are on their way."""


class _History:
    """Samples of a moving transform in the order of their stamps."""

    def __init__(self) -> None:
        self.stamps_ns: list[int] = []
        self.samples: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # stamp -> quaternion (w, x, y, z), translation

    def insert(self, stamp_ns: int, sample: tuple[np.ndarray, np.ndarray], cache_ns: int | None) -> None:
        if stamp_ns not in self.samples:
            insort(self.stamps_ns, stamp_ns)
        self.samples[stamp_ns] = sample
        while cache_ns is not None and self.stamps_ns[-1] - self.stamps_ns[0] > cache_ns:
            del self.samples[self.stamps_ns.pop(0)]

    def at(self, stamp_ns: int) -> np.ndarray | None:
        """(4, 4), or None outside the samples."""
        index = bisect_left(self.stamps_ns, stamp_ns)
        if index == len(self.stamps_ns):
            return None
        quaternion, translation = self.samples[self.stamps_ns[index]]
        if self.stamps_ns[index] != stamp_ns:
            if index == 0:
                return None
            before_ns, after_ns = self.stamps_ns[index - 1 : index + 1]
            fraction = (stamp_ns - before_ns) / (after_ns - before_ns)
            before_quaternion, before_translation = self.samples[before_ns]
            quaternion = slerp(before_quaternion, quaternion, fraction)
            translation = (1 - fraction) * before_translation + fraction * translation
        return se3(rotation_from_quaternion(quaternion), translation)


class _Edge:
    """parent_from_child over time."""

    def __init__(self, parent: str, child: str) -> None:
        self.parent, self.child = parent, child
        self.static: np.ndarray | None = None
        self.history = _History()
        self._anew = _History()  # too old for the history, since the last that was not

    def insert(self, stamp_ns: int, sample: tuple[np.ndarray, np.ndarray], cache_ns: int | None) -> None:
        stamps_ns = self.history.stamps_ns
        if cache_ns is None or not stamps_ns or stamp_ns >= stamps_ns[-1] - cache_ns:
            self.history.insert(stamp_ns, sample, cache_ns)
            self._anew = _History()
            return
        if stamp_ns == 0:
            return
        # tf2 drops these. Where nothing newer comes any more, a recording has begun anew.
        self._anew.insert(stamp_ns, sample, cache_ns)
        if self._anew.stamps_ns[-1] - self._anew.stamps_ns[0] >= _ANEW_NS:
            self.history, self._anew = self._anew, _History()

    def forget_after(self, stamp_ns: int) -> None:
        stamps_ns = self.history.stamps_ns
        while stamps_ns and stamps_ns[-1] > stamp_ns:
            del self.history.samples[stamps_ns.pop()]
        if not stamps_ns:
            self.history, self._anew = self._anew, _History()

    def latest_ns(self) -> int | None:
        return self.history.stamps_ns[-1] if self.static is None and self.history.stamps_ns else None

    def at(self, stamp_ns: int | None) -> np.ndarray:
        """(4, 4) at a time, or at the latest one."""
        if self.static is not None:
            return self.static
        if stamp_ns is None:
            stamp_ns = self.latest_ns()
        found = None
        if stamp_ns is not None:
            found = self.history.at(stamp_ns)
            found = self._anew.at(stamp_ns) if found is None else found
        if found is None:
            raise (LateError if self._is_late(stamp_ns) else TransformError)(self._why_not(stamp_ns))
        return found

    def _is_late(self, stamp_ns: int | None) -> bool:
        stamps_ns = self.history.stamps_ns
        return bool(stamps_ns) and stamp_ns is not None and 0 < stamp_ns - stamps_ns[-1] <= _LATE_NS

    def _why_not(self, stamp_ns: int | None) -> str:
        name, stamps_ns = f"the transform {self.parent} <- {self.child}", self.history.stamps_ns
        if not stamps_ns or stamp_ns is None:
            return f"no transform {self.parent} <- {self.child} has come yet"
        if stamps_ns[-1] == 0:
            return f"{name} has no stamp (0); its publisher must fill in header.stamp, or use /tf_static"
        if stamp_ns == 0:
            return f"{name} is asked for at time 0: the image has no stamp; its driver must fill in header.stamp"
        first_ms, last_ms = ((stamp_ns - stamps_ns[index]) / 1e6 for index in (0, -1))
        if last_ms > 0:
            return f"{name} ends {last_ms:.0f} ms before the time that is needed"
        return f"{name} begins {-first_ms:.0f} ms after the time that is needed"


class TransformBuffer:
    """Thread-safe; one thread stores while another one waits in a lookup.

    Args:
        cache_ns: how much of the past is kept; None: all of it.
    """

    def __init__(self, cache_ns: int | None = CACHE_NS) -> None:
        self._cache_ns = cache_ns
        self._edges: dict[str, dict[str, _Edge]] = {}  # child -> parent -> edge
        self._fixed: dict[tuple[str, str], np.ndarray] = {}  # (target, source) -> found, of frames that do not move
        self._found: dict[tuple[str, str, int | None], np.ndarray] = {}  # and a stamp -> found since the last change
        self._changed = Condition()

    def add(self, transforms: Iterable[Any], static: bool) -> None:
        """Stores the `transforms` of a TFMessage. Malformed ones (no rotation, a frame that is its own parent) are
        skipped, as tf2 does.
        """
        with self._changed:
            for message in transforms:
                parent, child = message.header.frame_id.lstrip("/"), message.child_frame_id.lstrip("/")
                rotation, position = message.transform.rotation, message.transform.translation
                quaternion = np.array([rotation.w, rotation.x, rotation.y, rotation.z], dtype=np.float64)
                translation = np.array([position.x, position.y, position.z], dtype=np.float64)
                norm = np.linalg.norm(quaternion)
                usable = np.isfinite(norm) and norm > 1e-6 and np.isfinite(translation).all()
                if not usable or not parent or not child or parent == child:
                    continue
                parents = self._edges.setdefault(child, {})
                if static or parent not in parents or parents[parent].static is not None:
                    self._fixed.clear()
                if static:  # one static parent, the newest
                    for other in [name for name, edge in parents.items() if edge.static is not None]:
                        del parents[other]
                edge = parents.setdefault(parent, _Edge(parent, child))
                if static:
                    edge.static = se3(rotation_from_quaternion(quaternion), translation)
                else:
                    edge.static = None
                    edge.insert(stamp_to_ns(message.header.stamp), (quaternion / norm, translation), self._cache_ns)
            self._found.clear()
            self._changed.notify_all()

    def forget_after(self, stamp_ns: int) -> None:
        """Forgets motion that is later than this by more than half a second: time has jumped back to it."""
        with self._changed:
            self._found.clear()
            for edge in self._all_edges():
                edge.forget_after(stamp_ns + _AHEAD_NS)

    def frames(self) -> list[str]:
        """The names of all frames known."""
        with self._changed:
            return sorted(set(self._edges) | {edge.parent for edge in self._all_edges()})

    def lookup(self, target: str, source: str, stamp_ns: int | None, timeout_s: float = 0.0) -> np.ndarray:
        """(4, 4) target_from_source at a time; None means the latest that every link has.

        Raises:
            TransformError: if the frames are not connected at that time, also not after waiting for `timeout_s`; for
                motion that is late, `LATE_PATIENCE` times as long.
        """
        return self._wait(lambda: self._lookup(target, source, stamp_ns), timeout_s)

    def lookup_mount(self, target: str, source: str, stamp_ns: int, timeout_s: float = 0.0) -> np.ndarray:
        """(4, 4) target_from_source of a sensor that does not move: at a time, else the latest.

        Some converters repeat the sensors' poses on /tf with other stamps.

        Raises:
            TransformError: see `lookup`.
        """
        try:
            return self.lookup(target, source, stamp_ns)
        except TransformError:
            return self.lookup(target, source, None, timeout_s)

    def lookup_between(
        self, target: str, target_ns: int, source: str, source_ns: int, fixed: str, timeout_s: float = 0.0
    ) -> np.ndarray:
        """(4, 4): target frame at one time from source frame at another one; `fixed` does not move in between."""

        def both() -> np.ndarray:
            return self._lookup(target, fixed, target_ns) @ self._lookup(fixed, source, source_ns)

        return self._wait(both, timeout_s)

    def _wait(self, attempt: Callable[[], np.ndarray], timeout_s: float) -> np.ndarray:
        with self._changed:
            try:
                return attempt()
            except TransformError:
                if timeout_s <= 0:
                    raise
            found: list[np.ndarray] = []
            late = False

            def ready() -> bool:
                nonlocal late
                try:
                    found.append(attempt())
                except TransformError as error:
                    late = isinstance(error, LateError)
                return bool(found)

            if not self._changed.wait_for(ready, timeout_s) and late:
                self._changed.wait_for(ready, (LATE_PATIENCE - 1) * timeout_s)
            return found[-1] if found else attempt()

    def _lookup(self, target: str, source: str, stamp_ns: int | None) -> np.ndarray:
        key = target, source, stamp_ns
        found = self._fixed.get(key[:2], self._found.get(key))
        if found is None:
            found, moves = self._compute(*key)
            if moves:
                self._found[key] = found
            else:
                self._fixed[key[:2]] = found
        return found.copy()

    def _compute(self, target: str, source: str, stamp_ns: int | None) -> tuple[np.ndarray, bool]:
        """What `_lookup` finds, and whether it may be another at another time."""
        up_target, up_source = self._paths(target), self._paths(source)
        common = [frame for frame in up_target if frame in up_source]
        if not common:
            unknown = [name for name in (target, source) if name not in self.frames()]
            reason = f"no transform names the frame {unknown[0]!r}" if unknown else "they are in different trees"
            raise UnconnectedError(f"no transform {target} <- {source}: {reason}; known are {', '.join(self.frames())}")
        errors = []
        for frame in common:  # the nearest first; a second one only where a frame has two parents
            ways = up_target[frame], up_source[frame]
            try:
                when = _latest_common([*ways[0], *ways[1]]) if stamp_ns is None else stamp_ns
                found = inverse(_climb(ways[0], when)) @ _climb(ways[1], when)
                return found, len(common) > 1 or any(edge.static is None for way in ways for edge in way)
            except TransformError as error:
                errors.append(error)
        raise errors[0]

    def _paths(self, frame: str) -> dict[str, list[_Edge]]:
        """Every ancestor, the nearest first, and the edges on the way up to it."""
        paths: dict[str, list[_Edge]] = {frame: []}
        queue = deque([frame])
        while queue:
            name = queue.popleft()
            for edge in self._edges.get(name, {}).values():
                if edge.parent not in paths:
                    paths[edge.parent] = [*paths[name], edge]
                    queue.append(edge.parent)
        return paths

    def _all_edges(self) -> list[_Edge]:
        return [edge for parents in self._edges.values() for edge in parents.values()]


def _latest_common(edges: list[_Edge]) -> int | None:
    stamps_ns = [stamp_ns for edge in edges if (stamp_ns := edge.latest_ns()) is not None]
    return min(stamps_ns) if stamps_ns else None


def _climb(edges: list[_Edge], stamp_ns: int | None) -> np.ndarray:
    """(4, 4): the last edge's parent from the first one's child."""
    result = np.eye(4)
    for edge in edges:
        result = edge.at(stamp_ns) @ result
    return result


def slerp(first: np.ndarray, second: np.ndarray, fraction: float) -> np.ndarray:
    """The unit quaternion at `fraction` of the shorter way from `first` to `second`."""
    cosine = float(first @ second)
    if cosine < 0:
        second, cosine = -second, -cosine
    if cosine > 1 - 1e-10:
        result = (1 - fraction) * first + fraction * second
    else:
        angle = np.arccos(cosine)
        result = (np.sin((1 - fraction) * angle) * first + np.sin(fraction * angle) * second) / np.sin(angle)
    return result / np.linalg.norm(result)
