"""The policies behind one face; those of message_filters where it is installed, for real."""

import importlib.util
from typing import Any

import pytest

from hdmap_core.errors import MissingDependencyError
from hdmap_ros.sync.image_sets import ImageSet, SyncConfig
from hdmap_ros.sync.policies import MessageFiltersSynchronizer, Synchronizer, make_synchronizer

MS = 1_000_000
INSTALLED = importlib.util.find_spec("message_filters") is not None
needs_message_filters = pytest.mark.skipif(not INSTALLED, reason="message_filters is not among the ROS wheels")


def make(simulator: Any, policy: str) -> Synchronizer:
    cameras = simulator.Rig().cameras
    return make_synchronizer(policy, SyncConfig(cameras, "C1", len(cameras), max_spread_ns=50 * MS))


@pytest.mark.skipif(INSTALLED, reason="message_filters is installed")
@pytest.mark.parametrize("policy", ["approximate", "exact"])
def test_a_policy_that_is_not_there_is_named(simulator: Any, policy: str) -> None:
    with pytest.raises(MissingDependencyError, match="message_filters"):
        make(simulator, policy)


@pytest.mark.parametrize("policy", ["cycle", pytest.param("approximate", marks=needs_message_filters)])
def test_what_every_policy_keeps(simulator: Any, policy: str) -> None:
    """A set per cycle with the messages that were given, none used twice, stamps that increase; a loop starts anew."""
    rig = simulator.Rig(seconds=6, loops=2)
    sync = make(simulator, policy)
    ready = simulator.play(sync, rig.images())
    assert len(ready) == 144
    assert all(entry.complete and not simulator.mixed(entry) for entry in ready)
    assert [entry.stamp_ns for entry in ready[:72]] == sorted(entry.stamp_ns for entry in ready[:72])
    assert all(entry.stamp_ns == entry.stamps_ns["C1"] for entry in ready)
    used = [(camera, truth) for entry in ready for camera, truth in entry.messages.items()]
    assert len(used) == len(set(used))
    assert sync.statistics.complete == 144
    assert sync.statistics.resets == 1


@needs_message_filters
def test_exact_joins_equal_stamps_only(simulator: Any) -> None:
    triggered = simulator.Rig((0.0,) * 6, 100.0, 5.0, jitter=0.0)
    assert len(simulator.play(make(simulator, "exact"), triggered.images())) == 50
    assert simulator.play(make(simulator, "exact"), simulator.Rig(seconds=5).images()) == []


@needs_message_filters
def test_a_bag_of_other_cameras_before_leaves_nothing_in_the_queues(simulator: Any) -> None:
    """Full queues of later stamps would swallow every earlier image for ever."""
    sync = make(simulator, "approximate")
    later = [image for image in simulator.Rig(seconds=6).images() if image.camera != "C3"]
    assert simulator.play(sync, [image._replace(stamp_ns=image.stamp_ns + 10**11) for image in later]) == []
    assert len(simulator.play(sync, simulator.Rig(seconds=6).images())) >= 71


@needs_message_filters
def test_the_given_stamp_counts_not_the_header(simulator: Any) -> None:
    """Images without a stamp are given the time of their arrival by the node."""
    sync = make(simulator, "approximate")
    assert isinstance(sync, MessageFiltersSynchronizer)
    ready: list[ImageSet] = []
    for cycle in range(5):
        for camera in simulator.Rig().cameras:
            ready += sync.add(camera, 10**9 + cycle * 100 * MS, f"{camera} {cycle}", 0)
    assert [entry.stamp_ns for entry in ready] == [10**9 + cycle * 100 * MS for cycle in range(5)]
    assert ready[3].messages["C2"] == "C2 3"
