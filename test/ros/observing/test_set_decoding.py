"""Sets of images to pictures: on threads, at a fraction of their size, on a GPU, and what cannot be decoded."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from hdmap_core.inference.device_path import DevicePath
from hdmap_core.models import ModelConfig
from hdmap_ros.observing.observation_builder import NotReadyError
from hdmap_ros.pipeline import InferenceError, MapPipeline

TICK = 1_700_000_001_000_000_000


def test_images_are_decoded_in_the_rigs_order(make_builder: Any) -> None:
    with ThreadPoolExecutor(3) as pool:
        setup = make_builder(pool=pool).hear()
        observation = setup.builder.build(setup.images())
    means = [int(image.mean()) for image in observation.images if image is not None]
    assert means == pytest.approx([20, 60, 100, 140, 180, 220], abs=2)


def test_half_the_picture_with_the_rig_that_fits_it(make_builder: Any) -> None:
    """A model that needs no more gets JPEGs of half the size, and every point of the world at half its pixel."""
    setup = make_builder().hear()
    whole, half = setup.builder.build(setup.images()), setup.builder.build(setup.images(), enough=(45, 80))
    height, width = whole.rig.image_size
    assert half.rig.image_size == (height // 2, width // 2)
    assert {image.shape for image in half.images} == {(height // 2, width // 2, 3)}
    expected = whole.rig.resized(half.rig.image_size)
    np.testing.assert_allclose(half.rig.intrinsics.numpy(), expected.intrinsics.numpy(), atol=1e-9)
    np.testing.assert_array_equal(half.rig.ego_from_camera.numpy(), whole.rig.ego_from_camera.numpy())


def test_a_damaged_picture_is_refused_at_half_its_size_as_well(make_builder: Any, rig_module: Any) -> None:
    setup = make_builder().hear()
    damaged = bytearray(rig_module.jpeg(9))
    del damaged[-40:-20]
    observation = setup.builder.build(setup.images(CAM_BACK=bytes(damaged)), enough=(45, 80))
    assert observation.images[rig_module.CAMERAS.index("CAM_BACK")] is None
    assert setup.builder.camera_states["CAM_BACK"] == "rejected_image"


@pytest.mark.parametrize(("encoding", "meant"), [("8UC3", "bgr8"), ("8UC4", "bgra8"), ("bgr8", ""), ("rgba8", "")])
def test_an_encoding_that_is_guessed_is_told_once(make_builder: Any, bag_rig: Any, encoding: str, meant: str) -> None:
    setup = make_builder().hear()
    images, step = setup.images(), 160 * (4 if "4" in encoding or "a" in encoding else 3)
    fields = {"height": 90, "width": 160, "encoding": encoding, "is_bigendian": 0, "step": step}
    images.messages["CAM_BACK"] = bag_rig.types.get("sensor_msgs/msg/Image")(
        header=images.messages["CAM_BACK"].header, data=bag_rig.types.octets(bytes(90 * step)), **fields
    )
    for _ in range(2):
        assert all(setup.builder.build(images).camera_mask)
    told = [f"camera CAM_BACK: its encoding {encoding} does not say the channels' order; taken as {meant}"]
    assert setup.warnings == (told if meant else [])


# --- where a GPU decodes ---
class DeviceDecoder:
    """Decodes what is sound to tensors, as a GPU's does; remembers what it was given."""

    def __init__(self) -> None:
        self.path, self.given = DevicePath(torch.device("cpu"), ModelConfig(name="x")), []

    def __call__(self, files: Any, enough: Any, pool: Any) -> Any:
        self.given.append((list(files), enough, pool))
        return self.path.decode(files, enough, pool)


def test_a_gpu_decodes_all_cameras_at_once(make_builder: Any, rig_module: Any) -> None:
    setup, decoder = make_builder().hear(), DeviceDecoder()
    on_host = setup.builder.build(setup.images())
    found = setup.builder.build(setup.images(), (45, 80), on_device=decoder)
    assert decoder.given == [(list(rig_module.CAMERAS), dict.fromkeys(rig_module.CAMERAS, (45, 80)), None)]
    assert found.images == (None,) * 6 and found.camera_mask == (True,) * 6
    assert {tuple(picture.shape) for picture in found.device_images} == {(45, 80, 3)}
    expected = on_host.rig.resized((45, 80))
    np.testing.assert_allclose(found.rig.intrinsics.numpy(), expected.intrinsics.numpy(), atol=1e-9)
    means = [float(picture.float().mean()) for picture in found.device_images]
    assert means == pytest.approx([20, 60, 100, 140, 180, 220], abs=2)
    assert on_host.device_images == ()


def test_what_the_gpu_does_not_decode_is_told_as_on_the_cpu(make_builder: Any, rig_module: Any) -> None:
    """A damaged JPEG, a truncated one, a PNG, a picture of another size, a raw image, all in one set."""
    whole = rig_module.jpeg(9)
    damaged = {"CAM_BACK": whole[:-40] + whole[-20:], "CAM_BACK_LEFT": whole[:-30], "CAM_FRONT_LEFT": b""}
    png = cv2.imencode(".png", np.full((90, 160, 3), 77, np.uint8))[1].tobytes()
    large = cv2.imencode(".jpg", np.full((180, 320, 3), 50, np.uint8))[1].tobytes()
    cpu, gpu = make_builder().hear(), make_builder().hear()
    for setup, decoder in ((cpu, None), (gpu, DeviceDecoder())):
        images = setup.images(CAM_FRONT_RIGHT=png, CAM_BACK_RIGHT=large, **damaged)
        found = setup.builder.build(images, on_device=decoder)
        assert found.camera_mask == (True, True, True, False, False, False)
    assert gpu.builder.camera_faults == cpu.builder.camera_faults and len(cpu.builder.camera_faults) == 3
    assert gpu.builder.camera_states == cpu.builder.camera_states
    assert gpu.builder.problems.report() == cpu.builder.problems.report()
    assert [image is not None for image in found.images] == [False, True, False, False, False, False], "the PNG"
    assert [picture is not None for picture in found.device_images] == [True, False, True, False, False, False]
    assert found.rig.image_sizes[:3] == ((90, 160), (90, 160), (180, 320)), "each keeps its own"
    for index, (image, there) in enumerate(zip(found.images, found.device_images, strict=True)):
        picture = image if there is None else there
        assert picture is None or tuple(picture.shape[:2]) == found.rig.image_sizes[index]


def test_a_gpu_without_memory_is_the_networks_fault(make_builder: Any) -> None:
    setup = make_builder().hear()

    def decoder(*_: Any) -> Any:
        raise RuntimeError("Error while decoding JPEG images: CUDA out of memory")

    predictor = SimpleNamespace(info=SimpleNamespace(enough_pixels=None), decoder=decoder)
    with pytest.raises(InferenceError, match=r"the network failed: RuntimeError: .* CUDA out of memory"):
        MapPipeline(setup.builder, predictor).prepare(setup.images())
    late = make_builder()
    with pytest.raises(NotReadyError) as caught:
        MapPipeline(late.builder, predictor).prepare(late.images())
    assert caught.value.state == "waiting_camera_info", "as without a GPU"
