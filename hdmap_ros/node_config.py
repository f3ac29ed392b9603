"""The node's parameters: one frozen dataclass that declares, validates and documents itself."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from hdmap_core.elements import MapClass
from hdmap_core.errors import ConfigError
from hdmap_ros.bag.layouts import PROJECTIONS, CameraTopics

NUSCENES_CAMERAS = (
    "CAM_FRONT",
    "CAM_FRONT_RIGHT",
    "CAM_BACK_RIGHT",
    "CAM_BACK",
    "CAM_BACK_LEFT",
    "CAM_FRONT_LEFT",
)


def _parameter(
    name: str,
    default: Any,
    description: str,
    *,
    limits: tuple[float, float] | None = None,
    choices: tuple[str, ...] = (),
    live: bool = False,
    is_path: bool = False,
) -> Any:
    metadata = {"name": name, "description": description, "limits": limits, "choices": choices, "live": live}
    return field(default=default, metadata=metadata | {"is_path": is_path})


@dataclass(frozen=True)
class OnlineMapConfig:
    """Every parameter of the node but those per camera; see `ParameterSpec` for what the metadata mean."""

    autostart: bool = _parameter(
        "autostart", True, "configure and activate at start; false: a lifecycle manager does it"
    )
    executor: str = _parameter(
        "executor",
        "events",
        "events: rclpy's events executor, where it has one, at half the cost; classic: the older one",
        choices=("events", "classic"),
    )
    weights: str = _parameter(
        "model.weights",
        "",
        "checkpoint (.safetensors) or exported file (.onnx, .xml, .pt2, .engine); empty: the student that is shipped",
        is_path=True,
    )
    engine: str = _parameter(
        "model.engine",
        "auto",
        "auto: by the file's suffix; beside a checkpoint, the file that hdmap export made of it",
        choices=(
            *("auto", "eager", "compile", "cuda-graph", "onnxruntime", "onnxruntime-tensorrt", "openvino", "aoti"),
            "tensorrt",
        ),
    )
    device: str = _parameter("model.device", "auto", "auto, cpu, cuda or cuda:N")
    precision: str = _parameter(
        "model.precision", "auto", "auto: the checkpoint's way on this device", choices=("auto", "fp32", "fp16", "bf16")
    )
    warmup_iterations: int = _parameter("model.warmup_iterations", 2, "runs before the first image", limits=(0, 50))
    threads: int = _parameter(
        "model.threads", 0, "CPU threads of the network; 0: PyTorch's choice, but a core is left", limits=(0, 256)
    )
    camera_names: tuple[str, ...] = _parameter(
        "camera_names", NUSCENES_CAMERAS, "the rig's cameras, in the mask's order"
    )
    image_transport: str = _parameter(
        "image_transport", "compressed", "CompressedImage or Image", choices=("compressed", "raw")
    )
    qos_reliability: str = _parameter(
        "input_qos.reliability",
        "auto",
        "auto: reliable where every publisher of the topic is",
        choices=("auto", "best_effort", "reliable"),
    )
    qos_depth: int = _parameter("input_qos.depth", 2, "images kept per camera until they are taken", limits=(1, 10))
    sync_policy: str = _parameter(
        "sync.policy",
        "cycle",
        "cycle: by the cameras' phases; the others are message_filters' and need that package",
        choices=("cycle", "approximate", "exact"),
    )
    sync_anchor: str = _parameter(
        "sync.anchor", "", "camera whose stamp the map carries; empty: CAM_FRONT, else the first"
    )
    sync_min_cameras: int = _parameter(
        "sync.min_cameras", 0, "drop sets with fewer images; 0: all cameras", limits=(0, 64)
    )
    sync_max_spread: float = _parameter(
        "sync.max_spread",
        0.06,
        "seconds from the anchor within which a camera's phase is looked for",
        limits=(0.001, 1.0),
    )
    sync_timeout: float = _parameter(
        "sync.timeout",
        0.075,
        "seconds after a set's latest image until it is closed without the rest",
        limits=(0.0, 1.0),
    )
    max_set_age: float = _parameter(
        "sync.max_age",
        0.5,
        "drop a set that waited longer for the worker, seconds; 0: never",
        limits=(0.0, 10.0),
        live=True,
    )
    calibration_source: str = _parameter(
        "calibration.source",
        "topic",
        "topic: CameraInfo; file: calibration.file; topic_then_file: the file until a CameraInfo comes",
        choices=("topic", "file", "topic_then_file"),
    )
    calibration_file: str = _parameter(
        "calibration.file", "", "YAML with intrinsics and, if wanted, poses per camera", is_path=True
    )
    projection: str = _parameter(
        "calibration.projection",
        "auto",
        "images as the lens made them (k: CameraInfo's K and D) or rectified (p: P and R); auto: by topic name and D",
        choices=("auto", "k", "p"),
    )
    base_frame: str = _parameter("tf.base_frame", "base_link", "the car's frame (REP-103), in which the model works")
    fixed_frame: str = _parameter("tf.fixed_frame", "odom", "does not move between two exposures")
    motion_compensation: str = _parameter(
        "tf.motion_compensation", "auto", "auto: when the fixed frame is known", choices=("auto", "on", "off")
    )
    road_plane: bool = _parameter(
        "tf.road_plane", True, "take off what pitch and roll did within the last seconds, so that z = 0 is the road"
    )
    lidar_topic: str = _parameter(
        "lidar.topic",
        "",
        "PointCloud2 whose sweeps show the ground's shape, on hills too; empty: the poses tell what they can",
    )
    tf_timeout: float = _parameter(
        "tf.timeout",
        0.05,
        "seconds the worker waits for a transform; five times as long for motion that is on its way",
        limits=(0.0, 1.0),
    )
    output_frame: str = _parameter("output_frame", "base_link", "frame of the published map", live=True)
    score_threshold: float = _parameter(
        "score_threshold",
        0.0,
        "elements below are not published; the model's own threshold comes first",
        limits=(0.0, 1.0),
        live=True,
    )
    max_elements: int = _parameter("max_elements", 100, "the best ones are kept", limits=(1, 500), live=True)
    max_rate: float = _parameter(
        "max_rate", 0.0, "maps per second at most; 0: as fast as it goes", limits=(0.0, 1000.0), live=True
    )
    lazy: bool = _parameter("lazy", True, "do not compute while nobody listens", live=True)
    local_map_enabled: bool = _parameter(
        "local_map.enabled", True, "fuse successive maps to one that grows, where the pose in tf.fixed_frame is known"
    )
    local_map_reach: float = _parameter(
        "local_map.reach",
        100.0,
        "metres from the car beyond which the fused map is forgotten",
        limits=(20.0, 2000.0),
    )
    local_map_period: float = _parameter(
        "local_map.period", 1.0, "seconds between two fused maps", limits=(0.0, 60.0), live=True
    )
    markers_enabled: bool = _parameter(
        "markers.enabled", True, "publish lines for RViz when somebody listens", live=True
    )
    markers_min_score: float = _parameter(
        "markers.min_score", 0.3, "elements below are not drawn", limits=(0.0, 1.0), live=True
    )
    markers_line_width: float = _parameter("markers.line_width", 0.15, "metres", limits=(0.01, 5.0), live=True)
    markers_lifetime: float = _parameter(
        "markers.lifetime",
        2.0,
        "seconds after which lines vanish by themselves; 0: never",
        limits=(0.0, 60.0),
        live=True,
    )
    markers_alpha: float = _parameter(
        "markers.alpha", 0.9, "opacity of a line of score 1", limits=(0.05, 1.0), live=True
    )
    markers_labels: bool = _parameter("markers.labels", False, "write label and score beside each line", live=True)
    mask_classes: tuple[str, ...] = _parameter(
        "mask.classes",
        tuple(label.value for label in MapClass),
        "the classes that are cells of `~/output/mask`",
        choices=tuple(label.value for label in MapClass),
        live=True,
    )
    diagnostics_period: float = _parameter("diagnostics.period", 1.0, "seconds", limits=(0.1, 60.0))
    max_latency_ms: float = _parameter(
        "diagnostics.max_latency_ms", 150.0, "WARN above", limits=(1.0, 60000.0), live=True
    )
    stale_after: float = _parameter(
        "diagnostics.stale_after", 1.0, "a camera silent for longer is stale, seconds", limits=(0.1, 60.0), live=True
    )
    time_jump_reset: float = _parameter(
        "time_jump_reset", 0.5, "stamps going back by more reset the node, seconds", limits=(0.01, 3600.0)
    )
    max_failures: int = _parameter(
        "max_failures", 3, "failed sets in a row after which the node deactivates", limits=(1, 1000)
    )
    report_file: str = _parameter(
        "report_file", "", "JSON with counts and latencies, written when the node deactivates", is_path=True
    )


@dataclass(frozen=True)
class ParameterSpec:
    """One parameter as a node declares it.

    Attributes:
        attribute: field of OnlineMapConfig.
        name: of the ROS parameter.
        default: its type is the parameter's.
        limits: smallest and largest value, inclusive.
        choices: allowed strings; empty: any.
        live: may be set while the node runs.
        is_path: a leading `~` means the home folder.
    """

    attribute: str
    name: str
    default: Any
    description: str
    limits: tuple[float, float] | None
    choices: tuple[str, ...]
    live: bool
    is_path: bool

    @property
    def kind(self) -> str:
        """bool, integer, double, string or string[]."""
        names = {bool: "bool", int: "integer", float: "double", str: "string", tuple: "string[]"}
        return names[type(self.default)]

    def check(self, value: Any) -> Any:
        """The value in the field's type.

        Raises:
            ConfigError: naming parameter, limits or choices.
        """
        if isinstance(self.default, tuple):
            value = tuple(value)
            if not value or not all(isinstance(item, str) and item for item in value):
                raise ConfigError(f"parameter {self.name}: expected a list of names, got {list(value)}")
        elif isinstance(self.default, float) and type(value) is int:
            value = float(value)
        if type(value) is not type(self.default):
            raise ConfigError(f"parameter {self.name}: expected a {self.kind}, got {value!r}")
        if self.limits and not self.limits[0] <= value <= self.limits[1]:
            raise ConfigError(f"parameter {self.name}: {value} lies outside {self.limits[0]}..{self.limits[1]}")
        for item in value if isinstance(value, tuple) else (value,):
            if self.choices and item not in self.choices:
                raise ConfigError(f"parameter {self.name}: {item!r} is none of {', '.join(self.choices)}")
        # Not Path's: that raises for a user it does not know and makes a dot of nothing.
        return os.path.expanduser(value) if self.is_path else value  # noqa: PTH111


PARAMETERS: tuple[ParameterSpec, ...] = tuple(
    ParameterSpec(attribute=entry.name, default=entry.default, **entry.metadata) for entry in fields(OnlineMapConfig)
)

CAMERA_PARAMETERS = {
    "image_topic": "image topic; empty: `<name>/image_raw`, in lower case, with `/compressed` for that transport",
    "info_topic": "CameraInfo topic; empty: `camera_info` beside the image topic",
    "frame_id": "its optical frame, where the messages name a wrong one",
    "projection": "auto, k or p for this camera; empty: as `calibration.projection`",
}
"""Per camera, as `cameras.<name>.<key>`, all strings, default empty."""


def default_image_topic(camera: str, transport: str) -> str:
    """The image topic of a camera for which none is set."""
    return f"{camera.lower()}/image_raw" + ("/compressed" if transport == "compressed" else "")


def sibling_info_topic(image_topic: str) -> str:
    """The CameraInfo topic beside an image topic: image_transport's rule, `/compressed` put aside."""
    stem = image_topic.removesuffix("/compressed")
    return f"{stem.rpartition('/')[0]}/camera_info" if "/" in stem else "camera_info"


