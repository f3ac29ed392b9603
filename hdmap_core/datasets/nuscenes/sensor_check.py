"""Whether a data set has the LiDAR sweeps and SD maps that a model looks at; without, it would see an empty world."""

from collections.abc import Iterable

from hdmap_core.datasets.nuscenes.observations import NuScenesDataset
from hdmap_core.errors import DatasetError


def check_sensors(dataset: NuScenesDataset, tokens: Iterable[str], *, lidar: bool, sd_map: bool) -> None:
    """Looks at the first keyframe of every scene.

    Args:
        dataset: the data set.
        tokens: the keyframes that a model will see.
        lidar: the model looks at LiDAR points.
        sd_map: the model looks at an SD map.

    Raises:
        DatasetError: naming the first scene whose sweep is empty, or the first city without an SD map.
    """
    first = {dataset.scene_of(token).name: token for token in reversed(list(tokens))} if lidar or sd_map else {}
    for scene, token in first.items():
        path = dataset.root / "maps" / "sd" / f"{dataset.scene_of(token).location}.geojson"
        if sd_map and not path.is_file():
            raise DatasetError(
                f"the model looks at an SD map, but {path} is missing; `hdmap sdmap OSM_FOLDER {dataset.root}` makes it"
            )
        points = dataset.observation(token, images=False).points if lidar else None
        if points is not None and not len(points):
            raise DatasetError(
                f"the model looks at LiDAR, but the sweep of sample {token} of {scene} is empty; a synthetic data set "
                "needs `hdmap synth --lidar keyframes`, or `all` for several sweeps"
            )
