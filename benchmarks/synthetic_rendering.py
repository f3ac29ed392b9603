"""Time of drawing and scanning synthetic towns on one thread.

    python benchmarks/synthetic_rendering.py [--seed 1] [--frames 12]

Prints milliseconds per image for several sizes, per lidar sweep, and per town for baking; and, as the alternative to
the banded homographies of `ground_view`, the same ground by one `cv2.remap` from per-pixel rays (which aliases far
away, because it reads one level only). On a busy machine the CPU time and the
fastest run say more than the median.
"""

import argparse
import time
from collections.abc import Callable

import cv2
import numpy as np

from hdmap_core.datasets.synthetic.ground.view import GroundPlane, draw_ground
from hdmap_core.datasets.synthetic.sensors.cameras import TownRenderer
from hdmap_core.datasets.synthetic.sensors.lidar import cast_sweep
from hdmap_core.datasets.synthetic.world import generate_town

SIZES = ((900, 1600), (450, 800), (256, 704), (128, 352))
FOCAL_AT_FULL_WIDTH = 1266.4
CAMERA_YAWS = np.radians([0.3, 55.2, -56.4, -110.8, 179.9, 108.6])


def measure(label: str, work: Callable[[int], object], repeats: int) -> None:
    """Print the median wall time, the median CPU time and the shortest wall time of work(0), work(1), …"""
    wall, cpu = [], []
    for i in range(repeats):
        start, cpu_start = time.perf_counter(), time.process_time()
        work(i)
        wall.append(1e3 * (time.perf_counter() - start))
        cpu.append(1e3 * (time.process_time() - cpu_start))
    print(f"{label:34s} {np.median(wall):10.1f} {np.median(cpu):10.1f} {min(wall):10.1f}")


def measure_size(renderer: TownRenderer, poses: list[np.ndarray], size: tuple[int, int]) -> None:
    """Whole images of one size (H, W), and their ground alone in both ways."""
    intrinsics = intrinsics_of(size)
    planes = [GroundPlane.seen_by(intrinsics, pose) for pose in poses]
    canvas = np.zeros((*size, 3), np.uint8)
    name = f"{size[1]}x{size[0]}"
    measure(f"{name} whole image", lambda i: renderer.render(intrinsics, poses[i], size, 0.1 * i), len(poses))
    measure(f"{name} ground only", lambda i: draw_ground(canvas, renderer.ground, planes[i]), len(poses))
    measure(f"{name} ground by remap instead", lambda i: ground_by_remap(renderer, planes[i], size), len(poses))


def camera_poses(route: np.ndarray, count: int) -> list[np.ndarray]:
    """Optical frames 1.5 m above points spread along a route, looking each in another of six directions."""
    poses = []
    for i, k in enumerate(np.linspace(2, len(route) - 3, count).astype(int)):
        ahead = route[k + 1] - route[k]
        yaw = np.arctan2(ahead[1], ahead[0]) + CAMERA_YAWS[i % 6]
        sin, cos = np.sin(yaw), np.cos(yaw)
        pose = np.eye(4)
        pose[:3, :3] = np.array([[sin, 0.0, cos], [-cos, 0.0, sin], [0.0, -1.0, 0.0]])
        pose[:3, :3] = pose[:3, :3] @ cv2.Rodrigues(np.array([0.01, 0.0, 0.012]))[0]
        pose[:3, 3] = *route[k], 1.5
        poses.append(pose)
    return poses


def intrinsics_of(size: tuple[int, int]) -> np.ndarray:
    """A nuScenes-like pinhole for an image size (H, W)."""
    focal = FOCAL_AT_FULL_WIDTH * size[1] / 1600
    return np.array([[focal, 0.0, 0.51 * size[1]], [0.0, focal, 0.545 * size[0]], [0.0, 0.0, 1.0]])


def ground_by_remap(renderer: TownRenderer, plane: GroundPlane, size: tuple[int, int]) -> np.ndarray:
    """The alternative: a texture coordinate for every pixel, looked up in one level."""
    warp = (renderer.ground.level_from_town(1) @ plane.town_from_image).astype(np.float32)
    v, u = np.indices(size, dtype=np.float32)
    w = warp[2, 0] * u + warp[2, 1] * v + warp[2, 2]
    w[w < 1e-4] = 1e-4
    x = (warp[0, 0] * u + warp[0, 1] * v + warp[0, 2]) / w
    y = (warp[1, 0] * u + warp[1, 1] * v + warp[1, 2]) / w
    return cv2.remap(renderer.ground.levels[1], x, y, cv2.INTER_LINEAR)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--frames", type=int, default=12)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)

    start = time.perf_counter()
    town = generate_town(arguments.seed)
    generated = time.perf_counter()
    renderer = TownRenderer(town)
    baked = time.perf_counter()
    texture = renderer.ground.levels[0]
    print(f"town {arguments.seed}: {len(town.boxes)} boxes, {len(town.movers)} movers, ground {texture.shape[:2]}")
    print(f"generate {generated - start:.2f} s, bake ground, sky and faces {baked - generated:.2f} s\n")

    print(f"{'work':34s} {'median ms':>10s} {'CPU ms':>10s} {'best ms':>10s}")
    poses = camera_poses(town.routes[0], arguments.frames)
    for size in SIZES:
        measure_size(renderer, poses, size)
    ego_from_lidar = np.array([[0.0, 1, 0, 0.94], [-1, 0, 0, 0], [0, 0, 1, 1.84], [0, 0, 0, 1]])
    ego = np.eye(4)
    ego[:2, 3] = town.routes[0][len(town.routes[0]) // 2]
    measure(
        "lidar sweep of 34688 beams",
        lambda i: cast_sweep(town, lambda _: ego, ego_from_lidar, 1.0, i),
        arguments.frames,
    )


if __name__ == "__main__":
    main()
