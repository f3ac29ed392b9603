import cv2
import numpy as np
import pytest

from hdmap_core.errors import ImageError
from hdmap_core.images.decoding import decode_image
from hdmap_core.images.jpeg_tidying import tidied


def jpeg(**settings: int) -> bytes:
    picture = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (96, 128, 3), dtype=np.uint8), (5, 5), 0)
    flags = [value for name, setting in settings.items() for value in (getattr(cv2, f"IMWRITE_JPEG_{name}"), setting)]
    return cv2.imencode(".jpg", picture, flags)[1].tobytes()


PLAIN, RESTARTS, PROGRESSIVE = jpeg(), jpeg(RST_INTERVAL=4), jpeg(PROGRESSIVE=1)


def segment(data: bytes, marker: int) -> slice:
    """Where the first segment of this marker lies."""
    start = data.index(bytes([0xFF, marker]))
    return slice(start, start + 2 + int.from_bytes(data[start + 2 : start + 4], "big"))


def with_scan_parameters(data: bytes) -> bytes:
    end = segment(data, 0xDA).stop
    return data[: end - 3] + b"\0\0\0" + data[end:]


def without_huffman_tables(data: bytes) -> bytes:
    """As MJPEG cameras send it: the tables are the standard's."""
    while b"\xff\xc4" in data[: segment(data, 0xDA).start]:
        where = segment(data, 0xC4)
        data = data[: where.start] + data[where.stop :]
    return data


HARMLESS = {
    "zeros before the end": PLAIN[:-2] + bytes(300) + PLAIN[-2:],
    "fill bytes before the end": PLAIN[:-2] + b"\xff" * 300 + PLAIN[-2:],
    "zeros before each restart": RESTARTS.replace(b"\xff\xd3", bytes(7) + b"\xff\xd3"),
    "bytes after the start": PLAIN[:2] + b"\0\1\2" + PLAIN[2:],
    "bytes before a table": PLAIN[: segment(PLAIN, 0xDB).start] + b"stray" + PLAIN[segment(PLAIN, 0xDB).start :],
    "another JFIF version": PLAIN.replace(b"JFIF\0\1\1", b"JFIF\0\7\1"),
    "scan parameters": with_scan_parameters(PLAIN),
    "no Huffman tables": without_huffman_tables(PLAIN),
    "padding behind the end": PLAIN + bytes(1000),
    "garbage behind the end": PLAIN + b"\xff\xd8\xff" + b"x" * 40,
    "a comment": PLAIN[:2] + b"\xff\xfe\x00\x06abcd" + PLAIN[2:],
}


@pytest.mark.parametrize("kind", HARMLESS)
def test_harmless_faults_lose_no_pixel(kind: str) -> None:
    data = HARMLESS[kind]
    whole = RESTARTS if "restart" in kind else PLAIN
    np.testing.assert_array_equal(decode_image(data, "x"), decode_image(whole, "x"))
    np.testing.assert_array_equal(decode_image(tidied(data), "x"), decode_image(whole, "x"))


@pytest.mark.parametrize("data", [PLAIN, RESTARTS, PROGRESSIVE], ids=["plain", "restarts", "progressive"])
def test_tidying_twice_changes_nothing_more(data: bytes) -> None:
    once = tidied(data)
    assert tidied(once) == once
    np.testing.assert_array_equal(decode_image(once, "x"), decode_image(data, "x"))


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff", b"no picture at all", b"\xff" * 50])
def test_what_is_no_jpeg_comes_back(data: bytes) -> None:
    assert tidied(data) == data


def test_a_hole_at_the_end_stays_a_hole() -> None:
    with pytest.raises(ImageError, match="damaged"):
        decode_image(PLAIN[: len(PLAIN) // 2] + bytes(4096) + PLAIN[-2:], "x")
