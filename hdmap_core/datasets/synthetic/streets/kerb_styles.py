"""Kerbs of the second edition that are painted: black and white blocks, yellow or red stretches."""

import numpy as np
import shapely
from shapely import MultiPolygon, Polygon

from hdmap_core.datasets.synthetic.curve import cut, total_length
from hdmap_core.datasets.synthetic.town import RGB, KerbPaint

BLACK: RGB = (0.03, 0.03, 0.03)
WHITE: RGB = (0.72, 0.72, 0.7)
YELLOW: RGB = (0.68, 0.43, 0.06)
RED: RGB = (0.4, 0.04, 0.03)
STYLES: tuple[tuple[RGB, ...], ...] = ((BLACK, WHITE), (BLACK, WHITE), (YELLOW,), (BLACK, YELLOW), (RED, WHITE), (RED,))


def draw_kerb_paint(rng: np.random.Generator, drivable: MultiPolygon, islands: tuple[Polygon, ...]) -> list[KerbPaint]:
    """Painted stretches: islands as a whole, kerbs of the roads in pieces, as the town has it."""
    found = []
    if rng.random() < 0.55:
        colours, block = STYLES[rng.integers(len(STYLES))], float(rng.uniform(0.5, 1.2))
        share = float(rng.uniform(0.3, 1.0))
        found += [
            KerbPaint(np.array(island.exterior.coords), colours, block) for island in islands if rng.random() < share
        ]
    if rng.random() < 0.45:
        colours, block = STYLES[rng.integers(len(STYLES))], float(rng.uniform(0.5, 1.2))
        for part in shapely.get_parts(drivable):
            ring = np.array(part.exterior.coords)
            length, at = total_length(ring), 0.0
            while at < length:
                end = at + float(rng.uniform(6, 45))
                if rng.random() < 0.25:
                    found.append(KerbPaint(cut(ring, at, min(end, length)), colours, block))
                at = end
    return found
