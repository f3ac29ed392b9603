"""Whether a data set has the SD maps that a model with an SD prior needs."""

from hdmap_core.datasets.nuscenes import NuScenesDataset, scenes_of_split
from hdmap_core.errors import DatasetError


def check_sd_maps(dataset: NuScenesDataset, split: str) -> None:
    """Raises DatasetError, naming the first city of the split that has no SD map.

    Without this check the model would silently see a world without roads.
    """
    for city in sorted({scene.location for scene in scenes_of_split(dataset, split)}):
        path = dataset.root / "maps" / "sd" / f"{city}.geojson"
        if not path.is_file():
            raise DatasetError(
                f"the model looks at an SD map, but {path} is missing; `hdmap sdmap OSM_FOLDER {dataset.root}` makes it"
            )
