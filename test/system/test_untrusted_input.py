"""What strangers hand over: an error of ours or a result, never another exception, and memory within bounds."""

import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hdmap_core.checkpoint import CheckpointConfig
from hdmap_core.config import load_config
from hdmap_core.errors import BagError, CalibrationError, ConfigError, ImageError
from hdmap_core.images.decoding import decode_image as decode_file
from hdmap_ros.bag.compression import _zstd
from hdmap_ros.bag.layouts import load_layout
from hdmap_ros.bag.mcap import open_bag, write_mcap
from hdmap_ros.observing.calibration import calibration_from_info, read_calibration_file
from hdmap_ros.observing.images import SUPPORTED_ENCODINGS, decode_image

ROOT = Path(__file__).resolve().parents[2]
SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
PICTURE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
JPEG, PNG = (cv2.imencode(kind, PICTURE)[1].tobytes() for kind in (".jpg", ".png"))

edits = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6)


def mutated(data: bytes, changes: list[tuple[int, int]], keep: int | None = None) -> bytes:
    """Some bytes changed, and perhaps cut off."""
    result = bytearray(data)
    for place, value in changes:
        result[place % len(result)] = value
    return bytes(result if keep is None else result[: keep % (len(result) + 1)])


@contextmanager
def within(megabytes: float) -> Iterator[None]:
    """What Python and NumPy ask for at once meanwhile."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < megabytes * 1e6
    finally:
        tracemalloc.stop()


# --- pictures ---
def png_of(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    chunks = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
    return PNG[:8] + b"".join(chunks)


def jpeg_of(width: int, height: int) -> bytes:
    frame = JPEG.index(b"\xff\xc0")
    return JPEG[: frame + 5] + struct.pack(">HH", height, width) + JPEG[frame + 9 :]


@pytest.mark.parametrize("data", [png_of(60000, 60000), jpeg_of(65000, 65000), png_of(2**31 - 1, 1)])
def test_pictures_that_claim_more_than_there_is_memory(data: bytes) -> None:
    with within(5), pytest.raises(ImageError, match=r"more than 50 million are not decoded"):
        decode_file(data, "x")


def progressive(header: bytes = b"") -> bytes:
    """A JPEG of ten scans, with this behind its first marker, whose last scan comes 200 times more."""
    whole = cv2.imencode(".jpg", np.zeros((40, 60, 3), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    return whole[:2] + header + whole[2:-2] + whole[whole.rindex(b"\xff\xda") : -2] * 200 + whole[-2:]


SEQUENTIAL = JPEG[JPEG.index(b"\xff\xc0") : JPEG.index(b"\xff\xda") + 14]


@pytest.mark.parametrize(
    "data",
    [
        JPEG[:-2] + JPEG[JPEG.index(b"\xff\xda") : -2] * 200 + JPEG[-2:],
        progressive(),
        # A sequential one's header, for whoever takes a fill byte for a marker or reads stray bytes.
        progressive(b"\xff\xff\xfe" + (len(SEQUENTIAL) + 2).to_bytes(2, "big") + SEQUENTIAL),
        progressive(b"\0" + SEQUENTIAL.replace(b"\xff", b"\0")),
    ],
)
def test_a_picture_that_is_decoded_over_and_over(data: bytes) -> None:
    with pytest.raises(ImageError, match="more than 100 scans"):
        decode_file(data, "x")


@SHARED
@given(data=st.sampled_from([JPEG, PNG]), changes=edits, keep=st.none() | st.integers(0, 5000))
def test_changed_pictures(data: bytes, changes: list[tuple[int, int]], keep: int | None) -> None:
    with suppress(ImageError):
        assert decode_file(mutated(data, changes, keep), "x").shape[2] == 3


@SHARED
@given(
    encoding=st.sampled_from([*SUPPORTED_ENCODINGS, "32FC1", "", "\0"]),
    height=st.integers(0, 40) | st.integers(0, 2**32 - 1),
    width=st.integers(0, 40) | st.integers(0, 2**32 - 1),
    step=st.integers(0, 200) | st.integers(0, 2**32 - 1),
    size=st.integers(0, 4000),
)
def test_raw_images_of_any_numbers(encoding: str, height: int, width: int, step: int, size: int) -> None:
    message = SimpleNamespace(
        encoding=encoding, height=height, width=width, step=step, is_bigendian=0, data=bytes(size), header=None
    )
    with suppress(ImageError):
        assert decode_image(message).shape == (height, width, 3)


def test_one_row_with_endless_padding_asks_for_no_memory() -> None:
    message = SimpleNamespace(
        encoding="mono8", height=1, width=8, step=2**32 - 1, is_bigendian=0, data=bytes(8), header=None
    )
    with within(1):
        assert decode_image(message).shape == (1, 8, 3)


# --- CameraInfo ---
numbers = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, 1.0, 500.0, -1.0, 1e308])
counts = st.integers(0, 2**32 - 1) | st.integers(0, 2000)


@SHARED
@given(
    fields=st.fixed_dictionaries(
        {
            "k": st.lists(numbers, min_size=9, max_size=9),
            "p": st.lists(numbers, min_size=12, max_size=12),
            "r": st.lists(numbers, min_size=9, max_size=9) | st.just([1.0, 0, 0, 0, 1, 0, 0, 0, 1]),
            "d": st.lists(numbers, max_size=20),
            "distortion_model": st.sampled_from(["plumb_bob", "equidistant", "", "thin_prism"]) | st.text(max_size=9),
            **dict.fromkeys(("height", "width", "binning_x", "binning_y"), counts),
        }
    ),
    roi=st.fixed_dictionaries(dict.fromkeys(("x_offset", "y_offset", "height", "width"), counts)),
    sane=st.booleans(),
    projection=st.sampled_from(["auto", "k", "p"]),
)
def test_camera_info_of_any_numbers(fields: dict[str, Any], roi: dict[str, int], sane: bool, projection: str) -> None:
    if sane:  # so that the rest is looked at as well
        fields |= {"k": [500.0, 0, 320, 0, 500, 240, 0, 0, 1], "height": 480, "width": 640}
        roi = dict.fromkeys(roi, 0)
    info = SimpleNamespace(**fields, roi=SimpleNamespace(**roi), header=SimpleNamespace(frame_id="cam"))
    with suppress(CalibrationError):
        found = calibration_from_info("CAM", info, projection)
        assert np.isfinite(found.intrinsics).all() and np.isfinite(found.frame_from_camera).all()
        if found.lens is not None:
            points, _ = found.lens.project(np.array([[0.1, 0.2, 1.0], [0.0, 0.0, 1.0]]))
            assert points.shape == (2, 2)


# --- YAML files ---
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
BOMBS = [
    LAUGHS + "cameras: {CAM: {intrinsics: *a11, image_size: *a11}}\n",
    "cameras: &a {CAM: *a}\n",
    "[" * 5000,
    "cameras: 2001-99-99\n",
    "? [a]\n: b\n",
    "!!python/object/apply:os.system [true]\n",
    "cameras: {CAM: {intrinsics: .inf, image_size: [.inf, .nan]}}\n",
    "cameras: {CAM: [1]}\n",
    "x: " + "y" * 5_000_000,
    "\0",
]
READERS: list[Callable[[Path], object]] = [
    read_calibration_file,
    load_layout,
    lambda path: load_config(CheckpointConfig, path),
]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("text", BOMBS, ids=range(len(BOMBS)))
def test_yaml_that_explodes(tmp_path: Path, read: Callable[[Path], object], text: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(text)
    with within(60), pytest.raises((ConfigError, CalibrationError)) as told:
        read(path)
    assert len(str(told.value)) < 3000 and str(path) in str(told.value)


CALIBRATION = """cameras:
  CAM_FRONT:
    intrinsics: [[1260, 0, 800], [0, 1260, 450], [0, 0, 1]]
    image_size: [900, 1600]
    distortion_model: equidistant
    distortion_coefficients: [0.1, 0, 0, 0]
    translation: [1.7, 0, 1.5]
    rotation: [0.5, -0.5, 0.5, -0.5]
