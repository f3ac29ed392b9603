import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from hdmap_core.errors import ImageError
from hdmap_core.images.decoding import decode_image, decode_stored, reduction_for, reduction_of


def encoded(kind: str, height: int = 40, width: int = 60) -> bytes:
    picture = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return cv2.imencode(kind, picture)[1].tobytes()


def test_png_is_exact_and_rgb() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode_image(encoded(".png"), "x"), picture[..., ::-1])


@pytest.mark.parametrize("kind", [".jpg", ".png"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.98])
def test_truncated(kind: str, share: float) -> None:
    data = encoded(kind)
    with pytest.raises(ImageError, match=r"^/cam_front: the image is truncated after \d+ bytes"):
        decode_image(data[: int(share * len(data))], "/cam_front")


def test_padding_behind_the_end_is_allowed() -> None:
    data = encoded(".jpg")
    np.testing.assert_array_equal(decode_image(data + b"\0" * 16, "x"), decode_image(data, "x"))


def test_the_end_of_a_thumbnail_does_not_count() -> None:
    data, thumbnail = encoded(".jpg"), encoded(".jpg", 4, 4)
    comment = b"\xff\xfe" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    whole = data[:2] + comment + data[2:]
    np.testing.assert_array_equal(decode_image(whole, "x"), decode_image(data, "x"))
    with pytest.raises(ImageError, match="truncated"):
        decode_image(whole[:-40], "x")


@pytest.mark.parametrize(("data", "message"), [(b"", "empty"), (b"GIF89a", "neither JPEG nor PNG")])
def test_not_a_picture(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        decode_image(data, "x")


def scene(*flags: int) -> bytes:
    """A JPEG of 40 kB with smooth and busy parts."""
    rows, columns = np.indices((240, 320))
    noise = np.random.default_rng(1).normal(0, 20, (240, 320, 3)) * (columns > 160)[..., None]
    picture = np.stack([127 + 90 * np.sin(rows / 17 + columns / 29 + n) for n in range(3)], axis=-1) + noise
    return cv2.imencode(".jpg", picture.clip(0, 255).astype(np.uint8), list(flags))[1].tobytes()


def without_a_segment(data: bytes) -> bytes:
    """Between two restart markers something is lost."""
    first = data.index(b"\xff\xd2")
    return data[:first] + data[data.index(b"\xff\xd4", first) :]


DAMAGES: dict[str, Callable[[bytes, int], bytes]] = {
    "zeros": lambda data, at: data[:at] + bytes(512) + data[at + 512 :],
    "few zeros": lambda data, at: data[:at] + bytes(128) + data[at + 128 :],
    "ones": lambda data, at: data[:at] + b"\xff" * 512 + data[at + 512 :],
    "noise": lambda data, at: data[:at] + np.random.default_rng(at).bytes(1024) + data[at + 1024 :],
    "bytes lost": lambda data, at: data[:at] + data[at + 700 :],
    "bytes twice": lambda data, at: data[:at] + data[at - 512 : at] + data[at:],
    "cut and closed": lambda data, at: data[:at] + b"\xff\xd9",
    "another picture inside": lambda data, at: data[:at] + data[:600] + data[at + 600 :],
    "a stray end": lambda data, at: data[:at] + b"\xff\xd9" + data[at + 2 :],
}


@pytest.mark.parametrize("reduction", [1, 8])
@pytest.mark.parametrize("flags", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 20)])
@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_before_an_end_marker_is_told(kind: str, flags: tuple, reduction: int) -> None:
    data = scene(*flags)
    for share in (0.3, 0.5, 0.8):
        with pytest.raises(ImageError, match=r"^/cam_front: the image is (damaged \(libjpeg: .+\)|truncated)"):
            decode_image(DAMAGES[kind](data, int(share * len(data))), "/cam_front", reduction)


def test_a_lost_restart_segment_is_told() -> None:
    with pytest.raises(ImageError, match="damaged"):
        decode_image(without_a_segment(scene(cv2.IMWRITE_JPEG_RST_INTERVAL, 20)), "x")


def test_the_reported_picture(shared_case: Callable[[str], Path]) -> None:
    with pytest.raises(ImageError, match=r"front.jpg: the image is damaged \(libjpeg: Corrupt JPEG data"):
        decode_image(shared_case("jpeg_with_hole/front.jpg").read_bytes(), "front.jpg")


