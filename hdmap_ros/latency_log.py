"""How long the stages of the latest sets took."""

from collections import deque
from collections.abc import Mapping
from threading import Lock

import numpy as np

STAGES = (
    *("wait", "queue", "decode", "preprocess", "network", "postprocess", "number", "publish", "since_last_image"),
    *("total", "fuse"),
)
"""`wait`: from a set's first image to its last. `queue`: for the worker's threads. `total`: since the first image.
`fuse`: into the local map, when the set's own map has been sent."""
_WINDOW = 4096


class LatencyLog:
    """Milliseconds per stage of the latest sets; thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._stages: dict[str, deque[float]] = {}

    def add(self, timings_ms: Mapping[str, float]) -> None:
        """Stores the stages of one set."""
        with self._lock:
            for stage, value in timings_ms.items():
                self._stages.setdefault(stage, deque(maxlen=_WINDOW)).append(value)

    def newest(self) -> dict[str, list[float]]:
        """Stage -> milliseconds of each of the latest sets, the last at the end."""
        with self._lock:
            return {stage: [round(value, 2) for value in values] for stage, values in self._stages.items()}

    def summary(self) -> dict[str, dict[str, float]]:
        """Stage -> p50, p95, p99, max in milliseconds, in the order in which they happen."""
        with self._lock:
            stages = {stage: np.array(values) for stage, values in self._stages.items()}
        names = [*(name for name in STAGES if name in stages), *(name for name in stages if name not in STAGES)]
        result = {}
        for name in names:
            p50, p95, p99 = np.percentile(stages[name], [50, 95, 99])
            numbers = {"p50": p50, "p95": p95, "p99": p99, "max": stages[name].max()}
            result[name] = {key: round(float(value), 3) for key, value in numbers.items()}
        return result
