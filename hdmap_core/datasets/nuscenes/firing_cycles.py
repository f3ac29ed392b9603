"""Observations of any firing cycle of the cameras, not of keyframes alone."""

from collections.abc import Sequence

from hdmap_core.datasets.protocol import SensorFrame
from hdmap_core.datasets.sensor_files import read_image, reduction_of
from hdmap_core.geometry import CameraRig, se3
from hdmap_core.geometry.road_plane import WINDOW_S
from hdmap_core.images.decoding import Enough
from hdmap_core.observation import Observation
from hdmap_core.observation.road_plane import on_the_road


def observe_cycle(
    frames: Sequence[SensorFrame],
    cameras: Sequence[str],
    anchor: SensorFrame,
    at_least: Enough | None = None,
) -> Observation:
    """The image of each camera that is nearest in time, in the anchor's ego frame on the road, as in the node.

    Args:
        frames: camera frames of a scene, sweeps included, in the order of time.
        cameras: channels, in the order of the rig.
        anchor: whose stamp and pose the observation has.
        at_least: what is enough, see `MapDataset.observation`.

    Raises:
        DatasetError, ImageError: if an image cannot be read.
    """
    nearest = [
        min((f for f in frames if f.channel == name), key=lambda frame: abs(frame.stamp_ns - anchor.stamp_ns))
        for name in cameras
    ]
    reductions = [reduction_of(frame, at_least) for frame in nearest]
    ego_from_map = se3.inverse(anchor.map_from_ego)
    rig = CameraRig.from_arrays(
        tuple(cameras),
        [frame.intrinsics for frame in nearest if frame.intrinsics is not None],
        [ego_from_map @ frame.map_from_ego @ frame.ego_from_sensor for frame in nearest],
        [frame.image_size for frame in nearest],
        [frame.lens for frame in nearest],
        [frame.ego_from_sensor for frame in nearest],
    )
    sizes = zip(rig.image_sizes, reductions, strict=True)
    rig = rig.resized([(height // n, width // n) for (height, width), n in sizes])
    images = tuple(read_image(frame, n, coarse=n > 1) for frame, n in zip(nearest, reductions, strict=True))
    since = anchor.stamp_ns - WINDOW_S * 1e9
    recent = [f for f in frames if f.channel == anchor.channel and since <= f.stamp_ns <= anchor.stamp_ns]
    return on_the_road(
        Observation(images, rig, anchor.stamp_ns, str(anchor.stamp_ns), map_from_ego=anchor.map_from_ego),
        [frame.map_from_ego for frame in recent],
        [frame.stamp_ns for frame in recent],
    )
