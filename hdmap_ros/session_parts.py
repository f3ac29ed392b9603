"""The parts of a session, made from the node's parameters; replay and benchmarks make theirs here too."""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor

from hdmap_ros.bag.layouts import CameraTopics
from hdmap_ros.node_config import OnlineMapConfig
from hdmap_ros.observing.calibration import read_calibration_file
from hdmap_ros.observing.observation_builder import BuilderConfig, ObservationBuilder
from hdmap_ros.observing.transforms import TransformBuffer
from hdmap_ros.pipeline import Predictor
from hdmap_ros.problems import REMINDER_S, Problems
from hdmap_ros.sync.image_sets import SyncConfig

_PREFERRED_ANCHOR = "CAM_FRONT"


def load_model(config: OnlineMapConfig) -> Predictor:
    """The predictor that the parameters name.

    Raises:
        CheckpointError: if there is no such checkpoint or it is not ours.
    """
    import torch

    from hdmap_core.checkpoint import find_checkpoint
    from hdmap_core.inference import default_weights, load_predictor

    torch.set_num_threads(config.threads or network_threads(torch.get_num_threads()))
    path = find_checkpoint(config.weights) if config.weights else default_weights()
    precision = None if config.precision == "auto" else config.precision
    return load_predictor(path, config.device, precision, engine=config.engine, cameras_only=True)


def network_threads(preferred: int) -> int:
    """Threads of the network when nobody chose: what PyTorch prefers, but one core is left to prepare the next set."""
    return max(1, min(preferred, len(os.sched_getaffinity(0)) - 1))


def camera_pool(cameras: int) -> Executor:
    """Threads that share the cameras of a set: one per core, on which OpenCV then starts none of its own."""
    import cv2

    cv2.setNumThreads(1)
    return ThreadPoolExecutor(min(cameras, len(os.sched_getaffinity(0))), thread_name_prefix="cameras")


def sync_config_of(config: OnlineMapConfig) -> SyncConfig:
    """The synchroniser's settings from the node's parameters."""
    cameras = config.camera_names
    return SyncConfig(
        cameras,
        choose_anchor(config.sync_anchor, cameras),
        config.sync_min_cameras or len(cameras),
        max_spread_ns=round(config.sync_max_spread * 1e9),
        timeout_ns=round(config.sync_timeout * 1e9),
        jump_ns=round(config.time_jump_reset * 1e9),
    )


def choose_anchor(wanted: str, cameras: tuple[str, ...]) -> str:
    """The camera whose stamp a map carries: the wanted one, else CAM_FRONT, else the first."""
    return wanted or (_PREFERRED_ANCHOR if _PREFERRED_ANCHOR in cameras else cameras[0])


def make_builder(
    config: OnlineMapConfig,
    topics: Mapping[str, CameraTopics],
    transforms: TransformBuffer,
    pool: Executor,
    warn: Callable[[str], None],
) -> ObservationBuilder:
    """The observation builder from the node's parameters.

    Raises:
        CalibrationError: if a calibration file is wanted and cannot be read.
    """
    from_file = config.calibration_source != "topic"
    calibrations = read_calibration_file(config.calibration_file) if from_file else {}
    problems = Problems(warn, REMINDER_S)
    return ObservationBuilder(
        config.camera_names, builder_config_of(config, topics), transforms, calibrations, pool, problems
    )


def builder_config_of(config: OnlineMapConfig, topics: Mapping[str, CameraTopics]) -> BuilderConfig:
    """The observation builder's settings from the node's parameters and what is set per camera."""
    return BuilderConfig(
        base_frame=config.base_frame,
        fixed_frame="" if config.motion_compensation == "off" else config.fixed_frame,
        motion_required=config.motion_compensation == "on",
        projection=config.projection,
        projections={camera: entry.projection for camera, entry in topics.items() if entry.projection},
        image_topics={camera: entry.image for camera, entry in topics.items()},
        frame_ids={camera: entry.frame for camera, entry in topics.items() if entry.frame},
        road_plane=config.road_plane,
        tf_timeout_s=config.tf_timeout,
        min_cameras=config.sync_min_cameras or len(config.camera_names),
    )
