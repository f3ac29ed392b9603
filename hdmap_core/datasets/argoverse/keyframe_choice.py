"""Which LiDAR sweeps of a log are keyframes.

A keyframe is a LiDAR sweep whose cameras all have a picture near it, within half of their own period, as in av2-api
(25 ms at 20 Hz) and so in MapTRv2 and P-MapNet; its instant is the sweep's stamp. Of the sweeps, 10 per second, so many
are taken as `version` says:

    2hz     as many as nuScenes has; what is read when nothing is said
    2.5hz   every fourth: what MapTRv2 and MapQR are tested on
    10hz    all: what they are trained on
"""

import logging
import re
from pathlib import Path

import numpy as np

from hdmap_core.datasets.argoverse.logs import Log
from hdmap_core.errors import DatasetError

_log = logging.getLogger(__name__)
RATE = "2hz"
_RATE = re.compile(r"(\d{1,3}(?:\.\d{1,3})?)hz")
_LONE_IMAGE_NS = 250_000_000  # half of a period that a single picture does not tell


def rate_of(version: str, root: Path) -> float:
    """Keyframes per second of a version.

    Args:
        version: `<number>hz`.
        root: of the data set, for messages.

    Raises:
        DatasetError: if it is no rate.
    """
    rate = _RATE.fullmatch(version)
    if rate is None or float(rate[1]) == 0:
        raise DatasetError(
            f"{root} holds Argoverse 2 logs, of which a version is how many keyframes per second: 2hz, 2.5hz, 10hz; "
            f"{version!r} is none"
        )
    return float(rate[1])


def chosen_sweeps(log: Log, rate_hz: float) -> list[int]:
    """Stamps, ascending: of the sweeps that all cameras have a picture of, so many per second.

    A log without any picture still has keyframes: their truth, poses and points can be read. One without LiDAR has
    those of the camera ahead (20 Hz).
    """
    stamps = np.array(log.instants, dtype=np.int64)
    period_s = float(np.median(np.diff(stamps))) * 1e-9 if len(stamps) > 1 else 1.0
    for images in log.image_stamps.values() if log.has_images else ():
        stamps = stamps[_has_near(images, stamps)]
    if log.instants and not len(stamps):
        counts = ", ".join(f"{name} {len(images)}" for name, images in log.image_stamps.items())
        _log.warning("%s has no instant that every camera has a picture near (pictures: %s)", log.folder, counts)
    chosen: list[int] = stamps[:: max(1, round(1.0 / (rate_hz * period_s)))].tolist()
    return chosen


def _has_near(images: np.ndarray, sweeps: np.ndarray) -> np.ndarray:
    """(N,) bool: which sweeps have a picture within half a period of the camera."""
    if not len(images):
        return np.zeros(len(sweeps), dtype=bool)
    reach = np.median(np.diff(images)) / 2 if len(images) > 1 else _LONE_IMAGE_NS
    after = np.searchsorted(images, sweeps)
    before = images[(after - 1).clip(0)], images[after.clip(max=len(images) - 1)]
    near: np.ndarray = np.min([np.abs(picture - sweeps) for picture in before], axis=0) <= reach
    return near