@pytest.mark.parametrize("place", [0.2, 0.5, 0.9])
def test_a_damaged_png_is_told(place: float) -> None:
    data = bytearray(encoded(".png", 200, 300))
    data[int(place * len(data))] ^= 0x10
    with pytest.raises(ImageError, match="damaged"):
        decode_image(bytes(data), "x")


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_colours_are_those_of_opencv(mode: str) -> None:
    stream = io.BytesIO()
    picture = cv2.imdecode(np.frombuffer(scene(), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    Image.fromarray(picture).convert(mode).save(stream, "JPEG")
    expected = cv2.imdecode(np.frombuffer(stream.getvalue(), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    difference = np.abs(decode_image(stream.getvalue(), "x").astype(int) - expected)
    assert difference.max() <= (1 if mode == "CMYK" else 0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (bytes(4096), "4096 zero bytes"),
        (b"RIFF....WEBPVP8 ", "WebP"),
        (b"II*\0....", "TIFF"),
        (b"\0\0\0\1\x67", "H.264"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ],
)
def test_other_formats_are_named(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=f"neither JPEG nor PNG.*{message}"):
        decode_image(data, "x")


def test_stored_channels() -> None:
    grey = np.random.default_rng(0).integers(0, 65535, (20, 30), dtype=np.uint16)
    np.testing.assert_array_equal(decode_stored(cv2.imencode(".png", grey)[1].tobytes(), "x"), grey)
    small = np.full((16, 16), 77, np.uint8)
    np.testing.assert_array_equal(decode_stored(cv2.imencode(".jpg", small)[1].tobytes(), "x"), small)
    for kind in (".jpg", ".png"):
        np.testing.assert_array_equal(decode_stored(encoded(kind), "x"), decode_image(encoded(kind), "x"))


def test_headers_without_content() -> None:
    with pytest.raises(ImageError):
        decode_image(b"\xff\xd8\xff\xda" + b"\0" * 30 + b"\xff\xd9", "x")


@pytest.mark.parametrize(
    ("stored", "wanted", "reduction"),
    [
        ((900, 1600), (480, 800), 2),  # short of it by a sixteenth
        ((900, 1600), (448, 798), 2),
        ((900, 1600), (481, 800), 1),
        ((900, 1600), (225, 400), 4),
        ((900, 1600), (112, 200), 4),  # 900 is no multiple of 8
        ((901, 1600), (100, 100), 1),
        ((896, 1600), (112, 200), 8),
        ((90, 160), (480, 800), 1),
    ],
)
def test_how_far_an_image_may_be_reduced(stored: tuple, wanted: tuple, reduction: int) -> None:
    assert reduction_for(stored, wanted) == reduction


@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_reduced_pictures_are_means_of_the_full_one(reduction: int) -> None:
    rows, columns = np.indices((64, 96))
    waves = [127 + 100 * np.sin(rows / 9 + columns / 13 + channel) for channel in range(3)]
    image = np.stack(waves, axis=-1).astype(np.uint8)
    data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()
    found = decode_image(data, "x", reduction).astype(float)
    means = image.reshape(64 // reduction, reduction, 96 // reduction, reduction, 3).mean((1, 3))
    assert found.shape == means.shape
    assert np.abs(found - means).mean() < 2


def test_how_far_a_file_may_be_reduced() -> None:
    jpeg = encoded(".jpg", 96, 160)
    assert reduction_of(jpeg, (48, 80)) == 2
    assert reduction_of(jpeg, (60, 80)) == 1
    for other in (encoded(".png", 96, 160), jpeg[:12], b""):
        assert reduction_of(other, (48, 80)) == 1


@pytest.mark.parametrize("reduction", [1, 2])
def test_a_coarse_picture_is_nearly_the_exact_one(reduction: int) -> None:
    exact, coarse = (decode_image(scene(), "x", reduction, coarse=each) for each in (False, True))
    assert exact.shape == coarse.shape
    assert 0 < np.abs(exact.astype(int) - coarse).mean() < 4


def test_a_damaged_coarse_picture_is_refused() -> None:
    data = scene()
    with pytest.raises(ImageError, match="damaged"):
        decode_image(data[:20000] + bytes(512) + data[20512:], "x", coarse=True)
