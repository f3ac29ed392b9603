import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hdmap_core.errors import CalibrationError
from hdmap_core.geometry import se3

angles = st.floats(-3.1, 3.1)
eulers = st.tuples(angles, st.floats(-1.5, 1.5), angles)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(euler=eulers, other=eulers)
def test_rotations_quaternions_and_inverses(euler: tuple, other: tuple) -> None:
    rotation = se3.rotation_from_euler(*euler)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    quaternion = se3.quaternion_from_rotation(rotation)
    assert quaternion[0] >= 0
    np.testing.assert_allclose(se3.rotation_from_quaternion(quaternion), rotation, atol=1e-9)
    a_from_b = se3.se3(rotation, [400.0, -1000.0, 2.0])
    b_from_c = se3.se3(se3.rotation_from_euler(*other), [1.0, 2.0, 3.0])
    np.testing.assert_allclose(se3.inverse(a_from_b) @ a_from_b, np.eye(4), atol=1e-9)
    both = se3.inverse(np.stack([a_from_b, b_from_c]))
    np.testing.assert_allclose(both[1], np.linalg.inv(b_from_c), atol=1e-9)
    points = np.array([[1.0, -2.0, 0.5], [30.0, 4.0, 1.0]])
    stepwise = se3.transform_points(a_from_b, se3.transform_points(b_from_c, points))
    np.testing.assert_allclose(se3.transform_points(a_from_b @ b_from_c, points), stepwise, atol=1e-9)


def test_axes_and_yaw() -> None:
    left = se3.rotation_from_euler(0, 0, np.pi / 2)
    np.testing.assert_allclose(left @ [1, 0, 0], [0, 1, 0], atol=1e-12)  # positive yaw turns forward to the left
    nose_down = se3.rotation_from_euler(0, 0.1, 0)
    assert (nose_down @ [1, 0, 0])[2] < 0  # REP-103: positive pitch lowers the nose
    rolled = se3.se3(se3.rotation_from_euler(0.3, -0.2, 1.1), [0, 0, 0])
    assert se3.yaw_of(rolled) == pytest.approx(1.1)
    np.testing.assert_allclose(se3.rotation_from_quaternion([2, 0, 0, 2]) @ [1, 0, 0], [0, 1, 0], atol=1e-12)


@pytest.mark.parametrize("quaternion", [[0, 0, 0, 0], [1, 0, 0], [float("nan"), 0, 0, 1], [float("inf"), 0, 0, 1]])
def test_no_rotation(quaternion: list[float]) -> None:
    with pytest.raises(CalibrationError, match="quaternion"):
        se3.rotation_from_quaternion(quaternion)
