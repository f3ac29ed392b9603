"""Reader of the Argoverse 2 sensor data set: logs of feather files, and a vector map per log."""

from hdmap_core.datasets.argoverse.observations import ArgoverseDataset
from hdmap_core.datasets.argoverse.vector_map import ArgoverseMap

__all__ = ["ArgoverseDataset", "ArgoverseMap"]
