"""Object boxes of a scene: instance and sample_annotation rows for what stands or moves near the ego vehicle."""

from dataclasses import dataclass

import numpy as np
import shapely

from hdmap_core.datasets.synthetic.formats.tables import Row, Rows, token_of
from hdmap_core.datasets.synthetic.sensors.cameras import mover_poses
from hdmap_core.datasets.synthetic.things.scenery import box_outlines, rectangles
from hdmap_core.datasets.synthetic.town import Town
from hdmap_core.geometry.se3 import quaternion_from_rotation, rotation_from_euler

REACH_M = 55.0
_CATEGORY = {
    "car": "vehicle.car",
    "truck": "vehicle.truck",
    "bus": "vehicle.bus.rigid",
    "person": "human.pedestrian.adult",
    "barrier": "movable_object.barrier",
    "van": "vehicle.car",
    "motorcycle": "vehicle.motorcycle",
    "bicycle": "vehicle.bicycle",
    "water_barrier": "movable_object.barrier",
    "cone": "movable_object.trafficcone",
}


@dataclass(frozen=True)
class Objects:
    """All objects of a town at one time. `centres` (N, 2), `yaws` (N,), `sizes` (N, 3) length, width, height."""

    kinds: tuple[str, ...]
    attributes: tuple[str, ...]
    centres: np.ndarray
    yaws: np.ndarray
    sizes: np.ndarray


def objects_at(town: Town, time_s: float) -> Objects:
    """Everything that gets a box; the order is the same at all times."""
    boxes = [box for box in town.boxes if box.kind in _CATEGORY]
    centres, yaws = mover_poses(town.movers, time_s)
    standing = {"person": "pedestrian.standing", "barrier": "", "water_barrier": "", "cone": ""}
    return Objects(
        tuple(box.kind for box in boxes) + tuple(mover.kind for mover in town.movers),
        tuple(standing.get(box.kind, "vehicle.parked") for box in boxes)
        + tuple("vehicle.moving" if mover.speed > 0 else "vehicle.stopped" for mover in town.movers),
        np.concatenate([np.array([box.centre for box in boxes]).reshape(-1, 2), centres]),
        np.concatenate([np.array([box.yaw for box in boxes]), yaws]),
        np.array([box.size for box in boxes] + [mover.size for mover in town.movers]).reshape(-1, 3),
    )


def points_in_boxes(objects: Objects, points: np.ndarray) -> np.ndarray:
    """(N,) how many of the points (P, 3), x and y in the town frame and z above the ground, lie in each box."""
    near = points[points[:, 2] > 0.15]
    tree = shapely.STRtree(shapely.points(near[:, :2]))
    counts = np.zeros(len(objects.kinds), dtype=np.int64)
    for k, outline in enumerate(rectangles(objects.centres, objects.yaws, objects.sizes)):
        found = tree.query(outline, predicate="intersects")
        counts[k] = int(np.sum(near[found, 2] <= objects.sizes[k, 2] + 0.1))
    return counts


def visible_share(town: Town, objects: Objects, eye: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """(len(chosen),) share of nine points of each object that no building hides from `eye` (2,), in plan."""
    buildings = [box for box in town.boxes if box.kind == "building"]
    near = [box for box in buildings if np.hypot(*(np.array(box.centre) - eye)) < REACH_M + 25]
    walls = shapely.union_all(box_outlines(near))
    shapely.prepare(walls)
    grid = np.stack(np.meshgrid([-0.45, 0, 0.45], [-0.45, 0, 0.45]), axis=-1).reshape(-1, 2)
    shares = []
    for k in chosen:
        cos, sin = np.cos(objects.yaws[k]), np.sin(objects.yaws[k])
        spots = (grid * objects.sizes[k, :2]) @ np.array([[cos, sin], [-sin, cos]]) + objects.centres[k]
        sights = shapely.linestrings(np.stack([np.broadcast_to(eye, spots.shape), spots], axis=1))
        shares.append(float(np.mean(~shapely.intersects(walls, sights))))
    return np.array(shares)


def annotate(
    rows: Rows,
    town: Town,
    origin: np.ndarray,
    scene: str,
    samples: list[str],
    times_s: list[float],
    eyes: np.ndarray,
    counts: dict[int, list[int]],
) -> None:
    """Append the boxes of one scene.

    Args:
        rows: the tables to append to.
        town: with the movers of this scene.
        origin: (2,) of the town in the map frame.
        scene: token that instance tokens derive from.
        samples: token of each keyframe.
        times_s: town time of each keyframe.
        eyes: (K, 2) ego positions, town frame.
        counts: keyframe → LiDAR points in each object; absent keyframes count none.
    """
    instances: dict[int, list[Row]] = {}
    for key, (sample, time_s) in enumerate(zip(samples, times_s, strict=True)):
        objects = objects_at(town, time_s)
        heights = town.relief.height(objects.centres)
        near = np.flatnonzero(np.hypot(*(objects.centres - eyes[key]).T) < REACH_M)
        for k, share in zip(near.tolist(), visible_share(town, objects, eyes[key], near), strict=True):
            if share == 0.0:
                continue
            length, width, height = objects.sizes[k].tolist()
            attribute = objects.attributes[k]
            row = {
                "token": token_of(scene, "annotation", key, k),
                "sample_token": sample,
                "instance_token": token_of(scene, "instance", k),
                "visibility_token": str(int(np.searchsorted([0.4, 0.6, 0.8], share, side="left")) + 1),
                "attribute_tokens": [token_of("attribute", attribute)] if attribute else [],
                "translation": [*(objects.centres[k] + origin).tolist(), float(heights[k]) + height / 2],
                "size": [width, length, height],
                "rotation": quaternion_from_rotation(rotation_from_euler(0.0, 0.0, float(objects.yaws[k]))).tolist(),
                "prev": "",
                "next": "",
                "num_lidar_pts": counts[key][k] if key in counts else 0,
                "num_radar_pts": 0,
            }
            track = instances.setdefault(k, [])
            if track:
                track[-1]["next"], row["prev"] = row["token"], track[-1]["token"]
            track.append(row)
            rows["sample_annotation"].append(row)
    kinds = objects_at(town, 0.0).kinds
    for k, track in instances.items():
        rows["instance"].append(
            {"token": track[0]["instance_token"], "category_token": token_of("category", _CATEGORY[kinds[k]]),
             "nbr_annotations": len(track), "first_annotation_token": track[0]["token"],
             "last_annotation_token": track[-1]["token"]}
        )  # fmt: skip
