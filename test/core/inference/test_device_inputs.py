"""What a GPU makes of images is what the CPU makes of them: the same functions run on a CPU, beside OpenCV's."""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hdmap_core.elements import MapClass
from hdmap_core.geometry import BEVGrid, CameraRig, lens_sampling, se3
from hdmap_core.geometry.ground_relief import GroundRelief
from hdmap_core.geometry.ground_view import ground_view
from hdmap_core.geometry.lens import Lens, lens_of
from hdmap_core.inference import device_inputs
from hdmap_core.model_io import ModelInput, ModelOutput, VectorOutput
from hdmap_core.models import ModelConfig
from hdmap_core.observation import Observation
from hdmap_core.postprocess import DecodeConfig
from hdmap_core.postprocess.decode import reduced
from hdmap_core.preprocess import ImageFit, image_inputs

CPU = torch.device("cpu")
GRID = BEVGrid((-15.0, 15.0), (-9.0, 9.0), 0.3)
ODD_GRID = BEVGrid((-15.0, 15.6), (-9.0, 9.3), 0.3)  # no whole number of coarse cells
YAW = {"FRONT": 0.0, "LEFT": 1.2, "RIGHT": -1.2, "BACK_LEFT": 2.2, "BACK_RIGHT": -2.2, "BACK": np.pi}
AXES = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
LENSES = {
    "plumb_bob": lens_of("plumb_bob", [-0.3, 0.1, 0.001, -0.002, 0.01]),
    "rational": lens_of("rational_polynomial", [0.2, -0.1, 0.0005, 0.001, 0.02, 0.3, -0.05, 0.01]),
    "fisheye": lens_of("equidistant", [0.02, -0.01, 0.0, 0.0]),
}
# OpenCV before 5 looks between pixels at 32nds.
EXACT = int(cv2.__version__.split(".")[0]) >= 5


