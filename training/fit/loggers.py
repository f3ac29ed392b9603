"""Weights & Biases and MLflow, by Lightning's loggers, for those who keep their runs there.

Their own environment variables say where to (`WANDB_MODE=offline`, `WANDB_PROJECT`, `MLFLOW_TRACKING_URI` ...); what
they say nothing of lies in the run folder. A run that goes on, goes on in the same place.
"""

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hdmap_core.files import json_object, write_atomically
from hdmap_core.required_packages import missing_packages_named

_IDENTITIES = "loggers.json"
_PROJECT = "hdmap_ros"


class OtherLogger(Protocol):
    """Where a run's figures and pictures go besides its folder."""

    _logger: Any

    def log(self, phase: str, step: int, numbers: Mapping[str, float]) -> None:
        """Takes the figures of a step."""
        self._logger.log_metrics({f"{phase}/{name}": value for name, value in numbers.items()}, step)

    def show(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Takes (H, W, 3) uint8 RGB pictures."""


def open_loggers(names: Sequence[str], folder: Path, recipe: Mapping[str, Any]) -> list[OtherLogger]:
    """The loggers of a recipe.

    Args:
        names: `wandb`, `mlflow`.
        folder: the run's.
        recipe: as plain values.

    Raises:
        MissingDependencyError: if one is not installed.
    """
    with missing_packages_named():
        return [WandbRun(folder, recipe) if name == "wandb" else MlflowRun(folder, recipe) for name in names]


class WandbRun(OtherLogger):
    """A run in Weights & Biases."""

    def __init__(self, folder: Path, recipe: Mapping[str, Any]) -> None:
        from lightning.pytorch.loggers import WandbLogger

        number = _identity(folder, "wandb") or secrets.token_hex(4)
        project = os.environ.get("WANDB_PROJECT", _PROJECT)
        self._logger = WandbLogger(name=folder.name, save_dir=folder, project=project, id=number, resume="allow")
        self._logger.log_hyperparams(dict(recipe))
        _remember(folder, "wandb", number)

    def show(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """See `OtherLogger`."""
        for name, picture in pictures.items():
            self._logger.log_image(name, [picture], step)


class MlflowRun(OtherLogger):
    """A run in MLflow."""

    def __init__(self, folder: Path, recipe: Mapping[str, Any]) -> None:
        from lightning.pytorch.loggers import MLFlowLogger

        # Without a server the run lies in its own folder: a store that MLflow keeps, but wants to be asked for.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        number = _identity(folder, "mlflow")
        self._logger = MLFlowLogger(
            experiment_name=os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT),
            run_name=folder.name,
            tracking_uri=os.environ.get("MLFLOW_TRACKING_URI"),
            save_dir=str(folder / "mlruns"),
            run_id=number,
        )
        if number is None:
            self._logger.log_hyperparams(dict(recipe))
        _remember(folder, "mlflow", str(self._logger.run_id))

    def show(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """See `OtherLogger`."""
        for name, picture in pictures.items():
            self._logger.experiment.log_image(self._logger.run_id, picture, f"{name}/{step:07d}.png")


def _identity(folder: Path, name: str) -> str | None:
    """The number of the run that this folder's goes on in; None: it begins."""
    number = json_object(folder / _IDENTITIES).get(name)
    return None if number is None else str(number)


def _remember(folder: Path, name: str, number: str) -> None:
    known = json_object(folder / _IDENTITIES)
    write_atomically(folder / _IDENTITIES, (json.dumps({**known, name: number}) + "\n").encode())
