"""The files that a data set's sensors left: pictures, and LiDAR sweeps as flat float32 or as feather."""

import numpy as np

from hdmap_core.datasets.protocol import SensorFrame
from hdmap_core.errors import DatasetError, os_errors_as
from hdmap_core.geometry import se3
from hdmap_core.images.decoding import Enough, decode_image, enough_of, reduction_for

POINT_FIELDS = 5
"""x, y, z, intensity, ring."""


def reduction_of(frame: SensorFrame, at_least: Enough | None) -> int:
    """The largest at which a camera frame's picture will do, see `reduction_for`; 1 if all of it is wanted."""
    if at_least is None:
        return 1
    assert frame.intrinsics is not None, "a camera's"
    return reduction_for(frame.image_size, enough_of(at_least, frame.image_size, float(frame.intrinsics[0][0])))


def read_image(frame: SensorFrame, reduction: int = 1, coarse: bool = False) -> np.ndarray:
    """A camera frame's picture, (H, W, 3) uint8 RGB, at 1/reduction of its size; see `decode_image`.

    Raises:
        DatasetError: if the file is missing or has another size than the data set says.
        ImageError: if it is damaged.
    """
    image = decode_image(read_file(frame), str(frame.path), reduction, coarse=coarse)
    sides = zip(image.shape, frame.image_size, strict=False)
    if any(abs(side * reduction - told) >= reduction for side, told in sides):  # JPEG rounds up, PNG rounds down
        raise DatasetError(
            f"{frame.path} has {image.shape[1] * reduction} x {image.shape[0] * reduction} pixels, {frame.named_by} "
            f"says {frame.image_size[1]} x {frame.image_size[0]}; the intrinsics would not fit"
        )
    return image


def read_points(frame: SensorFrame, ego_from_sensor: np.ndarray, beyond: float = 0.0) -> np.ndarray:
    """(P, 5) float32: x, y, z in metres (ego frame of the keyframe), intensity 0..255, ring; 0 what the file has not.

    What lies within `beyond` metres of the sensor along both x and y is left out.

    Raises:
        DatasetError: if the file is missing or cut off.
    """
    if frame.path.suffix == ".feather":
        from hdmap_core.datasets.argoverse.sweeps import read_sweep

        points = read_sweep(frame.path)
    else:
        points = _read_flat(frame)
    points = points[(np.abs(points[:, :2]) >= beyond).any(axis=1)]  # a copy
    points[:, :3] = se3.transform_points(ego_from_sensor, points[:, :3].astype(np.float64))
    return points


def _read_flat(frame: SensorFrame) -> np.ndarray:
    """(P, 5) float32 of a file that is nothing but that, as nuScenes'; sensor frame."""
    advice = "" if frame.is_key_frame else "; or ask for the keyframes' sweeps alone (sweeps = 1)"
    data = read_file(frame, advice)
    if len(data) % (4 * frame.point_columns):
        raise DatasetError(
            f"{frame.path} has {len(data)} bytes, which is no whole number of points of {frame.point_columns} float32; "
            "the file is truncated, copy it again"
        )
    stored = np.frombuffer(data, "<f4").reshape(-1, frame.point_columns)[:, :POINT_FIELDS]
    return np.pad(stored, ((0, 0), (0, POINT_FIELDS - stored.shape[1])))


def read_file(frame: SensorFrame, advice: str = "") -> bytes:
    """The bytes of a sensor's file; DatasetError if it cannot be read."""
    what = f"cannot read {frame.path}, which {frame.named_by} names"
    with os_errors_as(DatasetError, what, f"unpack the sensor files{advice}"):
        return frame.path.read_bytes()