"""


@SHARED
@given(which=st.integers(0, 2), changes=st.lists(st.tuples(st.integers(0, 10**6), st.characters()), max_size=5))
def test_changed_yaml(tmp_path: Path, which: int, changes: list[tuple[int, str]]) -> None:
    texts = (CALIBRATION, (ROOT / "config/topics/hdmap.yaml").read_text(), "model: {name: small}\n")
    text = list(texts[which])
    for place, value in changes:
        text[place % len(text)] = value
    path = tmp_path / "file.yaml"
    path.write_text("".join(text), encoding="utf-8", errors="replace")
    with suppress(ConfigError, CalibrationError):
        READERS[which](path)


# --- bags ---
@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small recording."""
    path = tmp_path_factory.mktemp("bag") / "drive.mcap"
    with write_mcap(path) as writer:
        writer.declare("/camera", "sensor_msgs/msg/CompressedImage")
        for number in range(4):
            image = writer.types.get("sensor_msgs/msg/CompressedImage")(
                header=writer.types.header(number * 10**8, "camera"), format="jpeg", data=writer.types.octets(JPEG)
            )
            writer.write("/camera", number * 10**8, image)
    return path.read_bytes()


def read_all(path: Path, recover: bool) -> int:
    unreadable: list[str] = []
    with open_bag(path, recover) as reader:
        return sum(1 for _ in reader.messages(unreadable=lambda topic, reason: unreadable.append(reason)))


