"""What an exported file's metadata may ask for, before memory is."""

import json
import zlib
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hdmap_core.checkpoint import CheckpointConfig
from hdmap_core.errors import CheckpointError
from hdmap_core.inference.engine import Source
from hdmap_core.inference.exported_file import Sample, header_text, read_header
from hdmap_core.model_io import ModelInput
from hdmap_core.models import ModelConfig

INPUTS = ModelInput(ground=torch.arange(24).reshape(1, 4, 2, 3))


def changed(change: Callable[[dict[str, Any]], None]) -> str:
    sample = Sample.of(INPUTS, {"semantic": torch.ones(1, 3, 2)})
    content = json.loads(
        header_text(Source(CheckpointConfig(model=ModelConfig(name="small")), {}, "0" * 64), sample, {})
    )
    change(content)
    return json.dumps(content)


def test_there_and_back() -> None:
    source, sample = read_header(changed(lambda content: None), Path("model.onnx"))
    assert source.config.model.name == "small"
    assert torch.equal(sample.inputs.ground, INPUTS.ground)
    assert sample.values["semantic"].shape == (6,)


def grid(content: dict[str, Any]) -> None:
    content["config"]["model"]["grid"]["resolution"] = 0.001


def images(content: dict[str, Any]) -> None:
    backbone = {"model": "resnet18.tv_in1k", "image_size": [20_000, 20_000]}
    content["config"]["model"].update(backbone=backbone, view_transform={"kind": "bevformer"})


@pytest.mark.parametrize(("change", "told"), [(grid, "a grid of"), (images, "pixels in all")])
def test_a_model_that_no_memory_holds(change: Callable[[dict[str, Any]], None], told: str) -> None:
    with pytest.raises(CheckpointError, match=told):
        read_header(changed(change), Path("model.onnx"))


@pytest.mark.parametrize("shape", [[1, 4, 2, 3], [1 << 40], [-1, 6], [1, 4, 2]])
def test_a_sample_that_unpacks_to_more_than_it_says(shape: list[int]) -> None:
    """Sixteen megabytes of zeros are sixteen thousand bytes; no more is unpacked than the shape has room for."""

    def bomb(content: dict[str, Any]) -> None:
        packed = b64encode(zlib.compress(bytes(1 << 24), 9)).decode()
        content["sample"]["inputs"]["ground"] = {"dtype": "|u1", "shape": shape, "zlib": packed}

    unpacked = []
    original = np.frombuffer

    def watched(content: bytes, dtype: Any) -> np.ndarray:
        unpacked.append(len(content))
        return original(content, dtype)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(CheckpointError, match="damaged"):
        patch.setattr(np, "frombuffer", watched)
        read_header(changed(bomb), Path("model.onnx"))
    assert all(size < 1000 for size in unpacked)
