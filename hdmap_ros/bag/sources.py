"""The topics of a bag that a layout names: what is missing or odd, calibration and motion, image sets in time order."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from hdmap_core.errors import BagError
from hdmap_core.geometry.map_origin import MapOrigin
from hdmap_core.images.decoding import Enough
from hdmap_core.observation import Observation
from hdmap_ros.bag.layouts import TopicLayout, image_type
from hdmap_ros.bag.mcap import BagReader
from hdmap_ros.node_config import OnlineMapConfig
from hdmap_ros.observing.calibration import CameraCalibration
from hdmap_ros.observing.image_times import ImageTimes
from hdmap_ros.observing.observation_builder import NotReadyError, ObservationBuilder
from hdmap_ros.observing.transforms import TransformBuffer
from hdmap_ros.problems import Problems
from hdmap_ros.session_parts import builder_config_of, sync_config_of
from hdmap_ros.stamps import stamp_to_ns
from hdmap_ros.sync.image_sets import ImageSet
from hdmap_ros.sync.synchronizer import CycleSynchronizer

_TF, _INFO = "tf2_msgs/msg/TFMessage", "sensor_msgs/msg/CameraInfo"


@dataclass(frozen=True)
class ReplayConfig:
    """What to do with a bag.

    Attributes:
        layout: names of topics and frames.
        min_cameras: sets with fewer images are dropped; 0: all cameras of the layout.
        every: take only every n-th set.
        calibrations: for bags without CameraInfo.
        parameters: the node's, as far as they concern images, calibration and motion; cameras and frames are the
            layout's.
        fuse: where the fused map goes, see `hdmap_core.exchange.map_file`; None: nowhere.
        origin: where the layout's fixed frame lies on the earth, for the fused map.
        recover: read the whole messages of a bag that was cut off or is damaged.
        lidar_ground: the ground's shape is what the LiDAR that the layout names sees of it.
    """

    layout: TopicLayout
    min_cameras: int = 0
    every: int = 1
    calibrations: dict[str, CameraCalibration] | None = None
    parameters: OnlineMapConfig = field(default_factory=OnlineMapConfig)
    recover: bool = False
    fuse: Path | None = None
    origin: MapOrigin | None = None
    lidar_ground: bool = False

    @property
    def node(self) -> OnlineMapConfig:
        """The parameters of a node that listens to this layout."""
        return replace(
            self.parameters,
            camera_names=tuple(self.layout.cameras),
            sync_min_cameras=self.min_cameras,
            base_frame=self.layout.base_frame,
            fixed_frame=self.layout.fixed_frame,
            tf_timeout=0.0,
        )


class BagSources:
    """The topics of a bag that a layout names, with the synchroniser and the builder that a node would have.

    Args:
        bag: open.
        config: with the layout.
        problems: gets what is missing, was left out of a damaged bag, or cannot be read.

    Attributes:
        images: camera -> how many of its images `sets` has come by.
        sync: makes the sets.
        builder: knows all transforms and the first CameraInfo of each camera.

    Raises:
        BagError: if too many cameras or all transforms are missing.
    """

    def __init__(self, bag: BagReader, config: ReplayConfig, problems: Problems) -> None:
        for sentence in bag.damage:
            problems.add("incomplete_bag", "", sentence)
        self.images: Counter[str] = Counter()
        self._bag, self._config, self._problems = bag, config, problems
        self._has = ", ".join(sorted(f"{topic} ({kind})" for topic, kind in bag.topics.items())) or "nothing"
        layout = config.layout
        faults = {camera: fault for camera in layout.cameras if (fault := self._fault(camera)) is not None}
        if len(layout.cameras) - len(faults) < (config.min_cameras or len(layout.cameras)):
            raise BagError(f"{bag.path} {next(iter(faults.values()))[1]}")
        for camera, (kind, reason) in faults.items():
            problems.add(kind, camera, f"camera {camera}: {bag.path} {reason}")
        usable = {camera: topics for camera, topics in layout.cameras.items() if camera not in faults}
        self._image_of = {topics.image: camera for camera, topics in usable.items()}
        self._info_of = {topics.info: camera for camera, topics in usable.items() if topics.info}
        wrong = {bag.topics[topic] for topic in layout.tf_topics if topic in bag.topics} - {_TF}
        if wrong:
            raise BagError(f"{bag.path}: {' or '.join(layout.tf_topics)} hold {', '.join(wrong)}, not {_TF}")
        if not any(bag.counts.get(topic, 0) for topic in layout.tf_topics):
            raise BagError(f"{bag.path} has no transforms on {' or '.join(layout.tf_topics)}; it has {self._has}")
        self.sync = CycleSynchronizer(sync_config_of(config.node))
        self.builder = self._make_builder()

    def _fault(self, camera: str) -> tuple[str, str] | None:
        """Kind and sentence of what makes a camera useless."""
        bag, layout = self._bag, self._config.layout
        topics = layout.cameras[camera]
        if bag.counts.get(topics.image, 0) == 0:
            return "no_images", (
                f"has no images of {camera} on {topics.image}; it has {self._has}; choose another layout (--topics) or "
                "allow missing cameras (--min-cameras)"
            )
        kind = image_type(layout.transport)
        if bag.topics[topics.image] != kind:
            return "wrong_type", f"holds {bag.topics[topics.image]} on {topics.image}, the layout expects {kind}"
        if not topics.info or self._config.calibrations:
            return None
        if bag.counts.get(topics.info, 0) == 0:
            return "no_camera_info", (
                f"has no CameraInfo of {camera} on {topics.info}; it has {self._has}; give --calibration"
            )
        if bag.topics[topics.info] != _INFO:
            return "wrong_type", f"holds {bag.topics[topics.info]} on {topics.info}, not {_INFO}"
        return None

    def _make_builder(self) -> ObservationBuilder:
        config, layout = self._config, self._config.layout
        transforms = TransformBuffer(cache_ns=None)
        for topic, _, message in self._bag.messages(lambda topic: topic in layout.tf_topics, self._unreadable):
            transforms.add(message.transforms, static=topic.endswith("tf_static"))
        settings = builder_config_of(config.node, layout.cameras)
        builder = ObservationBuilder(
            config.node.camera_names, settings, transforms, config.calibrations, problems=self._problems
        )
        waiting = set(self._info_of)
        for topic, _, message in self._bag.messages(lambda topic: topic in self._info_of, self._unreadable):
            if topic in waiting:
                waiting.discard(topic)
                builder.add_camera_info(self._info_of[topic], message)
            if not waiting:
                break
        return builder

    def sets(self, progress: Callable[[int, int], None] = lambda done, total: None) -> Iterator[ImageSet]:
        """The image sets of the bag in time order; `progress` is called with messages done and in all."""
        sync = self.sync
        total = sum(self._bag.counts.get(topic, 0) for topic in (*self._image_of, *self._info_of))
        wanted = self._bag.messages(lambda topic: topic in self._image_of or topic in self._info_of, self._unreadable)
        clock = "the time at which they were recorded"
        times = ImageTimes(len(self._image_of), self._problems, clock, self._have_stamps())
        seen: dict[str, dict[int, None]] = defaultdict(dict)  # camera -> its stamps in the order in which they came
        for number, (topic, log_ns, message) in enumerate(wanted, start=1):
            progress(number, total)
            if topic in self._info_of:
                self.builder.add_camera_info(self._info_of[topic], message)
                continue
            camera = self._image_of[topic]
            self.images[camera] += 1
            stamp_ns = times.taken_ns(camera, stamp_to_ns(message.header.stamp), log_ns, log_ns)
            if stamp_ns is None:
                continue
            stamps = seen[camera]
            if stamp_ns in stamps and stamp_ns < next(reversed(stamps)) - sync.config.jump_ns:
                # The recording begins anew; a short one would look to the synchroniser like images that come twice.
                yield from sync.flush()
                sync.reset()
                seen.clear()
            seen[camera][stamp_ns] = None
            yield from sync.poll(log_ns)
            yield from sync.add(camera, stamp_ns, message, log_ns)
        yield from sync.flush()

    def observe(self, images: ImageSet, enough: Enough | None = None) -> Observation | None:
        """The observation of a set, see `ObservationBuilder.build`; None where too few of its cameras can be used."""
        try:
            return self.builder.build(images, enough)
        except NotReadyError as error:
            error.tell(self._problems)
            return None

    def _have_stamps(self) -> bool | None:
        """Whether the cameras have stamps, looked up ahead."""
        times = ImageTimes(len(self._image_of), Problems(), "")
        for topic, log_ns, message in self._bag.messages(lambda topic: topic in self._image_of, lambda *_: None):
            times.taken_ns(topic, stamp_to_ns(message.header.stamp), log_ns, log_ns)
            if times.stamped is not None:
                break
        return times.stamped

    def _unreadable(self, topic: str, reason: str) -> None:
        camera = self._image_of.get(topic) or self._info_of.get(topic) or ""
        self._problems.add("unreadable_message", camera, reason)
