"""Odd input in a real graph, one row of docs/abnormal_input.md after the other.

What the node says, and that its maps are right and at full rate: meanwhile where it can use the input, else afterwards.

One node for compressed images and one for raw ones; what needs a node of its own is in `test_abnormal_start.py` and
`test_faults.py`. The parts behind are tested by themselves: every encoding's colours in `test_images.py`.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from hdmap_ros.observing.images import SUPPORTED_ENCODINGS

pytest.importorskip("rclpy", reason="the ROS graph needs rclpy; run make setup")
pytestmark = pytest.mark.ros

CAMERA = "CAM_BACK"
GREY = 140
"""Of CAM_BACK's images; the map's score for it."""
FORMATS = (
    "jpeg",
    "jpg",
    "png",
    "",
    "bgr8; jpeg compressed bgr8",
    "rgb8; jpeg compressed bgr8",
    "mono8; png compressed ",
)
LEAST_CYCLES = 8


@pytest.fixture(scope="module", params=["compressed", "raw"])
def traffic(request: pytest.FixtureRequest, faults: ModuleType, rig_module: Any, make_graph: Any) -> Iterator[Any]:
    """The rig before a node that does with five cameras."""
    graph = make_graph(raw=request.param == "raw")
    made = faults.Traffic(graph, rig_module, faults.FaultyPredictor(rig_module.RigLines()))
    quick = {"diagnostics.period": 0.1, "diagnostics.stale_after": 0.5, "sync.min_cameras": 5, "sync.max_age": 10.0}
    made.node = graph.start_node(made.predictor, image_transport=request.param, **quick)
    yield made
    graph.close()


Change = Callable[[Any, Any], None]


def picture(traffic: Any, shot: Any, data: bytes, kind: str = "jpeg") -> None:
    shot.image = traffic.graph.rig.image(shot.camera, shot.stamp_ns, data)
    shot.image.format = kind


def encoded(extension: str, height: int = 90, width: int = 160) -> bytes:
    return cv2.imencode(extension, np.full((height, width, 3), GREY, np.uint8))[1].tobytes()


def every_format(traffic: Any, shot: Any) -> None:
    kind = FORMATS[traffic.cycles % len(FORMATS)]
    picture(traffic, shot, encoded(".png" if "png" in kind else ".jpg"), kind)


def depth(traffic: Any, shot: Any) -> None:
    picture(traffic, shot, encoded(".png"), "16UC1; compressedDepth png")


def neither_jpeg_nor_png(traffic: Any, shot: Any) -> None:
    picture(traffic, shot, b"GIF89a" + bytes(100), "gif")


def another_size(traffic: Any, shot: Any) -> None:
    picture(traffic, shot, encoded(".jpg", 180, 320))
    info = shot.info = traffic.graph.rig.info(shot.camera, shot.stamp_ns, 240.0)
    info.height, info.width = 180, 320
    info.k[2], info.k[5] = info.p[2], info.p[6] = 159.5, 89.5


def another_focal_length(traffic: Any, shot: Any) -> None:
    shot.info = traffic.graph.rig.info(shot.camera, shot.stamp_ns, 130.0)


def info_with(**values: Any) -> Change:
    def change(traffic: Any, shot: Any) -> None:
        for name, value in values.items():
            setattr(shot.info, name, value)

    return change


def centre_outside(traffic: Any, shot: Any) -> None:
    shot.info.k[2] = shot.info.p[2] = 5000.0


def a_turn_that_is_none(traffic: Any, shot: Any) -> None:
    shot.info.d, shot.info.r = [], 2.0 * shot.info.r
    shot.info.p[0] = shot.info.p[5] = 100.0


def frame(name: str) -> Change:
    def change(traffic: Any, shot: Any) -> None:
        shot.image.header.frame_id = shot.info.header.frame_id = name

    return change


def no_stamp(traffic: Any, shot: Any) -> None:
    shot.image.header.stamp = type(shot.image.header.stamp)()


def raw(encoding: str = "rgb8", **fields: Any) -> Change:
    def change(traffic: Any, shot: Any) -> None:
        shot.image = traffic.graph.rig.raw_image(shot.camera, shot.stamp_ns, encoding, **fields)

    return change


def grey_rows(encoding: str, bigendian: bool = False) -> np.ndarray:
    """(rows, bytes) uint8 of a grey image in any supported encoding; the low bytes of 16 bits are noise."""
    if encoding in ("nv12", "nv21", "yuv420") or "yu" in encoding:
        luma = round(16 + GREY * 219 / 255)
        if encoding in ("nv12", "nv21", "yuv420"):
            return np.concatenate([np.full((90, 160), luma, np.uint8), np.full((45, 160), 128, np.uint8)])
        pair = [luma, 128] if encoding in ("yuyv", "yuv422_yuy2") else [128, luma]
        return np.tile(np.array(pair, np.uint8), (90, 160))
    channels = 4 if "a8" in encoding or encoding.endswith("4") else 3 if "rgb" in encoding or "bgr" in encoding else 1
    channels = 3 if encoding.endswith("C3") else channels
    if "16" not in encoding:
        return np.full((90, 160 * channels), GREY, np.uint8)
    return np.full((90, 160 * channels), 256 * GREY + 77, ">u2" if bigendian else "<u2").view(np.uint8)


def every_encoding(traffic: Any, shot: Any) -> None:
    encoding = SUPPORTED_ENCODINGS[traffic.cycles % len(SUPPORTED_ENCODINGS)]
    raw(encoding, pixels=grey_rows(encoding))(traffic, shot)


def both_byte_orders(traffic: Any, shot: Any) -> None:
    bigendian = traffic.cycles % 2 == 0
    raw("mono16", pixels=grey_rows("mono16", bigendian), is_bigendian=int(bigendian))(traffic, shot)


def padded_rows(traffic: Any, shot: Any) -> None:
    pixels = np.concatenate([grey_rows("rgb8"), np.full((90, 7), 255, np.uint8)], axis=1)
    raw(pixels=pixels)(traffic, shot)


USABLE: dict[str, list[tuple[str, Change, str]]] = {
    "compressed": [
        ("every_format", every_format, ""),
        ("another_size", another_size, "new_image_size: camera CAM_BACK: its decoded images were 160 x 90"),
        (
            "another_focal_length",
            another_focal_length,
            "new_camera_info: camera CAM_BACK: its CameraInfo was fx 120.00",
        ),
        ("centre_outside", centre_outside, "bad_camera_info: camera CAM_BACK: the principal point (5000.0, 44.5)"),
        (
            "too_long_d",
            info_with(d=[0.1] * 15),
            "bad_camera_info: camera CAM_BACK: a lens of the model 'plumb_bob' has",
        ),
        ("unknown_lens", info_with(distortion_model="double_sphere"), "'double_sphere' is not known"),
        ("no_size", info_with(width=0), "bad_camera_info: camera CAM_BACK: CameraInfo is for an image of 0 x"),
        ("r_does_not_turn", a_turn_that_is_none, "bad_camera_info: camera CAM_BACK: "),
        ("no_frame_id", frame(""), "no_frame_id: camera CAM_BACK: neither image nor CameraInfo names a frame"),
    ],
    "raw": [
        ("every_encoding", every_encoding, "guessed_encoding: camera CAM_BACK: its encoding"),
        ("both_byte_orders", both_byte_orders, ""),
        ("padded_rows", padded_rows, ""),
    ],
}
REJECTED: dict[str, list[tuple[str, Change, str]]] = {
    "compressed": [
        ("depth", depth, "rejected_image: camera CAM_BACK: format '16UC1; compressedDepth png' is a depth image"),
        ("neither_jpeg_nor_png", neither_jpeg_nor_png, "rejected_image: camera CAM_BACK: "),
        ("no_stamp", no_stamp, "zero_stamp: camera CAM_BACK: its images have no stamp (0); it is left out, as nothing"),
        ("another_frame", frame("nowhere"), "no_transform: camera CAM_BACK: no transform base_link <- nowhere"),
    ],
    "raw": [
        (
            "float_image",
            raw("32FC1"),
            "rejected_image: camera CAM_BACK: encoding '32FC1' is not supported; supported are",
        ),
        ("unknown_encoding", raw("grey9"), "encoding 'grey9' is not supported; supported are rgb8"),
        ("short_step", raw(step=100), "step of 100 bytes is shorter than a row of rgb8 (480 bytes)"),
        ("truncated", raw(pixels=grey_rows("rgb8")[:50]), "the image is truncated: 24000 bytes, 480 x 90 are needed"),
        ("no_height", raw(height=0), "the image is empty: 160 x 0 pixels"),
        ("no_bytes", raw(pixels=np.zeros((0, 480), np.uint8)), "the image is truncated: 0 bytes"),
        ("bomb", raw(height=60_000, width=60_000), "rejected_image: camera CAM_BACK: "),
    ],
}


def rows(table: dict[str, list[tuple[str, Change, str]]]) -> Any:
    """Each row with the transport of the node that it is for."""
    cases = [(transport, *row) for transport, entries in table.items() for row in entries]
    names = [f"{transport}-{name}" for transport, name, _, _ in cases]
    arguments = [(transport, change, cause) for transport, _, change, cause in cases]
    return pytest.mark.parametrize(
        ("traffic", "change", "cause"), arguments, indirect=["traffic"], ids=names, scope="module"
    )


def settled(traffic: Any) -> None:
    """The rig is at full rate and nothing is wrong; what came before is forgotten."""
    traffic.mark()
    assert traffic.until(lambda: traffic.at_full_rate() and traffic.healthy()) is not None
    traffic.predictor.focals.clear()
    del traffic.maps[:], traffic.diagnostics[:]
    traffic.mark()


def after(traffic: Any) -> None:
    """Full rate and health come back, and no map was wrong."""
    traffic.mark()
    assert traffic.until(traffic.at_full_rate) is not None
    assert traffic.until(traffic.healthy) is not None
    traffic.predictor.focals &= {120.0}
    assert traffic.wrong_maps() == []
    assert traffic.node.session.worker is not None, "still active"


@rows(USABLE)
def test_what_can_be_used_is_used_and_told(traffic: Any, faults: ModuleType, change: Change, cause: str) -> None:
    fault = faults.altered("odd", "", change, CAMERA)
    told = faults.Fault("odd", cause=cause)
    settled(traffic)
    begin = traffic.cycles
    most = max(LEAST_CYCLES, len(SUPPORTED_ENCODINGS) if change is every_encoding else 0)
    assert traffic.until(lambda: traffic.cycles >= begin + most and traffic.named(told), [fault]) is not None
    traffic.mark()
    assert traffic.until(traffic.at_full_rate, [fault]) is not None, "with CAM_BACK in every map"
    expected = {another_focal_length: {120.0, 130.0}, another_size: {240.0}}
    assert traffic.predictor.focals <= expected.get(change, set()) | {120.0}
    after(traffic)


@rows(REJECTED)
def test_what_cannot_be_used_is_left_out_and_told(traffic: Any, faults: ModuleType, change: Change, cause: str) -> None:
    fault = faults.altered("odd", "", change, CAMERA)
    told = faults.Fault("odd", cause=cause)
    settled(traffic)
    without = traffic.rig.CAMERAS.index(CAMERA)
    partial = faults.FULL_MASK & ~(1 << without)
    assert traffic.until(lambda: traffic.maps and traffic.maps[-1].camera_mask == partial, [fault]) is not None
    assert traffic.until(lambda: traffic.named(told), [fault]) is not None
    after(traffic)


@pytest.mark.parametrize("traffic", ["compressed"], indirect=True, scope="module")
def test_a_second_publisher_with_another_time(traffic: Any, faults: ModuleType) -> None:
    """As a recording that is played while the camera runs."""

    def and_another_one(traffic: Any, shot: Any) -> None:
        stamp_ns = shot.stamp_ns - 400_000_000
        traffic._others[CAMERA].publish(traffic.graph.rig.image(CAMERA, stamp_ns))

    fault = faults.altered("interleaved", "", and_another_one, CAMERA)
    settled(traffic)
    traffic.add_publisher(CAMERA)
    names = faults.Fault("names", cause="CAM_BACK=many_publishers: test_rig, test_rig")
    apart = faults.Fault("apart", cause="stamps_interleaved: camera CAM_BACK: its stamps go back and forth")
    assert traffic.until(lambda: traffic.named(names) and traffic.named(apart), [fault]) is not None
    traffic.remove_publisher(CAMERA)
    after(traffic)


def test_the_page_names_every_row_and_tests_that_exist() -> None:
    here = Path(__file__).parent
    page = (here.parents[1] / "docs" / "abnormal_input.md").read_text()
    assert [int(number) for number in re.findall(r"(?m)^\| (\d+) \|", page)] == list(range(1, 25))
    named = {kind: set[str]() for kind in ("usable", "rejected", "fault")}
    for line in page.splitlines():
        kind = ""
        for found, name in re.findall(r"`(usable|rejected|fault|)\[(\w+)\*?\]`", line):
            kind = found or kind
            named[kind].add(name)
    for kind, table in (("usable", USABLE), ("rejected", REJECTED)):
        assert named[kind] == {name for entries in table.values() for name, _, _ in entries}
    tests = "".join(
        path.read_text() for path in [*here.rglob("test_*.py"), *here.parent.rglob("core/**/test_finite.py")]
    )
    faults = (here / "fault_injection.py").read_text()
    assert all(f'"{name}' in faults or f'f"{name}' in faults for name in named["fault"] - {""})
    assert all(f"def {name}(" in tests for name in set(re.findall(r"`(test_\w+)(?=[`\[,])", page)))
    assert all((here.parents[1] / path).exists() for path in re.findall(r"`(test/[\w/]+\.py)`", page))
