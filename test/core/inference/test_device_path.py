"""The path of a set on a GPU, here on a CPU: what is decoded there, what is left to the CPU, and one copy back."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torchvision.io
from torch import Tensor

from hdmap_core.checkpoint import Checkpoint, CheckpointConfig
from hdmap_core.config import load_config
from hdmap_core.geometry import BEVGrid
from hdmap_core.images.decoding import decode_image
from hdmap_core.inference import device_inputs, load_predictor
from hdmap_core.inference.device_path import DevicePath, _packed, _unpacked, read
from hdmap_core.inference.engine import EagerEngine
from hdmap_core.inference.predictor import Predictor
from hdmap_core.inference.sample import ring_observation
from hdmap_core.models import ModelConfig, build_model
from hdmap_core.models.bev_encoder import BEVEncoderConfig
from hdmap_core.models.bev_resnet import ResNetEncoderConfig
from hdmap_core.models.heads.dense import DenseConfig
from hdmap_core.models.heads.vector_decoder import VectorDecoderConfig
from hdmap_core.postprocess import DecodeConfig

CPU = torch.device("cpu")
GRID = BEVGrid((-6.0, 6.0), (-3.0, 3.0), 0.5)
STUDENT = ModelConfig(
    name="small",
    grid=GRID,
    bev_encoder=BEVEncoderConfig(channels=(8, 8), blocks=(1, 1), out_channels=8),
    vectors=VectorDecoderConfig(num_queries=9, num_points=4, channels=8, layers=1, attention_heads=2),
)
MAPQR = load_config(ModelConfig, Path(__file__).with_name("small_mapqr.yaml"))
DENSE = ModelConfig(
    name="small-dense",
    grid=GRID,
    vectors=None,
    segmentation=None,
    bev_encoder=ResNetEncoderConfig(channels=(8, 8), blocks=(1, 1)),
    dense=DenseConfig(channels=8, last_channels=8, embedding=3, directions=6),
)
PICTURE = cv2.resize(
    np.random.default_rng(0).integers(0, 256, (15, 25, 3), dtype=np.uint8), (200, 120), interpolation=cv2.INTER_LINEAR
)


def encoded(extension: str = ".jpg", picture: np.ndarray = PICTURE, *flags: int) -> bytes:
    return cv2.imencode(extension, picture, flags)[1].tobytes()


def engine_of(model: ModelConfig, device: torch.device = CPU, precision: str = "fp32", **decoding: Any) -> EagerEngine:
    torch.manual_seed(0)
    config = CheckpointConfig(model=model, decode=DecodeConfig(score_threshold=0.0, **decoding))
    return EagerEngine(Checkpoint(build_model(model).eval(), config, {}, "0" * 64), device, precision)


@pytest.fixture
def path() -> DevicePath:
    return DevicePath(CPU, STUDENT)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many files each call of the decoder was given."""
    found: list[int] = []
    whole = torchvision.io.decode_jpeg

    def noted(files: list[Tensor], **options: Any) -> Any:
        found.append(len(files))
        return whole(files, **options)

    monkeypatch.setattr(torchvision.io, "decode_jpeg", noted)
    return found