@SHARED
@given(changes=edits, keep=st.none() | st.integers(0, 10**6), recover=st.booleans())
def test_changed_bags(
    bag: bytes, tmp_path: Path, changes: list[tuple[int, int]], keep: int | None, recover: bool
) -> None:
    path = tmp_path / "drive.mcap"
    path.write_bytes(mutated(bag, changes, keep))
    with suppress(BagError):
        assert read_all(path, recover) <= 4


@pytest.mark.parametrize("stated", [1000, 2**40])
@pytest.mark.parametrize("recover", [False, True])
def test_a_chunk_that_unpacks_to_more_than_it_says(bag: bytes, tmp_path: Path, stated: int, recover: bool) -> None:
    """200 MB of zeros in some kilobytes, in place of the recording's first chunk."""
    packed = _zstd().compress(bytes(200_000_000))
    body = (
        struct.pack("<QQQI", 0, 1, stated, 0) + struct.pack("<I", 4) + b"zstd" + struct.pack("<Q", len(packed)) + packed
    )
    at = 8
    while bag[at] != 6:
        at += 9 + struct.unpack_from("<Q", bag, at + 1)[0]
    path = tmp_path / "drive.mcap"
    path.write_bytes(bag[:at] + bytes([6]) + struct.pack("<Q", len(body)) + body + bag[at:])
    with within(40), suppress(BagError):
        read_all(path, recover)
    folder = tmp_path / "drive"  # as rosbag2 leaves it, which rosbags would read by itself
    folder.mkdir()
    path.rename(folder / "drive.mcap")
    (folder / "metadata.yaml").write_text(
        "rosbag2_bagfile_information: {version: 9, storage_identifier: mcap, relative_file_paths: [drive.mcap], "
        "topics_with_message_count: [], compression_mode: '', compression_format: '', message_count: 0, "
        "duration: {nanoseconds: 0}, starting_time: {nanoseconds_since_epoch: 0}}\n"
    )
    with within(40), suppress(BagError):
        read_all(folder, recover)


def test_a_message_that_unpacks_to_gigabytes(bag: bytes) -> None:
    from hdmap_ros.bag.compression import zstd_decompress

    packed = _zstd().compress(bytes(50_000_000))
    with within(5), pytest.raises(ValueError, match="unpack to more than 1000000"):
        zstd_decompress(packed, most=1_000_000)
    assert len(zstd_decompress(packed)) == 50_000_000
