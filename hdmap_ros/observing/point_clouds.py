"""PointCloud2 messages, of whatever layout, as points."""

from typing import Any

import numpy as np

from hdmap_core.errors import BagError

KIND = "sensor_msgs/msg/PointCloud2"
_FORMATS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}  # PointField's constants
_COLUMNS = (("x",), ("y",), ("z",), ("intensity", "i", "reflectivity", "reflectance"), ("ring", "line", "channel"))
_NEEDED = 3


def points_of(cloud: Any) -> np.ndarray:
    """(P, 5) float32: x, y, z in metres, in the cloud's frame; the driver's intensity; ring; 0 what the cloud has not.

    Points with a coordinate that is not finite are left out, and those at the sensor itself, as which some drivers give
    beams that came back from nowhere.

    Args:
        cloud: PointCloud2 of any class: in rows or not, of fields of any numbers in any order.

    Raises:
        BagError: if it has no x, y and z, or is cut off.
    """
    fields = {field.name: field for field in cloud.fields}
    found = [next((name for name in names if name in fields), None) for names in _COLUMNS]
    lacking = [names[0] for names, name in zip(_COLUMNS[:_NEEDED], found, strict=False) if name is None]
    if lacking:
        raise BagError(f"a cloud without {', '.join(lacking)}; it has {', '.join(fields) or 'no fields'}")
    step, width, height = int(cloud.point_step), int(cloud.width), int(cloud.height)
    row = int(cloud.row_step) if height > 1 else step * width
    data = np.frombuffer(bytes(cloud.data), np.uint8)
    if row < step * width or len(data) < row * height:
        raise BagError(f"a cloud of {height} x {width} points of {step} bytes holds {len(data)} bytes; it is cut off")
    rows = data[: row * height].reshape(height, row)[:, : step * width].reshape(height * width, step)
    points = np.zeros((height * width, len(_COLUMNS)), np.float32)
    for column, name in enumerate(found):
        if name is not None:
            points[:, column] = _column(rows, fields[name], bool(cloud.is_bigendian), step)
    points[:, _NEEDED:] = np.nan_to_num(points[:, _NEEDED:], posinf=0.0, neginf=0.0)
    is_there = np.isfinite(points[:, :_NEEDED]).all(axis=1) & points[:, :_NEEDED].any(axis=1)
    return points[is_there]


def _column(rows: np.ndarray, field: Any, big_endian: bool, step: int) -> np.ndarray:
    """(P,) the numbers of a field in (P, step) bytes."""
    form = _FORMATS.get(int(field.datatype))
    if form is None:
        raise BagError(f"a cloud whose field {field.name!r} has the datatype {field.datatype}, which is none")
    kind = np.dtype((">" if big_endian else "<") + form)
    begin, end = int(field.offset), int(field.offset) + kind.itemsize
    if not 0 <= begin < end <= step:
        raise BagError(f"a cloud whose field {field.name!r} lies at bytes {begin} to {end} of {step} of a point")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(rows[:, begin:end]).view(kind)[:, 0].astype(np.float32)
