"""What drives through a hilly town record: poses on the road, LiDAR on the ground, boxes that stand on it."""

from dataclasses import replace

import numpy as np
import pytest
from shapely import Point

from hdmap_core.datasets.synthetic.curve import left_normals, resample
from hdmap_core.datasets.synthetic.drive import WHEELBASE_M, Springs, draw_springs, plan_drive, road_below
from hdmap_core.datasets.synthetic.ground.relief import Relief
from hdmap_core.datasets.synthetic.ground.relief_rays import relief_ranges
from hdmap_core.datasets.synthetic.ground.terrain import raised_mask
from hdmap_core.datasets.synthetic.presets import PRESETS, plan_towns
from hdmap_core.datasets.synthetic.render_town import SceneWork, TownWork, describe
from hdmap_core.datasets.synthetic.sensors.cameras import TownRenderer
from hdmap_core.datasets.synthetic.sensors.lidar import TownLidar
from hdmap_core.geometry.se3 import rotation_from_quaternion

CONFIG = PRESETS["tiny"].model_copy(update={"edition": 2})


@pytest.fixture(scope="module")
def work() -> TownWork:
    return TownWork(CONFIG, plan_towns(CONFIG)[0])


@pytest.fixture(scope="module")
def scene(work: TownWork) -> SceneWork:
    return work.scene(0)


def test_the_ego_frame_lies_on_the_road_at_the_rear_axle(work: TownWork) -> None:
    relief = work.town.relief
    drive = plan_drive(np.random.default_rng(1), work.town.routes[0], 10.0, relief=relief)
    for time_s in (0.0, 3.3, 7.1):
        pose = drive.town_from_ego(time_s)
        assert pose[2, 3] == pytest.approx(relief.smooth(pose[:2, 3]), abs=0.03)
        assert np.allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
        yaw, roll, pitch = (np.interp(time_s, drive.times, v) for v in (drive.heading, drive.roll, drive.pitch))
        road = road_below(relief, pose[:2, 3], float(yaw))
        # The wheels stand on the ground: to within what a plane can do.
        wheels = np.array([[x, y, 0.0, 1.0] for x in (0.0, WHEELBASE_M) for y in (-0.8, 0.8)]) @ road.T
        assert np.abs(wheels[:, 2] - relief.smooth(wheels[:, :2])).max() < 0.02
        body = road[:3, :3].T @ pose[:3, :3]
        assert np.arctan2(body[2, 1], body[2, 2]) == pytest.approx(roll, abs=1e-6)
        assert -np.arcsin(body[2, 0]) == pytest.approx(pitch, abs=1e-6)
        assert np.arctan2(pose[1, 0], pose[0, 0]) == pytest.approx(np.arctan2(np.sin(yaw), np.cos(yaw)), abs=2e-3)


def test_the_road_climbs_where_the_car_is_going_up() -> None:
    x, y = np.meshgrid(np.linspace(0, 100, 51), np.linspace(0, 100, 51))
    zero = np.zeros((51, 51), np.float32)
    relief = Relief((100.0, 100.0), (0.06 * x + 0.02 * y).astype(np.float32), zero, np.zeros((100, 100), np.uint8))
    road = road_below(relief, np.array([50.0, 50.0]), 0.0)
    assert road[2, 0] == pytest.approx(np.sin(np.arctan(0.06)), abs=1e-4)
    assert road[2, 1] > 0.0199
    back = road_below(relief, np.array([50.0, 50.0]), np.pi)
    assert back[2, 0] == pytest.approx(-road[2, 0], abs=1e-4)
    assert road[:3, 2] == pytest.approx(normals(relief, np.array([50.0, 50.0])), abs=1e-4)