def test_all_pictures_in_one_call(path: DevicePath, calls: list[int]) -> None:
    files = {
        "colour": encoded(),
        "grey": encoded(picture=PICTURE[..., 0]),
        "progressive": encoded(".jpg", PICTURE, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        "odd": encoded(picture=PICTURE[:77, :131]),
    }
    found = path.decode(files)
    assert calls == [4] and list(found) == list(files)
    for name, picture in found.items():
        wanted = decode_image(files[name], name)
        assert picture.dtype == torch.uint8 and tuple(picture.shape) == wanted.shape
        assert np.abs(picture.numpy().astype(int) - wanted).max() <= 1


def test_what_it_leaves_to_the_cpu(path: DevicePath, calls: list[int]) -> None:
    """No damaged byte reaches the device: what nvJPEG makes of it nobody knows."""
    whole = encoded()
    files = {
        "sound": whole,
        "hole": whole[: len(whole) // 3] + whole[len(whole) // 2 :],
        "zeros": whole[:-600] + bytes(500) + whole[-100:],
        "cut": whole[:-200],
        "empty": b"",
        "png": encoded(".png"),
        "text": b"version https://git-lfs",
        "no scan": whole[:40] + b"\xff\xd9",
        "cmyk": _cmyk(),
    }
    assert list(path.decode(files)) == ["sound"] and calls == [1]
    assert path.decode({}) == {} and calls == [1], "nothing, no call"


def _cmyk() -> bytes:
    from io import BytesIO

    from PIL import Image

    stream = BytesIO()
    Image.fromarray(PICTURE).convert("CMYK").save(stream, "JPEG")
    return stream.getvalue()


def refusing(error: Callable[[list[Tensor]], str]) -> Callable[..., Any]:
    whole = torchvision.io.decode_jpeg

    def decode(files: list[Tensor], **options: Any) -> Any:
        if message := error(files):
            raise RuntimeError(message)
        return whole(files, **options)

    return decode


def test_one_that_the_device_refuses_costs_no_other(path: DevicePath, monkeypatch: pytest.MonkeyPatch) -> None:
    small = encoded(picture=PICTURE[:60])
    refuse = refusing(lambda files: "Error while decoding JPEG images: 2" * any(len(f) == len(small) for f in files))
    monkeypatch.setattr(torchvision.io, "decode_jpeg", refuse)
    assert list(path.decode({"a": encoded(), "b": small, "c": encoded()})) == ["a", "c"]


@pytest.mark.parametrize("message", ["CUDA out of memory. Tried to allocate 2 GiB", "CUDA error: device-side assert"])
def test_a_device_that_fails_is_told(path: DevicePath, monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    wrapped = f"Error while decoding JPEG images: {message}"
    monkeypatch.setattr(torchvision.io, "decode_jpeg", refusing(lambda files: wrapped))
    with pytest.raises(RuntimeError, match=message):
        path.decode({"a": encoded()})


def test_no_more_pixels_than_are_needed(path: DevicePath) -> None:
    found = path.decode({"a": encoded(picture=cv2.resize(PICTURE, (400, 240)))}, {"a": (120, 200)})["a"]
    assert tuple(found.shape) == (120, 200, 3)
    wanted = decode_image(encoded(picture=cv2.resize(PICTURE, (400, 240))), "a", 2)
    assert np.abs(found.numpy().astype(int) - wanted).mean() < 1


@pytest.mark.parametrize("missing", [False, True], ids=["whole", "camera missing"])
@pytest.mark.parametrize(
    ("model", "decoding"),
    [
        (STUDENT, {"head": "vectors"}),
        (STUDENT, {"head": "masks", "by_class": {"divider": "vectors"}}),
        (MAPQR, {"head": "vectors", "max_elements": 12}),
        (DENSE, {"head": "dense"}),
    ],
    ids=["vectors", "both", "mapqr", "dense"],
)
def test_the_map_is_the_same(model: ModelConfig, decoding: dict[str, Any], missing: bool) -> None:
    running = engine_of(model, **decoding)
    plain, ours = Predictor(running), Predictor(running, DevicePath(CPU, model))
    assert plain.decoder is None and ours.decoder is not None
    files = dict.fromkeys(("FRONT", "LEFT", "BACK"), encoded(picture=cv2.resize(PICTURE, (320, 180))))
    seen = ring_observation(tuple(files), decode_image(files["FRONT"], "a"))
    there = tuple(ours.decoder(files).values())
    on_device = replace(seen, images=(None,) * 3, device_images=there)
    if missing:
        seen = replace(seen, images=(None, *seen.images[1:]))
        on_device = replace(on_device, device_images=(None, *there[1:]))
    assert on_device.camera_mask == seen.camera_mask
    mixed = replace(on_device, images=(None, None, seen.images[2]), device_images=(*on_device.device_images[:2], None))
    for given in (on_device, seen, mixed):
        found, wanted = ours.predict(given), plain.predict(seen)
        assert [each.label for each in found.elements] == [each.label for each in wanted.elements]
        for one, other in zip(found.elements, wanted.elements, strict=True):
            assert one.score == pytest.approx(other.score, abs=2e-3)
            np.testing.assert_allclose(one.points, other.points, atol=0.02)
        assert (found.raster is None) == (wanted.raster is None)
        assert found.raster is None or (found.raster == wanted.raster).mean() > 0.99
    host = on_device.on_host()
    assert host.device_images == () and [image is None for image in host.images] == [missing, False, False]
    assert isinstance(host.images[1], np.ndarray)


def test_all_is_copied_in_one_piece() -> None:
    tensors = {
        "bytes": torch.arange(5, dtype=torch.uint8),
        "half": torch.arange(6.0).half().reshape(2, 3).T,
        "whole": torch.arange(4, dtype=torch.int32).reshape(2, 2),
        "single": torch.rand(3, 1, 2),
        "none": torch.empty(0, 2),
    }
    packed, places = _packed(tensors)
    assert packed.dtype == torch.uint8 and packed.ndim == 1
    for found in (_unpacked(packed.numpy(), places), read(tensors)):
        assert found.keys() == tensors.keys()
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(found[name], tensor.numpy())
            assert found[name].dtype == tensor.numpy().dtype


class Engine:
    """What `DevicePath.checked` looks at."""

    def __init__(self, device: str, name: str = "eager") -> None:
        self.device, self.name, self.source = device, name, engine_of(STUDENT).source


def test_only_engines_on_a_gpu_take_it(caplog: pytest.LogCaptureFixture) -> None:
    assert DevicePath.checked(engine_of(STUDENT)) is None
    assert DevicePath.checked(Engine("cuda:0", "onnxruntime-tensorrt")) is None, "that one reads from the host"
    assert caplog.records == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_a_gpu_that_cannot_leaves_it_to_the_cpu(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert DevicePath.checked(Engine("cuda:0")) is None
    assert "images are decoded and prepared on the CPU, as cuda:0 cannot: " in caplog.text


@pytest.mark.parametrize("model", [STUDENT, MAPQR], ids=["student", "mapqr"])
def test_a_path_that_computes_otherwise_is_found_out(model: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    path = DevicePath(CPU, model)
    assert path.problem() == ""
    whole = torchvision.io.decode_jpeg
    with monkeypatch.context() as patch:
        patch.setattr(
            torchvision.io, "decode_jpeg", lambda files, **options: [x.flip(0) for x in whole(files, **options)]
        )
        assert "its JPEG decoder is off by" in path.problem()
    with monkeypatch.context() as patch:
        patch.setattr(torchvision.io, "decode_jpeg", refusing(lambda files: "Error while decoding JPEG images: 6"))
        assert path.problem() == "its JPEG decoder refuses a plain picture"
    blend = torch.lerp
    with monkeypatch.context() as patch:
        patch.setattr(torch, "lerp", lambda a, b, weight: blend(a, b, weight) + 2)
        patch.setattr(device_inputs, "resized", lambda picture, size: torch.zeros(3, *size, dtype=torch.uint8))
        assert "its inputs" in path.problem() and "off by" in path.problem()


def test_bf16_is_autocast(path: DevicePath) -> None:
    """On CUDA alone it may be asked for; the same code runs it on a CPU."""
    seen = ring_observation(("FRONT", "LEFT"), PICTURE)
    full, half = (Predictor(engine_of(MAPQR, precision=precision)).predict(seen) for precision in ("fp32", "bf16"))
    scores = [sorted(each.score for each in found.elements) for found in (full, half)]
    assert scores[0] != scores[1] and scores[1] == pytest.approx(scores[0], abs=0.05)


# --- what only a GPU can show ---
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("model", [STUDENT, MAPQR, DENSE], ids=["student", "mapqr", "dense"])
def test_on_a_gpu_it_is_taken_and_gives_the_same_inputs(model: ModelConfig) -> None:
    path = DevicePath.checked(engine_of(model, torch.device("cuda"), head="dense" if model is DENSE else "vectors"))
    assert path is not None
    seen = ring_observation(("FRONT", "LEFT", "BACK"), cv2.resize(PICTURE, (1600, 900)))
    found, wanted = path.inputs(seen), DevicePath(CPU, model).inputs(seen)
    for name in ("ground", "images"):
        if getattr(wanted, name) is not None:
            assert getattr(found, name).is_cuda
            assert (getattr(found, name).cpu().int() - getattr(wanted, name).int()).abs().max() <= 1


@pytest.mark.gpu
@needs_cuda
def test_on_a_gpu_damaged_files_are_left_out() -> None:
    test_what_it_leaves_to_the_cpu(DevicePath(torch.device("cuda", 0), STUDENT), [1])


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("model", [STUDENT, MAPQR], ids=["student", "mapqr"])
def test_on_a_gpu_the_host_waits_once(model: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch raises at each call that waits; only the event in `read` may."""
    device = torch.device("cuda", 0)
    predictor = Predictor(engine_of(model, device, "fp16"), DevicePath(device, model))
    seen = ring_observation(("FRONT", "LEFT", "BACK"), cv2.resize(PICTURE, (1600, 900)))
    predictor.predict(seen)  # tables are made
    waits: list[None] = []
    wait = torch.cuda.Event.synchronize
    monkeypatch.setattr(torch.cuda.Event, "synchronize", lambda event: (waits.append(None), wait(event))[1])
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = predictor.predict(seen)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(waits) == 1
    wanted = Predictor(engine_of(model)).predict(seen)
    assert [each.score for each in found.elements] == pytest.approx([each.score for each in wanted.elements], abs=0.02)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("engine", ["eager", "cuda-graph"])
def test_on_a_gpu_the_shipped_student_maps_the_same(precision: str, engine: str) -> None:
    from hdmap_core.inference.sample import sample_observation

    seen = sample_observation()
    cpu = load_predictor(None, "cpu", engine="eager").predict(seen)
    gpu = load_predictor(None, "cuda", precision, engine=engine)
    assert gpu.device_path is not None
    found = [gpu.predict(seen) for _ in range(20)][-1]  # memory is used again and again
    best = [each for each in cpu.elements if each.score > 0.5]
    assert abs(len([each for each in found.elements if each.score > 0.5]) - len(best)) <= max(1, len(best) // 5)
