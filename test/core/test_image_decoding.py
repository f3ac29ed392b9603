import cv2
import numpy as np
import pytest

from hdmap_core.errors import ImageError
from hdmap_core.image_decoding import decode_image


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