def test_bodies_lean_out_of_bends_and_dive_when_braking() -> None:
    angle = np.linspace(0.0, 3 * np.pi, 1500)
    ring = 60.0 + 30.0 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    stiff = plan_drive(np.random.default_rng(3), ring, 10.0)
    soft = plan_drive(np.random.default_rng(3), ring, 10.0, springs=Springs(0.002, 0.005))
    assert np.array_equal(stiff.distance, soft.distance)
    # A left bend: the left side comes up, which is positive roll.
    assert np.mean(soft.roll - stiff.roll) > 0.003
    acceleration = np.gradient(np.gradient(soft.distance, 0.02), 0.02)
    assert np.corrcoef(acceleration, soft.pitch - stiff.pitch)[0, 1] < -0.9
    springs = [draw_springs(np.random.default_rng(seed)) for seed in range(20)]
    assert all(0 < s.squat < 0.003 and 0 < s.lean < 0.0065 for s in springs)


def normals(relief: Relief, places: np.ndarray) -> np.ndarray:
    """Unit normals (..., 3) of the ground at (..., 2), without kerbs."""
    slope = relief.slope(places)
    up = np.concatenate([-slope, np.ones((*slope.shape[:-1], 1))], axis=-1)
    return up / np.linalg.norm(up, axis=-1, keepdims=True)


def test_lidar_points_lie_on_the_relief(scene: SceneWork) -> None:
    town, rig = scene.town, scene.shots.rig
    sweep = TownLidar(town).cast_sweep(scene.town_from_ego, rig.ego_from_lidar, 2.0, 3)
    pose = scene.town_from_ego(2.0) @ rig.ego_from_lidar
    returned = np.linalg.norm(sweep[:, :3], axis=1) > 2.0
    points = sweep[returned, :3].astype(np.float64) @ pose[:3, :3].T + pose[:3, 3]
    above = points[:, 2] - town.relief.height(points[:, :2])
    ground = np.abs(above) < 0.06
    assert ground.mean() > 0.5
    # Range noise of 1.5 cm along flat rays, and nothing below the ground but kerbs' faces.
    assert np.abs(np.median(above[ground])) < 0.003 and above[ground].std() < 0.015
    under = points[above < -0.06]
    on_face = [town.drivable.boundary.distance(Point(p)) < 0.25 for p in under[:, :2]]
    assert np.mean(on_face) > 0.9 if len(under) else True
    assert len(under) < 0.02 * len(points)


def test_rays_meet_the_first_ground_and_kerbs_faces(crossroads_town) -> None:
    town = crossroads_town()
    x, _ = np.meshgrid(np.linspace(0, 160, 321), np.linspace(0, 160, 321))
    base = (3.0 * np.exp(-(((x - 95.0) / 6.0) ** 2))).astype(np.float32)
    relief = Relief(town.size, base, np.full_like(base, 0.15), raised_mask(town))
    origins = np.array([[60.0, 80.0, 2.0], [40.0, 80.0, 2.0]])
    down = np.array([ray_to(0.0, -0.02), ray_to(0.0, 0.03), ray_to(0.0, 0.5)])
    aside = np.array([ray_to(np.pi / 2, -(2.0 - 0.075) / 7.0), ray_to(np.pi / 2, -2.0 / 5.0), ray_to(np.pi / 2, -0.2)])
    ranges = relief_ranges(relief, origins, np.stack([down, aside]), 100.0)
    hits = origins[:, None] + np.stack([down, aside]) * np.where(np.isfinite(ranges), ranges, 0.0)[..., None]
    # The near side of the ridge, not the valley behind it; over it there is nothing.
    assert 85.0 < hits[0, 0, 0] < 95.0 and hits[0, 0, 2] == pytest.approx(relief.smooth(hits[0, 0, :2]), abs=0.01)
    assert ranges[0, 1] > 25.0 and np.isinf(ranges[0, 2])
    # The kerb's face stands at y = 87; in front of it lies the road, behind it the walkway.
    assert hits[1, 0, 1] == pytest.approx(87.0, abs=0.06) and hits[1, 0, 2] == pytest.approx(0.075, abs=0.02)
    assert hits[1, 1, 2] == pytest.approx(0.0, abs=0.01)
    assert hits[1, 2, 2] == pytest.approx(0.15, abs=0.01)


