"""PointCloud2 of the layouts that drivers write, and of none."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hdmap_core.errors import BagError
from hdmap_ros.observing.point_clouds import points_of

CODES = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}
RNG = np.random.default_rng(0)
LAYOUTS = {
    "velodyne": [("x", "f4", 0), ("y", "f4", 4), ("z", "f4", 8), ("intensity", "f4", 12), ("ring", "u2", 16),
                 ("time", "f4", 18)],
    "ouster": [("x", "f4", 0), ("y", "f4", 4), ("z", "f4", 8), ("intensity", "f4", 16), ("t", "u4", 20),
               ("reflectivity", "u2", 24), ("ring", "u1", 26), ("range", "u4", 32)],
    "livox": [("x", "f4", 0), ("y", "f4", 4), ("z", "f4", 8), ("reflectivity", "u1", 12), ("line", "u1", 14),
              ("timestamp", "f8", 16)],
    "doubles in another order": [("z", "f8", 0), ("y", "f8", 8), ("x", "f8", 16), ("i", "u4", 24)],
    "coordinates alone": [("x", "f4", 0), ("y", "f4", 4), ("z", "f4", 8)],
}  # fmt: skip


def cloud(
    fields: list[tuple[str, str, int]],
    values: dict[str, np.ndarray],
    shape: tuple[int, int] = (1, 12),
    big: bool = False,
    gap: int = 0,
) -> Any:
    """A message of these fields, with so many bytes behind each point's and row's last."""
    step = max(offset + np.dtype(kind).itemsize for _, kind, offset in fields) + 2
    names, kinds, offsets = zip(*fields, strict=True)
    dtype = np.dtype(
        {
            "names": names,
            "formats": [(">" if big else "<") + kind for kind in kinds],
            "offsets": offsets,
            "itemsize": step,
        }
    )
    points = np.zeros(shape[0] * shape[1], dtype)
    for name in names:
        points[name] = values.get(name, 7)
    rows = [row.tobytes() + b"\xff" * gap for row in points.reshape(shape)]
    return SimpleNamespace(
        fields=[SimpleNamespace(name=n, datatype=CODES[k], offset=o, count=1) for n, k, o in fields],
        height=shape[0], width=shape[1], point_step=step, row_step=step * shape[1] + gap, is_bigendian=big,
        data=b"".join(rows), is_dense=False,
    )  # fmt: skip


def some_points(count: int = 12) -> dict[str, np.ndarray]:
    values = {name: RNG.uniform(-80, 80, count) for name in "xyz"}
    strength, rings = RNG.integers(0, 255, count), RNG.integers(0, 31, count)
    return values | dict.fromkeys(("intensity", "i", "reflectivity"), strength) | dict.fromkeys(("ring", "line"), rings)


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize(("shape", "big", "gap"), [((1, 12), False, 0), ((3, 4), False, 5), ((12, 1), True, 0)])
def test_layouts_of_drivers(name: str, shape: tuple[int, int], big: bool, gap: int) -> None:
    fields, values = LAYOUTS[name], some_points()
    points = points_of(cloud(fields, values, shape, big, gap))
    assert points.shape == (12, 5) and points.dtype == np.float32
    has = {field for field, _, _ in fields}
    for column, names in enumerate((("x",), ("y",), ("z",), ("intensity", "i", "reflectivity"), ("ring", "line"))):
        told = next((values[each] for each in names if each in has), np.zeros(12))
        np.testing.assert_array_equal(points[:, column], np.asarray(told, np.float32))


def test_points_that_are_none_are_left_out() -> None:
    values = some_points()
    values["x"][1], values["z"][2], values["y"][3] = np.nan, np.inf, -np.inf
    for axis in "xyz":
        values[axis][4] = 0.0
    values["intensity"] = values["intensity"].astype(float)
    values["intensity"][0] = np.nan
    points = points_of(cloud(LAYOUTS["velodyne"], values, (3, 4), gap=3))
    kept = [0, *range(5, 12)]
    np.testing.assert_array_equal(points[:, 0], np.float32(values["x"][kept]))
    assert points[0, 3] == 0.0 and np.isfinite(points).all()
    empty = points_of(cloud(LAYOUTS["velodyne"], {}, (1, 0)))
    assert empty.shape == (0, 5)


def test_a_row_step_of_zero_of_a_cloud_in_one_row() -> None:
    """Some drivers leave it out."""
    message = cloud(LAYOUTS["velodyne"], some_points())
    message.row_step = 0
    assert len(points_of(message)) == 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fields": []}, "a cloud without x, y, z; it has no fields"),
        ({"data": b"12"}, "1 x 12 points of 24 bytes holds 2 bytes; it is cut off"),
        ({"height": 2, "row_step": 10}, "2 x 12 points of 24 bytes holds 288 bytes"),
        ({"point_step": 6, "width": 12}, "field 'y' lies at bytes 4 to 8 of 6 of a point"),
        ({"point_step": 0}, "field 'x' lies at bytes 0 to 4 of 0"),
    ],
)
def test_what_is_no_cloud_is_one_line(change: dict[str, Any], message: str) -> None:
    broken = cloud(LAYOUTS["velodyne"], some_points())
    for name, value in change.items():
        setattr(broken, name, value)
    with pytest.raises(BagError, match=message) as told:
        points_of(broken)
    assert "\n" not in str(told.value)
    broken = cloud(LAYOUTS["velodyne"], some_points())
    broken.fields[1].datatype = 9
    with pytest.raises(BagError, match="field 'y' has the datatype 9, which is none"):
        points_of(broken)
