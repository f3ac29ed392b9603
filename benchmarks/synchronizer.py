"""Synchronisers on nuScenes' firing pattern, with and without lost images: `python benchmarks/synchronizer.py`.

Compares ours with the approximate-time policy as message_filters' Python version documents it: per camera a queue of
stamps; each arrival looks for the combination nearest to itself within `slop`; complete sets only. Where the package
message_filters is installed it is used itself, otherwise the plain rendering of that algorithm below.
"""

import gc
import itertools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from rich.console import Console
from rich.table import Table

from hdmap_core.errors import MissingDependencyError
from hdmap_ros.stamps import ns_to_parts
from hdmap_ros.sync_policies import MessageFiltersSynchronizer, Synchronizer
from hdmap_ros.synchronizer import CycleSynchronizer, ImageSet, SyncConfig, SyncStatistics

MS = 1_000_000
PHASES = {
    "CAM_FRONT_LEFT": 0,
    "CAM_FRONT": 7_600_000,
    "CAM_FRONT_RIGHT": 15_500_000,
    "CAM_BACK_RIGHT": 23_100_000,
    "CAM_BACK": 32_700_000,
    "CAM_BACK_LEFT": 42_600_000,
}
CYCLES = 600
Event = tuple[str, int, Any]


class ApproximateTime:
    """The documented algorithm of message_filters' ApproximateTimeSynchronizer, queue 10, without its lock."""

    def __init__(self, cameras: tuple[str, ...], slop_ns: int) -> None:
        self.statistics = SyncStatistics()
        self._queues: dict[str, dict[int, Any]] = {camera: {} for camera in cameras}
        self._slop_ns = slop_ns

    def add(self, camera: str, stamp_ns: int, message: Any, arrival_ns: int) -> list[ImageSet]:
        queue = self._queues[camera]
        queue[stamp_ns] = message
        while len(queue) > 10:
            del queue[min(queue)]
        candidates = []
        for other in self._queues.values():
            near = (
                [stamp for stamp in other if abs(stamp - stamp_ns) <= self._slop_ns]
                if other is not queue
                else [stamp_ns]
            )
            if not near:
                return []
            candidates.append(sorted(near, key=lambda stamp: abs(stamp - stamp_ns)))
        for combination in itertools.product(*candidates):
            if max(combination) - min(combination) < self._slop_ns:
                stamps = dict(zip(self._queues, combination, strict=True))
                messages = {name: self._queues[name].pop(stamp) for name, stamp in stamps.items()}
                return [ImageSet(stamps["CAM_FRONT"], messages, stamps, (), 0)]
        return []

    def poll(self, now_ns: int) -> list[ImageSet]:
        return []

    def flush(self) -> list[ImageSet]:
        return []

    def reset(self) -> None:
        for queue in self._queues.values():
            queue.clear()


@dataclass(frozen=True)
class Case:
    name: str
    keep: Callable[[random.Random, str, int], bool]


CASES = (
    Case("nothing lost", lambda chance, camera, cycle: True),
    Case("one CAM_FRONT image lost", lambda chance, camera, cycle: (camera, cycle) != ("CAM_FRONT", 50)),
    Case("2 % lost", lambda chance, camera, cycle: chance.random() > 0.02),
    Case("20 % lost", lambda chance, camera, cycle: chance.random() > 0.2),
    Case("CAM_BACK dead", lambda chance, camera, cycle: camera != "CAM_BACK"),
)


def events(case: Case) -> list[Event]:
    """Camera, stamp and message (with the cycle's number) in order of exposure."""
    chance = random.Random(0)
    made = []
    for cycle in range(CYCLES):
        tick = 1_532_402_927_604_844_000 + (cycle * 5 // 3) * 50 * MS  # 12 of 20 ticks
        for camera, phase in PHASES.items():
            stamp_ns = tick + phase + chance.randint(-MS // 4, MS // 4)
            if case.keep(chance, camera, cycle):
                stamp = SimpleNamespace(**ns_to_parts(stamp_ns), nanoseconds=stamp_ns)
                made.append((camera, stamp_ns, SimpleNamespace(header=SimpleNamespace(stamp=stamp), cycle=cycle)))
    return sorted(made, key=lambda event: event[1])


def measure(synchronizer: Synchronizer, stream: list[Event]) -> tuple[float, list[ImageSet]]:
    """Microseconds of CPU per image, and the sets."""
    ready: list[ImageSet] = []
    gc.collect()  # or one candidate pays for the objects of all before
    begin = time.process_time()
    for camera, stamp_ns, message in stream:
        ready += synchronizer.poll(stamp_ns)
        ready += synchronizer.add(camera, stamp_ns, message, stamp_ns)
    ready += synchronizer.flush()
    return (time.process_time() - begin) / len(stream) * 1e6, ready


def approximate(slop_ns: int) -> tuple[str, Synchronizer]:
    cameras = tuple(PHASES)
    config = SyncConfig(cameras, "CAM_FRONT", len(cameras), max_spread_ns=slop_ns)
    try:
        return "message_filters", MessageFiltersSynchronizer("approximate", config)
    except MissingDependencyError:
        return "approximate time", ApproximateTime(cameras, slop_ns)


def main() -> None:
    table = Table(title=f"{CYCLES} cycles of six cameras, 50 and 100 ms apart")
    for column in ("case", "synchroniser", "us per image", "sets", "of them complete", "mixing two cycles"):
        table.add_column(column, justify="left" if column in ("case", "synchroniser") else "right")
    for case in CASES:
        stream = events(case)
        cycle = CycleSynchronizer(SyncConfig(tuple(PHASES), "CAM_FRONT", min_cameras=4))
        candidates: list[tuple[str, Synchronizer]] = [("cycle (ours), 4 or more", cycle)]
        for slop_ms in (45, 100):
            name, synchronizer = approximate(slop_ms * MS)
            candidates.append((f"{name}, slop {slop_ms} ms", synchronizer))
        for name, synchronizer in candidates:
            microseconds, ready = measure(synchronizer, stream)
            mixed = sum(len({message.cycle for message in entry.messages.values()}) > 1 for entry in ready)
            complete = sum(entry.complete for entry in ready)
            table.add_row(case.name, name, f"{microseconds:.1f}", str(len(ready)), str(complete), str(mixed))
        table.add_section()
    console = Console(width=120)
    console.print(table)
    if isinstance(approximate(MS)[1], ApproximateTime):
        console.print("message_filters is not installed: approximate time is our rendering of its documented algorithm")


if __name__ == "__main__":
    main()
