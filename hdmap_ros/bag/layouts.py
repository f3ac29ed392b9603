"""How a converter or a car calls its topics and frames: small YAML files in config/topics."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hdmap_core.errors import ConfigError
from hdmap_core.files.shipped import package_folder
from hdmap_core.files.yaml_files import read_yaml

PROJECTIONS = ("", "auto", "k", "p")


@dataclass(frozen=True)
class CameraTopics:
    """Topics of one camera.

    Attributes:
        image: topic.
        info: topic; empty where there is no CameraInfo.
        frame: its optical frame.
        projection: `k` or `p`, see `calibration_from_info`; empty: as all cameras.
    """

    image: str
    info: str
    frame: str
    projection: str = ""


@dataclass(frozen=True)
class TopicLayout:
    """Names in one kind of bag.

    Attributes:
        name: of the file.
        transport: `compressed` (sensor_msgs/CompressedImage) or `raw` (sensor_msgs/Image).
        cameras: camera name -> topics, in the rig's order.
        lidar: topic, and frame of clouds that name none; empty strings where there is none.
        tf_topics: transforms; those called tf_static are static.
        fixed_frame: does not move between exposures.
        base_frame: the car's frame.
    """

    name: str
    transport: str
    cameras: dict[str, CameraTopics]
    lidar: tuple[str, str]
    tf_topics: tuple[str, ...]
    fixed_frame: str
    base_frame: str


def image_type(transport: str) -> str:
    """The type of the images' messages of a transport, compressed or raw."""
    return f"sensor_msgs/msg/{'CompressedImage' if transport == 'compressed' else 'Image'}"


def load_layout(name: str | Path) -> TopicLayout:
    """A layout of config/topics by name, or from a YAML file by path.

    Raises:
        ConfigError: for an unknown name (listing those that exist), a missing or ill-typed field.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        folder = layout_folder()
        path = folder / f"{name}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(entry.stem for entry in folder.glob("*.yaml")))
            raise ConfigError(
                f"no topic layout {name!r} in {folder}; there are {known}; or give the path of a .yaml file"
            )
    try:
        content: Any = read_yaml(path)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the topic layout {path}: {error}") from None
    try:
        lidar = content.get("lidar") or {"points": ""}
        layout = TopicLayout(
            path.stem,
            content["transport"],
            {
                str(camera): CameraTopics(each["image"], each["info"], each["frame"], each.get("projection", ""))
                for camera, each in content["cameras"].items()
            },
            (lidar["points"], lidar.get("frame", "")),
            tuple(content["tf"]["topics"]),
            content["tf"]["fixed_frame"],
            content["tf"]["base_frame"],
        )
    except KeyError as error:
        raise ConfigError(f"{path}: the field {error} is missing; see config/topics/hdmap.yaml") from None
    except (TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: not a topic layout ({error}); see config/topics/hdmap.yaml") from None
    if layout.transport not in ("compressed", "raw"):
        raise ConfigError(f"{path}: field 'transport' must be compressed or raw, got {layout.transport!r}")
    for camera, topics in layout.cameras.items():
        if topics.projection not in PROJECTIONS:
            raise ConfigError(f"{path}: projection of camera {camera} must be auto, k or p, got {topics.projection!r}")
    if not layout.cameras:
        raise ConfigError(f"{path}: field 'cameras' names no camera")
    return layout


def layout_folder() -> Path:
    """config/topics of the checkout or of the installed ROS package.

    Raises:
        ConfigError: if it is nowhere.
    """
    folder = package_folder("config/topics")
    if folder is None:
        raise ConfigError("config/topics is not found; run from a checkout, source its install, or give a .yaml file")
    return folder


def fitting_layouts(topics: set[str]) -> list[tuple[str, int]]:
    """Layouts that name images of the bag, those with most cameras first, with their numbers of cameras."""
    try:
        names = [file.stem for file in layout_folder().glob("*.yaml")]
    except ConfigError:  # a bag is a bag without them
        return []
    layouts = [load_layout(name) for name in sorted(names)]
    counts = [(each.name, sum(camera.image in topics for camera in each.cameras.values())) for each in layouts]
    return sorted(((name, count) for name, count in counts if count), key=lambda item: -item[1])
