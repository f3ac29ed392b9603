"""Every supported encoding of one colour chart, and every way in which an image can be unusable."""

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from hdmap_core.errors import ImageError
from hdmap_core.images.decoding import decode_image as decode_file
from hdmap_ros.observing.images import SUPPORTED_ENCODINGS, decode_image

HEIGHT, WIDTH = 24, 32


def chart() -> np.ndarray:
    """(H, W, 3) RGB: four large patches, so that demosaicing and chroma subsampling leave their middles alone."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[:12, :16], image[:12, 16:] = (200, 40, 30), (20, 180, 60)
    image[12:, :16], image[12:, 16:] = (40, 50, 210), (128, 128, 128)
    return image


MIDDLES = ((6, 8), (6, 24), (18, 8), (18, 24))


def message(encoding: str, data: np.ndarray, *, step: int | None = None, is_bigendian: int = 0) -> SimpleNamespace:
    rows = data.reshape(data.shape[0], -1).view(np.uint8)
    height = HEIGHT if encoding in ("nv12", "nv21", "yuv420") else data.shape[0]
    return SimpleNamespace(
        height=height,
        width=WIDTH,
        encoding=encoding,
        is_bigendian=is_bigendian,
        step=step or rows.shape[1],
        data=rows.tobytes(),
    )


def mosaic(pattern: str) -> np.ndarray:
    """(H, W): what a sensor with this Bayer pattern sees; the first row reads pattern[:2], the second pattern[2:]."""
    image, channel = chart(), {"r": 0, "g": 1, "b": 2}
    sensor = np.zeros((HEIGHT, WIDTH), np.uint8)
    for index, letter in enumerate(pattern):
        row, column = divmod(index, 2)
        sensor[row::2, column::2] = image[row::2, column::2, channel[letter]]
    return sensor


def yuv422(order: str) -> np.ndarray:
    """(H, W, 2): BT.601 studio range, two pixels share their chroma."""
    yuv = cv2.cvtColor(chart(), cv2.COLOR_RGB2YUV_I420)
    luma = yuv[:HEIGHT]
    chroma = yuv[HEIGHT:].reshape(-1)
    u, v = (part.reshape(HEIGHT // 2, WIDTH // 2).repeat(2, axis=0) for part in np.split(chroma, 2))
    packed = np.zeros((HEIGHT, WIDTH, 2), np.uint8)
    y_index, c_index = (1, 0) if order == "uyvy" else (0, 1)
    packed[..., y_index] = luma
    packed[:, 0::2, c_index], packed[:, 1::2, c_index] = u, v
    return packed


def encoded(encoding: str) -> SimpleNamespace:
    rgb = chart()
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    alpha = np.full((HEIGHT, WIDTH, 1), 7, np.uint8)
    wide = lambda image: image.astype(np.uint16) * 256 + 99  # noqa: E731 - the low byte must not matter
    if encoding.startswith("bayer_"):
        sensor = mosaic(encoding[6:10])
        return message(encoding, wide(sensor) if encoding.endswith("16") else sensor)
    if encoding in ("nv12", "nv21", "yuv420"):
        planar = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420)
        if encoding == "yuv420":
            return message(encoding, planar, step=WIDTH)
        u, v = np.split(planar[HEIGHT:].reshape(-1), 2)
        pair = (u, v) if encoding == "nv12" else (v, u)
        return message(encoding, np.concatenate([planar[:HEIGHT], np.stack(pair, 1).reshape(-1, WIDTH)]), step=WIDTH)
    images = {
        "rgb8": rgb,
        "bgr8": rgb[..., ::-1],
        "rgba8": np.concatenate([rgb, alpha], 2),
        "bgra8": np.concatenate([rgb[..., ::-1], alpha], 2),
        "mono8": grey,
        "8UC1": grey,
        "8UC3": rgb[..., ::-1],
        "8UC4": np.concatenate([rgb[..., ::-1], alpha], 2),
        "mono16": wide(grey),
        "16UC1": wide(grey),
        "rgb16": wide(rgb),
        "bgr16": wide(rgb[..., ::-1]),
        "16UC3": wide(rgb[..., ::-1]),
        "yuv422": yuv422("uyvy"),
        "uyvy": yuv422("uyvy"),
        "yuv422_yuy2": yuv422("yuy2"),
        "yuyv": yuv422("yuy2"),
    }
    return message(encoding, np.ascontiguousarray(images[encoding]))


@pytest.mark.parametrize("encoding", SUPPORTED_ENCODINGS)
def test_every_encoding_gives_the_chart_back(encoding: str) -> None:
    image = decode_image(encoded(encoding))
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert image.dtype == np.uint8
    expected = chart()
    if "mono" in encoding or encoding.endswith("UC1"):
        expected = np.repeat(cv2.cvtColor(expected, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    for row, column in MIDDLES:
        difference = np.abs(image[row, column].astype(int) - expected[row, column].astype(int))
        assert difference.max() <= (4 if encoding.startswith(("yu", "uy", "nv")) else 0), (row, column)


def test_padding_of_rows_is_cut_off() -> None:
    padded = np.concatenate([chart().reshape(HEIGHT, -1), np.full((HEIGHT, 5), 255, np.uint8)], axis=1)
    assert (decode_image(message("rgb8", padded)) == chart()).all()
    last_row_bare = message("rgb8", padded)
    last_row_bare.data = last_row_bare.data[:-5]
    assert (decode_image(last_row_bare) == chart()).all()


def test_big_endian_16_bit() -> None:
    data = (chart().astype(np.uint16) * 256 + 9).byteswap()
    assert (decode_image(message("rgb16", data, is_bigendian=1)) == chart()).all()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"encoding": "32FC1"}, "'32FC1' is not supported; supported are rgb8"),
        ({"encoding": "nonsense"}, "'nonsense' is not supported"),
        ({"height": 0}, "empty"),
        ({"data": b""}, "truncated: 0 bytes"),
        ({"data": bytes(100)}, "truncated: 100 bytes"),
        ({"step": 90}, "step of 90 bytes is shorter"),
    ],
)
def test_unusable_raw_images_are_refused(changes: dict[str, Any], reason: str) -> None:
    image = message("rgb8", chart())
    image.__dict__.update(changes)
    with pytest.raises(ImageError, match=reason):
        decode_image(image)


def compressed(data: bytes, description: str = "jpeg") -> SimpleNamespace:
    return SimpleNamespace(format=description, data=data)


def jpeg() -> bytes:
    return cv2.imencode(".jpg", chart()[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


@pytest.mark.parametrize("description", ["jpeg", "jpg", "rgb8; jpeg compressed bgr8", ""])
def test_jpeg_and_png_are_rgb(description: str) -> None:
    png = cv2.imencode(".png", chart()[..., ::-1])[1].tobytes()
    assert (decode_image(compressed(png, description)) == chart()).all()
    image = decode_image(compressed(jpeg(), description))
    assert all(np.abs(image[at].astype(int) - chart()[at]).max() < 25 for at in MIDDLES)


@pytest.mark.parametrize(
    ("data", "description", "reason"),
    [
        (jpeg()[:-40], "jpeg", "truncated"),
        (b"", "jpeg", "empty"),
        (b"GIF89a...", "gif", "neither JPEG nor PNG"),
        (jpeg(), "16UC1; compressedDepth png", "depth image"),
    ],
)
def test_unusable_compressed_images_are_refused(data: bytes, description: str, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decode_image(compressed(data, description))


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("kind", ["8; jpeg compressed ", "8; png compressed ", "16; png compressed ", "8;jpeg"])
def test_a_compressed_mosaic_becomes_colours(pattern: str, kind: str) -> None:
    """As compressed_image_transport writes it: the mosaic in a grey file, its pattern in the format."""
    values = mosaic(pattern)
    pixels = values.astype(np.uint16) * 257 if kind.startswith("16") else values
    extension, flags = (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 100]) if "jpeg" in kind else (".png", [])
    image = decode_image(compressed(cv2.imencode(extension, pixels, flags)[1].tobytes(), f"bayer_{pattern}{kind}"))
    assert image.shape == (HEIGHT, WIDTH, 3)
    for at in MIDDLES:
        assert np.abs(image[at].astype(int) - chart()[at]).max() <= 8, at


def test_a_mosaic_that_somebody_made_colours_of() -> None:
    png = cv2.imencode(".png", chart()[..., ::-1])[1].tobytes()
    assert (decode_image(compressed(png, "bayer_rggb8; png compressed bgr8")) == chart()).all()


def test_an_unknown_mosaic_is_refused_by_name() -> None:
    grey = cv2.imencode(".jpg", mosaic("rggb"))[1].tobytes()
    with pytest.raises(ImageError, match=r"'bayer_xyzw8; jpeg compressed ': this Bayer pattern .* bayer_rggb8"):
        decode_image(compressed(grey, "bayer_xyzw8; jpeg compressed "))


@pytest.mark.parametrize(
    "description",
    ["bgr8; jpeg compressed bgr8", "rgba8; jpeg compressed bgr8", "rgb8; png compressed bgr8", "rgb8;", "nonsense"],
)
def test_the_file_says_what_its_colours_are(description: str) -> None:
    png = cv2.imencode(".png", chart()[..., ::-1])[1].tobytes()
    assert (decode_image(compressed(png, description)) == chart()).all()


@pytest.mark.parametrize("description", ["mono16; png compressed ", "16UC1; png compressed ", "png"])
def test_grey_of_16_bits_keeps_its_upper_8(description: str) -> None:
    grey = cv2.cvtColor(chart(), cv2.COLOR_RGB2GRAY)
    png = cv2.imencode(".png", grey.astype(np.uint16) * 256 + 131)[1].tobytes()
    assert (decode_image(compressed(png, description)) == grey[..., None]).all()


@pytest.mark.parametrize("description", ["mono8; jpeg compressed ", "jpeg", "8UC1; jpeg compressed "])
def test_a_grey_jpeg(description: str) -> None:
    grey = np.full((HEIGHT, WIDTH), 90, np.uint8)
    assert (decode_image(compressed(cv2.imencode(".jpg", grey)[1].tobytes(), description)) == 90).all()


@pytest.mark.parametrize("description", ["16UC1; compressedDepth", "32FC1; compressedDepth rvl", "compressedDepth"])
def test_depth_is_refused(description: str) -> None:
    with pytest.raises(ImageError, match="depth image"):
        decode_image(compressed(bytes(12) + b"\x89PNG", description))


def test_a_hole_in_a_compressed_image_is_told() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8)
    data = cv2.imencode(".jpg", noise)[1].tobytes()
    half = len(data) // 2
    with pytest.raises(ImageError, match="'jpeg': the image is damaged"):
        decode_image(compressed(data[:half] + bytes(512) + data[half + 512 :]))


def test_where_fewer_pixels_would_do_jpegs_are_coarse() -> None:
    """And to the very pixels that `hdmap evaluate` reads from a file."""
    noise = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    data = cv2.imencode(".jpg", noise)[1].tobytes()
    found = decode_image(compressed(data), (40, 60))
    np.testing.assert_array_equal(found, decode_file(data, "x", coarse=True))
    exact = decode_image(compressed(data))
    np.testing.assert_array_equal(exact, decode_file(data, "x"))
    assert (found != exact).any()
