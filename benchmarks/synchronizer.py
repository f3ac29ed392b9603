"""Synchronisers on rigs of every kind: `python benchmarks/synchronizer.py`.

Ours beside the approximate-time policy of message_filters' Python version, run for real where that package is
installed (a sourced ROS; or its folder `src` on the PYTHONPATH), else by the plain rendering of its documented
algorithm below. Every image knows its true cycle, so that sets of several cycles are seen.
"""

import gc
import importlib.util
import itertools
import random
import time
from bisect import bisect
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

from measuring import figures
from rich.console import Console

from hdmap_ros.stamps import ns_to_parts
from hdmap_ros.sync.image_sets import ImageSet, SyncConfig, SyncStatistics
from hdmap_ros.sync.policies import MessageFiltersSynchronizer, Synchronizer
from hdmap_ros.sync.synchronizer import CycleSynchronizer

MS = 1_000_000
START_NS = 1_532_402_927_604_844_000
SECONDS = 60
RUNS = 5
CAMERAS = ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT")
ANCHOR = "CAM_FRONT"
NUSCENES = (0.0, 7.6, 15.5, 23.1, 32.7, 42.6)
STAGGERED = (0.0, 7.0, 14.0, 21.0, 28.0, 35.0)
FREE = (3.0, 40.0, 95.0, 61.0, 20.0, 80.0)
SLOPS_MS = (50, 100)


@dataclass(frozen=True)
class Kind:
    """A rig; times in milliseconds. `clock` is camera's number and true seconds to how far its stamps are ahead."""

    name: str
    phases: tuple[float, ...] = STAGGERED
    period: float = 100.0
    rates: tuple[float, ...] = (0.0,) * 6
    jitter: float = 0.25
    loss: float = 0.0
    delay: Callable[[int], float] = lambda camera: 20.0
    clock: Callable[[int, float], float] = lambda camera, seconds: 0.0
    silent: Callable[[int, float], bool] = lambda camera, seconds: False
    triggered: bool = True


def _drift(ppm: float) -> tuple[float, ...]:
    return tuple(ppm * 1e-6 * share for share in (-1, 1, 0.3, -0.5, 0.9, -0.2))


KINDS = (
    Kind("nuScenes' cycles", NUSCENES, 0.0),
    Kind("nuScenes' cycles, 2 % lost", NUSCENES, 0.0, loss=0.02),
    Kind("nuScenes' cycles, 20 % lost", NUSCENES, 0.0, loss=0.2),
    Kind("stamps on arrival, 10 ms jitter", (0.0,) * 6, jitter=10.0),
    Kind("one clock set by 40 ms", clock=lambda camera, seconds: 40.0 * (camera == 4 and seconds > 5)),
    Kind("one clock set by -300 ms", clock=lambda camera, seconds: -300.0 * (camera == 4 and seconds > 5)),
    Kind("the anchor's clock set by 60 ms", clock=lambda camera, seconds: 60.0 * (camera == 1 and seconds > 5)),
    Kind("one clock 0.2 s ahead", clock=lambda camera, seconds: 200.0 * (camera == 4)),
    Kind("one camera 0.3 s late", delay=lambda camera: 320.0 if camera == 4 else 20.0),
    Kind("the anchor dead from 10 s on", silent=lambda camera, seconds: camera == 1 and seconds > 10),
    Kind("free-running, 75 ppm", FREE, rates=_drift(75), triggered=False),
    Kind("free-running, 1000 ppm", FREE, rates=_drift(1000), triggered=False),
    Kind("others at 15 Hz, anchor at 10", FREE, rates=(1 / 3, 0, 1 / 3, 1 / 3, 1 / 3, 1 / 3), triggered=False),
)


@dataclass(frozen=True)
class Truth:
    """A message with a header, as message_filters wants it, that knows its true exposure."""

    header: Any
    cycle: int
    exposure_ns: int


Event = tuple[str, int, int, Truth]


