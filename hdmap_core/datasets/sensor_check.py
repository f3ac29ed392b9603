"""Whether a data set has the LiDAR sweeps and SD maps that a model looks at; without, it would see an empty world."""

from collections.abc import Iterable

from hdmap_core.datasets.protocol import MapDataset
from hdmap_core.errors import DatasetError


def check_sensors(
    dataset: MapDataset, tokens: Iterable[str], *, lidar: bool, sd_map: bool, ground: bool = False
) -> None:
    """Looks at the first keyframe of every scene.

    Args:
        dataset: the data set.
        tokens: the keyframes that a model will see.
        lidar: the model looks at LiDAR points.
        sd_map: the model looks at an SD map.
        ground: LiDAR is to show the ground (`--lidar-ground`, in a recipe `data.grounds`).

    Raises:
        DatasetError: naming the first scene whose sweep is missing or empty, or the first place without an SD map.
    """
    wanted = lidar or sd_map or ground
    who = "the model looks at LiDAR" if lidar else "LiDAR is to show the ground"
    first = {dataset.scene_of(token).name: token for token in reversed(list(tokens))} if wanted else {}
    for scene, token in first.items():
        if sd_map and dataset.sd_lines(token) is None:
            raise DatasetError(f"the model looks at an SD map, but {dataset.advice('SD map', token)}")
        points = dataset.observation(token, images=False).points if lidar or ground else None
        if (lidar or ground) and (points is None or not len(points)):
            state = "missing" if points is None else "empty"
            raise DatasetError(
                f"{who}, but the sweep of sample {token} of {scene} is {state}; {dataset.advice('LiDAR', token)}"
            )
