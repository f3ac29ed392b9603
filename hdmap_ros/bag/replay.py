"""A bag through synchroniser, builder and predictor without a ROS graph: deterministic, every set, any speed.

The same classes as in the node do the work. Transforms and the first CameraInfo of each camera are read ahead, so that
their arrival does not matter.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hdmap_core.elements import MapElement, write_elements
from hdmap_core.errors import BagError, ImageError
from hdmap_ros.bag.layouts import TopicLayout
from hdmap_ros.bag.mcap import BagReader, BagWriter, open_bag, write_mcap
from hdmap_ros.calibration import CameraCalibration
from hdmap_ros.conversions import elements_to_message, model_info_to_message
from hdmap_ros.diagnostics import LatencyLog
from hdmap_ros.markers import MarkerBuilder
from hdmap_ros.node_report import synchroniser_counts, write_report
from hdmap_ros.observation_builder import BuilderConfig, NotReadyError, ObservationBuilder
from hdmap_ros.pipeline import MapPipeline, MapResult, Predictor, choose_anchor
from hdmap_ros.stamps import stamp_to_ns
from hdmap_ros.synchronizer import CycleSynchronizer, ImageSet, SyncConfig
from hdmap_ros.transforms import TransformBuffer

ELEMENTS_TOPIC, MARKERS_TOPIC = "/online_map/output/map_elements", "/online_map/output/markers"
INFO_TOPIC = "/online_map/output/model_info"
_MARKER_MIN_SCORE = 0.3


@dataclass(frozen=True)
class ReplayConfig:
    """What to do with a bag.

    Attributes:
        layout: names of topics and frames.
        min_cameras: sets with fewer images are dropped; 0: all cameras of the layout.
        every: take only every n-th set.
        calibrations: for bags without CameraInfo.
    """

    layout: TopicLayout
    min_cameras: int = 0
    every: int = 1
    calibrations: dict[str, CameraCalibration] | None = None


def replay_bag(
    path: Path,
    predictor: Predictor,
    folder: Path,
    config: ReplayConfig,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Writes `predictions.jsonl` (one line per set, its token the anchor's stamp), `map.mcap` and `report.json`.

    Args:
        path: bag.
        predictor: loaded model.
        folder: where the three files go.
        config: see there.
        progress: called with messages done and messages in all.

    Returns:
        What report.json holds.

    Raises:
        BagError: if the bag is damaged or lacks a topic; the message names it and what the bag has.
        OutputError: if the folder cannot be written.
    """
    with open_bag(path) as bag:
        _check_topics(bag, config)
        cameras = tuple(config.layout.cameras)
        builder = _builder(bag, cameras, config)
        pipeline = MapPipeline(builder, predictor)
        anchor = choose_anchor("", cameras)
        sync = CycleSynchronizer(SyncConfig(cameras, anchor, config.min_cameras or len(cameras)))
        counts: Counter[str] = Counter()
        latencies = LatencyLog()
        frames: dict[str, list[MapElement]] = {}
        problems: dict[str, str] = {}
        begin = time.perf_counter()
        with write_mcap(folder / "map.mcap") as output:
            writer = _MapWriter(output, predictor.info, config.layout.base_frame, cameras, bag.start_ns)
            for number, images in enumerate(_sets(bag, sync, builder, config.layout, progress)):
                if number % config.every:
                    counts["skipped"] += 1
                    continue
                try:
                    result = pipeline.process(images)
                except (NotReadyError, ImageError) as error:
                    reason = error.state if isinstance(error, NotReadyError) else "rejected_images"
                    counts[reason] += 1
                    problems.setdefault(reason, str(error))
                    continue
                latencies.add({stage: value for stage, value in result.timings_ms.items() if stage != "wait"})
                frames[str(images.stamp_ns)] = result.elements
                writer.write(result)
            if not frames:  # raised in here, so that an older map.mcap stays
                found = "; ".join(problems.values()) or f"synchroniser: {synchroniser_counts(sync.statistics)}"
                raise BagError(f"{path}: no set of images became a map ({found})")
        write_elements(folder / "predictions.jsonl", frames)
        seconds = time.perf_counter() - begin
        report = {
            "bag": path.name,
            "model_id": predictor.info.model_id,
            "sets": sync.statistics.complete + sync.statistics.partial,
            "published": len(frames),
            "published_elements": sum(map(len, frames.values())),
            "dropped": dict(counts),
            "problems": problems,
            "synchroniser": synchroniser_counts(sync.statistics),
            "seconds": round(seconds, 3),
            "rate_hz": round(len(frames) / seconds, 3),
            "latency_ms": latencies.summary(),
        }
        write_report(folder / "report.json", report)
        return report