def ray_to(azimuth: float, rise: float) -> np.ndarray:
    ray = np.array([np.cos(azimuth), np.sin(azimuth), rise])
    return ray / np.linalg.norm(ray)


def test_tables_hold_heights_pitch_and_roll(work: TownWork, scene: SceneWork) -> None:
    tables = describe(CONFIG, work.plan, {})["tables"]
    relief, origin = work.town.relief, np.array(work.plan.origin)
    poses = tables["ego_pose"]
    assert len(poses) > 10
    heights = np.array([pose["translation"][2] for pose in poses])
    places = np.array([pose["translation"][:2] for pose in poses]) - origin
    assert np.allclose(heights, relief.smooth(places), atol=0.03)
    ups = np.array([rotation_from_quaternion(pose["rotation"])[:, 2] for pose in poses])
    tilts = np.degrees(np.arccos(np.clip((ups * normals(relief, places)).sum(axis=1), -1, 1)))
    assert tilts.max() < 2.0 and np.degrees(np.arccos(ups[:, 2].min())) > 0.1
    for row in tables["sample_annotation"]:
        place = np.array(row["translation"][:2]) - origin
        assert row["translation"][2] - row["size"][2] / 2 == pytest.approx(float(relief.height(place)), abs=1e-6)


def test_true_map_lines_lie_on_their_paint_when_heights_are_known() -> None:
    """Along the map's dividers the picture is brighter than beside them; not so where z = 0 is taken for the road."""
    scene = TownWork(CONFIG, plan_towns(CONFIG)[1]).scene(0)
    rig = scene.shots.rig
    fresh = replace(scene.town.appearance, paint_wear=0.0, haze_per_m=0.0, asphalt=(0.08, 0.08, 0.08), sun_strength=0.0)
    town = replace(scene.town, appearance=fresh, boxes=(), movers=())
    renderer = TownRenderer(town, 0.1)
    found: dict[str, list[float]] = {"heights": [], "plane": []}
    ego = scene.town_from_ego(2.0)
    for channel in ("CAM_FRONT", "CAM_BACK"):
        camera = rig.cameras[channel].resized((900, 1600))
        pose = ego @ camera.ego_from_camera
        image = renderer.render(camera.intrinsics, pose, camera.image_size, 2.0).mean(axis=2)
        for marking in town.markings:
            line = resample(marking.line, 0.5)
            near = np.hypot(*(line - ego[:2, 3]).T) < 25.0
            if not near.any():
                continue
            line, sides = line[near], left_normals(line)[near]
            for way in found:
                places = [line + s * sides for s in (-0.12, 0.0, 0.12, -0.7, 0.7)]
                spots = np.array([_seen(image, town, camera, pose, ego, place, way) for place in places])
                contrast = spots[:3].max(axis=0) - spots[3:].mean(axis=0)
                found[way] += contrast[np.isfinite(contrast)].tolist()
    assert len(found["heights"]) > 25
    assert np.median(found["heights"]) > 40
    assert np.mean(found["heights"]) > np.mean(found["plane"]) + 5


def _seen(image, town, camera, pose, ego, places, way) -> np.ndarray:
    """Brightness at (N, 2) places of the town, taken to be as high as they are or on the plane of the ego frame."""
    points = np.c_[places, town.relief.smooth(places)]
    if way == "plane":
        up = ego[:3, 2]
        points[:, 2] = ego[2, 3] - (places - ego[:2, 3]) @ up[:2] / up[2]
    local = (points - pose[:3, 3]) @ pose[:3, :3] @ camera.intrinsics.T
    with np.errstate(divide="ignore", invalid="ignore"):
        column, row = np.rint(local[:, :2] / local[:, 2:]).T
    inside = (local[:, 2] > 2.0) & (column >= 0) & (column < image.shape[1]) & (row >= 0) & (row < image.shape[0])
    values = np.full(len(places), np.nan)
    values[inside] = image[row[inside].astype(int), column[inside].astype(int)]
    return values
