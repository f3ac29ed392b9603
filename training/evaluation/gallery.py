"""The pictures of an evaluation: best and worst frames, and one frame under every corruption.

A folder with `index.html` and `images/`: it opens from disk, needs no network, and can be sent as it is.
"""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from hdmap_core.datasets.protocol import MapDataset
from hdmap_core.elements import MapElement
from hdmap_core.errors import OutputError
from hdmap_core.geometry import BEVGrid
from hdmap_core.viz import draw_bev, draw_cameras, write_picture
from training.corruptions import Corruption, corrupt

MIN_SCORE = 0.3
"""Predictions below it are not drawn, and do not count in a frame's F1."""
_STRIP_WIDTH = 560


@dataclass(frozen=True)
class FrameCard:
    """One frame of the gallery.

    Attributes:
        rank: 1 is the best frame of the evaluation.
        f1: see `frame_f1`.
        counts: label -> (predicted as drawn, true).
        bev: file name in `images/` of the view from above, prediction over ground truth.
        cameras: file name of the camera images with the prediction in them.
    """

    token: str
    scene: str
    description: str
    rank: int
    f1: float
    counts: Mapping[str, tuple[int, int]]
    bev: str
    cameras: str


def extremes(frame_f1: Mapping[str, float], most: int) -> list[tuple[int, str]]:
    """(rank, token) of the `most` best and the `most` worst frames, best first; equal ones keep their order."""
    ranked = list(enumerate(sorted(frame_f1, key=lambda token: -frame_f1[token]), start=1))
    return ranked if len(ranked) <= 2 * most else ranked[:most] + ranked[-most:] if most else []


def draw_frames(
    folder: Path,
    dataset: MapDataset,
    ranked: Iterable[tuple[int, str]],
    frame_f1: Mapping[str, float],
    predictions: Mapping[str, Sequence[MapElement]],
    truth: Mapping[str, Sequence[MapElement]],
    grid: BEVGrid,
) -> list[FrameCard]:
    """Draws frames into `folder`/images.

    Args:
        folder: the gallery.
        dataset: where the images come from.
        ranked: see `extremes`.
        frame_f1: token -> F1.
        predictions: token -> elements.
        truth: token -> elements.
        grid: the region of the view from above.

    Raises:
        OutputError: if a picture cannot be written.
    """
    cards = []
    for rank, token in ranked:
        observation = dataset.observation(token, points=False)
        shown = [element for element in predictions[token] if element.score >= MIN_SCORE]
        name = f"{rank:05d}"
        bev = draw_bev(observation, shown, truth[token], grid, pixels_per_metre=16)
        write_picture(folder / "images" / f"{name}-bev.jpg", bev)
        cameras = draw_cameras(observation, shown)
        size = (1280, round(1280 * cameras.shape[0] / cameras.shape[1]))
        cameras = cv2.resize(cameras, size, interpolation=cv2.INTER_AREA)
        write_picture(folder / "images" / f"{name}-cameras.jpg", cameras)
        labels = sorted({element.label for element in (*shown, *truth[token])})
        counts = {label.value: (_count(shown, label), _count(truth[token], label)) for label in labels}
        scene = dataset.scene_of(token)
        files = f"{name}-bev.jpg", f"{name}-cameras.jpg"
        cards.append(FrameCard(token, scene.name, scene.description, rank, frame_f1[token], counts, *files))
    return cards


def draw_corruptions(
    folder: Path,
    dataset: MapDataset,
    token: str,
    truth: Sequence[MapElement],
    corruptions: Sequence[Corruption],
) -> dict[Corruption, str]:
    """Draws one frame under every corruption, with the ground truth where the given calibration puts it.

    Returns:
        Corruption -> file name in `folder`/images.

    Raises:
        OutputError: if a picture cannot be written.
    """
    observation = dataset.observation(token, points=False)
    files = {}
    for corruption in corruptions:
        cameras = draw_cameras(corrupt(observation, corruption), truth)
        size = (_STRIP_WIDTH, round(_STRIP_WIDTH * cameras.shape[0] / cameras.shape[1]))
        files[corruption] = f"{corruption.label}.jpg"
        picture = np.ascontiguousarray(cv2.resize(cameras, size, interpolation=cv2.INTER_AREA))
        write_picture(folder / "images" / files[corruption], picture)
    return files


def clear(folder: Path) -> None:
    """Removes the pictures of an earlier gallery.

    Raises:
        OutputError: if that fails.
    """
    try:
        if (folder / "images").is_dir():
            shutil.rmtree(folder / "images")
    except OSError as error:
        raise OutputError(f"cannot remove {folder / 'images'}: {error.strerror or error}") from None


def _count(elements: Sequence[MapElement], label: object) -> int:
    return sum(element.label is label for element in elements)
