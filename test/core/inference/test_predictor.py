import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hdmap_core.checkpoint import CheckpointConfig, load_checkpoint, save_checkpoint
from hdmap_core.config import load_config
from hdmap_core.elements import MapClass
from hdmap_core.errors import CheckpointError, ConfigError, ImageError
from hdmap_core.geometry import BEVGrid, CameraRig, se3
from hdmap_core.geometry.map_origin import MapOrigin
from hdmap_core.inference import Predictor, default_weights, load_predictor
from hdmap_core.inference.opening import open_engine
from hdmap_core.inference.sample import sample_observation
from hdmap_core.model_io import ModelInput
from hdmap_core.models import ModelConfig, build_model
from hdmap_core.models.bev_encoder import BEVEncoderConfig
from hdmap_core.models.bev_resnet import ResNetEncoderConfig
from hdmap_core.models.heads.dense import DenseConfig
from hdmap_core.models.heads.vector_decoder import VectorDecoderConfig
from hdmap_core.models.priors.hd_refiner import HDRefinerConfig
from hdmap_core.observation import Observation
from hdmap_core.postprocess import DecodeConfig
from hdmap_core.postprocess.decode import decode
from hdmap_core.preprocess import preprocess

CONFIG = CheckpointConfig(
    model=ModelConfig(
        name="small",
        grid=BEVGrid((-6.0, 6.0), (-3.0, 3.0), 0.5),
        bev_encoder=BEVEncoderConfig(channels=(8, 8), blocks=(1, 1), out_channels=8),
        vectors=VectorDecoderConfig(num_queries=9, num_points=4, channels=8, layers=1, attention_heads=2),
    ),
    decode=DecodeConfig(score_threshold=0.0, max_elements=12),
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("predictor") / "small.safetensors"
    save_checkpoint(path, build_model(CONFIG.model), CONFIG, {"dataset": "synth-v1", "step": 3})
    return path


@pytest.fixture(scope="module")
def predictor(checkpoint: Path) -> Predictor:
    return load_predictor(checkpoint, "cpu")


def observation(image: np.ndarray | None) -> Observation:
    pose = se3.se3(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), [-3.0, 0.0, 1.5])
    intrinsics = np.array([[60.0, 0, 49.5], [0, 60, 20], [0, 0, 1]])
    rig = CameraRig.from_arrays(["ANY_NAME"], [intrinsics], [pose], (60, 100))
    return Observation((image,), rig, stamp_ns=0, token="a")


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (60, 100, 3), dtype=np.uint8)


def test_prediction_is_sorted_timed_and_repeatable(predictor: Predictor) -> None:
    first, second = predictor.predict(observation(noise())), predictor.predict(observation(noise()))
    assert len(first.elements) == 12
    order = [(CONFIG.model.classes.index(element.label), -element.score) for element in first.elements]
    assert order == sorted(order)
    assert list(first.timings_ms) == ["preprocess", "network", "postprocess"]
    assert all(milliseconds >= 0 for milliseconds in first.timings_ms.values())
    for a, b in zip(first.elements, second.elements, strict=True):
        np.testing.assert_array_equal(a.points, b.points)
        assert a.score == b.score


def test_both_halves_give_the_whole_prediction(predictor: Predictor) -> None:
    """Two observations on their way at once, cameras on threads; nothing holds on to the images."""
    seen = [observation(noise(seed)) for seed in (1, 2)]
    with ThreadPoolExecutor(2) as pool:
        halves = [predictor.prepare(each, pool) for each in seen]
    assert [half.observation.images for half in halves] == [(None,), (None,)]
    for half, whole in zip(halves, seen, strict=True):
        found, expected = predictor.complete(half), predictor.predict(whole)
        assert list(found.timings_ms) == list(expected.timings_ms)
        for a, b in zip(found.elements, expected.elements, strict=True):
            np.testing.assert_array_equal(a.points, b.points)
            assert (a.label, a.score) == (b.label, b.score)


def test_the_image_matters_and_a_missing_one_is_no_error(predictor: Predictor) -> None:
    seen, unseen = predictor.predict(observation(noise())), predictor.predict(observation(None))
    assert len(unseen.elements) == 12
    assert {element.score for element in seen.elements} != {element.score for element in unseen.elements}


def test_several_at_once(predictor: Predictor) -> None:
    several = [observation(noise(seed)) for seed in range(3)]
    found = predictor.predict(several)
    assert isinstance(found, list) and predictor.predict([]) == []
    for each, alone in zip(found, map(predictor.predict, several), strict=True):
        for a, b in zip(each.elements, alone.elements, strict=True):
            np.testing.assert_array_equal(a.points, b.points)
    with pytest.raises(TypeError, match="Observation or a list of them, not ndarray"):
        predictor.predict(noise())  # type: ignore[call-overload]


