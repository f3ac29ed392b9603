"""The keyframes of a recipe: of every folder and ground that it names, prepared for the model and its teachers."""

from collections.abc import Mapping
from typing import NamedTuple

from torch.utils.data import ConcatDataset

from hdmap_core.datasets.sensor_check import check_sensors
from hdmap_core.errors import DatasetError
from hdmap_core.models import ModelConfig
from training.config import TrainConfig
from training.data.keyframes import KeyframeList, Keyframes, load_keyframes, sweeps_for
from training.data.seen_by import taught_keyframes


class RecipeKeyframes(NamedTuple):
    """What a run learns from and is validated on.

    Attributes:
        parts: of each folder with each ground, those that the model can use.
        training: all of them that its teachers can use as well, as one list.
        validation: of the first folder.
    """

    parts: list[Keyframes]
    training: KeyframeList
    validation: Keyframes


def recipe_keyframes(config: TrainConfig, teachers: Mapping[str, ModelConfig]) -> RecipeKeyframes:
    """Prepares what is not there yet.

    Args:
        config: the recipe.
        teachers: the models that see each training keyframe too, by their names.

    Raises:
        DatasetError: if a folder, a split or one of its files cannot be used, or lacks what a model looks at.
        OutputError: if a cache cannot be written.
    """
    validation = _keyframes(config, config.model, config.data.val)  # mostly the smaller: what is wrong is told sooner
    recipes = _per_part(config)
    parts = [_keyframes(each, config.model, config.data.train) for each in recipes]
    lists = [_taught(part, each, teachers) for part, each in zip(parts, recipes, strict=True)]
    joined: KeyframeList = ConcatDataset(lists)  # type: ignore[arg-type]  # it reads them by number, no more
    return RecipeKeyframes(parts, joined, validation)


def _keyframes(config: TrainConfig, model: ModelConfig, split: str) -> Keyframes:
    data = config.data
    lidar_ground = data.grounds[0] == "lidar"
    keyframes = load_keyframes(
        data.root,
        split,
        model,
        keep_inputs=data.keep_inputs,
        sweeps=sweeps_for(model),
        lidar_ground=lidar_ground,
        cache=data.cache,
        workers=data.workers,
        reduced=data.reduced_decoding and split == data.train,  # validation sees what the node would
        version=data.version,
    )
    check_sensors(
        keyframes.dataset,
        keyframes.tokens.tolist(),
        lidar=model.lidar_sweeps > 0,
        sd_map=model.sd_prior is not None,
        ground=lidar_ground,
    )
    return keyframes


def _taught(student: Keyframes, config: TrainConfig, teachers: Mapping[str, ModelConfig]) -> KeyframeList:
    seen = {}
    for name, model in teachers.items():
        try:
            seen[name] = _keyframes(config, model, config.data.train)
        except DatasetError as error:
            raise DatasetError(f"sources.{name}: {error}") from None
    return taught_keyframes(student, seen) if seen else student


def _per_part(config: TrainConfig) -> list[TrainConfig]:
    """The recipe once for each folder and ground that it trains on; those of `data.more` keep caches of their own."""
    data = config.data
    folders = [data, *(data.model_copy(update={"root": root, "cache": None}) for root in data.more)]
    parts = [folder.model_copy(update={"grounds": (ground,)}) for ground in data.grounds for folder in folders]
    return [config.model_copy(update={"data": part}) for part in parts]
