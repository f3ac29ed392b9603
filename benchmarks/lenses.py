"""What lenses cost, and whether the map stays the same: the student on images that came through each lens model.

Pictures of synthetic towns are warped as each lens would show them, by bilinear interpolation, zoomed so far in that no
pixel looks beyond the picture. Four ways, each in turn, on one thread:

    pinhole     the same cameras without a lens, as wide as the lens
    folded      the ground view looks places up in the raw image: car moves (every set has poses of its own), car stands
    rectified   each image is undistorted by `cv2.remap` with tables made once, as image_proc does, then as a pinhole
    ignored     the raw image, as if it were a pinhole's

With DATAROOT, the map's accuracy too: mAP (protocol maptr) of each way against ground truth, and of each way's map
against the pinholes' map, over N val keyframes.

Run: python benchmarks/lenses.py [DATAROOT] [--keyframes N] [--rounds 15]
"""

import argparse
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from measuring import cpu_s
from rich.console import Console
from rich.table import Table

from hdmap_core.datasets.nuscenes import NuScenesDataset, scenes_of_split
from hdmap_core.elements import MapElement
from hdmap_core.geometry import BEVGrid
from hdmap_core.geometry.ground_view import ground_view
from hdmap_core.geometry.lens import Lens, lens_of
from hdmap_core.geometry.lens_sampling import Optics
from hdmap_core.inference import Predictor, load_predictor
from hdmap_core.inference.sample import sample_observation
from hdmap_core.metrics.chamfer_ap import chamfer_ap
from hdmap_core.observation import Observation
from hdmap_core.observation.undistortion import without_lenses
from hdmap_core.preprocess import ground_grid
from hdmap_core.running.parallel import one_thread

_MODELS: dict[str, Lens | None] = {
    "plumb_bob": lens_of("plumb_bob", [-0.3, 0.1, 0.001, -0.001, -0.01]),
    "rational_polynomial": lens_of("rational_polynomial", [8.2, 5.1, 0.0003, -0.0002, 0.25, 8.5, 7.6, 1.3]),
    "thin_prism": lens_of("thin_prism", [-0.2, 0.05, 0.001, 0.001, 0.0, 0.0, 0.0, 0.0, 0.01, -0.005, 0.008, 0.003]),
    "equidistant": lens_of("equidistant", [0.05, -0.01, 0.002, 0.0]),
    "equidistant, zeros": lens_of("equidistant", []),
}
LENSES = {name: lens for name, lens in _MODELS.items() if lens is not None}
_FLAGS = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


def through(observation: Observation, lens: Lens) -> tuple[Observation, Observation]:
    """What cameras with this lens see of an observation of pinholes, and what pinholes as wide as these see."""
    rig = observation.rig
    bent, plain, bent_matrices, plain_matrices = [], [], [], []
    for image, size, matrix in zip(observation.images, rig.image_sizes, rig.intrinsics.numpy(), strict=True):
        assert image is not None
        raw = _zoomed(lens, matrix, size)
        optics = Optics.of(lens, raw)
        assert optics is not None
        pinhole = np.reshape(optics.pinhole(size), (3, 3))
        bent.append(_read(image, partial(_places, lens, raw, matrix)))
        bent_matrices.append(raw)
        plain.append(cv2.warpPerspective(image, matrix @ np.linalg.inv(pinhole), size[::-1], flags=_FLAGS))
        plain_matrices.append(pinhole)
    whole = replace(rig, intrinsics=torch.from_numpy(np.stack(plain_matrices)))
    rig = replace(rig, intrinsics=torch.from_numpy(np.stack(bent_matrices)), lenses=(lens,) * rig.num_cameras)
    return replace(observation, images=tuple(bent), rig=rig), replace(observation, images=tuple(plain), rig=whole)


