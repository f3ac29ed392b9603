"""LiDAR sweeps: one feather file each, both sensors together, corrected for the car's motion to the file's stamp."""

from pathlib import Path

import numpy as np

from hdmap_core.datasets.argoverse.feather import read_columns

COLUMNS = ("x", "y", "z", "intensity", "laser_number")


def read_sweep(path: Path) -> np.ndarray:
    """(P, 5) float32: x, y, z in metres (the car's frame as Argoverse has it), intensity 0..255, number of the laser.

    Points that are not finite are left out.

    Raises:
        DatasetError: if the file is missing or damaged.
    """
    columns = read_columns(path, COLUMNS)
    points = np.stack([columns[name].astype(np.float32) for name in COLUMNS], axis=1)
    return points[np.isfinite(points).all(axis=1)]
