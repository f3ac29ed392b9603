"""The map over time without a graph: numbers, the fused map, and what ends a drive."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import se3
from hdmap_ros.message_types import bag_types
from hdmap_ros.node_config import OnlineMapConfig
from hdmap_ros.observing.transforms import TransformBuffer
from hdmap_ros.output.conversions import elements_from_message
from hdmap_ros.output.local_map_output import LocalMapOutput
from hdmap_ros.output.map_memory import MapMemory
from hdmap_ros.pipeline import MapResult
from hdmap_ros.sync.image_sets import ImageSet

TYPES, _ = bag_types()
START_NS = 1_700_000_000_000_000_000
STEP_NS = 100_000_000


def a_map(stamp_ns: int, x: float = 0.0, mask: Sequence[bool] = (True,)) -> MapResult:
    """A divider at y = 2 of the fixed frame from x = -20 to x = 20, seen from a car at (x, 0)."""
    line = MapElement(MapClass.DIVIDER, np.array([[-20.0 - x, 2.0], [20.0 - x, 2.0]]), score=0.9)
    return MapResult([line], ImageSet(stamp_ns, {}, {"CAM_FRONT": stamp_ns}, (), 0), tuple(mask), {})


class Rig:
    """A memory and the poses that it looks up."""

    def __init__(self, bag_rig: Any, rig_module: Any, reach: float = 100.0) -> None:
        self.transforms = TransformBuffer()
        self.warnings: list[str] = []
        info = rig_module.RigInfo()
        self.memory = MapMemory(info, self.transforms, "base_link", "odom", reach, self.warnings.append)
        self._rig = bag_rig

    def at(self, stamp_ns: int, x: float, seen_from: float | None = None) -> MapResult:
        pose = se3.se3(np.eye(3), [x, 0.0, 1.0])
        self.transforms.add([self._rig.transform("odom", "base_link", stamp_ns, pose)], static=False)
        return self.memory.number(a_map(stamp_ns, x if seen_from is None else seen_from))


@pytest.fixture
def rig(bag_rig: Any, rig_module: Any) -> Rig:
    return Rig(bag_rig, rig_module)


def test_numbers_stay_and_the_first_map_says_that_it_is_the_first(rig: Rig) -> None:
    numbers, restarted = set(), []
    for index in range(10):
        numbers.add(rig.at(START_NS + index * STEP_NS, 0.8 * index).elements[0].track_id)
        restarted.append(rig.memory.restarted)
    assert len(numbers) == 1 and 0 not in numbers
    assert restarted == [True] + [False] * 9


def test_without_a_pose_nothing_is_numbered_and_the_reason_is_known(rig: Rig) -> None:
    result = rig.memory.number(a_map(START_NS))
    assert result.elements[0].track_id == 0 and rig.memory.restarted
    assert "no transform odom <- base_link" in rig.memory.paused
    assert not rig.memory.fuse(result) and rig.memory.fused() is None
    assert rig.at(START_NS + STEP_NS, 0.0).elements[0].track_id == 1
    assert rig.memory.paused == ""


@pytest.mark.parametrize(
    ("stamp_ns", "x", "why"),
    [
        (START_NS - 10 * STEP_NS, 0.0, "time went back by 1.0 s"),
        (START_NS + 1200 * STEP_NS, 0.0, "no map for 120.0 s"),
        (START_NS + STEP_NS, 500.0, "the car's pose jumped by 500.0 m in 0.10 s"),
    ],
)
def test_jumps_begin_anew(rig: Rig, stamp_ns: int, x: float, why: str) -> None:
    first = rig.at(START_NS, 0.0)
    assert rig.memory.fuse(first)
    rig.transforms.add([rig._rig.transform("odom", "base_link", START_NS - 20 * STEP_NS, np.eye(4))], static=False)
    second = rig.at(stamp_ns, x, seen_from=0.0)
    assert second.elements[0].track_id > first.elements[0].track_id
    assert rig.memory.restarted and rig.memory.breaks == 1
    assert rig.warnings == [f"{why}: the map over time begins anew"]
    assert rig.memory.fused() is None
    assert rig.memory.fuse(second) and rig.memory.fused() is not None


def test_a_drive_of_any_length_is_fused(bag_rig: Any, rig_module: Any) -> None:
    """24 km at the speed of a train, past what a grid may have on a side."""
    rig = Rig(bag_rig, rig_module, reach=np.inf)
    for index in range(9):
        assert rig.memory.fuse(rig.at(START_NS + index * 50 * 10**9, 3000.0 * index, seen_from=0.0))
    fused = rig.memory.fused()
    assert fused is not None and len(fused[0]) == 9 and not rig.warnings


def test_the_fused_map_as_a_message(rig: Rig, rig_module: Any, topic: Any) -> None:
    arrays, markers = topic(0), topic(1)
    output = LocalMapOutput(TYPES, rig.memory, arrays, markers)
    config = OnlineMapConfig(local_map_period=1.0)
    for index in range(25):
        output.take(rig.at(START_NS + index * STEP_NS, 0.8 * index), config, rig_module.RigInfo())
    assert [array.header.stamp.sec - START_NS // 10**9 for array in arrays.sent] == [0, 1, 2]
    assert [array.sequence for array in arrays.sent] == [0, 1, 2]
    assert [array.temporal_reset for array in arrays.sent] == [True, False, False]
    last = arrays.sent[-1]
    assert last.header.frame_id == "odom" and last.has_elevation
    (line,) = elements_from_message(last)
    assert line.track_id > 0 and np.abs(line.points[:, 1] - 2.0).max() < 0.15
    assert last.elements[0].points[0].z == 1.0
    assert last.roi_min.x < -20 and last.roi_max.x > 40
    assert len(markers.sent) == 3 and markers.sent[-1].markers[0].header.frame_id == "odom"
    output.clear(START_NS)
    assert rig.memory.fused() is None and len(markers.sent) == 4


def test_a_fused_map_that_is_slow_to_trace_comes_less_often(
    rig: Rig, rig_module: Any, topic: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each tracing takes 0.5 s of CPU, so that no other one begins for 2.5 s."""
    ticks = count(step=500_000_000)
    monkeypatch.setattr("hdmap_ros.output.local_map_output.time", SimpleNamespace(thread_time_ns=lambda: next(ticks)))
    arrays = topic(0)
    output = LocalMapOutput(TYPES, rig.memory, arrays, topic(0))
    for index in range(9):
        output.take(rig.at(START_NS + index * 10**9, 0.8 * index), OnlineMapConfig(), rig_module.RigInfo())
    assert [array.header.stamp.sec - START_NS // 10**9 for array in arrays.sent] == [0, 3, 6]


def test_lines_that_wait_for_latecomers_go_with_the_map(rig: Rig, rig_module: Any, topic: Any) -> None:
    markers = topic(1)
    output = LocalMapOutput(TYPES, rig.memory, topic(0), markers)
    output.take(rig.at(START_NS, 0.0), OnlineMapConfig(), rig_module.RigInfo())
    markers.listeners = 0
    output.clear(START_NS)
    output.clear(START_NS)
    assert [array.markers[0].action for array in markers.sent] == [0, 3]


def test_a_cleared_map_is_taken_back_for_latecomers_too(rig: Rig, rig_module: Any, topic: Any) -> None:
    arrays = topic(0)
    output = LocalMapOutput(TYPES, rig.memory, arrays, topic(0))
    output.clear(START_NS)
    assert arrays.sent == [], "there was none"
    output.take(rig.at(START_NS, 0.0), OnlineMapConfig(), rig_module.RigInfo())
    for _ in range(2):
        output.clear(START_NS + STEP_NS)
    output.take(rig.at(START_NS + 2 * STEP_NS, 0.0), OnlineMapConfig(), rig_module.RigInfo())
    before, empty, after = arrays.sent
    assert [len(array.elements) for array in arrays.sent] == [1, 0, 1]
    assert [array.sequence for array in arrays.sent] == [0, 1, 2]
    assert (empty.temporal_reset, after.temporal_reset) == (True, True)
    assert (empty.header.frame_id, empty.model_id) == ("odom", before.model_id)
    assert empty.header.stamp.nanosec == STEP_NS and empty.roi_min == empty.roi_max


def test_a_map_that_was_cleared_while_it_was_traced_is_not_sent(
    rig: Rig, rig_module: Any, topic: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays, markers, wanted = topic(1), topic(1), [True]
    output = LocalMapOutput(TYPES, rig.memory, arrays, markers)
    fused = rig.memory.fused

    def slow() -> Any:
        found = fused()
        wanted[0] = False
        output.clear(START_NS)
        return found

    @contextmanager
    def turn() -> Iterator[bool]:
        yield wanted[0]

    monkeypatch.setattr(rig.memory, "fused", slow)
    output.take(rig.at(START_NS, 0.0), OnlineMapConfig(), rig_module.RigInfo(), turn())
    assert arrays.sent == [] and [array.markers[0].action for array in markers.sent] == [3]


def test_a_map_of_before_a_reset_is_not_fused_into_the_next(rig: Rig) -> None:
    old = rig.at(START_NS, 0.0)
    rig.memory.reset()
    new = rig.at(START_NS + STEP_NS, 0.0)
    assert not rig.memory.fuse(old) and rig.memory.fuse(new)


def test_a_fused_map_that_begins_anew_comes_at_once_and_says_so(rig: Rig, rig_module: Any, topic: Any) -> None:
    arrays = topic(1)
    output = LocalMapOutput(TYPES, rig.memory, arrays, topic(0))
    for index, x in enumerate([0.0, 0.8, 1.6, 500.0, 500.8]):
        output.take(rig.at(START_NS + index * STEP_NS, x, seen_from=0.0), OnlineMapConfig(), rig_module.RigInfo())
    assert [array.temporal_reset for array in arrays.sent] == [True, True]
    assert arrays.sent[1].elements[0].points[0].x > 400
    assert arrays.sent[1].elements[0].track_id != arrays.sent[0].elements[0].track_id


def test_nothing_is_fused_where_it_is_not_wanted(bag_rig: Any, rig_module: Any, topic: Any) -> None:
    rig = Rig(bag_rig, rig_module, reach=0.0)
    arrays = topic(1)
    output = LocalMapOutput(TYPES, rig.memory, arrays, topic(1))
    result = rig.at(START_NS, 0.0)
    output.take(result, OnlineMapConfig(), rig_module.RigInfo())
    assert result.elements[0].track_id == 1 and arrays.sent == [] and not output.wanted()


def test_who_listens(rig: Rig, topic: Any) -> None:
    assert not LocalMapOutput(TYPES, rig.memory, topic(0), topic(0)).wanted()
    assert LocalMapOutput(TYPES, rig.memory, topic(1), topic(0)).wanted()
    assert LocalMapOutput(TYPES, rig.memory, topic(0), topic(1)).wanted()