def check_projection(name: str, value: Any) -> None:
    """Raises ConfigError where the parameter of this name, a camera's own projection, has an unknown value."""
    if value not in PROJECTIONS:
        raise ConfigError(f"parameter {name}: {value!r} is none of auto, k, p")


def camera_topics(camera: str, values: Mapping[str, Any], config: OnlineMapConfig) -> CameraTopics:
    """Topics, frame and projection of a camera from its own parameters (ROS names), with the defaults filled in."""
    image, info, frame, projection = (values[f"cameras.{camera}.{key}"] for key in CAMERA_PARAMETERS)
    check_projection(f"cameras.{camera}.projection", projection)
    image = image or default_image_topic(camera, config.image_transport)
    info = info or sibling_info_topic(image)
    return CameraTopics(image, "" if config.calibration_source == "file" else info, frame, projection)


def config_from_values(values: Mapping[str, Any]) -> OnlineMapConfig:
    """The config with these parameters (ROS names); the others at their defaults.

    Raises:
        ConfigError: for an unknown name or a value out of range.
    """
    specs = {spec.name: spec for spec in PARAMETERS}
    unknown = [name for name in values if name not in specs]
    if unknown:
        raise ConfigError(f"unknown parameter {unknown[0]!r}; known are {', '.join(specs)}")
    return OnlineMapConfig(**{specs[name].attribute: specs[name].check(value) for name, value in values.items()})


