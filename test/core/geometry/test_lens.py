"""Lens models against OpenCV, there and back, and beyond what they can see."""

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hdmap_core.errors import CalibrationError
from hdmap_core.geometry.lens import Lens, lens_of

PLUMB_BOB = (-0.31, 0.12, 0.0008, -0.0012, -0.021)
RATIONAL = (0.42, -0.18, 0.0006, 0.0004, 0.012, 0.71, -0.1, 0.03)
THIN_PRISM = (*RATIONAL, 0.002, -0.001, 0.0015, -0.0008)
TILTED = (*THIN_PRISM, 0.03, -0.05)
FISHEYE = (0.08, -0.01, 0.004, -0.0007)


def coefficients(count: int) -> st.SearchStrategy[tuple[float, ...]]:
    """As a calibration of a camera may have them."""
    limits = [0.3, 0.1, 0.002, 0.002, 0.05, 0.3, 0.1, 0.05, 0.003, 0.003, 0.003, 0.003, 0.05, 0.05]
    return st.tuples(*(st.floats(-limit, limit).map(lambda x: round(x, 6)) for limit in limits[:count]))


lenses = st.one_of(
    *(st.builds(Lens, st.just("polynomial"), coefficients(count)) for count in (4, 5, 8, 12, 14)),
    st.builds(Lens, st.just("fisheye"), st.tuples(*[st.floats(-0.05, 0.05)] * 4)),
)


def cone(reach_rad: float, share: float = 0.97) -> np.ndarray:
    """(24, 16, 3) directions up to a share of the reach."""
    angle, azimuth = np.meshgrid(np.linspace(0, share * reach_rad, 24), np.linspace(0, 6.2, 16), indexing="ij")
    sideways = np.sin(angle)
    return np.stack([sideways * np.cos(azimuth), sideways * np.sin(azimuth), np.cos(angle)], axis=-1)


def by_opencv(lens: Lens, directions: np.ndarray) -> np.ndarray:
    rays, still, values = directions.reshape(-1, 1, 3), np.zeros(3), np.array(lens.coefficients)
    if lens.kind == "fisheye":
        found = cv2.fisheye.projectPoints(rays, still, still, np.eye(3), values)[0]
    else:
        found = cv2.projectPoints(rays, still, still, np.eye(3), values)[0]
    return found.reshape(*directions.shape[:-1], 2)


@settings(max_examples=60)
@given(lens=lenses)
def test_projects_as_opencv(lens: Lens) -> None:
    directions = cone(min(lens.reach_rad, np.deg2rad(80)))
    points, depth = lens.project(3 * directions)
    assert (depth > 0).all()
    np.testing.assert_allclose(points, by_opencv(lens, directions), rtol=1e-9, atol=1e-9)


@settings(max_examples=60)
@given(lens=lenses)
@example(lens=Lens("polynomial", (0.0, -0.0625, *[0.0] * 11, 0.078125)))  # a fold, and a tilt that moves its rim
def test_there_and_back(lens: Lens) -> None:
    directions = cone(lens.reach_rad, 0.9)
    found, seen = lens.unproject(lens.project(directions)[0])
    assert seen.all()
    np.testing.assert_allclose(found, directions, atol=1e-6)


@settings(max_examples=60)
@given(lens=lenses, azimuth=st.floats(0, 6.28))
def test_nothing_folds_back_into_the_picture(lens: Lens, azimuth: float) -> None:
    """Going outward, what the lens sees only moves outward, and beyond its reach there is nothing more."""
    angles = np.linspace(1e-3, np.pi - 1e-3, 800)
    side = np.array([np.cos(azimuth), np.sin(azimuth)])
    directions = np.concatenate([np.sin(angles)[:, None] * side, np.cos(angles)[:, None]], axis=-1)
    points, depth = lens.project(directions)
    seen = depth > 0
    assert seen[0] and not (seen[1:] & ~seen[:-1]).any()
    assert (seen == (angles <= lens.reach_rad)).all()
    # A prism or a tilt may bend the way sideways, not back.
    assert (np.diff(points[seen] @ side) > -1e-9).mean() > 0.98
    np.testing.assert_allclose(points[~seen], np.broadcast_to(points[~seen][:1], points[~seen].shape), atol=1e-9)


