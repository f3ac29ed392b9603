"""Subscriptions that follow the publishers, and what each camera lacks."""

from typing import Any

from hdmap_ros.bag.layouts import CameraTopics
from hdmap_ros.observing.camera_inputs import CameraInputs


class FakeGraph:
    """Publishers of a graph that the test sets; remembers subscriptions."""

    def __init__(self) -> None:
        self.offered: dict[str, list[tuple[str, bool]]] = {}
        self.asked: dict[str, bool] = {}
        self.changes = 0
        self.warnings: list[str] = []

    def subscribe(self, kind: str, topic: str, callback: Any, reliable: bool) -> str:
        self.asked[topic] = reliable
        self.changes += 1
        return topic

    def unsubscribe(self, subscription: str) -> None:
        del self.asked[subscription]

    def publishers(self, topic: str) -> list[tuple[str, bool]]:
        return self.offered.get(topic, [])

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def inputs(graph: FakeGraph, reliability: str = "auto") -> CameraInputs:
    topics = {"A": CameraTopics("/a/image", "/a/info", "a")}
    return CameraInputs(graph, topics, "raw", reliability, lambda camera, message: None, lambda camera, message: None)


def test_reliability_follows_the_publishers() -> None:
    graph = FakeGraph()
    made = inputs(graph)
    made.open()
    assert graph.asked == {"/a/image": False, "/a/info": False}  # nobody there yet: best effort hears everybody
    graph.offered = {"/a/image": [("driver", True)], "/a/info": [("driver", False)]}
    made.recheck()
    assert graph.asked == {"/a/image": True, "/a/info": False}
    changes = graph.changes
    made.recheck()
    assert graph.changes == changes
    graph.offered["/a/image"] = [("driver", True), ("other", False)]
    made.recheck()
    assert graph.asked["/a/image"] is False
    assert "2 publishers: driver, other" in graph.warnings[0]
    assert made.rivals() == {"A": "driver, other"}
    graph.offered["/a/image"] = [("driver", True)]
    made.recheck()
    assert made.rivals() == {}
    made.close()
    assert graph.asked == {}


def test_camera_states_most_specific_first() -> None:
    graph = FakeGraph()
    made = inputs(graph, "reliable")
    made.open()
    second = 1_000_000_000
    assert made.states(0, second, {}) == {"A": "no_publisher"}
    graph.offered = {"/a/image": [("driver", False)]}
    made.recheck()
    assert made.states(0, second, {}) == {"A": "incompatible_qos"}
    graph.offered = {"/a/image": [("driver", True)]}
    assert made.states(0, second, {}) == {"A": "no_data"}
    made.arrived("A", 5 * second)
    assert made.states(5 * second, second, {"A": "no_transform"}) == {"A": "no_transform"}
    assert made.states(7 * second, second, {}) == {"A": "stale"}
