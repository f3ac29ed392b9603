"""A small town made by hand: one crossroads in the middle of 160 x 160 m, for tests of what draws and measures it."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
from shapely import MultiPolygon, box, union_all

from hdmap_core.datasets.synthetic.town import (
    Appearance,
    Box,
    Crossing,
    Lane,
    Marking,
    Mover,
    RoadSegment,
    Town,
)

SIZE = 160.0
MIDDLE = 80.0
HALF_ROAD = 7.0

APPEARANCE = Appearance(
    seed=3,
    sun_azimuth=0.9,
    sun_elevation=0.75,
    sun_strength=0.8,
    exposure=1.0,
    haze_per_m=0.002,
    sky=(0.45, 0.62, 0.86),
    asphalt=(0.105, 0.105, 0.11),
    walkway=(0.34, 0.33, 0.31),
    terrain=(0.10, 0.15, 0.05),
    kerb=(0.46, 0.45, 0.43),
    paint_wear=0.25,
)


def line(*points: tuple[float, float]) -> np.ndarray:
    """Polyline through `points` with a vertex every metre or so: (P, 2)."""
    parts = []
    for a, b in pairwise(points):
        steps = max(int(np.hypot(b[0] - a[0], b[1] - a[1])), 1)
        parts.append(np.linspace(a, b, steps, endpoint=False))
    return np.concatenate([*parts, [points[-1]]]).astype(np.float64)


def make_crossroads(
    appearance: Appearance = APPEARANCE, boxes: tuple[Box, ...] = (), movers: tuple[Mover, ...] = ()
) -> Town:
    """Two four-lane roads that meet at (80, 80), a zebra on the east arm, dashed and double solid lines, walkways."""
    m, h = MIDDLE, HALF_ROAD
    east_west, north_south = box(0, m - h, SIZE, m + h), box(m - h, 0, m + h, SIZE)
    corner = box(m - h - 4, m - h - 4, m + h + 4, m + h + 4).buffer(0)
    drivable = union_all([east_west, north_south, corner])
    pavement = drivable.buffer(3.0, join_style="mitre").intersection(box(0, 0, SIZE, SIZE)).difference(drivable)
    arms = ((0.0, m - 16), (m + 16, SIZE))
    markings, lanes, stop_lines = [], [], []
    for start, end in arms:
        markings.append(Marking(line((start, m), (end, m)), "road_divider", "double_solid", "yellow"))
        markings.append(Marking(line((m, start), (m, end)), "road_divider", "solid", "yellow"))
        for side in (-3.5, 3.5):
            markings.append(Marking(line((start, m + side), (end, m + side)), "lane_divider", "dashed", "white"))
            markings.append(Marking(line((m + side, start), (m + side, end)), "lane_divider", "dashed", "white"))
        for side in (-5.25, -1.75, 1.75, 5.25):
            lane = line((start, m + side), (end, m + side))[:: 1 if side < 0 else -1]
            lanes.append(Lane(box(start, m + side - 1.75, end, m + side + 1.75), lane, False))
    stop_lines.append(np.array([[m - 15.4, m - h], [m - 15.0, m - h], [m - 15.0, m], [m - 15.4, m]]))
    zebra = Crossing(np.array([[m + 11, m - h], [m + 14, m - h], [m + 14, m + h], [m + 11, m + h]]), "zebra")
    lines = Crossing(np.array([[m - 14, m - h], [m - 11, m - h], [m - 11, m + h], [m - 14, m + h]]), "lines")
    return Town(
        seed=3,
        size=(SIZE, SIZE),
        drivable=MultiPolygon([drivable]),
        road_segments=(RoadSegment(drivable, True),),
        lanes=tuple(lanes),
        markings=tuple(markings),
        crossings=(zebra, lines),
        stop_lines=tuple(stop_lines),
        walkways=tuple(g for g in pavement.geoms) if hasattr(pavement, "geoms") else (pavement,),
        boxes=boxes,
        movers=movers,
        routes=(line((2.0, m - 1.75), (SIZE - 2.0, m - 1.75)),),
        streets=(),
        appearance=appearance,
    )


def make_furnished(appearance: Appearance = APPEARANCE) -> Town:
    """The crossroads with houses, parked and moving cars, trees, poles, people and a barrier."""
    rng = np.random.default_rng(7)
    boxes: list[Box] = []
    for x in range(8, 156, 22):
        for y, yaw in ((57.0, 0.0), (103.0, np.pi), (30.0, 0.0), (130.0, 0.0)):
            if abs(x - MIDDLE) < 19:
                continue
            grey = rng.uniform(0.2, 0.55)
            tint = tuple(float(c) for c in np.clip(grey + rng.normal(0.0, 0.06, 3), 0.05, 0.8))
            size = (18.0, 14.0, float(rng.uniform(7.0, 24.0)))
            boxes.append(Box((float(x), y), yaw, size, tint, "building"))
    palette = ((0.6, 0.6, 0.62), (0.05, 0.05, 0.06), (0.45, 0.03, 0.03), (0.05, 0.12, 0.4), (0.8, 0.8, 0.8))
    for i, x in enumerate(range(12, 150, 9)):
        if abs(x - MIDDLE) < 19:
            continue
        boxes.append(Box((float(x), 74.1 - 0.3), 0.0, (4.5, 1.85, 1.5), palette[i % 5], "car"))
        boxes.append(Box((x + 4.0, 71.2), 0.3 * i, (3.5, 3.5, 6.5), (0.06, 0.14, 0.03), "tree"))
        boxes.append(Box((x + 1.0, 89.0), 0.3 * i, (4.0, 4.0, 7.5), (0.08, 0.15, 0.03), "tree"))
        boxes.append(Box((x + 7.0, 88.0), 0.0, (0.16, 0.16, 7.5), (0.25, 0.25, 0.25), "pole"))
        boxes.append(Box((x + 2.5, 88.6), 1.0, (0.5, 0.5, 1.75), palette[(i + 2) % 5], "person"))
    boxes.append(Box((140.0, 84.0), 0.0, (7.5, 2.4, 3.1), (0.75, 0.75, 0.72), "truck"))
    boxes.append(Box((100.0, 71.8), 0.0, (3.0, 0.3, 1.0), (0.7, 0.25, 0.05), "barrier"))
    m = MIDDLE
    movers = (
        Mover(line((2, m - 1.75), (158, m - 1.75)), 52.0, 8.0, (4.6, 1.9, 1.5), (0.3, 0.05, 0.05)),
        Mover(line((158, m + 1.75), (2, m + 1.75)), 60.0, 9.0, (11.0, 2.5, 3.2), (0.6, 0.35, 0.05), "bus"),
        Mover(line((158, m + 5.25), (2, m + 5.25)), 90.0, 7.0, (4.3, 1.8, 1.5), (0.7, 0.7, 0.72)),
    )
    return make_crossroads(appearance, tuple(boxes), movers)


@pytest.fixture(scope="session")
def crossroads_town():
    """Function (appearance, boxes, movers) -> Town."""
    return make_crossroads


def paint_off_by(image: np.ndarray, corners: np.ndarray) -> float | None:
    """By how many pixels (of u or v) the middle of a bright spot lies off that of its projected corners (4, 2).

    None if the spot is not wholly in the image (H, W, 3).
    """
    low, high = np.floor(corners.min(axis=0)).astype(int) - 6, np.ceil(corners.max(axis=0)).astype(int) + 7
    if low.min() < 0 or high[0] > image.shape[1] or high[1] > image.shape[0]:
        return None
    window = image[low[1] : high[1], low[0] : high[0]].astype(int).min(axis=2)
    border = np.concatenate([window[0], window[-1], window[:, 0], window[:, -1]])
    weight = np.where(window > border.mean() + 15, window - border.mean(), 0.0)
    rows, columns = np.indices(weight.shape)
    found = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum() + low
    shape = cv2.moments(corners.astype(np.float32))
    return float(np.abs(found - np.array([shape["m10"], shape["m01"]]) / shape["m00"]).max())


@pytest.fixture(scope="session")
def spot_offset():
    """Function (image, projected corners) -> pixels, or None."""
    return paint_off_by


@pytest.fixture(scope="session")
def furnished_town() -> Town:
    return make_furnished()
