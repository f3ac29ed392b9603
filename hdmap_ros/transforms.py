"""A small transform tree: /tf and /tf_static in, transforms between any two frames at any two times out.

Used live and offline, with or without a sourced ROS (the ROS wheels bring no tf2_ros). Like tf2 it interpolates
between samples, never extrapolates, and can travel in time through a fixed frame.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable
from threading import Condition
from typing import Any

import numpy as np

from hdmap_core.errors import CalibrationError
from hdmap_core.geometry.se3 import inverse, rotation_from_quaternion, se3
from hdmap_ros.stamps import stamp_to_ns

CACHE_NS = 10_000_000_000
JUMP_NS = 500_000_000


class TransformError(CalibrationError):
    """Two frames that are not connected, or not at that time."""


class _Edge:
    """parent_from_child over time; one sample at time None when static."""

    def __init__(self, parent: str) -> None:
        self.parent = parent
        self.stamps_ns: list[int] = []
        self.samples: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # stamp -> quaternion (w, x, y, z), translation
        self.static: np.ndarray | None = None

    def insert(self, stamp_ns: int, quaternion: np.ndarray, translation: np.ndarray, cache_ns: int | None) -> None:
        if self.stamps_ns and stamp_ns < self.stamps_ns[-1] - JUMP_NS:  # a bag began anew: what was then is not now
            self.stamps_ns, self.samples = [], {}
        if stamp_ns not in self.samples:
            insort(self.stamps_ns, stamp_ns)
        self.samples[stamp_ns] = (quaternion, translation)
        while cache_ns is not None and self.stamps_ns[-1] - self.stamps_ns[0] > cache_ns:
            del self.samples[self.stamps_ns.pop(0)]

    def at(self, stamp_ns: int | None) -> np.ndarray | None:
        """(4, 4) at a time, or at the latest one; None outside the samples."""
        if self.static is not None:
            return self.static
        if not self.stamps_ns:
            return None
        if stamp_ns is None:
            stamp_ns = self.stamps_ns[-1]
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


class TransformBuffer:
    """Thread-safe; one thread stores while another one waits in a lookup.

    Args:
        cache_ns: how much of the past is kept; None: all of it.
    """

    def __init__(self, cache_ns: int | None = CACHE_NS) -> None:
        self._cache_ns = cache_ns
        self._edges: dict[str, _Edge] = {}
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
                edge = self._edges.get(child)
                if edge is None or edge.parent != parent:
                    edge = self._edges[child] = _Edge(parent)
                if static:
                    edge.static = se3(rotation_from_quaternion(quaternion), translation)
                else:
                    edge.static = None
                    edge.insert(stamp_to_ns(message.header.stamp), quaternion / norm, translation, self._cache_ns)
            self._changed.notify_all()

    def clear(self) -> None:
        """Forgets what moves and keeps what is static: time has jumped."""
        with self._changed:
            self._edges = {child: edge for child, edge in self._edges.items() if edge.static is not None}

    def frames(self) -> list[str]:
        """The names of all frames known."""
        with self._changed:
            return sorted(set(self._edges) | {edge.parent for edge in self._edges.values()})

    def lookup(self, target: str, source: str, stamp_ns: int | None, timeout_s: float = 0.0) -> np.ndarray:
        """(4, 4) target_from_source at a time; None means the latest that every link has.

        Raises:
            TransformError: if the frames are not connected at that time, also not after waiting.
        """
        return self._wait(lambda: self._lookup(target, source, stamp_ns), timeout_s)

    def lookup_between(
        self, target: str, target_ns: int, source: str, source_ns: int, fixed: str, timeout_s: float = 0.0
    ) -> np.ndarray:
        """(4, 4): target frame at one time from source frame at another one; `fixed` does not move in between."""

        def both() -> np.ndarray:
            return self._lookup(target, fixed, target_ns) @ self._lookup(fixed, source, source_ns)

        return self._wait(both, timeout_s)

    def _wait(self, attempt: Any, timeout_s: float) -> np.ndarray:
        with self._changed:
            try:
                return attempt()
            except TransformError:
                if timeout_s <= 0:
                    raise
            found: list[np.ndarray] = []

            def ready() -> bool:
                try:
                    found.append(attempt())
                except TransformError:
                    return False
                return True

            self._changed.wait_for(ready, timeout_s)
            return found[-1] if found else attempt()

    def _lookup(self, target: str, source: str, stamp_ns: int | None) -> np.ndarray:
        up_target, up_source = self._ancestors(target), self._ancestors(source)
        common = next((frame for frame in up_target if frame in up_source), None)
        if common is None:
            unknown = [name for name in (target, source) if name not in self.frames()]
            reason = f"no transform names the frame {unknown[0]!r}" if unknown else "they are in different trees"
            raise TransformError(f"no transform {target} <- {source}: {reason}; known are {', '.join(self.frames())}")
        if stamp_ns is None:
            stamp_ns = self._latest_common(up_target, up_source, common)
        return inverse(self._climb(target, common, stamp_ns)) @ self._climb(source, common, stamp_ns)

    def _ancestors(self, frame: str) -> list[str]:
        chain = [frame]
        while chain[-1] in self._edges and len(chain) <= len(self._edges):
            chain.append(self._edges[chain[-1]].parent)
        return chain

    def _latest_common(self, *chains_and_end: Any) -> int | None:
        *chains, end = chains_and_end
        moving = [self._edges[name] for chain in chains for name in chain[: chain.index(end)]]
        stamps = [edge.stamps_ns[-1] for edge in moving if edge.static is None and edge.stamps_ns]
        return min(stamps) if stamps else None

    def _climb(self, frame: str, end: str, stamp_ns: int | None) -> np.ndarray:
        """end_from_frame."""
        result = np.eye(4)
        while frame != end:
            edge = self._edges[frame]
            step = edge.at(stamp_ns)
            if step is None:
                raise TransformError(_outside(edge, frame, stamp_ns))
            result = step @ result
            frame = edge.parent
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


def _outside(edge: _Edge, child: str, stamp_ns: int | None) -> str:
    if not edge.stamps_ns or stamp_ns is None:
        return f"no transform {edge.parent} <- {child} has come yet"
    first_ms, last_ms = ((stamp_ns - edge.stamps_ns[index]) / 1e6 for index in (0, -1))
    if last_ms > 0:
        return f"the transform {edge.parent} <- {child} ends {last_ms:.0f} ms before the time that is needed"
    return f"the transform {edge.parent} <- {child} begins {-first_ms:.0f} ms after the time that is needed"