def events(kind: Kind) -> list[Event]:
    """Camera, stamp, arrival and message in order of arrival."""
    chance = random.Random(0)
    make_stamp: Any = SimpleNamespace
    if message_filters_version():
        make_stamp = importlib.import_module("builtin_interfaces.msg").Time  # message_filters takes no other
    made = []
    for camera, name in enumerate(CAMERAS):
        for cycle in itertools.count():
            tick = cycle * kind.period if kind.period else (cycle * 5 // 3) * 50.0  # 12 of 20 ticks
            moment = (tick + kind.phases[camera]) * (1 - kind.rates[camera])
            jitter, lost = chance.gauss(0, kind.jitter), chance.random() < kind.loss
            if moment > SECONDS * 1000:
                break
            if lost or kind.silent(camera, moment / 1000):
                continue
            exposure_ns = START_NS + round(moment * MS)
            stamp_ns = exposure_ns + round((kind.clock(camera, moment / 1000) + jitter) * MS)
            arrival_ns = exposure_ns + round((kind.delay(camera) + chance.uniform(0, 4)) * MS)
            truth = Truth(SimpleNamespace(stamp=make_stamp(**ns_to_parts(stamp_ns))), cycle, exposure_ns)
            made.append((name, stamp_ns, arrival_ns, truth))
    return sorted(made, key=lambda event: event[2])


class ApproximateTime:
    """The documented algorithm of message_filters' ApproximateTimeSynchronizer, queue 10, without its lock."""

    def __init__(self, slop_ns: int) -> None:
        self.statistics = SyncStatistics()
        self._queues: dict[str, dict[int, Any]] = {camera: {} for camera in CAMERAS}
        self._slop_ns = slop_ns

    def add(self, camera: str, stamp_ns: int, message: Any, arrival_ns: int) -> list[ImageSet]:
        queue = self._queues[camera]
        queue[stamp_ns] = message
        while len(queue) > 10:
            del queue[min(queue)]
        candidates = []
        for other in self._queues.values():
            near = [stamp_ns]
            if other is not queue:
                near = [stamp for stamp in other if abs(stamp - stamp_ns) <= self._slop_ns]
            if not near:
                return []
            candidates.append(sorted(near, key=lambda stamp: abs(stamp - stamp_ns)))
        for combination in itertools.product(*candidates):
            if max(combination) - min(combination) < self._slop_ns:
                stamps = dict(zip(self._queues, combination, strict=True))
                messages = {name: self._queues[name].pop(stamp) for name, stamp in stamps.items()}
                return [ImageSet(stamps[ANCHOR], messages, stamps, (), 0)]
        return []

    def poll(self, now_ns: int) -> list[ImageSet]:
        return []

    def flush(self) -> list[ImageSet]:
        return []

    def reset(self) -> None:
        for queue in self._queues.values():
            queue.clear()


def approximate(slop_ms: int) -> Synchronizer:
    if not message_filters_version():
        return ApproximateTime(slop_ms * MS)
    config = SyncConfig(CAMERAS, ANCHOR, len(CAMERAS), max_spread_ns=slop_ms * MS)
    return MessageFiltersSynchronizer("approximate", config)


def message_filters_version() -> str:
    """Of its package.xml, beside the sources or in the share folder of an installation; "" if it is not there."""
    found = importlib.util.find_spec("message_filters")
    if found is None or found.origin is None:
        return ""
    for folder in Path(found.origin).parents:
        for path in (folder / "package.xml", folder / "share" / "message_filters" / "package.xml"):
            if path.is_file():
                return ElementTree.parse(path).getroot().findtext("version", "of unknown version")
    return "of unknown version"


@dataclass
class Score:
    """What came of one rig."""

    sets: int = 0
    complete: int = 0
    mixed: int = 0
    lost: int = 0
    pause_s: float = 0.0
    microseconds: float = 0.0


def measure(make: Callable[[], Synchronizer], stream: list[Event], triggered: bool, min_cameras: int) -> Score:
    """The sets of a stream, and the least CPU of some runs: the cores are shared."""
    score = Score(microseconds=float("inf"))
    for _ in range(RUNS):
        synchronizer = make()
        ready: list[ImageSet] = []
        gc.collect()  # or one candidate pays for the objects of all before
        begin = time.process_time()
        for camera, stamp_ns, arrival_ns, message in stream:
            ready += synchronizer.poll(arrival_ns)
            ready += synchronizer.add(camera, stamp_ns, message, arrival_ns)
        ready += synchronizer.flush()
        score.microseconds = min(score.microseconds, (time.process_time() - begin) / len(stream) * 1e6)
    exposures: dict[str, list[int]] = {name: [] for name in CAMERAS}
    for camera, _, _, message in stream:
        exposures[camera].append(message.exposure_ns)
    score.sets, score.complete = len(ready), sum(entry.complete for entry in ready)
    score.mixed = sum(_is_mixed(entry, exposures, triggered) for entry in ready)
    if triggered:
        cycles = Counter(message.cycle for _, _, _, message in stream)
        score.lost = sum(number >= min_cameras for number in cycles.values()) - len(ready)
    else:
        score.lost = len(exposures[ANCHOR]) - len(ready)
    times = [
        stream[0][3].exposure_ns,
        *(max(truth.exposure_ns for truth in entry.messages.values()) for entry in ready),
    ]
    times.append(stream[-1][3].exposure_ns)
    score.pause_s = max(later - earlier for earlier, later in itertools.pairwise(times)) * 1e-9
    return score


def _is_mixed(entry: ImageSet, exposures: dict[str, list[int]], triggered: bool) -> bool:
    """Of several cycles; where there are none: an image more than 25 ms further from the anchor's than need be."""
    if triggered:
        return len({truth.cycle for truth in entry.messages.values()}) > 1
    if ANCHOR not in entry.messages:
        return False
    target_ns = entry.messages[ANCHOR].exposure_ns
    for name, truth in entry.messages.items():
        index = bisect(exposures[name], target_ns)
        nearest = min(abs(moment - target_ns) for moment in exposures[name][max(index - 1, 0) : index + 1])
        if abs(truth.exposure_ns - target_ns) > nearest + 25 * MS:
            return True
    return False


def main() -> None:
    version = message_filters_version()
    theirs = f"message_filters {version}" if version else "approximate time"
    title = f"Six cameras for {SECONDS} s; ours hands on sets of five or more, theirs complete ones"
    words = ("rig", "synchroniser")
    columns = ("sets", "complete", "mixed", "lost", "longest pause, s", "us per image")
    table = figures(title, *words, *columns, words=words)
    for kind in KINDS:
        stream = events(kind)
        ours = partial(CycleSynchronizer, SyncConfig(CAMERAS, ANCHOR, 5))
        candidates: list[tuple[str, Callable[[], Synchronizer], int]] = [("cycle (ours)", ours, 5)]
        candidates += [(f"{theirs}, slop {slop} ms", partial(approximate, slop), 6) for slop in SLOPS_MS]
        for name, make, min_cameras in candidates:
            score = measure(make, stream, kind.triggered, min_cameras)
            numbers = (score.sets, score.complete, score.mixed, score.lost)
            row = [str(number) for number in numbers] + [f"{score.pause_s:.1f}", f"{score.microseconds:.1f}"]
            table.add_row(kind.name, name, *row)
        table.add_section()
    console = Console(width=140)
    console.print(table)
    if not version:
        console.print("message_filters is not installed: approximate time is our rendering of its documented algorithm")


if __name__ == "__main__":
    main()
