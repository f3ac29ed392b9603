"""What `preprocess` makes of images with OpenCV, in plain PyTorch: on a GPU nothing waits for the host.

Shapes depend on the sizes of images and grid alone, what depends on sizes and lenses is kept on the device, and of a
calibration a few matrices go there. Values are those of OpenCV 5 to one or two steps of 255 (older ones read between
pixels at 32nds of a pixel); on a CPU OpenCV is quicker.
"""

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hdmap_core.geometry import BEVGrid, CameraRig
from hdmap_core.geometry.ground_relief import GroundRelief
from hdmap_core.geometry.ground_view import COARSE, FEATHER, LEAST_WEIGHT, MIN_DEPTH, plane_from_cells
from hdmap_core.geometry.lens_sampling import Matrix, Optics
from hdmap_core.model_io import ModelInput
from hdmap_core.preprocess import PLAIN, ImageFit, camera_slots

_LENS_NODES = 513  # along each side of a lens's table: of a focal length of 1260 pixels off by 0.02 pixels
_BLENDING = 1e-5  # what `cv2.blendLinear` adds to the sum of weights
_FAR = 1e5  # pixels; beyond, a place is nowhere


def uploaded(array: np.ndarray, device: torch.device) -> Tensor:
    """A copy on the device, for which the host does not wait: PyTorch keeps the page-locked memory until it is made."""
    kind = torch.as_tensor(np.empty(0, array.dtype)).dtype
    host = torch.empty(array.shape, dtype=kind, pin_memory=device.type == "cuda")
    host.numpy()[...] = array
    return host.to(device, non_blocking=True)


def image_inputs(
    images: Sequence[Tensor | None],
    rig: CameraRig,
    image_size: tuple[int, int],
    cameras: tuple[str, ...],
    device: torch.device,
    fit: ImageFit = PLAIN,
) -> ModelInput:
    """As `preprocess.image_inputs`; projection and mask stay on the host, where engines look at them.

    Args:
        images: per camera of the rig (H, W, 3) uint8 on the device, or None.
        rig: unbatched calibration.
        image_size: see there.
        cameras: see there.
        device: of the images.
        fit: see there.
    """
    height, width = fit.filled_size or image_size
    names, pinholes, projection = camera_slots(rig, (height, width), cameras, fit)
    scaled = torch.zeros(len(names), 3, *image_size, dtype=torch.uint8, device=device)
    mask = torch.zeros(len(names), dtype=torch.bool)
    for slot, name in enumerate(names):
        place = rig.names.index(name) if name in rig.names else -1
        image = images[place] if place >= 0 else None
        if image is None:
            continue
        picture = image.permute(2, 0, 1)
        optics = Optics.of(rig.lens_of_each[place], rig.intrinsics[place].numpy())
        if optics is not None:
            picture = _undistorted(picture, optics, tuple(pinholes.intrinsics[place].flatten().tolist()))
        small = resized if fit.resampling == "area" else _bicubic
        scaled[slot, :, :height, :width] = small(picture, (height, width))
        mask[slot] = True
    return ModelInput(images=scaled[None], projection=projection[None], camera_mask=mask[None])