def _check_topics(bag: BagReader, config: ReplayConfig) -> None:
    kind = "sensor_msgs/msg/CompressedImage" if config.layout.transport == "compressed" else "sensor_msgs/msg/Image"
    has = ", ".join(sorted(f"{topic} ({kind})" for topic, kind in bag.topics.items())) or "nothing"
    for camera, topics in config.layout.cameras.items():
        needed = config.min_cameras or len(config.layout.cameras)
        if bag.counts.get(topics.image, 0) == 0 and needed == len(config.layout.cameras):
            raise BagError(
                f"{bag.path} has no images of {camera} on {topics.image}; it has {has}; choose another layout "
                "(--topics) or allow missing cameras (--min-cameras)"
            )
        if topics.image in bag.topics and bag.topics[topics.image] != kind:
            raise BagError(f"{bag.path}: {topics.image} holds {bag.topics[topics.image]}, the layout expects {kind}")
        if (
            topics.image in bag.topics
            and topics.info
            and bag.counts.get(topics.info, 0) == 0
            and not config.calibrations
        ):
            raise BagError(
                f"{bag.path} has no CameraInfo of {camera} on {topics.info}; it has {has}; give --calibration"
            )
    if not any(bag.counts.get(topic, 0) for topic in config.layout.tf_topics):
        raise BagError(f"{bag.path} has no transforms on {' or '.join(config.layout.tf_topics)}; it has {has}")


def _builder(bag: BagReader, cameras: tuple[str, ...], config: ReplayConfig) -> ObservationBuilder:
    layout = config.layout
    transforms = TransformBuffer(cache_ns=None)
    for topic, _, message in bag.messages(lambda topic: topic in layout.tf_topics):
        transforms.add(message.transforms, static=topic.endswith("tf_static"))
    settings = BuilderConfig(
        base_frame=layout.base_frame,
        fixed_frame=layout.fixed_frame,
        frame_ids={camera: topics.frame for camera, topics in layout.cameras.items()},
        tf_timeout_s=0.0,
        min_cameras=config.min_cameras or len(cameras),
    )
    builder = ObservationBuilder(cameras, settings, transforms, config.calibrations)
    camera_of = {topics.info: camera for camera, topics in layout.cameras.items() if topics.info}
    heard: set[str] = set()
    for topic, _, message in bag.messages(lambda topic: topic in camera_of):
        builder.add_camera_info(camera_of[topic], message)
        heard.add(topic)
        if len(heard) == len(camera_of):
            break
    return builder


def _sets(
    bag: BagReader,
    sync: CycleSynchronizer,
    builder: ObservationBuilder,
    layout: TopicLayout,
    progress: Callable[[int, int], None],
) -> Any:
    """The image sets of a bag in time order."""
    image_of = {topics.image: camera for camera, topics in layout.cameras.items()}
    info_of = {topics.info: camera for camera, topics in layout.cameras.items() if topics.info}
    total = sum(bag.counts.get(topic, 0) for topic in (*image_of, *info_of))
    wanted = bag.messages(lambda topic: topic in image_of or topic in info_of)
    for number, (topic, log_ns, message) in enumerate(wanted, start=1):
        progress(number, total)
        if topic in info_of:
            builder.add_camera_info(info_of[topic], message)
            continue
        yield from sync.poll(log_ns)
        yield from sync.add(image_of[topic], stamp_to_ns(message.header.stamp), message, log_ns)
    yield from sync.flush()


class _MapWriter:
    """Elements, markers and model info into a bag, as the node publishes them."""

    def __init__(self, bag: BagWriter, info: Any, frame_id: str, cameras: tuple[str, ...], start_ns: int) -> None:
        self._bag = bag
        self._info = info
        self._frame_id = frame_id
        self._markers = MarkerBuilder(bag.types)
        self._sequence = 0
        bag.declare(INFO_TOPIC, "hdmap_ros/msg/MapModelInfo", latched=True, depth=1)
        bag.declare(ELEMENTS_TOPIC, "hdmap_ros/msg/MapElementArray")
        bag.declare(MARKERS_TOPIC, "visualization_msgs/msg/MarkerArray")
        message = model_info_to_message(
            bag.types,
            info,
            camera_names=cameras,
            stamp_ns=start_ns,
            frame_id=frame_id,
            score_threshold=info.score_threshold,
        )
        bag.write(INFO_TOPIC, start_ns, message)

    def write(self, result: MapResult) -> None:
        images: ImageSet = result.images
        message = elements_to_message(
            self._bag.types,
            result.elements,
            stamp_ns=images.stamp_ns,
            frame_id=self._frame_id,
            grid=self._info.grid,
            camera_mask=result.camera_mask,
            spread_ns=images.spread_ns,
            sequence=self._sequence,
            model_id=self._info.model_id,
        )
        self._sequence += 1
        self._bag.write(ELEMENTS_TOPIC, images.stamp_ns, message)
        drawn = self._markers.build(
            [element for element in result.elements if element.score >= _MARKER_MIN_SCORE],
            stamp_ns=images.stamp_ns,
            frame_id=self._frame_id,
            line_width=0.15,
            lifetime=2.0,
            alpha=0.9,
        )
        self._bag.write(MARKERS_TOPIC, images.stamp_ns, drawn)
