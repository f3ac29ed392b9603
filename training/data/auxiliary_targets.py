"""What the auxiliary heads should have said."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import shapely
import torch
from shapely import MultiPolygon, Polygon
from torch import Tensor

from hdmap_core.elements import MapElement
from hdmap_core.geometry import BEVGrid, raster
from hdmap_core.model_io import TensorRecord
from hdmap_core.models.heads.auxiliary import AuxiliaryConfig
from training.data.camera_targets import line_mask, nearest_depth

BEV_LINE_CELLS = 3  # MapTRv2's thickness of lines in the BEV

Areas = Mapping[str, MultiPolygon | Polygon]
T = TypeVar("T")


@dataclass
class AuxiliaryTargets(TensorRecord):
    """Targets of a batch; None where the config has no such head. Not frozen: Lightning Fabric moves it.

    Attributes:
        surface: (B, S, Y, X) uint8, 1 where the cell's centre is on the surface.
        bev_lines: (B, 1, Y, X) uint8, 1 on map lines of any class.
        image_lines: (B, N, 1, h, w) uint8, 1 on map lines of any class; 0 in cameras that are missing.
        depth: (B, N, h, w) float32 metres along the camera's axis, NaN where no point is within the bins' range.
    """

    surface: Tensor | None = None
    bev_lines: Tensor | None = None
    image_lines: Tensor | None = None
    depth: Tensor | None = None


def build_auxiliary_targets(
    config: AuxiliaryConfig,
    *,
    grid: BEVGrid,
    elements: Sequence[Sequence[MapElement]],
    areas: Sequence[Areas] | None = None,
    projection: Tensor | None = None,
    camera_mask: Tensor | None = None,
    image_size: tuple[int, int] | None = None,
    feature_size: tuple[int, int] | None = None,
    points: Sequence[np.ndarray | None] | None = None,
) -> AuxiliaryTargets:
    """Targets of B frames for the heads that the config has; what no head needs may be left out.

    The map lies at z = 0 of the ego frame; the papers have it at a constant height in the LiDAR frame.

    Args:
        config: which heads.
        grid: of the BEV masks.
        elements: per frame, metres in the ego frame; all are drawn, so leave out what the model need not know.
        areas: per frame, what each layer covers, metres in the ego frame (`VectorMap.areas`); for `surface`.
        projection: (B, N, 3, 4) of `ModelInput`; for the heads of the images, with the three that follow.
        camera_mask: (B, N) bool; targets of a missing camera stay empty.
        image_size: (H, W) in pixels that the projection is for.
        feature_size: (h, w) of the backbone's features.
        points: per frame, LiDAR (P, 3 or more) metres in the ego frame, None where there is none; for `depth`.

    Raises:
        ValueError: naming what a head needs and was not given.
    """
    targets = AuxiliaryTargets()
    if config.surface:
        frames = _given(areas, "areas", "surface")
        targets.surface = torch.from_numpy(np.stack([surface_masks(area, config.surface, grid) for area in frames]))
    if config.bev_lines:
        masks = [bev_line_mask(frame, grid) for frame in elements]
        targets.bev_lines = torch.from_numpy(np.stack(masks)[:, None])
    if config.image_lines or config.depth is not None:
        head = "image_lines" if config.image_lines else "depth"
        matrices = _given(projection, "projection", head).double().cpu().numpy()
        present = _given(camera_mask, "camera_mask", head).cpu().numpy()
        sizes = _given(image_size, "image_size", head), _given(feature_size, "feature_size", head)
    if config.image_lines:
        drawn = np.zeros((*present.shape, 1, *sizes[1]), np.uint8)
        lines = [[_on_ground(element) for element in frame] for frame in elements]
        for b, n in np.argwhere(present):
            drawn[b, n, 0] = line_mask(lines[b], matrices[b, n], *sizes)
        targets.image_lines = torch.from_numpy(drawn)
    if config.depth is not None:
        clouds = _given(points, "points", "depth")
        depth = np.full((*present.shape, *sizes[1]), np.nan, np.float32)
        reach = config.depth.min_depth, config.depth.max_depth
        for b, n in np.argwhere(present):
            cloud = clouds[b]
            if cloud is not None:
                depth[b, n] = nearest_depth(cloud, matrices[b, n], *sizes, reach)
        targets.depth = torch.from_numpy(depth)
    return targets


def surface_masks(areas: Areas, layers: Sequence[str], grid: BEVGrid) -> np.ndarray:
    """(S, Y, X) uint8: what each layer covers. A hole stays one unless another polygon of the layer covers it.

    Raises:
        ValueError: if a layer is missing; one that covers nothing is an empty MultiPolygon.
    """
    for layer in layers:
        if layer not in areas:
            raise ValueError(f"the surface head needs the layer {layer!r}; got {', '.join(areas) or 'none'}")
    return np.stack([raster.fill_polygons(grid, _rings(areas[layer])) for layer in layers])


def bev_line_mask(elements: Sequence[MapElement], grid: BEVGrid) -> np.ndarray:
    """(Y, X) uint8: elements of all classes as lines, 3 cells wide; closed ones as rings."""
    return raster.draw_lines(grid, [element.path for element in elements], BEV_LINE_CELLS * grid.resolution)


def _rings(area: MultiPolygon | Polygon) -> list[list[np.ndarray]]:
    """Per polygon its outer ring and its holes, each (P, 2)."""
    polygons = [part for part in shapely.get_parts(area) if isinstance(part, Polygon) and not part.is_empty]
    return [[shapely.get_coordinates(ring) for ring in (part.exterior, *part.interiors)] for part in polygons]


def _on_ground(element: MapElement) -> np.ndarray:
    """(P, 3) metres in the ego frame, at z = 0."""
    return np.pad(element.path, ((0, 0), (0, 1)))


def _given(value: T | None, name: str, head: str) -> T:
    if value is None:
        raise ValueError(f"the auxiliary head {head!r} needs {name}")
    return value
