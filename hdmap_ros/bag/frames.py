"""A bag as a frames folder: image sets as the node would see them, bytes kept, with calibration, poses and LiDAR."""

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from hdmap_core.datasets.frames.recording import FramesRecorder
from hdmap_core.errors import BagError
from hdmap_core.geometry import CameraRig
from hdmap_ros.bag.mcap import open_bag
from hdmap_ros.bag.sources import BagSources, ReplayConfig
from hdmap_ros.bag.sweeps import BagSweeps
from hdmap_ros.observing.images import colour_file
from hdmap_ros.problems import Problems, problem_lines


def write_frames_of_bag(
    path: Path,
    recorder: FramesRecorder,
    config: ReplayConfig,
    problems: Problems,
    progress: Callable[[int, int], None] = lambda done, total: None,
    lidar: bool = True,
) -> int:
    """Writes the image sets of a bag; the anchor camera's stamp is the frame's, as in the node.

    Of the LiDAR that the layout names comes the sweep that is nearest in time, within its period.

    Args:
        path: the bag.
        recorder: gets the frames, and is finished.
        config: as for a replay.
        problems: gets what is wrong with topics, calibration and images.
        progress: called with messages done and in all.
        lidar: write LiDAR as well, where there is any.

    Returns:
        How many frames have LiDAR.

    Raises:
        BagError: if the bag cannot be read, lacks a topic, or yields no frame.
        OutputError: if a file cannot be written.
    """
    swept = 0
    with open_bag(path, config.recover) as bag:
        tilted = replace(config.parameters, road_plane=False)  # whoever reads the frames turns them
        sources = BagSources(bag, replace(config, parameters=tilted), problems)
        sweeps = BagSweeps(bag, config, sources.builder.transforms, problems) if lidar else None
        for number, images in enumerate(sources.sets(progress)):
            if number % config.every or (observation := sources.observe(images)) is None:
                continue
            files = {name: file for name, message in images.messages.items() if (file := _file(message)) is not None}
            sweep = None if sweeps is None else sweeps.near(observation.stamp_ns)
            swept += sweep is not None
            recorder.add(replace(observation, rig=_as_stored(observation.rig, files)), files, sweep)
    if not len(recorder):
        why = "; ".join(problem_lines(problems.report())) or "no set of images is complete"
        raise BagError(f"{path}: no frame could be made ({why})")
    recorder.finish()
    return swept


def _file(message: Any) -> bytes | None:
    """A JPEG or PNG in colour that can be kept as it is."""
    data = colour_file(message)
    return data if data is not None and _size(data) is not None else None


def _as_stored(rig: CameraRig, files: dict[str, bytes]) -> CameraRig:
    """The rig for files of their own sizes: the builder scales pictures of different sizes to one."""
    stored = {name: size for name, data in files.items() if (size := _size(data)) is not None}
    scaled = zip(rig.names, rig.image_sizes, strict=True)
    return rig.resized([stored.get(name, size) for name, size in scaled])


def _size(data: bytes) -> tuple[int, int] | None:
    """(H, W) of a JPEG or PNG by its header; None of another file."""
    try:
        with Image.open(BytesIO(data), formats=("JPEG", "PNG")) as image:
            return image.height, image.width
    except (UnidentifiedImageError, OSError, ValueError):
        return None
