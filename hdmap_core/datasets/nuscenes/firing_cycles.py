"""Observations of any firing cycle of the cameras, not of keyframes alone."""

from collections.abc import Sequence

from hdmap_core.datasets.nuscenes.observations import CAMERAS
from hdmap_core.datasets.observing import observe
from hdmap_core.datasets.protocol import SensorFrame
from hdmap_core.geometry.road_plane import WINDOW_S
from hdmap_core.images.decoding import Enough
from hdmap_core.observation import Observation


def observe_cycle(frames: Sequence[SensorFrame], anchor: SensorFrame, at_least: Enough | None = None) -> Observation:
    """Each camera's image that is nearest in time, in the anchor's ego frame on the road, as in the node.

    Args:
        frames: camera frames of a scene, sweeps included, in the order of time.
        anchor: whose stamp and pose the observation has.
        at_least: what is enough, see `MapDataset.observation`.

    Raises:
        DatasetError, ImageError: if an image cannot be read.
    """
    nearest = [
        min((f for f in frames if f.channel == name), key=lambda frame: abs(frame.stamp_ns - anchor.stamp_ns))
        for name in CAMERAS
    ]
    since = anchor.stamp_ns - WINDOW_S * 1e9
    recent = [f for f in frames if f.channel == anchor.channel and since <= f.stamp_ns <= anchor.stamp_ns]
    return observe(
        str(anchor.stamp_ns),
        anchor.stamp_ns,
        anchor.map_from_ego,
        nearest,
        at_least=at_least,
        coarse=at_least is not None,
        recent=([frame.map_from_ego for frame in recent], [frame.stamp_ns for frame in recent]),
    )