def test_a_polynomial_that_turns_round() -> None:
    """k1 = -0.3 stops growing at a tangent of 1 / sqrt(0.9): 46.5 degrees; 62 degrees would come back to 30."""
    lens = Lens("polynomial", (-0.3, 0.0, 0.0, 0.0))
    assert np.rad2deg(lens.reach_rad) == pytest.approx(46.5, abs=0.1)
    far = np.array([[1.85, 0.0, 1.0], [0.0, 1.5, 1.0], [0.3, 0.0, -1.0], [0.0, 0.0, -1.0]])
    assert abs(by_opencv(lens, far[:1])[0, 0]) < 0.06, "OpenCV has it in the middle of the picture"
    points, depth = lens.project(far)
    assert (depth < 0).all()
    assert np.hypot(*points[0]) == pytest.approx(2 / 3 * 1.0541, abs=1e-3), "on the rim"


def test_a_rational_lens_with_a_pole_ends_before_it() -> None:
    lens = Lens("polynomial", (0.0, 0.0, 0.0, 0.0, 0.0, -0.25, 0.0, 0.0))  # 1 - r^2 / 4
    assert np.rad2deg(lens.reach_rad) <= np.rad2deg(np.arctan(2.0)) < np.rad2deg(lens.reach_rad) + 0.1


def test_a_wide_fisheye_looks_behind() -> None:
    lens = lens_of("equidistant", [])
    assert lens is not None
    angle = np.deg2rad(100)
    points, depth = lens.project(5 * np.array([np.sin(angle), 0.0, np.cos(angle)]))
    np.testing.assert_allclose(points, [angle, 0.0])
    assert depth == pytest.approx(5.0), "the distance"
    assert Lens("fisheye", (-0.2, 0.0, 0.0, 0.0)).reach_rad == pytest.approx(1 / np.sqrt(0.6), abs=2e-3)


@pytest.mark.parametrize(
    ("name", "given_values", "kind", "count"),
    [
        ("plumb_bob", PLUMB_BOB, "polynomial", 5),
        ("plumb_bob", PLUMB_BOB[:4], "polynomial", 4),
        ("", PLUMB_BOB, "polynomial", 5),
        ("Rational_Polynomial ", RATIONAL, "polynomial", 8),
        ("rational_polynomial", THIN_PRISM, "polynomial", 12),
        ("rational_polynomial", (*RATIONAL, 0.0, 0.0, 0.0, 0.0), "polynomial", 8),
        ("thin_prism", TILTED, "polynomial", 14),
        ("equidistant", FISHEYE, "fisheye", 4),
        ("fisheye", (0.0, 0.0, 0.0, 0.0), "fisheye", 4),
        ("equidistant", (), "fisheye", 4),
        ("equidistant", (0.1, 0.2, 0.0, 0.0, 0.0), "fisheye", 4),
        ("kannala_brandt4", FISHEYE, "fisheye", 4),
    ],
)
def test_names(name: str, given_values: tuple[float, ...], kind: str, count: int) -> None:
    lens = lens_of(name, given_values)
    assert lens is not None and (lens.kind, len(lens.coefficients)) == (kind, count)
    again = lens_of(lens.model, lens.coefficients)
    assert again == lens, "its own name leads back"


@pytest.mark.parametrize("name", ["", "none", "plumb_bob", "rational_polynomial", "inverse_brown_conrady"])
def test_a_pinhole(name: str) -> None:
    assert lens_of(name, []) is None and lens_of(name, [0.0] * 8) is None


@pytest.mark.parametrize(
    ("name", "given_values", "message"),
    [
        ("mei", [0.0] * 5, "the model 'mei' is not known; known are plumb_bob, .*rational_polynomial.* equidistant"),
        ("double_sphere", [], "'double_sphere' is not known"),
        ("inverse_brown_conrady", [0.1], "'inverse_brown_conrady' is not known"),
        ("equidistant", [0.1] * 5, "at most 4 coefficients, got 5"),
        ("plumb_bob", [0.1] * 15, "at most 14 coefficients, got 15"),
        ("plumb_bob", [0.1, float("nan")], "finite"),
        ("plumb_bob", [-5e4, 0.0, 0.0, 0.0], "it sees nothing"),  # of pixels
        ("fisheye", [1e200, 0.0, 0.0, 0.0], "it sees nothing"),
    ],
)
def test_lenses_that_are_refused(name: str, given_values: list[float], message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        lens_of(name, given_values)
