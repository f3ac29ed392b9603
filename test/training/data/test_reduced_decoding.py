"""Images decoded at half size show the same things at the same places."""

from pathlib import Path

import pytest
import torch

from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.models import ModelConfig
from training.data.keyframes import load_keyframes


def model(size: tuple[int, int]) -> ModelConfig:
    return ModelConfig.model_validate(
        {
            "name": "x",
            "backbone": {"model": "resnet18.tv_in1k", "image_size": size},
            "view_transform": {"kind": "bevformer"},
        }
    )


@pytest.mark.parametrize(("size", "decoded"), [((45, 80), (45, 80)), ((48, 80), (45, 80)), ((64, 128), (90, 160))])
def test_the_same_projection_and_nearly_the_same_pixels(
    synthetic_root: Path, tmp_path: Path, size: tuple[int, int], decoded: tuple[int, int]
) -> None:
    full, reduced = (
        load_keyframes(
            synthetic_root, "train", model(size), keep_inputs=False, cache=tmp_path, workers=1, reduced=choice
        )[0].inputs
        for choice in (False, True)
    )
    token = NuScenesDataset(synthetic_root).tokens[0]
    seen = NuScenesDataset(synthetic_root).observation(token, points=False, at_least=size)
    assert seen.rig.image_size == decoded and seen.images[0].shape[:2] == decoded
    assert full.images.shape == reduced.images.shape == (1, 6, 3, *size)
    torch.testing.assert_close(reduced.projection, full.projection, rtol=1e-5, atol=1e-4)
    apart = (full.images.float() - reduced.images.float()).abs().mean()
    shifted = (full.images.float() - full.images.float().roll(1, dims=-1)).abs().mean()
    assert apart < 3 and apart < 0.5 * shifted, "far less than a shift by one pixel would make"
    assert bool(apart) == (decoded == (45, 80))
