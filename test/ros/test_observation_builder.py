"""Image sets to observations: ego motion per camera, calibration rules, missing parts."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from hdmap_core.geometry.se3 import quaternion_from_rotation, rotation_from_euler
from hdmap_core.inference.device_path import DevicePath
from hdmap_core.models import ModelConfig
from hdmap_ros.observation_builder import BuilderConfig, NotReadyError, ObservationBuilder
from hdmap_ros.pipeline import InferenceError, MapPipeline
from hdmap_ros.problems import Problems
from hdmap_ros.synchronizer import ImageSet
from hdmap_ros.transforms import TransformBuffer

TICK = 1_700_000_001_000_000_000


class Setup:
    """A builder that has heard everything about the test rig."""

    def __init__(self, rig_module: Any, rig: Any, **config: Any) -> None:
        self.module, self.rig = rig_module, rig
        self.transforms = TransformBuffer()
        self.warnings: list[str] = []
        self.builder = ObservationBuilder(
            rig_module.CAMERAS,
            BuilderConfig(**{"tf_timeout_s": 0.0, **config}),
            self.transforms,
            problems=Problems(self.warnings.append),
        )

    def hear(self, motion: bool = True, infos: bool = True) -> "Setup":
        self.transforms.add(self.rig.tf_static().transforms, static=True)
        for stamp_ns in range(TICK - 200_000_000, TICK + 200_000_000, 10_000_000) if motion else ():
            self.transforms.add(self.rig.tf(stamp_ns).transforms, static=False)
        for camera in self.module.CAMERAS if infos else ():
            assert self.builder.add_camera_info(camera, self.rig.info(camera, TICK)) is None
        return self

    def images(self, without: tuple[str, ...] = (), tick_ns: int = TICK, **data: bytes) -> ImageSet:
        present = [camera for camera in self.module.CAMERAS if camera not in without]
        stamps = {camera: tick_ns + self.module.PHASES_NS[camera] for camera in present}
        messages = {camera: self.rig.image(camera, stamps[camera], data.get(camera)) for camera in present}
        return ImageSet(tick_ns + self.module.PHASES_NS["CAM_FRONT"], messages, stamps, without, 0)


@pytest.fixture
def make(rig_module: Any, bag_rig: Any) -> Any:
    return lambda **config: Setup(rig_module, bag_rig, **config)


def test_half_the_picture_with_the_rig_that_fits_it(make: Any) -> None:
    """A model that needs no more gets JPEGs of half the size, and every point of the world at half its pixel."""
    setup = make().hear()
    whole, half = setup.builder.build(setup.images()), setup.builder.build(setup.images(), enough=(45, 80))
    height, width = whole.rig.image_size
    assert half.rig.image_size == (height // 2, width // 2)
    assert {image.shape for image in half.images} == {(height // 2, width // 2, 3)}
    expected = whole.rig.resized(half.rig.image_size)
    np.testing.assert_allclose(half.rig.intrinsics.numpy(), expected.intrinsics.numpy(), atol=1e-9)
    np.testing.assert_array_equal(half.rig.ego_from_camera.numpy(), whole.rig.ego_from_camera.numpy())


def test_a_damaged_picture_is_refused_at_half_its_size_as_well(make: Any, rig_module: Any) -> None:
    setup = make().hear()
    damaged = bytearray(rig_module.jpeg(9))
    del damaged[-40:-20]
    observation = setup.builder.build(setup.images(CAM_BACK=bytes(damaged)), enough=(45, 80))
    assert observation.images[rig_module.CAMERAS.index("CAM_BACK")] is None
    assert setup.builder.camera_states["CAM_BACK"] == "rejected_image"


def test_each_camera_is_where_it_was_when_it_fired(make: Any, rig_module: Any) -> None:
    observation = make().hear().builder.build(make().hear().images())
    reference = rig_module.odom_from_base(observation.stamp_ns)
    for camera, pose in zip(rig_module.CAMERAS, observation.rig.ego_from_camera.numpy(), strict=True):
        then = rig_module.odom_from_base(TICK + rig_module.PHASES_NS[camera])
        expected = np.linalg.inv(reference) @ then @ rig_module.base_from_camera(camera)
        np.testing.assert_allclose(pose, expected, atol=1e-9)
    # 10 m/s: the last camera fired 35 ms after the anchor, 0.35 m further on.
    moved = observation.rig.ego_from_camera[4, 0, 3] - rig_module.base_from_camera("CAM_BACK_LEFT")[0, 3]
    assert float(moved) == pytest.approx(0.35, abs=1e-6)
    assert observation.camera_stamps_ns[0] == observation.stamp_ns
    np.testing.assert_allclose(observation.map_from_ego, reference, atol=1e-9)


def test_images_are_decoded_in_the_rigs_order(make: Any) -> None:
    setup = make().hear()
    with ThreadPoolExecutor(3) as pool:
        setup.builder._pool = pool
        observation = setup.builder.build(setup.images())
    means = [int(image.mean()) for image in observation.images if image is not None]
    assert means == pytest.approx([20, 60, 100, 140, 180, 220], abs=2)


def test_a_missing_camera_is_masked(make: Any) -> None:
    setup = make().hear()
    observation = setup.builder.build(setup.images(without=("CAM_BACK",)))
    assert observation.camera_mask == (True, True, True, False, True, True)
    assert observation.rig.num_cameras == 6


def test_an_image_that_cannot_be_decoded_counts_as_missing(make: Any, rig_module: Any) -> None:
    setup = make().hear()
    observation = setup.builder.build(setup.images(CAM_BACK=rig_module.jpeg(9)[:-30]))
    assert observation.camera_mask[3] is False
    assert "truncated" in setup.builder.camera_faults["CAM_BACK"]
    assert setup.builder.camera_states["CAM_BACK"] == "rejected_image"
    setup.builder.build(setup.images())
    assert setup.builder.camera_faults == {}
    assert setup.builder.problems.report()["rejected_image"]["cameras"] == {"CAM_BACK": 1}
    strict = make(min_cameras=6).hear()
    with pytest.raises(NotReadyError, match="5 cameras of the set can be used, 6 are needed: camera CAM_B") as caught:
        strict.builder.build(strict.images(CAM_BACK=b"\xff\xd8nothing"))
    assert caught.value.state == "rejected_image"


def test_without_camera_info_there_is_no_guess(make: Any) -> None:
    setup = make().hear(infos=False)
    with pytest.raises(NotReadyError, match="CAM_FRONT: no CameraInfo has come yet") as caught:
        setup.builder.build(setup.images())
    assert caught.value.state == "waiting_camera_info"


def test_without_transforms_there_is_no_guess(make: Any, bag_rig: Any, rig_module: Any) -> None:
    setup = make()
    for camera in rig_module.CAMERAS:
        setup.builder.add_camera_info(camera, bag_rig.info(camera, TICK))
    with pytest.raises(NotReadyError, match="no transform base_link <- cam_front") as caught:
        setup.builder.build(setup.images())
    assert caught.value.state == "no_transform"


def test_without_odometry_static_poses_with_one_warning(make: Any, rig_module: Any) -> None:
    setup = make().hear(motion=False)
    observation = setup.builder.build(setup.images())
    setup.builder.build(setup.images())
    assert len([warning for warning in setup.warnings if "motion compensation" in warning]) == 1
    assert setup.builder.motion_compensated is False
    np.testing.assert_allclose(
        observation.rig.ego_from_camera[4], rig_module.base_from_camera("CAM_BACK_LEFT"), atol=1e-9
    )
    strict = make(motion_required=True).hear(motion=False)
    with pytest.raises(NotReadyError):
        strict.builder.build(strict.images())


def test_odometry_that_stops_is_not_replaced_by_a_guess(make: Any) -> None:
    setup = make().hear()
    images = setup.images()
    late = replace(images, stamps_ns={camera: stamp + 10**9 for camera, stamp in images.stamps_ns.items()})
    with pytest.raises(NotReadyError, match=r"ends .* before"):
        setup.builder.build(late)


def test_a_bad_camera_info_keeps_the_last_good_one(make: Any, bag_rig: Any) -> None:
    setup = make().hear()
    problem = setup.builder.add_camera_info("CAM_BACK", bag_rig.info("CAM_BACK", TICK, focal=float("nan")))
    assert problem is not None and "CAM_BACK" in problem
    assert setup.builder.build(setup.images()).camera_mask[3]
    fresh = make().hear(infos=False)
    fresh.builder.add_camera_info("CAM_FRONT", bag_rig.info("CAM_FRONT", TICK, focal=0.0))
    with pytest.raises(NotReadyError, match="not calibrated") as caught:
        fresh.builder.build(fresh.images())
    assert caught.value.state == "bad_calibration"


def test_another_size_is_told_once_and_fits_its_camera_info(make: Any, bag_rig: Any) -> None:
    setup = make().hear()
    large = cv2.imencode(".jpg", np.zeros((180, 320, 3), np.uint8))[1].tobytes()
    setup.builder.build(setup.images())
    for _ in range(3):
        rig = setup.builder.build(setup.images(CAM_BACK=large)).rig
    assert rig.image_size == (180, 320)
    assert setup.warnings == ["camera CAM_BACK: its decoded images were 160 x 90 and are now 320 x 180 pixels"]


@pytest.mark.parametrize(("encoding", "meant"), [("8UC3", "bgr8"), ("8UC4", "bgra8"), ("bgr8", ""), ("rgba8", "")])
def test_an_encoding_that_is_guessed_is_told_once(make: Any, bag_rig: Any, encoding: str, meant: str) -> None:
    setup = make().hear()
    images, step = setup.images(), 160 * (4 if "4" in encoding or "a" in encoding else 3)
    fields = {"height": 90, "width": 160, "encoding": encoding, "is_bigendian": 0, "step": step}
    images.messages["CAM_BACK"] = bag_rig.types.get("sensor_msgs/msg/Image")(
        header=images.messages["CAM_BACK"].header, data=bag_rig.types.octets(bytes(90 * step)), **fields
    )
    for _ in range(2):
        assert all(setup.builder.build(images).camera_mask)
    told = [f"camera CAM_BACK: its encoding {encoding} does not say the channels' order; taken as {meant}"]
    assert setup.warnings == (told if meant else [])


def test_doubts_are_told_once_per_camera(make: Any, bag_rig: Any) -> None:
    setup = make(image_topics={"CAM_BACK": "/back/image_raw", "CAM_FRONT": "/front/image_raw"})
    for camera in ("CAM_BACK", "CAM_FRONT", "CAM_BACK"):
        info = bag_rig.info(camera, TICK, focal=100.0 + len(setup.warnings))  # another one each time
        info.p[0] = info.p[5] = 90.0
        setup.builder.add_camera_info(camera, info)
    assert [warning.split(":")[0] for warning in setup.warnings] == ["camera CAM_BACK", "camera CAM_FRONT"]
    assert setup.builder.problems.report()["contradicting_projection"]["cameras"] == {"CAM_BACK": 1, "CAM_FRONT": 1}


def test_lenses_and_rectified_poses_are_in_the_rig(make: Any, bag_rig: Any, rig_module: Any) -> None:
    setup = make(projections={"CAM_FRONT": "p"}).hear()
    for camera in ("CAM_BACK", "CAM_FRONT"):
        info = bag_rig.info(camera, TICK)
        info.d, info.p[0], info.p[5] = np.full(8, 0.1), 100.0, 100.0
        info.r = rotation_from_euler(0.0, 0.1, 0.0).reshape(-1)
        assert setup.builder.add_camera_info(camera, info) is None
    plain, rig = make().hear().builder.build(make().hear().images()).rig, setup.builder.build(setup.images()).rig
    back, front = (rig_module.CAMERAS.index(camera) for camera in ("CAM_BACK", "CAM_FRONT"))
    assert [index for index, lens in enumerate(rig.lens_of_each) if lens] == [back]
    assert (float(rig.intrinsics[back, 0, 0]), float(rig.intrinsics[front, 0, 0])) == (120.0, 100.0)
    np.testing.assert_array_equal(rig.ego_from_camera[back], plain.ego_from_camera[back])
    turned = plain.ego_from_camera[front, :3, :3].numpy() @ rotation_from_euler(0.0, 0.1, 0.0).T
    np.testing.assert_allclose(rig.ego_from_camera[front, :3, :3].numpy(), turned, atol=1e-9)


def alter_calibration(setup: Setup, **changes: Any) -> None:
    known = setup.builder._infos._known["CAM_BACK"]
    since_ns, calibration = known.pop()
    known.append((since_ns, replace(calibration, **changes)))


def odd_image(setup: Setup, kind: str) -> tuple[ImageSet, str]:
    """A set whose CAM_BACK is odd, and the state that names it."""
    rig, types = setup.rig, setup.rig.types
    images = setup.images()
    header = images.messages["CAM_BACK"].header
    if kind == "another shape":
        ok, data = cv2.imencode(".png", np.zeros((90, 90, 3), np.uint8))
        assert ok
        images.messages["CAM_BACK"] = rig.image("CAM_BACK", 1, data.tobytes())
        images.messages["CAM_BACK"].header = header
        return images, "bad_calibration"
    if kind == "no transform":
        header.frame_id = ""
        alter_calibration(setup, frame_id="nowhere")
        return images, "no_transform"
    if kind == "no calibration":
        del setup.builder._infos._known["CAM_BACK"]
        setup.builder.add_camera_info("CAM_BACK", rig.info("CAM_BACK", TICK, focal=float("nan")))
        return images, "bad_calibration"
    if kind == "an impossible pose":
        pose = np.eye(4)
        pose[0, 3] = np.nan
        alter_calibration(setup, base_from_camera=pose)
        return images, "bad_calibration"
    if kind == "no such field":
        images.messages["CAM_BACK"] = SimpleNamespace(header=header, encoding="rgb8")
        return images, "rejected_image"
    fields = {"encoding": "rgb8", "height": 90, "width": 160, "step": 480, "data": types.octets(bytes(90 * 480))}
    fields |= {"zero size": {"height": 0, "width": 0}, "wrong encoding": {"encoding": "32FC1"}}.get(kind, {})
    fields |= {"a short step": {"step": 3}, "cut off": {"data": types.octets(bytes(9))}}.get(kind, {})
    images.messages["CAM_BACK"] = types.get("sensor_msgs/msg/Image")(header=header, is_bigendian=0, **fields)
    return images, "rejected_image"


ODD = ["another shape", "no transform", "no calibration", "an impossible pose", "no such field"]


@pytest.mark.parametrize("kind", [*ODD, "zero size", "wrong encoding", "a short step", "cut off"])
def test_one_odd_camera_does_not_stop_the_rest(make: Any, kind: str) -> None:
    setup = make(min_cameras=5).hear()
    images, state = odd_image(setup, kind)
    observation = setup.builder.build(images)
    assert observation.camera_mask == (True, True, True, False, True, True)
    assert setup.builder.camera_states["CAM_BACK"] == state
    assert setup.builder.camera_states["CAM_FRONT"] == "ok"
    assert setup.builder.problems.report()[state]["cameras"] == {"CAM_BACK": 1}
    assert [warning for warning in setup.warnings if "CAM_BACK" in warning]
    strict = make(min_cameras=6).hear()
    images, state = odd_image(strict, kind)
    with pytest.raises(NotReadyError, match="5 cameras of the set can be used, 6 are needed: camera CAM_B") as caught:
        strict.builder.build(images)
    assert (caught.value.state, caught.value.camera) == (state, "CAM_BACK")
    assert strict.builder.problems.report()[state]["cameras"] == {"CAM_BACK": 1}


def test_the_lookups_of_a_set_wait_together_no_longer_than_one(make: Any) -> None:
    setup = make(tf_timeout_s=0.2).hear()
    images = setup.images()
    late = replace(images, stamps_ns={camera: stamp + 10**9 for camera, stamp in images.stamps_ns.items()})
    waits: list[float] = []
    lookup = setup.transforms._wait
    setup.transforms._wait = lambda attempt, timeout_s: (waits.append(timeout_s), lookup(attempt, timeout_s))[1]
    with pytest.raises(NotReadyError):
        setup.builder.build(late)
    assert len([wait for wait in waits if wait > 0]) == 1


def _hear_nods(setup: Setup, stamps_ns: range, pitch: float) -> None:
    for stamp_ns in stamps_ns:
        message = setup.rig.tf(stamp_ns)
        rotation = message.transforms[0].transform.rotation
        pose = setup.module.odom_from_base(stamp_ns)
        turned = pose[:3, :3] @ rotation_from_euler(0.0, pitch, 0.0)
        rotation.w, rotation.x, rotation.y, rotation.z = map(float, quaternion_from_rotation(turned))
        setup.transforms.add(message.transforms, static=False)


def test_a_nod_of_the_body_is_taken_off(make: Any) -> None:
    """The cameras look down with the body: on the road they are turned; where it lasts or stamps jump, they are not."""
    cycle_ns, nod = 100_000_000, 0.005
    setup, plain = make(), make(road_plane=False)
    for each in (setup, plain):
        each.hear(motion=False)
        _hear_nods(each, range(TICK - cycle_ns, TICK + 25 * cycle_ns // 10, 10_000_000), 0.0)
        _hear_nods(each, range(TICK + 25 * cycle_ns // 10, TICK + 5 * cycle_ns, 10_000_000), nod)

    def pitch(tick_ns: int) -> float:
        images = setup.images(tick_ns=tick_ns)
        turned, given = (each.builder.build(images).rig.ego_from_camera[0].numpy() for each in (setup, plain))
        return float(np.arcsin(-(turned @ np.linalg.inv(given))[2, 0]))

    assert [pitch(TICK), pitch(TICK + cycle_ns)] == pytest.approx([0.0, 0.0], abs=1e-9)
    assert pitch(TICK + 3 * cycle_ns) == pytest.approx(nod * 2 / 3, rel=0.1)  # less the mean of three poses
    assert pitch(TICK) == pytest.approx(0.0, abs=1e-9)  # back in time: nothing of before counts
    assert pitch(TICK + 4 * cycle_ns) == pytest.approx(nod / 2, rel=0.1)


# --- where a GPU decodes ---
class DeviceDecoder:
    """Decodes what is sound to tensors, as a GPU's does; remembers what it was given."""

    def __init__(self) -> None:
        self.path, self.given = DevicePath(torch.device("cpu"), ModelConfig(name="x")), []

    def __call__(self, files: Any, enough: Any, pool: Any) -> Any:
        self.given.append((list(files), enough, pool))
        return self.path.decode(files, enough, pool)


