import cv2
import numpy as np
import pytest

from hdmap_core.images.limits import has_one_scan


def jpeg(*flags: int, channels: int = 3) -> bytes:
    picture = np.random.default_rng(0).integers(0, 255, (40, 60, channels), dtype=np.uint8)
    return cv2.imencode(".jpg", picture, list(flags))[1].tobytes()


@pytest.mark.parametrize("data", [jpeg(), jpeg(channels=1), jpeg(cv2.IMWRITE_JPEG_RST_INTERVAL, 2)])
def test_one_scan(data: bytes) -> None:
    assert has_one_scan(data)


def test_more_than_one_scan_or_nobody_knows() -> None:
    assert not has_one_scan(jpeg(cv2.IMWRITE_JPEG_PROGRESSIVE, 1))
    data = jpeg()
    at = data.index(b"\xff\xda")
    colours_apart = data[: at + 4] + b"\1" + data[at + 5 :]
    for odd in (
        b"",
        b"\xff\xd8",
        data[:100],
        data[:2] + b"\0" + data[2:],
        data[:2] + b"\xff" + data[2:],
        colours_apart,
    ):
        assert not has_one_scan(odd)
