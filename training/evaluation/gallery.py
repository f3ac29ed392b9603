"""The pictures of an evaluation: best and worst frames, and one frame under every corruption.

A folder with `index.html` and `images/`: it opens from disk, needs no network, and can be sent as it is. The maps are
not in the pictures but lie over them, so that a reader can choose what to see.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from hdmap_core.datasets.protocol import MapDataset
from hdmap_core.elements import MapElement
from hdmap_core.geometry import BEVGrid
from hdmap_core.metrics.breakdown import Breakdown
from hdmap_core.observation import Observation
from hdmap_core.viz import draw_bev, draw_cameras, write_picture
from hdmap_core.viz.camera_mosaic import camera_rows
from hdmap_core.viz.top_view import pixel_grid
from training.corruptions import Corruption, corrupt
from training.evaluation.overlays import MIN_SCORE, bev_layers, camera_layers

_PIXELS_PER_METRE = 16
_CAMERA_WIDTH, _STRIP_WIDTH = 640, 560


@dataclass(frozen=True)
class Run:
    """One of the runs that a gallery shows.

    Attributes:
        name: of the model.
        predictions: token -> elements.
        parts: the score.
    """

    name: str
    predictions: Mapping[str, Sequence[MapElement]]
    parts: Breakdown


@dataclass(frozen=True)
class Layered:
    """A picture with maps over it.

    Attributes:
        file: name in `images/`.
        shows: what is in it.
        size: (W, H) pixels.
        layers: per run the SVG over it.
    """

    file: str
    shows: str
    size: tuple[int, int]
    layers: tuple[str, ...]


@dataclass(frozen=True)
class FrameCard:
    """One frame of the gallery.

    Attributes:
        rank: 1 is the best frame of the evaluation.
        f1: per run, see `frame_f1`.
        counts: per run: label -> (predicted with at least `MIN_SCORE`, true).
        bev: the view from above.
        cameras: rows of images, as they look around the car.
    """

    token: str
    scene: str
    description: str
    rank: int
    f1: tuple[float, ...]
    counts: tuple[Mapping[str, tuple[int, int]], ...]
    bev: Layered
    cameras: tuple[tuple[Layered, ...], ...]


def extremes(frame_f1: Mapping[str, float], most: int) -> list[tuple[int, str]]:
    """(rank, token) of the `most` (1 or more) best and worst frames each, best first; equal ones keep their order."""
    ranked = list(enumerate(sorted(frame_f1, key=lambda token: -frame_f1[token]), start=1))
    return ranked if len(ranked) <= 2 * most else ranked[:most] + ranked[-most:]


def draw_frames(
    folder: Path,
    dataset: MapDataset,
    ranked: Iterable[tuple[int, str]],
    runs: Sequence[Run],
    truth: Mapping[str, Sequence[MapElement]],
    grid: BEVGrid,
) -> list[FrameCard]:
    """Draws frames into `folder`/images.

    Args:
        folder: the gallery.
        dataset: where the images come from.
        ranked: see `extremes`.
        runs: one, or two to compare.
        truth: token -> elements.
        grid: the region of the view from above.

    Raises:
        OutputError: if a picture cannot be written.
    """
    cards = []
    for rank, token in ranked:
        observation, true = dataset.observation(token, points=False), truth[token]
        said = [run.predictions.get(token, ()) for run in runs]
        bev = draw_bev(observation, (), None, grid, _PIXELS_PER_METRE)
        write_picture(folder / "images" / f"{rank:05d}-bev.jpg", bev)
        fine = pixel_grid(grid, _PIXELS_PER_METRE)
        above = tuple(bev_layers(fine, some, true) for some in said)
        scene = dataset.scene_of(token)
        cards.append(
            FrameCard(
                token,
                scene.name,
                scene.description,
                rank,
                tuple(run.parts.frame_f1.get(token, 0.0) for run in runs),
                tuple(_counts(some, true) for some in said),
                Layered(f"{rank:05d}-bev.jpg", "view from above", (bev.shape[1], bev.shape[0]), above),
                _cameras(folder, f"{rank:05d}", observation, said, true),
            )
        )
    return cards


def _cameras(
    folder: Path,
    name: str,
    observation: Observation,
    said: Sequence[Sequence[MapElement]],
    truth: Sequence[MapElement],
) -> tuple[tuple[Layered, ...], ...]:
    rows = []
    for row in camera_rows(observation.rig):
        pictures = []
        for camera in row:
            image = observation.images[observation.rig.names.index(camera)]
            if image is None:
                continue
            size = (_CAMERA_WIDTH, round(_CAMERA_WIDTH * image.shape[0] / image.shape[1]))
            file = f"{name}-{camera}.jpg"
            write_picture(folder / "images" / file, cv2.resize(image, size, interpolation=cv2.INTER_AREA))
            rig = observation.rig.select([camera]).resized(size[::-1])
            layers = tuple(camera_layers(rig, some, truth) for some in said)
            pictures.append(Layered(file, camera, size, layers))
        rows.append(tuple(pictures))
    return tuple(row for row in rows if row)


def _counts(predicted: Sequence[MapElement], truth: Sequence[MapElement]) -> dict[str, tuple[int, int]]:
    shown = [element for element in predicted if element.score >= MIN_SCORE]
    labels = sorted({element.label for element in (*shown, *truth)})
    return {
        label.value: (sum(e.label is label for e in shown), sum(e.label is label for e in truth)) for label in labels
    }


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
