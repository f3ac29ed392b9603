"""Everything flat on a road of the second edition that the map does not know, in the order in which it lies there."""

import numpy as np

from hdmap_core.datasets.synthetic.streets.kerb_lines import draw_kerb_lines
from hdmap_core.datasets.synthetic.streets.layout import Layout
from hdmap_core.datasets.synthetic.streets.road_repairs import draw_repairs
from hdmap_core.datasets.synthetic.streets.road_symbols import draw_symbols
from hdmap_core.datasets.synthetic.town import Crossing, Decal, Marking


def draw_decals(
    rng: np.random.Generator, layout: Layout, markings: list[Marking], crossings: list[Crossing], drives_left: bool
) -> list[Decal]:
    """Aprons of driveways, repairs, then paint; `drives_left`: the town will be mirrored."""
    return [
        *layout.beside.aprons,
        *draw_repairs(rng, layout, markings, crossings),
        *draw_kerb_lines(rng, layout, crossings),
        *draw_symbols(rng, layout, drives_left),
    ]
