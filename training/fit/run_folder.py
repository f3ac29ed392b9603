"""The folder of a training run: resolved config, metrics, checkpoints, and the state to go on from."""

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from hdmap_core.checkpoint import SUFFIX, CheckpointConfig, save_checkpoint
from hdmap_core.errors import CheckpointError, OutputError, os_errors_as
from hdmap_core.files import make_folder, write_atomically
from training.config import TrainConfig
from training.fit.loggers import OtherLogger, open_loggers

_METRICS = "metrics.jsonl"
_FIXED = ("model", "data.train", "optim.batch_size", "seed")
"""What a run cannot go on without: with another value, it would be another run."""


def state_file(folder: Path) -> Path:
    """The file of a run folder that a run goes on from."""
    return folder / "checkpoints" / "state.safetensors"


class RunFolder:
    """Writes everything a run leaves behind. Of several processes, only the first does.

    Args:
        path: the folder; made if it is not there.
        config: the resolved recipe.
        provenance: goes into every checkpoint.
        writes: whether this is the process that writes.

    Raises:
        OutputError: if the folder cannot be made.
    """

    def __init__(self, path: Path, config: TrainConfig, provenance: dict[str, Any], *, writes: bool = True) -> None:
        self.path = path
        self.config = config
        self.provenance = provenance
        self.best = -1.0
        self._writes = writes
        self._tensorboard: SummaryWriter | None = None
        self._loggers: list[OtherLogger] = []
        if writes:
            make_folder(path)

    @property
    def state(self) -> Path:
        """See `state_file`."""
        return state_file(self.path)

    def restore(self) -> tuple[int, int, dict[str, Tensor]]:
        """What `save` wrote: steps done, number of processes then, tensors; 0 steps and no tensors in a new folder.

        Raises:
            CheckpointError: if the state is damaged, or of a recipe that this one cannot go on with.
        """
        if not self.state.is_file():
            return 0, 1, {}
        try:
            with safe_open(self.state, framework="pt") as file:
                header = json.loads((file.metadata() or {})["hdmap_state"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            step, processes, recipe = int(header["step"]), int(header["processes"]), header["recipe"]
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"cannot continue from {self.state}: {error}; delete it to start anew") from None
        now = self.config.model_dump(mode="json")
        changed = [key for key in _FIXED for key in differences(_at(recipe, key), _at(now, key), key)]
        before = header.get("sources", {})
        for name, source in self.provenance.get("sources", {}).items():
            if name in before and before[name]["sha256"] != source["sha256"]:
                changed.append(f"the weights of sources.{name}")
        if changed:
            raise CheckpointError(
                f"cannot continue from {self.state}: this recipe differs in {', '.join(changed)}; "
                "take the run's own config.yaml, or train into another folder"
            )
        return step, processes, tensors

    def begin(self, step: int) -> None:
        """Makes the folder say what a run that stands at `step` knows: later lines of metrics are dropped.

        Raises:
            OutputError: if the folder cannot be written.
        """
        metrics = self.path / _METRICS
        records = [record for record in metrics_of(self.path) if record["step"] <= step]
        self.best = max([-1.0, *(record[self.config.best_by] for record in records if record["phase"] == "val")])
        if not self._writes:
            return
        plain = yaml.safe_dump(self.config.model_dump(mode="json"), sort_keys=False)
        write_atomically(self.path / "config.yaml", plain.encode())
        versions = f"python {platform.python_version()}\ntorch {torch.__version__}\nmachine {platform.machine()}\n"
        write_atomically(self.path / "environment.txt", versions.encode())
        if metrics.is_file():
            write_atomically(metrics, "".join(json.dumps(record) + "\n" for record in records).encode())
        self._tensorboard = SummaryWriter(str(self.path / "tensorboard"), purge_step=step + 1 if step else None)
        self._tensorboard.add_text("recipe", f"```yaml\n{plain}```", step)
        self._loggers = open_loggers(self.config.loggers, self.path, self.config.model_dump(mode="json"))

    def log(self, phase: str, step: int, numbers: Mapping[str, float]) -> None:
        """Appends a line to metrics.jsonl, the TensorBoard, and the other loggers."""
        if not self._writes:
            return
        line = {"phase": phase, "step": step, **{name: round(value, 6) for name, value in numbers.items()}}
        path = self.path / _METRICS
        with os_errors_as(OutputError, f"cannot write {path}"), path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        if self._tensorboard is not None:
            for name, value in numbers.items():
                self._tensorboard.add_scalar(f"{phase}/{name}", value, step)
        for logger in self._loggers:
            logger.log(phase, step, numbers)

    def show(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Puts (H, W, 3) uint8 RGB pictures on the TensorBoard and the other loggers."""
        if self._tensorboard is not None:
            for name, picture in pictures.items():
                self._tensorboard.add_image(name, picture, step, dataformats="HWC")
            self._tensorboard.flush()
        for logger in self._loggers:
            logger.show(step, pictures)

    @property
    def best_in_words(self) -> str:
        """Like `best mAP 0.512`; empty before the first validation."""
        return f"best {self.config.best_by} {self.best:.3f}" if self.best >= 0 else ""

    def is_evaluated(self, step: int) -> bool:
        """Whether the validation of a step has been logged."""
        return any(r["phase"] == "val" and r["step"] == step for r in metrics_of(self.path))

    def evaluated(self, step: int, metrics: dict[str, float], average: nn.Module) -> None:
        """Keeps the best model and logs validation metrics, in this order: a logged one is complete.

        For the process that writes.
        """
        if metrics[self.config.best_by] > self.best:
            self.best = metrics[self.config.best_by]
            self._write("best", average, step, metrics)
        self.log("val", step, metrics)

    def save(self, step: int, processes: int, average: nn.Module, tensors: Mapping[str, Tensor]) -> None:
        """Writes `last.safetensors` and the state that `restore` reads, each whole or not at all."""
        if not self._writes:
            return
        header = {"step": step, "processes": processes, "recipe": self.config.model_dump(mode="json")}
        header["sources"] = self.provenance.get("sources", {})
        write_atomically(self.state, save(dict(tensors), metadata={"hdmap_state": json.dumps(header)}))
        self._write("last", average, step, {})

    def _write(self, name: str, average: nn.Module, step: int, metrics: dict[str, float]) -> None:
        config = CheckpointConfig(model=self.config.model, decode=self.config.decode)
        provenance = {**self.provenance, "step": step, "metrics": metrics}
        save_checkpoint(self.path / "checkpoints" / (name + SUFFIX), average, config, provenance)


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    """Every line of a run folder's metrics: `phase`, `step` and numbers; not one that a kill left half written."""
    records, path = [], folder / _METRICS
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def _at(content: Any, key: str) -> Any:
    for part in key.split("."):
        content = content[part]
    return content


def differences(before: Any, now: Any, key: str) -> list[str]:
    """Like `optim.batch_size (8, was 4)`, one per value of two plain configs that differs; `key` is their name."""
    if isinstance(before, dict) and isinstance(now, dict):
        inside = sorted(before.keys() | now.keys())
        return [each for k in inside for each in differences(before.get(k), now.get(k), f"{key}.{k}")]
    return [] if before == now else [f"{key} ({now!r}, was {before!r})"]
