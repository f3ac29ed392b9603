"""Bags as recordings that `hdmap predict` looks at, through the synchroniser and the builder of the node."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from hdmap_core.errors import BagError, ConfigError
from hdmap_core.observation import Observation
from hdmap_core.recordings.recording import Recording, Wanted
from hdmap_ros.bag.layouts import fitting_layouts, load_layout
from hdmap_ros.bag.mcap import open_bag
from hdmap_ros.bag.sources import BagSources, ReplayConfig
from hdmap_ros.bag.storage import is_bag
from hdmap_ros.bag.sweeps import see_ground_by_lidar
from hdmap_ros.observing.calibration import read_calibration_file
from hdmap_ros.problems import Problems, problem_lines


def open_bag_recording(inputs: Sequence[str], wanted: Wanted) -> Recording | None:
    """The recording in a bag; None where the input is none. See `hdmap_core.recordings.opening`.

    Raises:
        BagError: if it cannot be read, lacks a topic, or yields no observation.
        ConfigError: if the model looks at more than cameras, or no topic layout fits.
    """
    path = Path(inputs[0])
    if len(inputs) > 1 or not path.exists() or not is_bag(path):
        return None
    if wanted.sweeps or wanted.sd_map:
        raise ConfigError("the model looks at LiDAR or an SD map, but a bag is read for its cameras alone")
    calibrations = None if wanted.rig is None else read_calibration_file(wanted.rig)
    config = ReplayConfig(
        load_layout(wanted.topics or fitting_layout(path)), wanted.min_cameras, calibrations=calibrations
    )
    problems = Problems()
    return Recording(
        path.name,
        _observations(path, config, wanted, problems),
        wanted.whole_drive is not False,
        1 if wanted.whole_drive is False else None,
        problems=lambda: problem_lines(problems.report()),
    )


def fitting_layout(path: Path) -> str:
    """The layout of config/topics that names most of a bag's images.

    Raises:
        BagError: if the bag cannot be read.
        ConfigError: if none does.
    """
    with open_bag(path) as bag:
        fitting = fitting_layouts(set(bag.topics))
    if not fitting:
        raise ConfigError(f"{path}: none of config/topics names its images; give a layout with --topics layout.yaml")
    return fitting[0][0]


def _observations(path: Path, config: ReplayConfig, wanted: Wanted, problems: Problems) -> Iterator[Observation]:
    found, one = 0, wanted.whole_drive is False
    with open_bag(path) as bag:
        sources = BagSources(bag, config, problems)
        if wanted.lidar_ground:
            see_ground_by_lidar(sources.builder, bag, config, problems)
        for images in sources.sets():
            if one and wanted.sample not in (None, str(images.stamp_ns)):
                continue
            if (observation := sources.observe(images, wanted.at_least)) is None:
                continue
            found += 1
            yield observation
            if one:
                return
    if not found:
        why = "; ".join(problem_lines(problems.report())) or f"no image set {wanted.sample or ''} is complete"
        raise BagError(f"{path}: nothing to predict ({why})")