def resized(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """(C, H, W) uint8 -> (C, *size) uint8: the mean over the area of each new pixel, as `cv2.INTER_AREA`."""
    height, width = picture.shape[-2:]
    rows, row_weights = _area_taps(height, size[0], size[1] > width, picture.device)
    columns, column_weights = _area_taps(width, size[1], size[0] > height, picture.device)
    high = sum(picture[:, index] * weight[:, None] for index, weight in zip(rows, row_weights, strict=True))
    assert isinstance(high, Tensor)
    found = sum(high[..., index] * weight for index, weight in zip(columns, column_weights, strict=True))
    assert isinstance(found, Tensor)
    return _rounded(found)


def _bicubic(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """As Pillow: first the columns, rounded, then the rows."""
    for shape in ((picture.shape[-2], size[1]), size):
        found = F.interpolate(picture[None].float(), size=shape, mode="bicubic", antialias=True)[0]
        picture = _rounded(found.clamp(0, 255))
    return picture


def ground_pixels(
    images: Sequence[Tensor | None],
    rig: CameraRig,
    grid: BEVGrid,
    device: torch.device,
    relief: GroundRelief | None = None,
) -> Tensor:
    """As `geometry.ground_view`, all cameras of a size at once, and all cells in each.

    Args:
        images: per camera of the rig (H, W, 3) uint8 on the device, or None.
        rig: unbatched calibration.
        grid: the region; the result has its cells.
        device: of the images.
        relief: the ground's heights over z = 0; None: it is flat.

    Returns:
        (1, 4, Y, X) uint8: R, G, B, and 255 where some camera sees the cell, else 0.
    """
    total = torch.zeros(3, *grid.shape, device=device)
    weight_sum = torch.zeros(1, *grid.shape, device=device)
    projection = rig.projection().double().numpy()
    plane = projection[:, :, [0, 1, 3]]  # homogeneous (x, y, 1) on z = 0 -> (u z, v z, z)
    heights = [] if relief is None else [uploaded(_heights(relief, grid, side), device) for side in (1, COARSE)]
    groups: dict[tuple[tuple[int, int], bool], list[int]] = {}
    for index, (image, size, lens) in enumerate(zip(images, rig.image_sizes, rig.lens_of_each, strict=True)):
        if image is not None:
            groups.setdefault((size, lens is not None), []).append(index)
    for (size, has_lens), places in groups.items():
        pictures = torch.stack([images[place].permute(2, 0, 1) for place in places])  # type: ignore[union-attr]
        lenses = None
        if has_lens:
            keys = tuple(Optics.of(rig.lens_of_each[place], rig.intrinsics[place].numpy()) for place in places)
            lenses = _lens_tables(keys, device)
        cells = uploaded(plane[places] @ plane_from_cells(grid, (1.0, 1.0)), device)
        coarse = uploaded(plane[places] @ plane_from_cells(grid, (COARSE, COARSE)), device)
        rise = coarse_rise = None
        if heights:
            upwards = uploaded(projection[places, :, 2], device)[:, :, None, None]
            rise, coarse_rise = (upwards * each for each in heights)
        u, v, _, _ = _pixels(cells, grid.shape, lenses, rise)
        colour = _rounded(_bilinear(pictures, u, v)).float()
        weight = _weights(coarse, grid, size, lenses, coarse_rise)
        total += (colour * weight[:, None]).sum(dim=0)
        weight_sum += weight.sum(dim=0)
    rgb = _rounded(total / (weight_sum + _BLENDING))
    seen = (weight_sum > LEAST_WEIGHT).to(torch.uint8) * 255
    return torch.cat([rgb, seen])[None]


def _rounded(values: Tensor) -> Tensor:
    return (values + 0.5).to(torch.uint8)


def _heights(relief: GroundRelief, grid: BEVGrid, side: int) -> np.ndarray:
    """(Y, X) float64 metres at the centres of cells that are `side` times as large as the grid's."""
    row, column = np.indices((-(-grid.shape[0] // side), -(-grid.shape[1] // side)))
    metres = np.stack([column, row, np.ones_like(row)], axis=-1) @ plane_from_cells(grid, (side, side)).T
    return relief.at(metres[..., 0], metres[..., 1]).astype(np.float64)


def _weights(
    matrix: Tensor, grid: BEVGrid, size: tuple[int, int], lenses: "_Lenses | None", rise: Tensor | None
) -> Tensor:
    """(n, Y, X) float32: how much a camera counts in a cell, of places in cells that are `COARSE` times as large."""
    shape = -(-grid.shape[0] // COARSE), -(-grid.shape[1] // COARSE)
    u, v, depth, margin = _pixels(matrix, shape, lenses, rise, least_depth=1e-6)
    inside = torch.minimum(torch.minimum(u, size[1] - 1 - u), torch.minimum(v, size[0] - 1 - v))
    inside = inside if margin is None else torch.minimum(inside, margin)
    weight = (inside / (FEATHER * size[1])).clamp(0, 1) * (depth > MIN_DEPTH)
    fine = F.interpolate(weight.float()[:, None], scale_factor=COARSE, mode="bilinear", align_corners=False)[:, 0]
    return fine[:, : grid.shape[0], : grid.shape[1]]


def _pixels(
    matrix: Tensor,
    shape: tuple[int, int],
    lenses: "_Lenses | None",
    rise: Tensor | None,
    least_depth: float | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Pixels u, v (n, Y, X), depth in metres, and of lenses how far inside their rim, in pixels.

    Args:
        matrix: (n, 3, 3) float64, homogeneous (column, row) of a cell -> (u z, v z, z) without the lens.
        shape: (Y, X).
        lenses: of the n cameras; None: pinholes.
        rise: (n, 3, Y, X) float64, what the ground's height adds to (u z, v z, z); None: it is flat.
        least_depth: at which nearer places of pinholes are taken; None: as they are.
    """
    row = torch.arange(shape[0], device=matrix.device, dtype=torch.float64)[:, None]
    column = torch.arange(shape[1], device=matrix.device, dtype=torch.float64)
    place = matrix[:, :, 0, None, None] * column + matrix[:, :, 1, None, None] * row + matrix[:, :, 2, None, None]
    place = place if rise is None else place + rise
    if lenses is not None:
        place = torch.einsum("nij,njyx->niyx", lenses.inverse, place)
    x, y, z = place.unbind(1)
    if lenses is not None:
        return lenses.pixels(x, y, z)
    depth = z if least_depth is None else z.clamp(min=least_depth)
    u, v = (side / depth for side in (x, y))
    return u.nan_to_num(_FAR).clamp(-_FAR, _FAR), v.nan_to_num(_FAR).clamp(-_FAR, _FAR), depth, None


class _Lenses:
    """Lenses of n cameras as tables over the plane of (angle from the axis) x (direction around it): nothing folds.

    They depend on the lenses alone, so that they stay on the device while the car moves.
    """

    def __init__(self, optics: Sequence[Optics], device: torch.device) -> None:
        matrices = np.stack([np.reshape(each.intrinsics, (3, 3)) for each in optics])
        reach = np.array([each.lens.reach_rad for each in optics])
        tables = [each.polar_table(_LENS_NODES) for each in optics]
        self.inverse = uploaded(np.linalg.inv(matrices), device)
        self._focal, self._reach = (uploaded(values, device)[:, None, None] for values in (matrices[:, 0, 0], reach))
        self._is_wide = uploaded(np.array([each.lens.kind == "fisheye" for each in optics]), device)[:, None, None]
        self._table = uploaded(np.stack(tables).transpose(0, 3, 1, 2), device)

    def pixels(self, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See `_pixels`; x, y, z are directions in the cameras' frames, in metres."""
        sideways = torch.hypot(x, y)
        angle = torch.atan2(sideways, z)
        scale = torch.minimum(angle, self._reach) / (sideways.clamp(min=1e-12) * self._reach)
        where = torch.stack([x * scale, y * scale], dim=-1).float()  # -1 ... 1 over the table
        pixel = F.grid_sample(self._table, where, padding_mode="border", align_corners=True)
        depth = torch.where(self._is_wide, torch.hypot(sideways, z), z.abs())
        depth = torch.where(angle <= self._reach, depth, -depth)
        return pixel[:, 0].double(), pixel[:, 1].double(), depth, self._focal * (self._reach - angle)


@lru_cache(maxsize=8)
def _lens_tables(optics: tuple[Optics, ...], device: torch.device) -> _Lenses:
    return _Lenses(optics, device)


@lru_cache(maxsize=64)
def _area_taps(source: int, wanted: int, other_grows: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """(T, wanted) indices and weights of the pixels along one side that make a new one, as OpenCV has them.

    They are what it makes of unit impulses: if either side grows, it takes another rule for both.
    """
    impulses = np.eye(source, dtype=np.float32)
    width = 2 * source if other_grows else source
    made = cv2.resize(impulses, (width, wanted), interpolation=cv2.INTER_AREA)[:, :: width // source]
    first = (made != 0).argmax(axis=1)
    count = int((source - (made[:, ::-1] != 0).argmax(axis=1) - first).max())
    index = first + np.arange(count)[:, None]
    weight = np.where(index < source, np.take_along_axis(made, index.clip(max=source - 1).T, axis=1).T, 0)
    return uploaded(index.clip(max=source - 1), device), uploaded(weight.astype(np.float32), device)


def _bilinear(pictures: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """(n, C, H, W) uint8 at pixels (n, h, w) -> (n, C, h, w) float32; beyond the border its pixels go on."""
    channels, height, width = pictures.shape[1:]
    flat = pictures.flatten(2)
    left, top = u.floor(), v.floor()
    across, down = ((side - start).float()[:, None] for side, start in ((u, left), (v, top)))
    columns = [(left + step).long().clamp(0, width - 1) for step in (0, 1)]
    rows = [(top + step).long().clamp(0, height - 1) * width for step in (0, 1)]

    def at(row: Tensor, column: Tensor) -> Tensor:
        index = (row + column).flatten(1)[:, None].expand(-1, channels, -1)
        return flat.gather(2, index).view(-1, channels, *u.shape[1:]).float()

    upper, lower = (torch.lerp(at(row, columns[0]), at(row, columns[1]), across) for row in rows)
    return torch.lerp(upper, lower, down)


def _undistorted(picture: Tensor, optics: Optics, pinhole: Matrix) -> Tensor:
    """(C, H, W) uint8, see `Optics.undistorted`; black where the lens sees nothing."""
    samples = _undistorting_samples(optics, (picture.shape[-2], picture.shape[-1]), pinhole, picture.device)
    framed = F.pad(picture, (1, 1, 1, 1))
    return _rounded(_bilinear(framed[None], samples[None, ..., 0] + 1, samples[None, ..., 1] + 1))[0]


@lru_cache(maxsize=32)
def _undistorting_samples(optics: Optics, size: tuple[int, int], pinhole: Matrix, device: torch.device) -> Tensor:
    return uploaded(optics.undistorting_samples(size, pinhole), device)
