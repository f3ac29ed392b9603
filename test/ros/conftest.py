"""A rig of six small cameras on a moving car: messages with true stamps, poses and pixels."""

import functools
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import BEVGrid
from hdmap_core.geometry.se3 import quaternion_from_rotation, rotation_from_euler, se3
from hdmap_core.observation import Observation
from hdmap_ros.message_types import MessageTypes, bag_types

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_FRONT_LEFT")
# Firing order is clockwise from front left, offsets of nuScenes in nanoseconds.
PHASES_NS = {
    "CAM_FRONT_LEFT": 0,
    "CAM_FRONT": 7_600_000,
    "CAM_FRONT_RIGHT": 15_500_000,
    "CAM_BACK_RIGHT": 23_100_000,
    "CAM_BACK": 32_700_000,
    "CAM_BACK_LEFT": 42_600_000,
}
YAWS = dict(zip(CAMERAS, np.deg2rad([0, -55, -110, 180, 110, 55]), strict=True))
SPEED = 10.0
START_NS = 1_700_000_000_000_000_000
HEIGHT, WIDTH = 90, 160
OPTICAL = rotation_from_euler(-np.pi / 2, 0.0, -np.pi / 2)


def ticks(number: int) -> list[int]:
    """Times of nuScenes-like cycles: 12 of 20 ticks of a 50 ms clock, so gaps of 50 and 100 ms."""
    return [START_NS + (index * 5 // 3) * 50_000_000 for index in range(number)]


def base_from_camera(camera: str) -> np.ndarray:
    yaw = YAWS[camera]
    return se3(rotation_from_euler(0, 0, yaw) @ OPTICAL, [1.5 * np.cos(yaw), 0.5 * np.sin(yaw), 1.5])


def odom_from_base(stamp_ns: int) -> np.ndarray:
    """A car that drives straight along x at 10 m/s."""
    return se3(np.eye(3), [SPEED * (stamp_ns - START_NS) * 1e-9, 0.0, 0.0])


@functools.cache
def jpeg(value: int) -> bytes:
    ok, data = cv2.imencode(".jpg", np.full((HEIGHT, WIDTH, 3), value, np.uint8))
    assert ok
    return data.tobytes()


@dataclass(frozen=True)
class RigMessages:
    """Messages of the rig in one kind of classes; images are compressed, or raw ones."""

    types: MessageTypes
    raw: bool = False

    def image(self, camera: str, stamp_ns: int, data: bytes | None = None) -> Any:
        if self.raw:
            return self.raw_image(camera, stamp_ns)
        payload = jpeg(40 * CAMERAS.index(camera) + 20) if data is None else data
        return self.types.get("sensor_msgs/msg/CompressedImage")(
            header=self.types.header(stamp_ns, camera.lower()), format="jpeg", data=self.types.octets(payload)
        )

    def raw_image(
        self, camera: str, stamp_ns: int, encoding: str = "rgb8", pixels: np.ndarray | None = None, **fields: Any
    ) -> Any:
        """An Image of (rows, row bytes) uint8 pixels, by default grey as the camera's."""
        if pixels is None:
            pixels = np.full((HEIGHT, 3 * WIDTH), 40 * CAMERAS.index(camera) + 20, np.uint8)
        size = {"height": HEIGHT, "width": WIDTH, "step": pixels.shape[1], "is_bigendian": 0}
        return self.types.get("sensor_msgs/msg/Image")(
            header=self.types.header(stamp_ns, camera.lower()),
            encoding=encoding,
            data=self.types.octets(pixels.tobytes()),
            **(size | fields),
        )

    def info(self, camera: str, stamp_ns: int, focal: float = 120.0) -> Any:
        k = [focal, 0.0, 79.5, 0.0, focal, 44.5, 0.0, 0.0, 1.0]
        p = [focal, 0.0, 79.5, 0.0, 0.0, focal, 44.5, 0.0, 0.0, 0.0, 1.0, 0.0]
        roi = self.types.get("sensor_msgs/msg/RegionOfInterest")(
            x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
        )
        return self.types.get("sensor_msgs/msg/CameraInfo")(
            header=self.types.header(stamp_ns, camera.lower()),
            height=HEIGHT,
            width=WIDTH,
            distortion_model="plumb_bob",
            d=np.zeros(5),
            k=np.array(k),
            r=np.eye(3).ravel(),
            p=np.array(p),
            binning_x=0,
            binning_y=0,
            roi=roi,
        )

    def transform(self, parent: str, child: str, stamp_ns: int, pose: np.ndarray) -> Any:
        w, x, y, z = (float(value) for value in quaternion_from_rotation(pose[:3, :3]))
        translation = dict(zip("xyz", map(float, pose[:3, 3]), strict=True))
        return self.types.get("geometry_msgs/msg/TransformStamped")(
            header=self.types.header(stamp_ns, parent),
            child_frame_id=child,
            transform=self.types.get("geometry_msgs/msg/Transform")(
                translation=self.types.get("geometry_msgs/msg/Vector3")(**translation),
                rotation=self.types.get("geometry_msgs/msg/Quaternion")(w=w, x=x, y=y, z=z),
            ),
        )

    def tf_static(self) -> Any:
        poses = [self.transform("base_link", name.lower(), 0, base_from_camera(name)) for name in CAMERAS]
        return self.types.get("tf2_msgs/msg/TFMessage")(transforms=poses)

    def tf(self, stamp_ns: int) -> Any:
        pose = self.transform("odom", "base_link", stamp_ns, odom_from_base(stamp_ns))
        return self.types.get("tf2_msgs/msg/TFMessage")(transforms=[pose])


@dataclass(frozen=True)
class RigInfo:
    model_name: str = "rig_lines"
    model_id: str = "rig_lines-00000000"
    weights_sha256: str = "0" * 64
    dataset: str = "none"
    classes: tuple[MapClass, ...] = (MapClass.DIVIDER, MapClass.PED_CROSSING)
    camera_names: tuple[str, ...] = ()
    image_size: tuple[int, int] | None = None
    points_per_element: int = 2
    grid: BEVGrid = field(default_factory=BEVGrid)
    precision: str = "fp32"
    engine: str = "eager"
    engine_why: str = "a stand-in"
    device: str = "cpu"
    score_threshold: float = 0.0
    enough_pixels: tuple[int, int] | None = None


class RigLines:
    """A predictor that reads its answer off the observation.

    One line along each camera's axis, 10 m long, whose score is the image's brightness, and one square crossing.

    Attributes:
        begun: it has begun with a set, perhaps held by `release`, which a test may clear.
    """

    info = RigInfo()

    def __init__(self) -> None:
        self.seen: list[Observation] = []
        self.delay_s = 0.0
        self.fail = False
        self.begun, self.release = threading.Event(), threading.Event()
        self.release.set()

    def prepare(self, observation: Observation, pool: Executor | None = None) -> Observation:
        return observation

    def complete(self, observation: Observation) -> Any:
        if observation.token != "warm-up":
            self.seen.append(observation)
            time.sleep(self.delay_s)
            self.begun.set()
            assert self.release.wait(60)
            if self.fail:
                raise RuntimeError("no prediction today")
        elements = []
        for image, pose in zip(observation.images, observation.rig.ego_from_camera.numpy(), strict=True):
            if image is not None:
                ends = np.stack([pose[:2, 3], pose[:2, 3] + 10 * pose[:2, 2]])
                elements.append(MapElement(MapClass.DIVIDER, ends, score=float(image.mean()) / 255))
        square = np.array([[5, -2], [8, -2], [8, 2], [5, 2]], np.float32)
        elements.append(MapElement(MapClass.PED_CROSSING, square, closed=True, score=0.9))
        elements.sort(key=lambda element: (element.label is not MapClass.DIVIDER, -element.score))
        return RigPrediction(elements, {"preprocess": 0.1, "network": 0.2, "postprocess": 0.1})


@dataclass(frozen=True)
class RigPrediction:
    elements: list[MapElement]
    timings_ms: dict[str, float]
    not_finite: int = 0


@pytest.fixture
def predictor() -> RigLines:
    return RigLines()


@pytest.fixture(scope="session")
def bag_rig() -> RigMessages:
    return RigMessages(bag_types()[0])


@pytest.fixture(scope="session")
def rig_module() -> Any:
    """The names of this file, for tests."""
    return sys.modules[__name__]


@pytest.fixture(scope="session")
def simulator(load_module: Callable[[Path], ModuleType]) -> ModuleType:
    """The module `rig_simulator.py` beside this file."""
    return load_module(Path(__file__).with_name("rig_simulator.py"))


class Topic:
    """A publisher with so many listeners."""

    def __init__(self, listeners: int) -> None:
        self.listeners = listeners
        self.sent: list[Any] = []

    def get_subscription_count(self) -> int:
        return self.listeners

    def publish(self, message: Any) -> None:
        self.sent.append(message)


@pytest.fixture(scope="session")
def topic() -> type[Topic]:
    return Topic


@pytest.fixture(scope="session")
def sd_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model that looks at an SD map, which no bag has."""
    from hdmap_core.checkpoint import CheckpointConfig, save_checkpoint
    from hdmap_core.models import build_model

    small = {"channels": 8, "heads": 2, "layers": 1, "sd_channels": (4, 8)}
    unet = {"kind": "unet", "channels": (8, 8), "blocks": (1, 1), "out_channels": 8}
    decoder = {"num_queries": 4, "num_points": 4, "channels": 8, "layers": 1, "attention_heads": 2}
    grid = BEVGrid((-6.0, 6.0), (-3.0, 3.0), 0.5)
    slots = {"sd_prior": small, "bev_encoder": unet, "vectors": {"kind": "scatter_gather", **decoder}}
    config = CheckpointConfig.model_validate({"model": {"name": "small", "grid": grid, **slots}})
    path = tmp_path_factory.mktemp("weights") / "sd.safetensors"
    save_checkpoint(path, build_model(config.model), config, {})
    return path


@pytest.fixture(scope="session")
def make_graph(load_module: Callable[[Path], ModuleType], rig_module: Any) -> Callable[..., Any]:
    """Makes a `Graph` of `rig_graph.py` around this rig; whoever does closes it."""
    pytest.importorskip("rclpy", reason="the ROS graph needs rclpy; run make setup")
    return functools.partial(load_module(Path(__file__).with_name("rig_graph.py")).Graph, rig_module)


@pytest.fixture
def make_builder(load_module: Callable[[Path], ModuleType], rig_module: Any, bag_rig: Any) -> Callable[..., Any]:
    """Makes a `Setup` of `builder_setup.py`: an observation builder with this configuration."""
    return functools.partial(load_module(Path(__file__).with_name("builder_setup.py")).Setup, rig_module, bag_rig)


@pytest.fixture(scope="session")
def faults(load_module: Callable[[Path], ModuleType]) -> ModuleType:
    """`fault_injection.py`: faults, the traffic that they happen to, and a network that fails."""
    return load_module(Path(__file__).with_name("fault_injection.py"))


@pytest.fixture
def start_process() -> Iterator[Callable[..., "subprocess.Popen[Any]"]]:
    """Starts programs as `subprocess.Popen` does; what still runs at the end of the test is killed."""
    started: list[subprocess.Popen[Any]] = []

    def start(*command: str, **places: Any) -> "subprocess.Popen[Any]":
        started.append(subprocess.Popen(command, **places))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def graph(make_graph: Callable[..., Any]) -> Iterator[Any]:
    made = make_graph()
    yield made
    made.close()


@pytest.fixture
def start_node(graph: Any, predictor: RigLines) -> Callable[..., Any]:
    """Makes an online map node with these parameters, active unless `activate` is false."""
    return functools.partial(graph.start_node, predictor)