def smooth_noise(size: tuple[int, int], seed: int) -> np.ndarray:
    """With edges, as pictures have them, but not of single pixels."""
    coarse = np.random.default_rng(seed).integers(0, 256, (size[0] // 6, size[1] // 6, 3), dtype=np.uint8)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_LINEAR)


def surround(
    sizes: dict[str, tuple[int, int]] | None = None, missing: tuple[str, ...] = (), lens: Lens | None = None
) -> Observation:
    """Six tilted cameras; every second one has the lens."""
    sizes = dict.fromkeys(YAW, (180, 320)) | (sizes or {})
    scale = [sizes[name][1] / 320 for name in YAW]
    intrinsics = [np.array([[190.0 * s, 0, 159.5 * s], [0, 190.0 * s, 70.0 * s], [0, 0, 1]]) for s in scale]
    poses = [
        se3.se3(se3.rotation_from_euler(0.02, 0.12, yaw) @ AXES, [1 + 0.6 * np.cos(yaw), 0.5 * np.sin(yaw), 1.5])
        for yaw in YAW.values()
    ]
    lenses = [lens if index % 2 == 0 else None for index in range(6)]
    rig = CameraRig.from_arrays(list(YAW), intrinsics, poses, [sizes[name] for name in YAW], lenses)
    images = (None if name in missing else smooth_noise(sizes[name], seed) for seed, name in enumerate(YAW))
    return Observation(tuple(images), rig, 0, "a")


def on_device(observation: Observation) -> list[Tensor | None]:
    return [None if image is None else torch.from_numpy(image) for image in observation.images]


CASES = [
    pytest.param({}, id="one size"),
    pytest.param({"sizes": {"LEFT": (90, 160), "BACK": (240, 400)}}, id="other sizes"),
    pytest.param({"missing": ("FRONT", "BACK")}, id="cameras missing"),
    pytest.param({"missing": tuple(YAW)}, id="no camera"),
    *(pytest.param({"lens": lens}, id=name) for name, lens in LENSES.items()),
]


@pytest.fixture
def every_sample_through_the_lens(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The CPU interpolates between every fourth; a GPU need not."""
    monkeypatch.setattr(lens_sampling, "_NODE", (1, 1))
    lens_sampling._ground_samples.cache_clear()
    yield
    lens_sampling._ground_samples.cache_clear()


@pytest.mark.usefixtures("every_sample_through_the_lens")
@pytest.mark.parametrize("grid", [GRID, ODD_GRID], ids=["", "odd"])
@pytest.mark.parametrize("case", CASES)
def test_the_ground_is_opencvs(case: dict[str, Any], grid: BEVGrid) -> None:
    seen = surround(**case)
    wanted = ground_view(seen.images, seen.rig, grid).astype(int)
    found = device_inputs.ground_pixels(on_device(seen), seen.rig, grid, CPU)
    assert found.shape == (1, 4, *grid.shape) and found.dtype == torch.uint8
    apart = np.abs(found[0].permute(1, 2, 0).numpy() - wanted)
    assert not apart[..., 3].any(), "what is seen is the same to the cell"
    assert apart.max() <= (2 if EXACT else 8) and apart.mean() < (0.05 if EXACT else 0.3)
    assert len(case.get("missing", ())) == 6 or wanted[..., 3].mean() > 100


@pytest.mark.usefixtures("every_sample_through_the_lens")
@pytest.mark.parametrize("lens", [None, LENSES["fisheye"]], ids=["pinholes", "fisheyes"])
def test_the_ground_of_a_relief_is_opencvs(lens: Lens | None) -> None:
    seen = surround(lens=lens)
    relief = GroundRelief(np.random.default_rng(0).normal(0, 0.2, (13, 25)).astype(np.float32))
    wanted = ground_view(seen.images, seen.rig, ODD_GRID, relief=relief).astype(int)
    found = device_inputs.ground_pixels(on_device(seen), seen.rig, ODD_GRID, CPU, relief)
    apart = np.abs(found[0].permute(1, 2, 0).numpy() - wanted)
    assert (apart[..., 3] > 0).mean() < 1e-3 and apart[..., :3].mean() < (0.05 if EXACT else 0.3)


@pytest.mark.parametrize(
    "size",
    [(180, 320), (90, 160), (96, 160), (45, 80), (61, 97), (40, 400), (300, 100), (360, 640), (179, 321)],
    ids=str,
)
def test_resizing_is_opencvs(size: tuple[int, int]) -> None:
    """Smaller, larger, and one side of each."""
    picture = np.random.default_rng(0).integers(0, 256, (180, 320, 3), dtype=np.uint8)
    wanted = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA).astype(int)
    found = device_inputs.resized(torch.from_numpy(picture).permute(2, 0, 1), size)
    assert found.dtype == torch.uint8
    assert np.abs(found.permute(1, 2, 0).numpy() - wanted).max() <= 1


@pytest.mark.parametrize("cameras", [(), ("BACK", "TOP", "FRONT", "LEFT")], ids=["all", "named"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("fit", [ImageFit(), ImageFit((90, 160), "bicubic", "origin")], ids=["ours", "published"])
def test_images_are_opencvs(case: dict[str, Any], cameras: tuple[str, ...], fit: ImageFit) -> None:
    seen = surround(**case)
    wanted = image_inputs(seen, (96, 160), cameras, fit)
    found = device_inputs.image_inputs(on_device(seen), seen.rig, (96, 160), cameras, CPU, fit)
    assert found.images is not None and wanted.images is not None
    assert found.images.dtype == torch.uint8
    apart = (found.images.int() - wanted.images.int()).abs()
    assert apart.max() <= 1 and apart.float().mean() < 0.1
    for name in ("projection", "camera_mask"):
        assert torch.equal(getattr(found, name), getattr(wanted, name))


def test_images_are_only_read_and_may_be_views() -> None:
    """As those of raw messages, whose bytes are the middleware's."""
    image = smooth_noise((60, 90), 0)[:, ::-1]
    image.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = device_inputs.uploaded(image, CPU)
    assert torch.equal(found, torch.from_numpy(image.copy())) and found.is_contiguous()


def test_a_moving_car_makes_no_new_tables() -> None:
    """Of a calibration only matrices change with ego motion; a lens's table stays on the device."""
    seen = surround(lens=LENSES["fisheye"])
    pose = seen.rig.ego_from_camera.clone()
    pose[:, 0, 3] += 0.4
    device_inputs._lens_tables.cache_clear()
    pictures = [
        device_inputs.ground_pixels(on_device(seen), rig, GRID, CPU)
        for rig in (seen.rig, replace(seen.rig, ego_from_camera=pose))
    ]
    assert device_inputs._lens_tables.cache_info().misses == 1
    assert not torch.equal(*pictures)


class Waits(TorchDispatchMode):
    """Notes each operator that takes something to or from the host, or whose shape the host must wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        leaves = [value for value in tree_leaves((args, kwargs, result)) if isinstance(value, Tensor)]
        name = str(func)
        waits = any(word in name for word in ("_local_scalar_dense", "nonzero", "unique", "masked_select"))
        if waits or len({value.device.type for value in leaves}) > 1:
            self.found.append(name)
        return result


META = torch.device("meta")
"""Stands for a GPU: its tensors have shapes and no content; whatever reads one, or mixes it with the host's, fails."""


@pytest.mark.parametrize("lens", [None, LENSES["fisheye"]], ids=["pinhole", "lens"])
def test_nothing_is_copied_but_what_is_uploaded(lens: Lens | None, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = surround(lens=lens)
    uploads: list[int] = []

    def upload(array: Any, device: torch.device) -> Tensor:
        tensor = torch.as_tensor(array)
        uploads.append(tensor.numel() * tensor.element_size())
        return torch.empty(tensor.shape, dtype=tensor.dtype, device=device)

    monkeypatch.setattr(device_inputs, "uploaded", upload)
    images = [torch.empty(image.shape, dtype=torch.uint8, device=META) for image in seen.images if image is not None]

    def both() -> tuple[Tensor, ModelInput]:
        uploads.clear()
        ground = device_inputs.ground_pixels(images, seen.rig, GRID, META)
        return ground, device_inputs.image_inputs(images, seen.rig, (96, 160), (), META)

    ground, _ = both()
    with Waits() as waits:
        _, inputs = both()
    assert inputs.images is not None and ground.device.type == inputs.images.device.type == "meta"
    assert waits.found == []
    matrices_of_a_camera = 2 * 9 * 8
    assert sum(uploads) == 6 * matrices_of_a_camera, "what depends on sizes and lenses alone is there already"


def test_nothing_waits_between_the_network_and_the_copy() -> None:
    model = ModelConfig(name="x", grid=GRID)
    vectors = VectorOutput(torch.empty(1, 1, 50, 3, device=META), torch.empty(1, 1, 50, 20, 2, device=META))
    masks = torch.empty(1, 3, 120, 200, device=META, dtype=torch.float16)
    both = DecodeConfig(head="vectors", by_class={MapClass.BOUNDARY: "masks"})
    with Waits() as waits:
        left = reduced(ModelOutput(vectors=vectors, semantic=masks), both, classes=model.classes, grid=GRID)
    assert waits.found == []
    assert {name: tuple(value.shape) for name, value in left.items()} == {
        **{"scores": (150,), "pairs": (150,), "metres": (50, 20, 2), "masks": (3, 120, 200)}
    }
    assert left["masks"].dtype == torch.float16, "no more bytes than the network's own numbers have"