def parameter_table() -> str:
    """The parameters as a Markdown table; docs/ros.md holds it and a test compares the two."""
    lines = ["| parameter | type | default | allowed | live | meaning |", "|---|---|---|---|---|---|"]
    for spec in PARAMETERS:
        allowed = ", ".join(spec.choices) if spec.choices else ""
        if spec.limits:
            allowed = f"{spec.limits[0]:g}..{spec.limits[1]:g}"
        default = ", ".join(spec.default) if isinstance(spec.default, tuple) else json.dumps(spec.default)
        live = "yes" if spec.live else "no"
        lines.append(f"| `{spec.name}` | {spec.kind} | {default} | {allowed} | {live} | {spec.description} |")
    for key, description in CAMERA_PARAMETERS.items():
        lines.append(f'| `cameras.<name>.{key}` | string | "" |  | no | {description} |')
    return "\n".join(lines)


def parameter_file() -> str:
    """config/online_map.yaml: every parameter at its default, with its meaning as a comment."""
    lines = [
        "# Parameters of the online map node at their defaults. Written from hdmap_ros/node_config.py, which see.",
        "/**:",
    ]
    lines.append("  ros__parameters:")
    for spec in PARAMETERS:
        value = json.dumps(list(spec.default) if isinstance(spec.default, tuple) else spec.default)
        comment = f"# {spec.description}" + (f" ({', '.join(spec.choices)})" if spec.choices else "")
        # An empty string here would override a value given before the file on the command line.
        prefix = "# " if spec.default == "" else ""
        lines += [f"    {comment}", f"    {prefix}{spec.name}: {value}"]
    return "\n".join(lines) + "\n"
