import cv2
import numpy as np
import pytest

from hdmap_core.errors import ImageError
from hdmap_core.image_decoding import decode_image, reduction_for


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
