"""What there is to see of a bag, for `hdmap view`: its cameras as replay puts them together, and the maps in it."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hdmap_core.elements import MapElement
from hdmap_core.errors import BagError
from hdmap_core.geometry.se3 import transform_points
from hdmap_core.recordings.recording import Wanted
from hdmap_core.viewer.footage import Footage, Moment, region_of
from hdmap_core.viewer.opening import ENOUGH_PIXELS, latencies_of, read_report
from hdmap_ros.bag.layouts import fitting_layouts, load_layout
from hdmap_ros.bag.mcap import BagReader, open_bag
from hdmap_ros.bag.recording import open_bag_recording
from hdmap_ros.bag.storage import is_bag
from hdmap_ros.observing.transforms import TransformBuffer, TransformError
from hdmap_ros.output.conversions import elements_from_message
from hdmap_ros.stamps import stamp_to_ns

_MAPS, _TF = "hdmap_ros/msg/MapElementArray", "tf2_msgs/msg/TFMessage"
_DIAGNOSTICS = "diagnostic_msgs/msg/DiagnosticArray"
_FUSED = "/local_map"  # the viewer fuses itself
_BASE = "base_link"


def bag_footage(path: Path, wanted: Wanted) -> Footage | None:
    """The drive in a bag: its images, where a topic layout of config/topics fits, and the maps, where it has any.

    Raises:
        BagError: if it cannot be read, or has neither; when reading, if no LiDAR shows the ground that is wanted by it.
    """
    if not is_bag(path) or (path / "predictions.jsonl").is_file():  # what a replay left is read as a result
        return None
    with open_bag(path) as bag:
        fitting = fitting_layouts(set(bag.topics))
        layout = load_layout(fitting[0][0]) if fitting else None
        maps = _maps(bag, layout.base_frame if layout else _BASE)
    if layout is None and not maps:
        raise BagError(f"{path} has neither images that a layout of config/topics names, nor maps; hdmap info lists it")
    report = read_report(path.parent) if path.is_file() else {}
    latencies = latencies_of(report, list(maps))
    maps = {token: replace(map_, latency_ms=latencies.get(token) or map_.latency_ms) for token, map_ in maps.items()}
    facts = [f"images by the layout {layout.name}"] if layout else []
    facts += [f"{len(maps)} maps"] if maps else []

    def moments(scene: str) -> Iterator[Moment]:
        yield from maps.values() if layout is None else _with_images(path, maps, wanted.lidar_ground)

    data = report.get("data") if layout is None else None
    region = region_of(element for moment in maps.values() for element in moment.predicted or ())
    scenes = {"drive": () if layout else tuple(maps)}
    return Footage(
        str(path), tuple(facts), scenes, moments, Path(data) if isinstance(data, str) else None, region=region
    )


def _with_images(path: Path, maps: dict[str, Moment], lidar_ground: bool) -> Iterator[Moment]:
    """Every set of images that can be calibrated, with the map of its stamp."""
    wanted = Wanted(whole_drive=True, at_least=ENOUGH_PIXELS, lidar_ground=lidar_ground)
    recording = open_bag_recording([str(path)], wanted)
    assert recording is not None
    for observation in recording.frames:
        known = maps.get(observation.token, Moment(observation.token, observation.stamp_ns))
        yield replace(known, observation=observation)


def _maps(bag: BagReader, base_frame: str) -> dict[str, Moment]:
    """Token of the instant -> its map in the car's frame, in the order of the bag."""
    topics = sorted(t for t, kind in bag.topics.items() if kind == _MAPS and not t.endswith(_FUSED) and bag.counts[t])
    if not topics:
        return {}
    transforms = TransformBuffer(cache_ns=None)
    for topic, _, message in bag.messages(lambda topic: bag.topics[topic] == _TF):
        transforms.add(message.transforms, static=topic.endswith("tf_static"))
    found: dict[str, Moment] = {}
    latency_ms: dict[str, float] = {}
    wanted = {topics[0], *(topic for topic, kind in bag.topics.items() if kind == _DIAGNOSTICS)}
    for topic, _, message in bag.messages(wanted.__contains__):
        if topic != topics[0]:
            latency_ms = _latencies(message) or latency_ms
            continue
        stamp_ns = stamp_to_ns(message.header.stamp)
        try:
            elements = _in_base(message, base_frame, stamp_ns, transforms)
        except TransformError as error:
            raise BagError(f"{bag.path}: {topic} is not in the car's frame {base_frame}: {error}") from None
        found[str(stamp_ns)] = Moment(str(stamp_ns), stamp_ns, predicted=elements, latency_ms=latency_ms)
    return found


def _in_base(message: Any, base_frame: str, stamp_ns: int, transforms: TransformBuffer) -> list[MapElement]:
    """The elements in the car's frame.

    Raises:
        TransformError: if they are in another one and the bag does not say where that lies.
    """
    elements, frame = elements_from_message(message), message.header.frame_id
    if frame == base_frame or not elements:
        return elements
    base_from_frame = transforms.lookup(base_frame, frame, stamp_ns)
    lines = (np.array([(point.x, point.y, point.z) for point in each.points]) for each in message.elements)
    points = (transform_points(base_from_frame, line)[:, :2] for line in lines)
    return [replace(element, points=moved) for element, moved in zip(elements, points, strict=True)]


def _latencies(message: Any) -> dict[str, float]:
    """Stage -> median milliseconds, of the node's report on itself."""
    found = {}
    for status in message.status:
        for pair in status.values:
            if pair.key.endswith("_p50_ms"):
                with suppress(ValueError):
                    found[pair.key.removesuffix("_p50_ms")] = float(pair.value)
    return found
