"""Released-style files, made on the spot from the manifests of reference models that ran (`../shared/oracle`)."""

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

SHARED = Path(__file__).resolve().parents[2] / "shared" / "oracle"
FOLDER = Path(os.environ.get("HDMAP_ORACLES", SHARED))
"""Of reference results."""


@dataclass(frozen=True)
class Oracle:
    """What a reference model is made of, took and gave."""

    folder: Path
    fill: ModuleType

    @cached_property
    def manifest(self) -> dict[str, Any]:
        return json.loads((self.folder / "manifest.json").read_text())

    @cached_property
    def inputs(self) -> dict[str, np.ndarray]:
        return dict(np.load(self.folder / "inputs.npz"))

    @cached_property
    def outputs(self) -> dict[str, np.ndarray]:
        return dict(np.load(self.folder / "outputs.npz"))

    def state(self) -> dict[str, Tensor]:
        """Its weights."""
        stored, seed = load_file(self.folder / "extras.safetensors"), self.manifest["seed"]
        return {
            entry["name"]: stored[entry["name"]]
            if entry["source"] == "extras"
            else torch.from_numpy(self.fill.weights(entry["name"], entry["shape"], seed))
            for entry in self.manifest["tensors"]
        }

    def hollow(self) -> dict[str, Tensor]:
        """Tensors of its names and shapes that cost nothing: one number each, repeated."""
        kinds = {"int64": torch.int64}
        return {
            entry["name"]: torch.zeros((), dtype=kinds.get(entry["dtype"].split(".")[-1], torch.float32)).expand(
                entry["shape"]
            )
            for entry in self.manifest["tensors"]
        }

    def write(self, path: Path, state: dict[str, Tensor]) -> Path:
        """A file as its authors release it."""
        prefix = self.manifest["prefix_in_released_file"]
        if "mmcv" in prefix:
            torch.save({"meta": {}, "state_dict": state, "optimizer": {}}, path)
        else:
            torch.save({prefix + name: tensor for name, tensor in state.items()}, path)
        return path
