"""OpenStreetMap roads of the nuScenes cities, for SD maps."""

from hdmap_core.datasets.nuscenes.cities import CITIES
from hdmap_core.datasets.osm.roads import (
    ATTRIBUTION,
    ROAD_CHOICES,
    Road,
    chosen,
    map_from_degrees,
    read_roads,
    write_sd_map,
)

__all__ = [
    "ATTRIBUTION",
    "CITIES",
    "ROAD_CHOICES",
    "Road",
    "chosen",
    "map_from_degrees",
    "read_roads",
    "write_sd_map",
]
