"""What a model says of each keyframe of a set and its AP there, for experiments that write one set in several ways."""

from collections.abc import Callable, Collection
from pathlib import Path

from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.elements import MapElement
from hdmap_core.inference import Predictor
from hdmap_core.metrics.chamfer_ap import chamfer_ap
from hdmap_core.observation import Observation

Elements = dict[tuple[str, int], list[MapElement]]
"""Of each keyframe by its scene and its number in it, which are the same in every set."""


def predicted(
    folder: Path, predictor: Predictor, seen: Callable[[Observation, str], Observation] | None = None
) -> tuple[Elements, Elements]:
    """What is said and what is true of a nuScenes folder; `seen` changes an observation of the scene of that name."""
    said, true = {}, {}
    dataset, grid = NuScenesDataset(folder), predictor.info.grid
    for scene in dataset.scenes:
        for number, token in enumerate(scene.sample_tokens):
            observation = dataset.observation(token, points=False)
            if seen is not None:
                observation = seen(observation, scene.name)
            said[scene.name, number] = predictor.predict(observation).elements
            true[scene.name, number] = dataset.elements(token, grid.x_range, grid.y_range)
    return said, true


def row(said: Elements, true: Elements, scenes: Collection[str] | None = None) -> list[str]:
    """Number of keyframes, mAP and AP of the classes by MapTR's protocol, of all keyframes or those of some scenes."""
    kept = [key for key in true if scenes is None or key[0] in scenes]
    score = chamfer_ap({str(key): said[key] for key in kept}, {str(key): true[key] for key in kept})
    per_class = [f"{of_class.mean_ap:.3f}" for of_class in score.classes.values()]
    return [str(len(kept)), f"{score.mean_ap:.3f}", *per_class]