def test_a_gpu_decodes_all_cameras_at_once(make: Any, rig_module: Any) -> None:
    setup, decoder = make().hear(), DeviceDecoder()
    on_host = setup.builder.build(setup.images())
    found = setup.builder.build(setup.images(), (45, 80), on_device=decoder)
    assert decoder.given == [(list(rig_module.CAMERAS), (45, 80), None)]
    assert found.images == (None,) * 6 and found.camera_mask == (True,) * 6
    assert {tuple(picture.shape) for picture in found.device_images} == {(45, 80, 3)}
    expected = on_host.rig.resized((45, 80))
    np.testing.assert_allclose(found.rig.intrinsics.numpy(), expected.intrinsics.numpy(), atol=1e-9)
    means = [float(picture.float().mean()) for picture in found.device_images]
    assert means == pytest.approx([20, 60, 100, 140, 180, 220], abs=2)
    assert on_host.device_images == ()


def test_what_the_gpu_does_not_decode_is_told_as_on_the_cpu(make: Any, rig_module: Any) -> None:
    """A damaged JPEG, a truncated one, a PNG, a picture of another size, a raw image, all in one set."""
    whole = rig_module.jpeg(9)
    damaged = {"CAM_BACK": whole[:-40] + whole[-20:], "CAM_BACK_LEFT": whole[:-30], "CAM_FRONT_LEFT": b""}
    png = cv2.imencode(".png", np.full((90, 160, 3), 77, np.uint8))[1].tobytes()
    large = cv2.imencode(".jpg", np.full((180, 320, 3), 50, np.uint8))[1].tobytes()
    cpu, gpu = make().hear(), make().hear()
    for setup, decoder in ((cpu, None), (gpu, DeviceDecoder())):
        images = setup.images(CAM_FRONT_RIGHT=png, CAM_BACK_RIGHT=large, **damaged)
        found = setup.builder.build(images, on_device=decoder)
        assert found.camera_mask == (True, True, True, False, False, False)
    assert gpu.builder.camera_faults == cpu.builder.camera_faults and len(cpu.builder.camera_faults) == 3
    assert gpu.builder.camera_states == cpu.builder.camera_states
    assert gpu.builder.problems.report() == cpu.builder.problems.report()
    assert [image is not None for image in found.images] == [False, True, False, False, False, False], "the PNG"
    assert [picture is not None for picture in found.device_images] == [True, False, True, False, False, False]
    # On the device cameras keep their sizes; on the host the smaller ones are scaled up. Here the PNG is.
    assert found.rig.image_sizes[:3] == ((90, 160), (180, 320), (180, 320))
    for index, (image, there) in enumerate(zip(found.images, found.device_images, strict=True)):
        picture = image if there is None else there
        assert picture is None or tuple(picture.shape[:2]) == found.rig.image_sizes[index]


def test_a_gpu_without_memory_is_the_networks_fault(make: Any) -> None:
    setup = make().hear()

    def decoder(*_: Any) -> Any:
        raise RuntimeError("Error while decoding JPEG images: CUDA out of memory")

    predictor = SimpleNamespace(info=SimpleNamespace(enough_pixels=None), decoder=decoder)
    with pytest.raises(InferenceError, match=r"the network failed: RuntimeError: .* CUDA out of memory"):
        MapPipeline(setup.builder, predictor).prepare(setup.images())
    late = make()
    with pytest.raises(NotReadyError) as caught:
        MapPipeline(late.builder, predictor).prepare(late.images())
    assert caught.value.state == "waiting_camera_info", "as without a GPU"