def test_a_prediction_knows_its_frame(predictor: Predictor) -> None:
    seen = replace(observation(noise()), stamp_ns=7, map_from_ego=np.eye(4), map_origin=MapOrigin(1.0, 100.0))
    found = predictor.predict(seen)
    assert (found.token, found.stamp_ns, found.grid, found.map_origin) == ("a", 7, CONFIG.model.grid, (1.0, 100.0))
    assert found.map_from_ego is seen.map_from_ego


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ((), r"'a' has 0 images for 1 cameras \(ANY_NAME\); give one per camera"),
        ((None, None), "has 2 images for 1 cameras"),
        (noise(), "has a ndarray in place of a tuple"),
        ((noise().astype(np.float32),), "camera ANY_NAME: the image is float32"),
        ((noise()[..., :1],), r"camera ANY_NAME: .*\(60, 100, 1\)"),
        ((noise()[:30],), r"camera ANY_NAME: .*\(30, 100, 3\), its calibration is for uint8 of \(60, 100, 3\)"),
        ((np.zeros((0, 0, 3), np.uint8),), "camera ANY_NAME: "),
        ((torch.zeros(60, 100, 3, dtype=torch.uint8),), "camera ANY_NAME: the image is a Tensor; give a numpy array"),
        (("front.jpg",), "camera ANY_NAME: the image is a str"),
    ],
)
def test_images_that_are_not_the_rigs(predictor: Predictor, images: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        predictor.predict(replace(observation(noise()), images=images))


def test_a_run_folder_and_strings(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    shutil.copy(checkpoint, tmp_path / "run" / "checkpoints" / "last.safetensors")
    of_run, of_file = (load_predictor(str(path), "cpu").info for path in (tmp_path / "run", checkpoint))
    assert of_run.weights_sha256 == of_file.weights_sha256
    with pytest.raises(CheckpointError, match=r"it holds no checkpoints/; give a .safetensors file or a run folder"):
        load_predictor(tmp_path, "cpu")


def test_info(predictor: Predictor) -> None:
    info = predictor.info
    assert (info.model_name, info.dataset, info.device, info.precision) == ("small", "synth-v1", "cpu", "fp32")
    assert info.model_id == f"small-{info.weights_sha256[:8]}"
    assert info.classes == (MapClass.DIVIDER, MapClass.PED_CROSSING, MapClass.BOUNDARY)
    assert (info.grid, info.points_per_element, info.score_threshold) == (CONFIG.model.grid, 4, 0.0)
    assert (info.camera_names, info.image_size) == ((), None)


def test_another_head(checkpoint: Path) -> None:
    masks = load_predictor(checkpoint, "cpu", head="masks")
    assert masks.info.points_per_element == 0
    assert masks.predict(observation(noise())).elements == [], "an untrained segmentation is sure of nothing"
    with pytest.raises(ConfigError, match="head 'polygons': use vectors or masks"):
        load_predictor(checkpoint, "cpu", head="polygons")
    with pytest.raises(ConfigError, match=r"head is 'dense', which the model has not; it has vectors and masks$"):
        load_predictor(checkpoint, "cpu", head="dense")


def test_a_model_with_a_backbone_runs_from_its_file(tmp_path: Path) -> None:
    """MapFM, small: cameras by name, whatever is missing, without the heads of training."""
    changes = ["name=small-mapfm", "backbone.cameras=[ANY_NAME,ANOTHER]", "auxiliary={channels: 4}"]
    config = CheckpointConfig(
        model=load_config(ModelConfig, Path(__file__).with_name("small_mapqr.yaml"), changes),
        decode=DecodeConfig(head="vectors", score_threshold=0.0, max_elements=12),
    )
    torch.manual_seed(0)
    path = tmp_path / "mapfm.safetensors"
    model = build_model(config.model)
    save_checkpoint(path, model, config, {"dataset": "synth-v1", "step": 3})
    predictor = load_predictor(path, "cpu")
    assert predictor.info.camera_names == ("ANY_NAME", "ANOTHER")
    seen = observation(noise())
    with pytest.raises(ConfigError, match="was made for the cameras ANY_NAME, ANOTHER; observation 'a' has LEFT"):
        predictor.predict(replace(seen, rig=replace(seen.rig, names=("LEFT",))))
    assert (predictor.info.image_size, predictor.info.points_per_element) == ((32, 64), 4)
    seen, unseen = predictor.predict(observation(noise())), predictor.predict(observation(None))
    assert len(seen.elements) == len(unseen.elements) == 12
    assert all(len(element.points) == 4 for element in seen.elements)
    assert {element.score for element in seen.elements} != {element.score for element in unseen.elements}
    with torch.no_grad():
        output = model.eval()(preprocess(observation(noise()), config.model))
    expected = decode(output, config.decode, classes=config.model.classes, grid=config.model.grid)
    for element, other in zip(seen.elements, expected, strict=True):
        assert element.label == other.label
        np.testing.assert_array_equal(element.points, other.points)


@pytest.mark.parametrize("device", ["gpu", "mps", "meta", "cpu:zero", "", "cuda:99"])
def test_devices_that_cannot_be_had(checkpoint: Path, device: str) -> None:
    with pytest.raises(ConfigError, match=f"device '{device}'"):
        load_predictor(checkpoint, device)


@pytest.mark.parametrize("precision", ["fp16", "int8", "FP32"])
def test_precisions_that_cannot_be_had(checkpoint: Path, precision: str) -> None:
    with pytest.raises(ConfigError, match=f"precision '{precision}' on cpu"):
        load_predictor(checkpoint, "cpu", precision)


def test_checkpoint_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        load_predictor(tmp_path / "none.safetensors", "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_fp16_on_cuda_agrees(checkpoint: Path) -> None:
    cpu = load_predictor(checkpoint, "cpu").predict(observation(noise()))
    half = load_predictor(checkpoint, "cuda").predict(observation(noise()))
    assert sorted(e.score for e in half.elements) == pytest.approx(sorted(e.score for e in cpu.elements), abs=0.01)


@pytest.mark.parametrize(("head", "gone"), [("masks", "vector_head"), ("vectors", "segmentation_head")])
def test_a_head_that_nobody_publishes_is_not_computed(checkpoint: Path, head: str, gone: str) -> None:
    predictor, whole = load_predictor(checkpoint, "cpu", head=head), load_checkpoint(checkpoint).model
    assert getattr(predictor.engine.model, gone) is None and getattr(whole, gone) is not None
    seen = observation(noise())
    with torch.inference_mode():
        output = whole(preprocess(seen, CONFIG.model))
    wanted = decode(output, CONFIG.decode.only(head), classes=CONFIG.model.classes, grid=CONFIG.model.grid)
    found = predictor.predict(seen).elements
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one.score == other.score and np.array_equal(one.points, other.points)


def test_before_a_refiner_only_classes_are_computed(tmp_path: Path) -> None:
    encoder = ResNetEncoderConfig(channels=(8, 8), blocks=(1, 1))
    heads = DenseConfig(channels=8, last_channels=8, embedding=3, directions=6)
    refiner = HDRefinerConfig(
        patch=4, width=8, depth=1, heads=2, up_channels=8, bev_encoder=encoder, dense=heads.model_copy()
    )
    model = ModelConfig(
        **{"name": "refined", "grid": CONFIG.model.grid, "vectors": None, "segmentation": None},
        **{"bev_encoder": encoder, "dense": heads, "hd_refiner": refiner},
    )
    config = CheckpointConfig(model=model, decode=DecodeConfig(head="dense"))
    torch.manual_seed(0)
    path = tmp_path / "refined.safetensors"
    save_checkpoint(path, build_model(model), config, {})
    predictor, whole = load_predictor(path, "cpu"), load_checkpoint(path).model
    inputs = preprocess(observation(noise()), model)
    with torch.inference_mode():
        wanted, found = whole(inputs), predictor.engine.model(inputs)
    assert found.unrefined.embedding.shape[1] == found.unrefined.direction.shape[1] == 0
    for name in ("semantic", "embedding", "direction"):
        assert torch.equal(getattr(found.dense, name), getattr(wanted.dense, name))
    assert torch.equal(found.unrefined.semantic, wanted.unrefined.semantic)


def test_the_eager_engine_moves_its_inputs_on_the_cpu_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """An input may lie on a GPU while the network runs on the CPU."""
    engine = open_engine(default_weights(), "cpu", None, None, "eager")
    asked: list[torch.device] = []
    original = ModelInput.to

    def moved(self: ModelInput, device: torch.device, non_blocking: bool = False) -> ModelInput:
        asked.append(torch.device(device))
        return original(self, device, non_blocking)

    monkeypatch.setattr(ModelInput, "to", moved)
    engine(preprocess(sample_observation(), engine.source.config.model))
    assert asked == [torch.device("cpu")]
