"""The SD map as a raster: what P-MapNet's prior looks at."""

from collections.abc import Sequence

import numpy as np
import shapely

from hdmap_core.geometry import BEVGrid
from hdmap_core.geometry.raster import draw_lines


def sd_raster(lines: Sequence[np.ndarray] | None, grid: BEVGrid, thickness_cells: int = 7) -> np.ndarray:
    """Roads drawn into the grid, all alike: neither class nor direction (Jiang et al., P-MapNet, RA-L 2024).

    Drawn as they are; the published code takes 50 points of each piece, which cuts bends of long ones.

    Args:
        lines: centre lines, each (P, 2) in metres of the ego frame, as far away as they like; None or empty is a place
            of which no road is known.
        grid: the cells.
        thickness_cells: width of a road in cells; the published 5 of OpenCV draw 7, 1.05 m in cells of 0.15 m.

    Returns:
        (1, Y, X) float32: 1 on roads, -1 elsewhere.
    """
    # Drawn with a rim, which is then cut off, so that a road just outside reaches in.
    rim = thickness_cells
    margin = rim * grid.resolution
    (x0, x1), (y0, y1) = grid.x_range, grid.y_range
    around = BEVGrid((x0 - margin, x1 + margin), (y0 - margin, y1 + margin), grid.resolution)
    # Clipped before drawing, since OpenCV counts in 32-bit fixed point.
    roads = [shapely.LineString(np.asarray(line, np.float64)) for line in lines or () if len(line) >= 2]
    clipped = shapely.clip_by_rect(roads, *np.transpose([around.x_range, around.y_range]).ravel())
    parts = [shapely.get_coordinates(part) for part in shapely.get_parts(clipped)]
    drawn = [part for part in parts if len(part) >= 2]
    if not drawn:
        return np.full((1, *grid.shape), -1, np.float32)
    mask = draw_lines(around, drawn, thickness_cells * grid.resolution)[rim:-rim, rim:-rim]
    return mask[None].astype(np.float32) * 2 - 1
