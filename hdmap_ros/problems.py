"""What goes wrong, or makes a map worse, on the way from images to maps: told and counted alike by node and replay."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

REMINDER_S = 5.0
"""So often at most the node tells one problem."""


@dataclass
class _Kind:
    message: str  # the first
    cameras: dict[str, int] = field(default_factory=dict)


class Problems:
    """Counts problems by kind and camera. Each pair is told at its first time, and again after `remind_s` seconds.

    Thread-safe. Kinds are words such as `rejected_image`; a problem of no single camera has the camera "".
    """

    def __init__(self, tell: Callable[[str], None] = lambda message: None, remind_s: float = math.inf) -> None:
        self._tell = tell
        self._remind_s = remind_s
        self._kinds: dict[str, _Kind] = {}
        self._told_s: dict[tuple[str, str], float] = {}
        self._news: dict[tuple[str, str], str] = {}
        self._lock = Lock()

    def add(self, kind: str, camera: str, message: str) -> None:
        """Counts a problem, and tells it if it is new or was told long ago."""
        now = time.monotonic()
        with self._lock:
            cameras = self._kinds.setdefault(kind, _Kind(message)).cameras
            cameras[camera] = cameras.get(camera, 0) + 1
            self._news[kind, camera] = message
            told_s = self._told_s.get((kind, camera))
            new = told_s is None or now - told_s >= self._remind_s
            if new:
                self._told_s[kind, camera] = now
        if new:
            self._tell(message)

    def add_once(self, kind: str, camera: str, message: str) -> None:
        """Counts and tells a lasting problem at its first time only."""
        with self._lock:
            known = camera in self._kinds[kind].cameras if kind in self._kinds else False
        if not known:
            self.add(kind, camera, message)

    def news(self) -> dict[tuple[str, str], str]:
        """(kind, camera) -> the latest message, of what came up since the last call."""
        with self._lock:
            news, self._news = self._news, {}
        return news

    def untold(self) -> list[tuple[str, str]]:
        """(camera, kind) of what the next call of `news` will tell."""
        with self._lock:
            return [(camera, kind) for kind, camera in self._news]

    def report(self) -> dict[str, dict[str, Any]]:
        """Kind -> `count` in all, `cameras` with the count of each, `message`: the first; plain JSON values."""
        with self._lock:
            return {
                kind: {
                    "count": sum(entry.cameras.values()),
                    "cameras": {camera: count for camera, count in entry.cameras.items() if camera},
                    "message": entry.message,
                }
                for kind, entry in self._kinds.items()
            }


def problem_lines(problems: dict[str, dict[str, Any]]) -> list[str]:
    """A summary of `Problems.report`, one line per kind: `rejected_image: CAM_BACK (5 times): camera CAM_BACK: ...`."""
    lines = []
    for kind, entry in problems.items():
        counts = entry["cameras"] or {"": entry["count"]}
        where = [f"{camera} ({count} times)" if count > 1 else camera for camera, count in counts.items()]
        lines.append(": ".join(part for part in (kind, ", ".join(where).strip(), entry["message"]) if part))
    return lines
