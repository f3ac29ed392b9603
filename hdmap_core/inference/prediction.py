"""Prediction: what a model says of an observation, to draw, to save and to put on a map."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hdmap_core.elements import MapElement, write_elements
from hdmap_core.errors import OutputError
from hdmap_core.exchange.geojson import to_geojson, write_geojson
from hdmap_core.geometry import BEVGrid
from hdmap_core.geometry.map_origin import MapOrigin
from hdmap_core.observation import Observation

PICTURES = (".png", ".jpg", ".jpeg")
ELEMENTS = (".jsonl", ".json")
SUFFIXES = (*PICTURES, *ELEMENTS, ".geojson")
"""What `Prediction.save` can write."""
SHOWN_SCORE = 0.3
"""Elements with a lower score are left out of pictures."""


@dataclass(frozen=True)
class Prediction:
    """The map around the car, without the images it was made of.

    Attributes:
        elements: in the ego frame of the observation's stamp, sorted by class, then by falling score.
        timings_ms: stage -> milliseconds.
        raster: (Y, X) uint8 class indices on the model's grid, 0 is the background; None without dense heads.
        token, stamp_ns, map_from_ego, map_origin: the observation's.
        grid: the model's region.
        not_finite: so many elements that the network gave were no numbers, and are not among these.
    """

    elements: list[MapElement]
    timings_ms: dict[str, float]
    raster: np.ndarray | None = None
    token: str = ""
    stamp_ns: int = 0
    map_from_ego: np.ndarray | None = None
    map_origin: MapOrigin | None = None
    grid: BEVGrid = field(default_factory=BEVGrid)
    not_finite: int = 0

    def plot(
        self,
        observation: Observation | None = None,
        truth: Sequence[MapElement] | None = None,
        min_score: float = SHOWN_SCORE,
    ) -> np.ndarray:
        """A picture of the elements from above; with the observation, also over its images.

        Args:
            observation: the one that was predicted.
            truth: ground truth, drawn thin and white.
            min_score: elements with a lower score are left out.

        Returns:
            (H, W, 3) uint8 RGB.
        """
        from hdmap_core.viz import draw_bev, draw_map

        if observation is not None:
            return draw_map(observation, self.elements, truth, self.grid, min_score=min_score)
        shown = [element for element in self.elements if element.score >= min_score]
        return draw_bev(None, shown, truth, self.grid, pixels_per_metre=20)

    def to_geojson(self) -> dict[str, Any]:
        """All elements as a GeoJSON FeatureCollection; see `hdmap_core.exchange.geojson.to_geojson`."""
        return to_geojson(
            self.elements,
            token=self.token,
            stamp_ns=self.stamp_ns,
            map_from_ego=self.map_from_ego,
            origin=self.map_origin,
        )

    def save(
        self,
        path: str | Path,
        observation: Observation | None = None,
        truth: Sequence[MapElement] | None = None,
        min_score: float = SHOWN_SCORE,
    ) -> None:
        """Writes what the path's suffix says: a picture (see `plot`), all elements as JSON lines, or GeoJSON.

        Raises:
            OutputError: for another suffix, or if the file cannot be written.
        """
        suffix = Path(path).suffix.lower()
        if suffix in PICTURES:
            from hdmap_core.viz import write_picture

            write_picture(path, self.plot(observation, truth, min_score))
        elif suffix in ELEMENTS:
            write_elements(path, {self.token: self.elements})
        elif suffix == ".geojson":
            write_geojson(path, self.to_geojson())
        else:
            raise OutputError(f"cannot write {path}: its name must end in one of {', '.join(SUFFIXES)}")
