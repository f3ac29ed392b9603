"""The folder of a training run: resolved config, metrics, checkpoints, and the state to go on from."""

import io
import json
import platform
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from hdmap_core.checkpoint import SUFFIX, CheckpointConfig, save_checkpoint
from hdmap_core.errors import CheckpointError, OutputError
from hdmap_core.files import write_atomically
from training.config import TrainConfig


class RunFolder:
    """Writes everything a run leaves behind; `restore` continues an interrupted one.

    Args:
        path: the folder; made if it is not there.
        config: the resolved recipe.
        provenance: goes into every checkpoint.

    Raises:
        OutputError: if the folder cannot be written.
    """

    def __init__(self, path: Path, config: TrainConfig, provenance: dict[str, Any]) -> None:
        self.path = path
        self.config = config
        self.provenance = provenance
        self.best = -1.0
        plain = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
        write_atomically(path / "config.yaml", plain.encode())
        versions = f"python {platform.python_version()}\ntorch {torch.__version__}\nmachine {platform.machine()}\n"
        write_atomically(path / "environment.txt", versions.encode())
        self._tensorboard = SummaryWriter(str(path / "tensorboard"))

    @property
    def _state(self) -> Path:
        return self.path / "checkpoints" / "state.pt"

    def log(self, phase: str, step: int, numbers: dict[str, float]) -> None:
        """Appends a line to metrics.jsonl and the TensorBoard."""
        line = {"phase": phase, "step": step, **{name: round(value, 6) for name, value in numbers.items()}}
        try:
            with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")
        except OSError as error:
            raise OutputError(f"cannot write {self.path / 'metrics.jsonl'}: {error.strerror or error}") from None
        for name, value in numbers.items():
            self._tensorboard.add_scalar(f"{phase}/{name}", value, step)

    def evaluated(self, step: int, metrics: dict[str, float], average: nn.Module) -> None:
        """Logs validation metrics and keeps the best model by mAP."""
        self.log("val", step, metrics)
        if metrics["mAP"] > self.best:
            self.best = metrics["mAP"]
            self._write("best", average, step, metrics)

    def save(self, step: int, *, model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Writes `last.safetensors` and the state that `restore` reads."""
        self._write("last", average, step, {})
        buffer = io.BytesIO()
        state = {"model": model.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**state, "step": step, "best": self.best}, buffer)
        write_atomically(self._state, buffer.getvalue())

    def restore(self, *, model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Loads the saved state, if there is one; returns the number of steps done."""
        if not self._state.is_file():
            return 0
        try:
            state = torch.load(self._state, map_location="cpu", weights_only=True)
            model.load_state_dict(state["model"])
            average.load_state_dict(state["average"])
            optimizer.load_state_dict(state["optimizer"])
            step, self.best = int(state["step"]), float(state["best"])
        except Exception as error:
            raise CheckpointError(f"cannot continue from {self._state}: {error}; delete it to start anew") from None
        return step

    def _write(self, name: str, average: nn.Module, step: int, metrics: dict[str, float]) -> None:
        config = CheckpointConfig(model=self.config.model, decode=self.config.decode)
        provenance = {**self.provenance, "step": step, "metrics": metrics}
        save_checkpoint(self.path / "checkpoints" / (name + SUFFIX), average, config, provenance)
