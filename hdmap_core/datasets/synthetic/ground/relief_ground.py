"""Painting the ground of a relief: the baked texture, seen through a `ReliefView`, with the faces of its kerbs.

The image is cut into blocks of some slices, and each block into bands of similar distance. A band is looked up in the
mip level that fits a pixel's width there, with several sub-rows per row that are averaged, since far away a pixel
covers a patch much longer than wide. Across, texels are wider than pixels, so not every pixel is looked up.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from hdmap_core.datasets.synthetic.ground.picture import GroundTexture, pyramid
from hdmap_core.datasets.synthetic.ground.relief import Relief
from hdmap_core.datasets.synthetic.ground.relief_view import FAR_M, KERBS_FADE_M, ReliefView, Sheet
from hdmap_core.datasets.synthetic.ground.view import blend_haze
from hdmap_core.datasets.synthetic.ground.wear import SHADE_TEXEL_M
from hdmap_core.datasets.synthetic.light.shading import DISPLAY_GAMMA, Lighting

MAX_SUBROWS = 4
_BLOCK = 15
"""Slices."""
_FACE_TEXEL_M = 0.2
_CELL_M = 0.5
_KERB_TOP_M = 0.1
_BEHIND_KERB_M = 12.0
"""How far behind a kerb rays may come down that meet its face: 18 cm high, 50 m away, seen from 1.5 m."""
_ROW = 4096
"""Places per row of a remap; OpenCV takes no more than 32767."""
_ROAD, _MIXED, _RAISED = 0, 1, 2
_GROUP = 5
"""Slices that are looked at together for kerbs."""
_EDGE = np.arange(256) - 127.5


@dataclass(frozen=True)
class _Seen:
    """Both sheets as one camera sees them, sorted by what of them counts."""

    view: ReliefView
    low: Sheet
    high: Sheet
    places: np.ndarray
    """Of the sheet that counts, where a look at the neighbourhood tells: (rows, slices, 2) float32."""
    kerb_rows: np.ndarray
    """(rows, groups) bool: whether each pixel must be told road, kerb or raised for itself."""


class ReliefGround:
    """The ground of one town, ready to be painted: texture, where it is raised, and what the kerbs' faces look like."""

    def __init__(self, texture: GroundTexture, relief: Relief, light: Lighting) -> None:
        self.texture = texture
        self.masks = pyramid(relief.raised, len(texture.levels))
        self.mask_texel_m = relief.size[0] / relief.raised.shape[1]
        self.faces = _bake_faces(texture, relief, light)
        self.kinds = _bake_kinds(relief)

    def draw(self, image: np.ndarray, view: ReliefView, haze_per_m: float, haze: np.ndarray) -> None:
        """Paint the ground in place on (H, W, 3) uint8 that holds the sky, faded towards `haze` (3,) uint8."""
        top, bottom = view.first_row, image.shape[0]
        if top >= bottom:
            return
        seen = self._sort_out(view)
        fringe = min(math.ceil(max(min(view.top.max(), bottom) - top + 2, 0)), bottom - top)
        sky = image[top : top + fringe].copy()
        for left in range(1, len(view.columns) - 1, _BLOCK):
            self._draw_block(image[top:], seen, left, min(left + _BLOCK, len(view.columns) - 1))
        _fade(image[top:], seen.low.depth, view.step, haze_per_m, haze)
        if fringe:
            _put_back(image[top : top + fringe], sky, view)

    def _sort_out(self, view: ReliefView) -> _Seen:
        low, high = view.sheet(False), view.sheet(True)
        window = np.ones((3, 3), np.uint8)
        low_kind, high_kind = (
            _sampled(self.kinds, sheet.places, _CELL_M, _RAISED, cv2.INTER_NEAREST) for sheet in (low, high)
        )
        most = cv2.dilate(cv2.max(low_kind, high_kind), window)
        least = cv2.erode(cv2.min(low_kind, high_kind), window)
        is_mixed = (most != least) | (most == _MIXED)
        is_mixed &= low.depth < KERBS_FADE_M[1]
        places = cv2.copyTo(high.places, (high_kind == _RAISED).astype(np.uint8), low.places.copy())
        # A group's slices and one to either side, as a window around its middle; the last group may be cut off.
        padded = cv2.copyMakeBorder(is_mixed.astype(np.uint8), 0, 0, 0, _GROUP, cv2.BORDER_CONSTANT)
        around = cv2.dilate(padded, np.ones((1, _GROUP + 2), np.uint8)) > 0
        kerb_rows = around[:, 1 + _GROUP // 2 : is_mixed.shape[1] - 1 + _GROUP // 2 : _GROUP]
        return _Seen(view, low, high, places, kerb_rows)

    def _draw_block(self, image: np.ndarray, seen: _Seen, left: int, right: int) -> None:
        """Paint slices `left` to `right`, band by band from the top."""
        rows, step = image.shape[0], seen.view.step
        target = image[:, (left - 1) * step : min((right - 1) * step, image.shape[1])]
        depth = seen.low.depth[:, (left + right) // 2]
        along = np.abs(np.diff(seen.places[:, (left + right) // 2], axis=0, append=0.0)).sum(axis=1)
        is_ground = seen.low.depth[:, left - 1 : right + 1].min(axis=1) < FAR_M
        begin = max(int(is_ground.argmax()) - 1, 0) if is_ground.any() else rows
        while begin < rows:
            beyond = depth[begin + 2 :] < depth[begin] / 1.8
            end = begin + 2 + int(beyond.argmax()) if beyond.any() else rows
            end = min(end, rows)
            middle = min((begin + end) // 2, max(rows - 2, 0))
            across = float(depth[middle]) / seen.view.intrinsics[1, 1]
            self._draw_band(target[begin:end], (begin, end, left, right), seen, across, float(along[middle]))
            begin = end

    def _draw_band(
        self, target: np.ndarray, part: tuple[int, int, int, int], seen: _Seen, across: float, along: float
    ) -> None:
        subrows, texel = 1, self.texture.texel_m
        while subrows < MAX_SUBROWS and along / subrows > 1.6 * max(across, texel):
            subrows *= 2
        footprint = max(across, along / subrows) / 1.4
        level = math.ceil(math.log2(max(footprint / texel, 1.0)) - 0.2)
        level = min(max(level, 0), len(self.texture.levels) - 1)
        texels, texel = self.texture.levels[level], texel * 2**level
        columns, step, thin = target.shape[1], seen.view.step, 1
        while thin < 4 and step % (2 * thin) == 0 and 2 * thin * across < 0.6 * texel:
            thin *= 2
        places = _grown([seen.places], part, step, subrows, thin)
        faces = self._find_kerbs(places, part, seen, subrows, thin, footprint)
        patch = _sampled(texels, places, texel, self.texture.border)
        for rows, cols, lower, share in faces:
            face = _sampled(self.faces, lower, _FACE_TEXEL_M, (0, 0, 0))
            patch[rows, cols] = _laid_over(patch[rows, cols], face, share)
        if subrows > 1:
            patch = _mean_of_rows(patch, subrows)
        if thin > 1:
            patch = cv2.resize(patch, (patch.shape[1] * thin, target.shape[0]), interpolation=cv2.INTER_LINEAR)
        target[:] = patch[:, thin : thin + columns]

    def _find_kerbs(
        self,
        places: np.ndarray,
        part: tuple[int, int, int, int],
        seen: _Seen,
        subrows: int,
        thin: int,
        footprint: float,
    ) -> list[tuple[slice, slice, np.ndarray, np.ndarray]]:
        """Put into `places` (H, W, 2), near kerbs, the sheet that each pixel sees.

        Returns:
            Kerbs' faces: rows and columns, where their rays meet the road (h, w, 2), and what share they cover (h, w).
        """
        top, bottom, left, right = part
        step = seen.view.step
        faces: list[tuple[slice, slice, np.ndarray, np.ndarray]] = []
        first = (left - 1) // _GROUP
        rows_near = seen.kerb_rows[top:bottom, first : -(-(right - 1) // _GROUP)]
        with_kerbs = np.flatnonzero(rows_near.any(axis=0)).tolist()
        if not with_kerbs:
            return faces
        depth = min(max(math.floor(math.log2(max(footprint / self.mask_texel_m, 1.0))), 0), len(self.masks) - 1)
        texel = self.mask_texel_m * 2**depth
        sharpen = _sharpened(texel / footprint)
        for group in with_kerbs:
            near, start = np.flatnonzero(rows_near[:, group]), left + group * _GROUP
            piece = (top + int(near[0]), top + int(near[-1]) + 1, start, min(start + _GROUP, right))
            rows = slice((piece[0] - top) * subrows, (piece[1] - top) * subrows)
            cols = slice((start - left) * step // thin, (piece[3] - left) * step // thin + 2)
            both = _grown([seen.low.places, seen.high.places], piece, step, subrows, thin)
            raised = cv2.LUT(_sampled(self.masks[depth], both, texel, 255), sharpen)
            half = len(both) // 2
            (lower, upper), (below, above) = (both[:half], both[half:]), (raised[:half], raised[half:])
            # Where pieces are this narrow, faces too are read where the upper sheet is seen; no picture is to change.
            onto = lower if step == thin or half == 1 else lower.copy()
            places[rows, cols] = cv2.copyTo(upper, (above > 127).astype(np.uint8), onto)
            share = cv2.subtract(below, above)
            if share.any():
                faces.append((rows, cols, lower, share))
        return faces


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
    that its face gets; far behind kerbs, where no such ray comes down, the ground. (rows, columns, 3) uint8 at
    `_FACE_TEXEL_M`.
    """
    shape = math.ceil(relief.size[0] / _FACE_TEXEL_M), math.ceil(relief.size[1] / _FACE_TEXEL_M)
    raised = np.where(cv2.resize(relief.raised, shape, interpolation=cv2.INTER_AREA) > 127, 255, 0).astype(np.uint8)
    distance, labels = cv2.distanceTransformWithLabels(raised, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    edge = np.zeros((int(labels.max()) + 1, 2), np.float32)
    rows, columns = np.nonzero(raised == 0)
    edge[labels[rows, columns]] = np.stack([columns, rows], axis=1)
    window = np.ones((3, 3), np.uint8)
    rows, columns = np.nonzero((distance * _FACE_TEXEL_M < _BEHIND_KERB_M) & (cv2.dilate(raised, window) > 0))
    start = edge[labels[rows, columns]]
    inward = np.stack([columns, rows], axis=1).astype(np.float32) - start
    inward /= np.maximum(np.hypot(inward[:, 0], inward[:, 1]), 1e-3)[:, None]
    place = (start + 0.5) * _FACE_TEXEL_M + inward * (0.5 * _FACE_TEXEL_M + _KERB_TOP_M)
    whole = np.zeros((-(-len(place) // _ROW), _ROW, 2), np.float32)
    whole.reshape(-1, 2)[: len(place)] = place
    colour = _sampled(texture.levels[0], whole, texture.texel_m, texture.border).reshape(-1, 3)[: len(place)]
    reach = 1.0 - _sampled(texture.blocked, whole, SHADE_TEXEL_M, 0).ravel()[: len(place)]
    normals = np.concatenate([-inward, np.zeros_like(inward[:, :1])], axis=1)
    # Less sky than a wall in the open: the road's reflection is dark. The ground's colour is in shade already.
    share = 0.85 * light.irradiance(normals, reach) / light.irradiance(np.array([0.0, 0.0, 1.0]), reach)
    faces = cv2.resize(texture.levels[0], shape, interpolation=cv2.INTER_AREA)
    faces[rows, columns] = np.clip(colour * (share ** (1.0 / DISPLAY_GAMMA))[:, None], 0, 255)
    return np.asarray(faces)


def _grown(tables: list[np.ndarray], part: tuple[int, int, int, int], step: int, subrows: int, thin: int) -> np.ndarray:
    """Rows and slices of tables (rows, slices, 2), interpolated: one entry per sub-row and per `thin` pixel columns,
    and one more column at either side. Several tables come one below the other.
    """
    top, bottom, left, right = part
    pad, rest = int(subrows > 1), step // thin - 1
    pieces = [table[max(top - pad, 0) : bottom + pad, left - 1 : right + 1] for table in tables]
    if top < pad or bottom + pad > len(tables[0]):
        missing = max(pad - top, 0), max(bottom + pad - len(tables[0]), 0)
        pieces = [cv2.copyMakeBorder(piece, *missing, 0, 0, cv2.BORDER_REPLICATE) for piece in pieces]
    whole = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
    size = (whole.shape[1] * step // thin, whole.shape[0] * subrows)
    grown = cv2.resize(whole, size, interpolation=cv2.INTER_LINEAR).reshape(len(pieces), -1, size[0], 2)
    wanted = grown[:, pad * subrows : grown.shape[1] - pad * subrows, rest : size[0] - rest]
    return wanted[0] if len(pieces) == 1 else wanted.reshape(-1, *wanted.shape[2:])


def _sampled(
    texels: np.ndarray, places: np.ndarray, texel_m: float, border: tuple[int, ...] | int, how: int = cv2.INTER_LINEAR
) -> np.ndarray:
    """`texels` (rows, columns[, 3]) at town coordinates (H, W, 2)."""
    at = cv2.addWeighted(places, 1.0 / texel_m, places, 0.0, -0.5)
    return np.asarray(
        cv2.remap(texels, at, None, how, borderMode=cv2.BORDER_CONSTANT, borderValue=border)  # type: ignore[call-overload]
    )


def _mean_of_rows(patch: np.ndarray, count: int) -> np.ndarray:
    """The mean of each `count` (2 or 4) rows of (H count, W, 3) uint8, to the bits of the slower INTER_AREA."""
    if count == 2:
        return cv2.addWeighted(patch[::2], 0.5, patch[1::2], 0.5, 0.0)
    rows = patch.reshape(-1, count, patch.shape[1] * 3)
    total = rows[:, 0].astype(np.uint16)
    for i in range(1, count):
        total += rows[:, i]
    return cv2.convertScaleAbs(total, alpha=1.0 / count).reshape(-1, *patch.shape[1:])


def _sharpened(gain: float) -> np.ndarray:
    """(256,) uint8: an edge that is `gain` pixels wide made one pixel wide."""
    return np.minimum(np.maximum(_EDGE * max(gain, 1.0) + 127.5, 0.0), 255.0).astype(np.uint8)


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
    if rows == 0:
        return
    weight = np.rint(255.0 * share[:rows]).astype(np.uint8)
    weight = cv2.resize(weight, (weight.shape[1] * step, rows), interpolation=cv2.INTER_LINEAR)
    blend_haze(image[:rows], weight[:, step : step + image.shape[1]], haze)


def _put_back(image: np.ndarray, sky: np.ndarray, view: ReliefView) -> None:
    """Sky (rows, W, 3) over what was painted above the end of the ground, with soft edges."""
    top = np.interp(np.arange(image.shape[1]), view.columns, view.top) - view.first_row
    share = np.clip(top[None] - np.arange(len(image))[:, None] + 0.5, 0.0, 1.0)
    np.copyto(image, _laid_over(image, sky, np.rint(255.0 * share).astype(np.uint8)))
