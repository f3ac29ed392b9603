"""Image sets to observations: ego motion per camera, calibration rules, missing parts."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from hdmap_core.geometry.se3 import quaternion_from_rotation, rotation_from_euler
from hdmap_ros.observing.observation_builder import NotReadyError
from hdmap_ros.sync.image_sets import ImageSet

TICK = 1_700_000_001_000_000_000


def test_each_camera_is_where_it_was_when_it_fired(make_builder: Any, rig_module: Any) -> None:
    observation = make_builder().hear().builder.build(make_builder().hear().images())
    reference = rig_module.odom_from_base(observation.stamp_ns)
    rig = observation.rig
    assert rig.mounted is not None
    for camera, pose, mounted in zip(rig_module.CAMERAS, rig.ego_from_camera.numpy(), rig.mounted, strict=True):
        then = rig_module.odom_from_base(TICK + rig_module.PHASES_NS[camera])
        expected = np.linalg.inv(reference) @ then @ rig_module.base_from_camera(camera)
        np.testing.assert_allclose(pose, expected, atol=1e-9)
        np.testing.assert_allclose(mounted, rig_module.base_from_camera(camera), atol=1e-9)
    # 10 m/s: the last camera fired 35 ms after the anchor, 0.35 m further on.
    moved = observation.rig.ego_from_camera[4, 0, 3] - rig_module.base_from_camera("CAM_BACK_LEFT")[0, 3]
    assert float(moved) == pytest.approx(0.35, abs=1e-6)
    assert observation.camera_stamps_ns[0] == observation.stamp_ns
    np.testing.assert_allclose(observation.map_from_ego, reference, atol=1e-9)


def test_a_missing_camera_is_masked(make_builder: Any) -> None:
    setup = make_builder().hear()
    observation = setup.builder.build(setup.images(without=("CAM_BACK",)))
    assert observation.camera_mask == (True, True, True, False, True, True)
    assert observation.rig.num_cameras == 6


def test_an_image_that_cannot_be_decoded_counts_as_missing(make_builder: Any, rig_module: Any) -> None:
    setup = make_builder().hear()
    observation = setup.builder.build(setup.images(CAM_BACK=rig_module.jpeg(9)[:-30]))
    assert observation.camera_mask[3] is False
    assert "truncated" in setup.builder.camera_faults["CAM_BACK"]
    assert setup.builder.camera_states["CAM_BACK"] == "rejected_image"
    setup.builder.build(setup.images())
    assert setup.builder.camera_faults == {}
    assert setup.builder.problems.report()["rejected_image"]["cameras"] == {"CAM_BACK": 1}
    strict = make_builder(min_cameras=6).hear()
    with pytest.raises(NotReadyError, match="5 cameras of the set can be used, 6 are needed: camera CAM_B") as caught:
        strict.builder.build(strict.images(CAM_BACK=b"\xff\xd8nothing"))
    assert caught.value.state == "rejected_image"


def test_without_camera_info_there_is_no_guess(make_builder: Any) -> None:
    setup = make_builder().hear(infos=False)
    with pytest.raises(NotReadyError, match="CAM_FRONT: no CameraInfo has come yet") as caught:
        setup.builder.build(setup.images())
    assert caught.value.state == "waiting_camera_info"


def test_without_transforms_there_is_no_guess(make_builder: Any, bag_rig: Any, rig_module: Any) -> None:
    setup = make_builder()
    for camera in rig_module.CAMERAS:
        setup.builder.add_camera_info(camera, bag_rig.info(camera, TICK))
    with pytest.raises(NotReadyError, match="no transform base_link <- cam_front") as caught:
        setup.builder.build(setup.images())
    assert caught.value.state == "no_transform"


def test_without_odometry_static_poses_with_one_warning(make_builder: Any, rig_module: Any) -> None:
    setup = make_builder().hear(motion=False)
    observation = setup.builder.build(setup.images())
    setup.builder.build(setup.images())
    assert len([warning for warning in setup.warnings if "motion compensation" in warning]) == 1
    assert setup.builder.motion_compensated is False
    np.testing.assert_allclose(
        observation.rig.ego_from_camera[4], rig_module.base_from_camera("CAM_BACK_LEFT"), atol=1e-9
    )
    strict = make_builder(motion_required=True).hear(motion=False)
    with pytest.raises(NotReadyError):
        strict.builder.build(strict.images())


def test_odometry_that_stops_is_not_replaced_by_a_guess(make_builder: Any) -> None:
    setup = make_builder().hear()
    images = setup.images()
    late = replace(images, stamps_ns={camera: stamp + 10**9 for camera, stamp in images.stamps_ns.items()})
    with pytest.raises(NotReadyError, match=r"ends .* before"):
        setup.builder.build(late)


def test_a_bad_camera_info_keeps_the_last_good_one(make_builder: Any, bag_rig: Any) -> None:
    setup = make_builder().hear()
    problem = setup.builder.add_camera_info("CAM_BACK", bag_rig.info("CAM_BACK", TICK, focal=float("nan")))
    assert problem is not None and "CAM_BACK" in problem
    assert setup.builder.build(setup.images()).camera_mask[3]
    fresh = make_builder().hear(infos=False)
    fresh.builder.add_camera_info("CAM_FRONT", bag_rig.info("CAM_FRONT", TICK, focal=0.0))
    with pytest.raises(NotReadyError, match="not calibrated") as caught:
        fresh.builder.build(fresh.images())
    assert caught.value.state == "bad_calibration"


def test_another_size_is_told_once_and_fits_its_camera_info(make_builder: Any, bag_rig: Any) -> None:
    setup = make_builder().hear()
    large = cv2.imencode(".jpg", np.zeros((180, 320, 3), np.uint8))[1].tobytes()
    setup.builder.build(setup.images())
    for _ in range(3):
        rig = setup.builder.build(setup.images(CAM_BACK=large)).rig
    assert [size for name, size in zip(rig.names, rig.image_sizes, strict=True) if name == "CAM_BACK"] == [(180, 320)]
    assert sorted(set(rig.image_sizes)) == [(90, 160), (180, 320)], "each keeps its own"
    assert setup.warnings == ["camera CAM_BACK: its decoded images were 160 x 90 and are now 320 x 180 pixels"]


def test_doubts_are_told_once_per_camera(make_builder: Any, bag_rig: Any) -> None:
    setup = make_builder(image_topics={"CAM_BACK": "/back/image_raw", "CAM_FRONT": "/front/image_raw"})
    for camera in ("CAM_BACK", "CAM_FRONT", "CAM_BACK"):
        info = bag_rig.info(camera, TICK, focal=100.0 + len(setup.warnings))  # another one each time
        info.p[0] = info.p[5] = 90.0
        setup.builder.add_camera_info(camera, info)
    assert [warning.split(":")[0] for warning in setup.warnings] == ["camera CAM_BACK", "camera CAM_FRONT"]
    assert setup.builder.problems.report()["contradicting_projection"]["cameras"] == {"CAM_BACK": 1, "CAM_FRONT": 1}


def test_lenses_and_rectified_poses_are_in_the_rig(make_builder: Any, bag_rig: Any, rig_module: Any) -> None:
    setup = make_builder(projections={"CAM_FRONT": "p"}).hear()
    for camera in ("CAM_BACK", "CAM_FRONT"):
        info = bag_rig.info(camera, TICK)
        info.d, info.p[0], info.p[5] = np.full(8, 0.1), 100.0, 100.0
        info.r = rotation_from_euler(0.0, 0.1, 0.0).reshape(-1)
        assert setup.builder.add_camera_info(camera, info) is None
    plain, rig = (
        make_builder().hear().builder.build(make_builder().hear().images()).rig,
        setup.builder.build(setup.images()).rig,
    )
    back, front = (rig_module.CAMERAS.index(camera) for camera in ("CAM_BACK", "CAM_FRONT"))
    assert [index for index, lens in enumerate(rig.lens_of_each) if lens] == [back]
    assert (float(rig.intrinsics[back, 0, 0]), float(rig.intrinsics[front, 0, 0])) == (120.0, 100.0)
    np.testing.assert_array_equal(rig.ego_from_camera[back], plain.ego_from_camera[back])
    turned = plain.ego_from_camera[front, :3, :3].numpy() @ rotation_from_euler(0.0, 0.1, 0.0).T
    np.testing.assert_allclose(rig.ego_from_camera[front, :3, :3].numpy(), turned, atol=1e-9)


def alter_calibration(setup: Any, **changes: Any) -> None:
    known = setup.builder._infos._known["CAM_BACK"]
    since_ns, calibration = known.pop()
    known.append((since_ns, replace(calibration, **changes)))


def odd_image(setup: Any, kind: str) -> tuple[ImageSet, str]:
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
def test_one_odd_camera_does_not_stop_the_rest(make_builder: Any, kind: str) -> None:
    setup = make_builder(min_cameras=5).hear()
    images, state = odd_image(setup, kind)
    observation = setup.builder.build(images)
    assert observation.camera_mask == (True, True, True, False, True, True)
    assert setup.builder.camera_states["CAM_BACK"] == state
    assert setup.builder.camera_states["CAM_FRONT"] == "ok"
    assert setup.builder.problems.report()[state]["cameras"] == {"CAM_BACK": 1}
    assert [warning for warning in setup.warnings if "CAM_BACK" in warning]
    strict = make_builder(min_cameras=6).hear()
    images, state = odd_image(strict, kind)
    with pytest.raises(NotReadyError, match="5 cameras of the set can be used, 6 are needed: camera CAM_B") as caught:
        strict.builder.build(images)
    assert (caught.value.state, caught.value.camera) == (state, "CAM_BACK")
    assert strict.builder.problems.report()[state]["cameras"] == {"CAM_BACK": 1}


def test_the_lookups_of_a_set_wait_together_no_longer_than_one(make_builder: Any) -> None:
    setup = make_builder(tf_timeout_s=0.2).hear()
    images = setup.images()
    late = replace(images, stamps_ns={camera: stamp + 10**9 for camera, stamp in images.stamps_ns.items()})
    waits: list[float] = []
    lookup = setup.transforms._wait
    setup.transforms._wait = lambda attempt, timeout_s: (waits.append(timeout_s), lookup(attempt, timeout_s))[1]
    with pytest.raises(NotReadyError):
        setup.builder.build(late)
    assert len([wait for wait in waits if wait > 0]) == 1


def _hear_nods(setup: Any, stamps_ns: range, pitch: float) -> None:
    for stamp_ns in stamps_ns:
        message = setup.rig.tf(stamp_ns)
        rotation = message.transforms[0].transform.rotation
        pose = setup.module.odom_from_base(stamp_ns)
        turned = pose[:3, :3] @ rotation_from_euler(0.0, pitch, 0.0)
        rotation.w, rotation.x, rotation.y, rotation.z = map(float, quaternion_from_rotation(turned))
        setup.transforms.add(message.transforms, static=False)


def test_a_nod_of_the_body_is_taken_off(make_builder: Any) -> None:
    """The cameras look down with the body: on the road they are turned; where it lasts or stamps jump, they are not."""
    cycle_ns, nod = 100_000_000, 0.005
    setup, plain = make_builder(), make_builder(road_plane=False)
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
