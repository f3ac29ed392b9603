"""Networks whose weights have gone bad: what is left out, and what cannot be used at all."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hdmap_core.checkpoint import CheckpointConfig, save_checkpoint
from hdmap_core.errors import ModelOutputError
from hdmap_core.geometry import BEVGrid, CameraRig, se3
from hdmap_core.inference import Predictor, load_predictor
from hdmap_core.models import ModelConfig, build_model
from hdmap_core.models.bev_encoder import BEVEncoderConfig
from hdmap_core.models.heads.segmentation import SegmentationConfig
from hdmap_core.models.heads.vector_decoder import VectorDecoderConfig
from hdmap_core.observation import Observation
from hdmap_core.postprocess import DecodeConfig

QUERIES = 9


def predictor(path: Path, head: str) -> Predictor:
    vectors = VectorDecoderConfig(num_queries=QUERIES, num_points=4, channels=8, layers=1, attention_heads=2)
    heads = {"vectors": vectors} if head == "vectors" else {"vectors": None, "segmentation": SegmentationConfig()}
    encoder = BEVEncoderConfig(channels=(8, 8), blocks=(1, 1), out_channels=8)
    model = ModelConfig(name="small", grid=BEVGrid((-6.0, 6.0), (-3.0, 3.0), 0.5), bev_encoder=encoder, **heads)
    config = CheckpointConfig(model=model, decode=DecodeConfig(head=head, score_threshold=0.0))
    torch.manual_seed(0)
    save_checkpoint(path, build_model(model), config, {})
    return load_predictor(path, "cpu")


def observation() -> Observation:
    pose = se3.se3(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), [-3.0, 0.0, 1.5])
    rig = CameraRig.from_arrays(["A"], [np.array([[60.0, 0, 49.5], [0, 60, 20], [0, 0, 1]])], [pose], (60, 100))
    return Observation((np.random.default_rng(0).integers(0, 255, (60, 100, 3), dtype=np.uint8),), rig, 0, "a")


@pytest.mark.parametrize("odd", [0, 2, QUERIES])
def test_elements_that_are_no_numbers_are_left_out_and_counted(tmp_path: Path, odd: int) -> None:
    made = predictor(tmp_path / "small.safetensors", "vectors")
    forward = made.engine.model.forward

    def spoiled(*inputs: object) -> object:
        output = forward(*inputs)
        output.vectors.points[-1, 0, :odd, 0] = float("nan")
        return output

    made.engine.model.forward = spoiled
    if odd == QUERIES:
        with pytest.raises(ModelOutputError, match="all 9 elements"):
            made.predict(observation())
        return
    prediction = made.predict(observation())
    assert prediction.not_finite == odd
    assert prediction.elements


def test_a_raster_with_a_hole_is_no_empty_map(tmp_path: Path) -> None:
    made = predictor(tmp_path / "small.safetensors", "masks")
    made.predict(observation())
    with torch.no_grad():
        for parameter in made.engine.model.segmentation_head.parameters():
            parameter.view(-1)[0] = float("nan")
    with pytest.raises(ModelOutputError, match="raster has values that are no numbers"):
        made.predict(observation())
