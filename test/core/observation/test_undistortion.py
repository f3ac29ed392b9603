"""Images that came through a lens, made those of a pinhole: OpenCV's undistortion is the oracle."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from hdmap_core.geometry import CameraRig
from hdmap_core.geometry.lens import Lens, lens_of
from hdmap_core.geometry.lens_sampling import Optics
from hdmap_core.observation import Observation
from hdmap_core.observation.undistortion import without_lenses
from hdmap_core.preprocess import image_inputs

SIZE = (90, 160)
K = np.array([[90.0, 0, 82.0], [0, 88.0, 41.0], [0, 0, 1]])
LENSES = [
    lens_of("plumb_bob", [-0.3, 0.1, 0.001, -0.001, -0.01]),
    lens_of("plumb_bob", [0.2, 0.05, 0.0, 0.0]),
    lens_of("rational_polynomial", [8.2, 5.1, 0.0003, -0.0002, 0.25, 8.5, 7.6, 1.3]),
    lens_of("thin_prism", [-0.2, 0.05, 0.001, 0.001, 0.0, 0.0, 0.0, 0.0, 0.01, -0.005, 0.008, 0.003]),
    lens_of("equidistant", [0.05, -0.01, 0.002, 0.0]),
    lens_of("equidistant", []),
]


def picture() -> np.ndarray:
    """Smooth, so that rounding of tables does not show."""
    rows, columns = np.indices(SIZE)
    return np.stack([columns + 40, 2 * rows + 20, 200 - columns], axis=-1).astype(np.uint8)


def observation(*lenses: Lens | None) -> Observation:
    names = [f"CAMERA_{index}" for index in range(len(lenses))]
    rig = CameraRig.from_arrays(names, [K] * len(names), [np.eye(4)] * len(names), SIZE, lenses)
    return Observation((picture(),) * len(names), rig, 0, "town")


def by_opencv(lens: Lens, pinhole: np.ndarray) -> np.ndarray:
    values, size = np.array(lens.coefficients), SIZE[::-1]
    make = cv2.fisheye.initUndistortRectifyMap if lens.kind == "fisheye" else cv2.initUndistortRectifyMap
    return cv2.remap(picture(), *make(K, values, np.eye(3), pinhole, size, cv2.CV_16SC2), cv2.INTER_LINEAR)


@pytest.mark.parametrize("lens", LENSES)
def test_images_are_opencvs(lens: Lens) -> None:
    found = without_lenses(observation(lens))
    pinhole = found.rig.intrinsics[0].numpy()
    assert found.images[0] is not None and found.rig.lenses == ()
    difference = np.abs(found.images[0].astype(int) - by_opencv(lens, pinhole))
    assert np.quantile(difference, 0.99) <= 2


@pytest.mark.parametrize("lens", LENSES)
def test_the_pinhole_sees_to_both_sides_what_the_lens_sees(lens: Lens) -> None:
    pinhole = np.reshape(Optics.of(lens, K).pinhole(SIZE), (3, 3))  # type: ignore[union-attr]
    np.testing.assert_allclose(pinhole[:2, 2], K[:2, 2])
    assert pinhole[0, 0] / K[0, 0] == pytest.approx(pinhole[1, 1] / K[1, 1])
    ends = np.array([[0.0, K[1, 2], 1.0], [SIZE[1] - 1, K[1, 2], 1.0]])
    directions, _ = lens.unproject((ends @ np.linalg.inv(K).T)[:, :2])
    columns = directions[:, 0] / directions[:, 2] * pinhole[0, 0] + pinhole[0, 2]
    edges = np.array([0.0, SIZE[1] - 1])
    assert columns[0] > -1e-6 and columns[1] < edges[1] + 1e-6, "both ends of the row are in the picture"
    assert np.abs(columns - edges).min() < 1e-6, "one of them at its edge"


def test_a_wide_fisheye_becomes_a_pinhole_of_at_most_120_degrees() -> None:
    wide = np.array([[40.0, 0, 79.5], [0, 40.0, 44.5], [0, 0, 1]])  # 4 rad from side to side
    optics = Optics.of(lens_of("equidistant", []), wide)
    assert optics is not None
    focal = optics.pinhole(SIZE)[0]
    assert np.rad2deg(np.arctan(79.5 / focal)) == pytest.approx(60.0)


def test_pinholes_and_missing_cameras_stay() -> None:
    given = observation(None, LENSES[0], LENSES[1])
    given = replace(given, images=(given.images[0], None, given.images[2]))
    found = without_lenses(given)
    assert found.images[0] is given.images[0] and found.images[1] is None
    assert (found.rig.intrinsics[0] == given.rig.intrinsics[0]).all()
    plain = observation(None)
    assert without_lenses(plain) is plain


def test_a_model_of_whole_images_is_given_a_pinholes() -> None:
    """A point's projection finds in the input the colour that the lens's image has where the rig projects it."""
    given = observation(LENSES[0])
    inputs = image_inputs(given, SIZE)
    assert inputs.images is not None and inputs.projection is not None
    point = np.array([0.5, 0.2, 1.0, 1.0])
    u, v, z = inputs.projection[0, 0].double().numpy() @ point
    pixels, _, visible = given.rig.project(given.rig.intrinsics.new_tensor(point[None, :3]))
    assert visible.all()
    column, row = np.round(pixels[0, 0].numpy()).astype(int)
    colour = inputs.images[0, 0, :, round(v / z), round(u / z)].numpy()
    np.testing.assert_allclose(colour, picture()[row, column], atol=3)
    assert abs(u / z - column) > 4, "the lens moves it"


def test_another_calibration_is_another_table() -> None:
    before = without_lenses(observation(LENSES[0])).images[0]
    after = without_lenses(observation(LENSES[1])).images[0]
    again = without_lenses(observation(LENSES[0])).images[0]
    assert not np.array_equal(before, after) and np.array_equal(before, again)  # type: ignore[arg-type]
