"""Painting the ground of a relief: the baked texture, seen through a `ReliefView`, with the faces of its kerbs.

The image is cut into blocks of some slices, and each block into bands of similar distance. A band is looked up in the
mip level that fits a pixel's width there, with several sub-rows per row that are averaged, since far away a pixel
covers a patch much longer than wide.
"""

import math

import cv2
import numpy as np

from hdmap_core.datasets.synthetic.ground import GroundTexture
from hdmap_core.datasets.synthetic.relief import Relief
from hdmap_core.datasets.synthetic.relief_view import FAR_M, KERBS_FADE_M, ReliefView, Sheet
from hdmap_core.datasets.synthetic.shading import DISPLAY_GAMMA, Lighting

MAX_SUBROWS = 8
_BLOCK = 25
"""Slices."""
_FACE_TEXEL_M = 0.2
_CELL_M = 0.5
_KERB_TOP_M = 0.1
_ROAD, _RAISED, _MIXED = 0, 1, 2


class ReliefGround:
    """The ground of one town, ready to be painted: texture, where it is raised, and what the kerbs' faces look like."""

    def __init__(self, texture: GroundTexture, relief: Relief, light: Lighting) -> None:
        self.texture = texture
        self.masks = [relief.raised]
        while len(self.masks) < len(texture.levels) and min(self.masks[-1].shape) >= 4:
            self.masks.append(cv2.resize(self.masks[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
        self.mask_texel_m = relief.size[0] / relief.raised.shape[1]
        self.faces = _bake_faces(texture, relief, light)
        self.kinds = _bake_kinds(relief)

    def draw(self, image: np.ndarray, view: ReliefView, haze_per_m: float, haze: np.ndarray) -> None:
        """Paint the ground in place on (H, W, 3) uint8 that holds the sky, faded towards `haze` (3,) uint8."""
        top, bottom = view.first_row, image.shape[0]
        if top >= bottom:
            return
        low, high = view.sheet(False), view.sheet(True)
        fringe = min(math.ceil(max(np.clip(view.top, top, bottom).max() - top + 2, 0)), bottom - top)
        sky = image[top : top + fringe].copy()
        for left in range(1, len(view.columns) - 1, _BLOCK):
            right = min(left + _BLOCK, len(view.columns) - 1)
            self._draw_block(image[top:], low, high, left, right, view)
        _fade(image[top:], low.depth, view.step, haze_per_m, haze)
        _put_back(image[top : top + fringe], sky, view)

    def _draw_block(self, image: np.ndarray, low: Sheet, high: Sheet, left: int, right: int, view: ReliefView) -> None:
        """Paint slices `left` to `right`, band by band from the top."""
        rows, step = image.shape[0], view.step
        target = image[:, (left - 1) * step : min((right - 1) * step, image.shape[1])]
        depth = low.depth[:, (left + right) // 2]
        strides = np.abs(np.diff(low.places[:, left:right:4], axis=0)).sum(axis=2)
        along = np.median(strides, axis=1) if len(strides) else np.zeros(0)
        visible = np.flatnonzero(low.depth[:, left - 1 : right + 1].min(axis=1) < FAR_M)
        begin = max(int(visible[0]) - 1, 0) if len(visible) else rows
        while begin < rows:
            beyond = np.flatnonzero(depth[begin + 2 :] < depth[begin] / 1.8)
            end = min(begin + 2 + int(beyond[0]), rows) if len(beyond) else rows
            middle = min((begin + end) // 2, rows - 1)
            across = float(depth[middle]) / view.intrinsics[1, 1]
            stride = float(np.median(along[max(begin - 1, 0) : end])) if len(along) else across
            self._draw_band(target[begin:end], (begin, end, left, right), low, high, across, stride, step)
            begin = end

    def _draw_band(
        self,
        target: np.ndarray,
        part: tuple[int, int, int, int],
        low: Sheet,
        high: Sheet,
        across: float,
        along: float,
        step: int,
    ) -> None:
        subrows, texel = 1, self.texture.texel_m
        while subrows < MAX_SUBROWS and along / subrows > 1.2 * max(across, texel):
            subrows *= 2
        footprint = max(across, along / subrows) / 1.4
        level = int(np.clip(math.ceil(math.log2(max(footprint / texel, 1.0)) - 0.2), 0, len(self.texture.levels) - 1))
        kind = self._kind_of(part, low, high)
        columns = target.shape[1]
        if kind == _MIXED:
            lower = _grown(low.places, part, step, subrows)[:, :columns]
            upper = _grown(high.places, part, step, subrows)[:, :columns]
            patch = self._with_kerbs(lower, upper, level, footprint)
        else:
            places = _grown((high if kind == _RAISED else low).places, part, step, subrows)[:, :columns]
            patch = self._look_up(places, level)
        if subrows > 1:
            cv2.resize(patch, (columns, target.shape[0]), dst=target, interpolation=cv2.INTER_AREA)
        else:
            target[:] = patch

    def _kind_of(self, part: tuple[int, int, int, int], low: Sheet, high: Sheet) -> int:
        top, bottom, left, right = part
        if low.depth[top:bottom, left:right].min() > KERBS_FADE_M[1]:
            return _ROAD
        every = max(1, (bottom - top) // 24)
        seen = set()
        for sheet in (low, high):
            places = sheet.places[top:bottom:every, left - 1 : right + 1] / _CELL_M
            column = np.clip(places[..., 0].astype(np.int32), 0, self.kinds.shape[1] - 1)
            row = np.clip(places[..., 1].astype(np.int32), 0, self.kinds.shape[0] - 1)
            seen |= set(np.flatnonzero(np.bincount(self.kinds[row, column].ravel(), minlength=3)).tolist())
        return seen.pop() if len(seen) == 1 else _MIXED

    def _look_up(self, places: np.ndarray, level: int) -> np.ndarray:
        return _sampled(self.texture.levels[level], places, self.texture.texel_m * 2**level, self.texture.border)

    def _with_kerbs(self, lower: np.ndarray, upper: np.ndarray, level: int, footprint: float) -> np.ndarray:
        """Road, before it the kerbs' faces, before these what is raised."""
        depth = int(np.clip(math.floor(math.log2(max(footprint / self.mask_texel_m, 1.0))), 0, len(self.masks) - 1))
        texel = self.mask_texel_m * 2**depth
        sharpen = _sharpened(texel / footprint)
        below, above = (cv2.LUT(_sampled(self.masks[depth], places, texel, 255), sharpen) for places in (lower, upper))
        patch = self._look_up(lower, level)
        if below.any():
            face = _sampled(self.faces, lower, _FACE_TEXEL_M, (0, 0, 0))
            patch = _laid_over(patch, face, below)
        return _laid_over(patch, self._look_up(upper, level), above) if above.any() else patch


def _bake_kinds(relief: Relief) -> np.ndarray:
    """(rows, columns) uint8 at `_CELL_M`: whether the ground around a cell is all road, all raised or mixed."""
    shape = math.ceil(relief.size[0] / _CELL_M), math.ceil(relief.size[1] / _CELL_M)
    window = np.ones((3, 3), np.uint8)
    smaller = cv2.resize(relief.raised, shape, interpolation=cv2.INTER_AREA)
    kinds = np.full(smaller.shape, _MIXED, np.uint8)
    kinds[cv2.dilate(smaller, window) == 0] = _ROAD
    kinds[cv2.erode(smaller, window) == 255] = _RAISED
    return kinds


def _bake_faces(texture: GroundTexture, relief: Relief, light: Lighting) -> np.ndarray:
    """What a ray sees that comes down behind a kerb: the colour of the kerb's top at the nearest edge, in the light
    that its face gets. (rows, columns, 3) uint8 at `_FACE_TEXEL_M`.
    """
    shape = math.ceil(relief.size[0] / _FACE_TEXEL_M), math.ceil(relief.size[1] / _FACE_TEXEL_M)
    raised = np.where(cv2.resize(relief.raised, shape, interpolation=cv2.INTER_AREA) > 127, 255, 0).astype(np.uint8)
    _, labels = cv2.distanceTransformWithLabels(raised, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    edge = np.zeros((int(labels.max()) + 1, 2), np.float32)
    road = raised == 0
    rows, columns = np.nonzero(road)
    edge[labels[road]] = np.stack([columns, rows], axis=1)
    here = np.stack(np.meshgrid(np.arange(shape[0]), np.arange(shape[1])), axis=-1).astype(np.float32)
    inward = here - edge[labels]
    inward /= np.maximum(np.linalg.norm(inward, axis=2, keepdims=True), 1e-3)
    place = (edge[labels] + 0.5) * _FACE_TEXEL_M + inward * (0.5 * _FACE_TEXEL_M + _KERB_TOP_M)
    colour = _sampled(texture.levels[0], place, texture.texel_m, texture.border)
    normals = np.concatenate([-inward, np.zeros_like(inward[..., :1])], axis=2)
    # Less sky than a wall in the open: the road's reflection is dark.
    gain = (0.85 * light.irradiance(normals) / light.ground) ** (1.0 / DISPLAY_GAMMA)
    return np.asarray(np.clip(colour * gain[..., None], 0, 255).astype(np.uint8))


def _grown(table: np.ndarray, part: tuple[int, int, int, int], step: int, subrows: int) -> np.ndarray:
    """Rows and slices of a table (rows, slices, 2) as one entry per pixel column and sub-row, interpolated."""
    top, bottom, left, right = part
    pad = int(subrows > 1)
    rows = np.clip(np.arange(top - pad, bottom + pad), 0, len(table) - 1) if pad else slice(top, bottom)
    piece = table[rows, left - 1 : right + 1]
    size = (piece.shape[1] * step, piece.shape[0] * subrows)
    grown = cv2.resize(piece, size, interpolation=cv2.INTER_LINEAR)
    return grown[pad * subrows : len(grown) - pad * subrows, step:-step]


def _sampled(texels: np.ndarray, places: np.ndarray, texel_m: float, border: tuple[int, ...] | int) -> np.ndarray:
    """`texels` (rows, columns[, 3]) at town coordinates (H, W, 2)."""
    at = cv2.addWeighted(places, 1.0 / texel_m, places, 0.0, -0.5)
    return np.asarray(
        cv2.remap(texels, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=border)  # type: ignore[call-overload]
    )


def _sharpened(gain: float) -> np.ndarray:
    """(256,) uint8: an edge that is `gain` pixels wide made one pixel wide."""
    return np.clip((np.arange(256) - 127.5) * max(gain, 1.0) + 127.5, 0, 255).astype(np.uint8)


def _laid_over(patch: np.ndarray, other: np.ndarray, share: np.ndarray) -> np.ndarray:
    """`other` over `patch`, (H, W, 3) uint8 each, by (H, W) uint8."""
    share = cv2.merge((share, share, share))
    front = cv2.multiply(other, share, scale=1.0 / 255.0)
    return np.asarray(cv2.add(front, cv2.multiply(patch, cv2.bitwise_not(share), scale=1.0 / 255.0)))


def _fade(image: np.ndarray, depth: np.ndarray, step: int, haze_per_m: float, haze: np.ndarray) -> None:
    """Fade rows in place towards the haze colour by exp(-depth * haze_per_m)."""
    if haze_per_m <= 0.0:
        return
    share = np.exp(-haze_per_m * np.minimum(depth, FAR_M))
    rows = int(np.count_nonzero(share.min(axis=1) < 0.985))
    weight = np.rint(255.0 * share[:rows]).astype(np.uint8)
    weight = cv2.resize(weight, (weight.shape[1] * step, rows), interpolation=cv2.INTER_LINEAR)
    weight = weight[:, step : step + image.shape[1]]
    weights = cv2.merge((weight, weight, weight))
    table = ((255 - np.arange(256))[:, None, None] * haze.astype(np.float64) / 255.0 + 0.5).astype(np.uint8)
    part = image[:rows]
    cv2.multiply(part, weights, dst=part, scale=1.0 / 255.0)
    cv2.add(part, cv2.LUT(weights, table.reshape(256, 1, 3)), dst=part)


def _put_back(image: np.ndarray, sky: np.ndarray, view: ReliefView) -> None:
    """Sky (rows, W, 3) over what was painted above the end of the ground, with soft edges."""
    top = np.interp(np.arange(image.shape[1]), view.columns, view.top) - view.first_row
    share = np.clip(top[None] - np.arange(len(image))[:, None] + 0.5, 0.0, 1.0)
    np.copyto(image, _laid_over(image, sky, np.rint(255.0 * share).astype(np.uint8)))
