"""The node with what it runs on a GPU, in a real graph; the device is a CPU here."""

from typing import Any

import pytest
import torch

from hdmap_core.checkpoint import Checkpoint, CheckpointConfig
from hdmap_core.geometry import BEVGrid
from hdmap_core.inference.device_path import DevicePath
from hdmap_core.inference.engine import EagerEngine
from hdmap_core.inference.predictor import Predictor
from hdmap_core.models import ModelConfig, build_model
from hdmap_core.models.bev_encoder import BEVEncoderConfig
from hdmap_core.models.heads.vector_decoder import VectorDecoderConfig
from hdmap_core.postprocess import DecodeConfig

pytestmark = pytest.mark.ros
MODEL = ModelConfig(
    name="small",
    grid=BEVGrid((-6.0, 6.0), (-3.0, 3.0), 0.5),
    bev_encoder=BEVEncoderConfig(channels=(8, 8), blocks=(1, 1), out_channels=8),
    vectors=VectorDecoderConfig(num_queries=9, num_points=4, channels=8, layers=1, attention_heads=2),
)


def predictor_of(device_path: DevicePath | None) -> Predictor:
    torch.manual_seed(0)
    config = CheckpointConfig(model=MODEL, decode=DecodeConfig(score_threshold=0.0, max_elements=9))
    checkpoint = Checkpoint(build_model(MODEL).eval(), config, {}, "0" * 64)
    return Predictor(EagerEngine(checkpoint, torch.device("cpu")), device_path)


@pytest.fixture
def predictor() -> Predictor:
    return predictor_of(DevicePath(torch.device("cpu"), MODEL))


def test_maps_pictures_and_a_damaged_camera(
    graph: Any, start_node: Any, rig_module: Any, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    decode = DevicePath.decode

    def noted(path: DevicePath, files: Any, *options: Any) -> Any:
        found = decode(path, files, *options)
        given.append(len(found))
        return found

    monkeypatch.setattr(DevicePath, "decode", noted)
    graph.open_cameras()
    maps, pictures = graph.listen_to_maps(), graph.listen("sensor_msgs/msg/Image", "/online_map/debug/image")
    start_node(sync__max_age=10.0, sync__min_cameras=5)
    ticks = rig_module.ticks(8)
    graph.drive(ticks[:5])
    assert graph.until(lambda: maps and pictures, 60.0)
    assert maps[-1].camera_mask == 0b111111 and len(maps[-1].elements) == 9
    assert pictures[-1].width > 0 and max(pictures[-1].data) > 100, "the images are drawn, from wherever they lie"
    assert set(given) == {6}, "by the device, all six in one call"
    graph.drive(ticks[5:], data=None, cameras=tuple(name for name in rig_module.CAMERAS if name != "CAM_BACK"))
    assert graph.until(lambda: maps[-1].camera_mask == 0b110111, 60.0)
    assert given[-1] == 5