def _zoomed(lens: Lens, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The camera matrix behind the lens with which all pixels lie in the pinhole's picture."""
    across, down = np.linspace(0, size[1] - 1, 65), np.linspace(0, size[0] - 1, 65)
    pixels = np.stack(np.meshgrid(across, down), axis=-1)
    for zoom in np.arange(1.0, 3.0, 0.02):
        raw = matrix.copy()
        raw[:2, :2] *= zoom
        place, seen = _places(lens, raw, matrix, pixels)
        if (seen & (place >= 0).all(-1) & (place <= [size[1] - 1, size[0] - 1]).all(-1)).all():
            return raw
    raise ValueError("this lens is too wide for these pictures")


def _places(lens: Lens, raw: np.ndarray, matrix: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where (..., 2) pixels behind the lens lie in the pinhole's picture, and whether the lens sees anything there."""
    directions, seen = lens.unproject((pixels - raw[:2, 2]) / raw[[0, 1], [0, 1]])
    ahead = np.maximum(directions[..., 2:], 1e-3)
    return (directions @ matrix.T)[..., :2] / ahead, seen & (directions[..., 2] > 1e-3)


def _read(image: np.ndarray, places: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The image sampled at places that are exact every 4 pixels and interpolated between."""
    height, width = image.shape[:2]
    row, column = (4 * np.arange(-1, -(-side // 4) + 1) + 1.5 for side in (height, width))
    nodes = places(np.stack(np.meshgrid(column, row), axis=-1))[0].astype(np.float32)
    table = cv2.resize(nodes, (4 * nodes.shape[1], 4 * nodes.shape[0]))[4 : 4 + height, 4 : 4 + width]
    x, y = cv2.split(table)
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def moving(observation: Observation, step: int) -> Observation:
    """The same images from poses that no other step has, as the car's motion between the exposures gives them."""
    poses = observation.rig.ego_from_camera.clone()
    poses[:, 0, 3] += 1e-4 * (step + 1)
    return replace(observation, rig=replace(observation.rig, ego_from_camera=poses))


def cpu_ms(bent: Observation, plain: Observation, grid: BEVGrid, rounds: int) -> dict[str, float]:
    """Way -> median milliseconds of CPU for the ground view of one set."""

    def view(observation: Observation) -> np.ndarray:
        return ground_view(observation.images, observation.rig, grid)

    ways: dict[str, Callable[[int], object]] = {
        "pinhole": lambda step: view(moving(plain, step)),
        "folded, car moves": lambda step: view(moving(bent, step)),
        "folded, car stands": lambda step: view(bent),
        "rectified": lambda step: view(moving(without_lenses(bent), step)),
    }
    samples = defaultdict(list)
    for step in range(-2, rounds):
        for name, way in ways.items():
            spent_ms = 1e3 * cpu_s(partial(way, step))
            if step >= 0:
                samples[name].append(spent_ms)
    return {name: float(np.median(times)) for name, times in samples.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataroot", type=Path, nargs="?")
    parser.add_argument("--keyframes", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    one_thread()
    predictor = load_predictor(device="cpu")
    grid = ground_grid(predictor.info.grid)
    costs = Table("lens", *("pinhole", "folded, car moves", "folded, car stands", "rectified"), title="CPU ms per set")
    for name, lens in LENSES.items():
        times = cpu_ms(*through(sample_observation(), lens), grid, arguments.rounds)
        costs.add_row(name, *(f"{value:.1f}" for value in times.values()))
    Console(width=110).print(costs)
    if arguments.dataroot is not None:
        Console(width=110).print(accuracy(predictor, arguments.dataroot, arguments.keyframes))


def accuracy(predictor: Predictor, dataroot: Path, keyframes: int) -> Table:
    """Mean AP of each way against ground truth, and against the map of pinholes."""
    dataset = NuScenesDataset(dataroot)
    known = [token for scene in scenes_of_split(dataset, "val") for token in scene.sample_tokens]
    tokens = known[:: max(1, len(known) // keyframes)][:keyframes]
    info, model = predictor.info, predictor.config.model
    truth = {token: dataset.elements(token, info.grid.x_range, info.grid.y_range, model.classes) for token in tokens}
    table = Table("lens", "way", "mAP, truth", "mAP, pinholes' map", title=f"{len(tokens)} val keyframes")
    for name, lens in LENSES.items():
        maps: dict[str, dict[str, list[MapElement]]] = defaultdict(dict)
        for token in tokens:
            bent, plain = through(dataset.observation(token, points=False), lens)
            ways = {
                "pinhole": plain,
                "folded": bent,
                "rectified": without_lenses(bent),
                "ignored": replace(bent, rig=replace(bent.rig, lenses=())),
            }
            for way, observation in ways.items():
                maps[way][token] = predictor.predict(observation).elements
        sure = {token: [each for each in elements if each.score > 0.3] for token, elements in maps["pinhole"].items()}
        for way, found in maps.items():
            scores = (chamfer_ap(found, target, "maptr").mean_ap for target in (truth, sure))
            table.add_row(name, way, *(f"{score:.3f}" for score in scores))
    return table


if __name__ == "__main__":
    main()
