"""Image messages to RGB pixels.

Takes sensor_msgs Image and CompressedImage of rclpy or of a bag. OpenCV's Bayer codes name the second row's pattern,
ROS's encodings the first: bayer_rggb8 is COLOR_BayerBG. 16-bit images are cut to their upper 8 bits, never stretched
by their own minimum and maximum, which would change from frame to frame.

The format of a CompressedImage is free text. compressed_image_transport writes `ENCODING; jpeg compressed [bgr8]`,
where ENCODING is that of the image before: it puts the mosaic of a Bayer sensor into a grey JPEG or PNG as it is.
Drivers write `jpeg`, `png` or nothing. What the file says of its colours is believed, not the order a format names.
"""

from typing import Any

import cv2
import numpy as np
from numpy.lib.stride_tricks import as_strided

from hdmap_core.errors import ImageError
from hdmap_core.images.decoding import decode_image as decode_compressed
from hdmap_core.images.decoding import decode_stored, reduction_of
from hdmap_core.images.limits import check_pixels

# encoding -> (channels, bytes per channel, OpenCV conversion to RGB or None)
_PACKED: dict[str, tuple[int, int, int | None]] = {
    "rgb8": (3, 1, None),
    "bgr8": (3, 1, cv2.COLOR_BGR2RGB),
    "rgba8": (4, 1, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, 1, cv2.COLOR_BGRA2RGB),
    "mono8": (1, 1, cv2.COLOR_GRAY2RGB),
    "8UC1": (1, 1, cv2.COLOR_GRAY2RGB),
    "8UC3": (3, 1, cv2.COLOR_BGR2RGB),
    "8UC4": (4, 1, cv2.COLOR_BGRA2RGB),
    "mono16": (1, 2, cv2.COLOR_GRAY2RGB),
    "16UC1": (1, 2, cv2.COLOR_GRAY2RGB),
    "rgb16": (3, 2, None),
    "bgr16": (3, 2, cv2.COLOR_BGR2RGB),
    "16UC3": (3, 2, cv2.COLOR_BGR2RGB),
    "bayer_rggb8": (1, 1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": (1, 1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": (1, 1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": (1, 1, cv2.COLOR_BayerGB2RGB),
    "bayer_rggb16": (1, 2, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr16": (1, 2, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg16": (1, 2, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg16": (1, 2, cv2.COLOR_BayerGB2RGB),
    "yuv422": (2, 1, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": (2, 1, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (2, 1, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": (2, 1, cv2.COLOR_YUV2RGB_YUY2),
}
GUESSED_ENCODINGS = {"8UC3": "bgr8", "8UC4": "bgra8", "16UC3": "bgr16"}
"""OpenCV's types, which do not say their channels' order, and what they are taken as."""

# A full-size luma plane above a half-height chroma plane.
_PLANAR = {"nv12": cv2.COLOR_YUV2RGB_NV12, "nv21": cv2.COLOR_YUV2RGB_NV21, "yuv420": cv2.COLOR_YUV2RGB_I420}

SUPPORTED_ENCODINGS = (*_PACKED, *_PLANAR)


def decode_image(message: Any, enough: tuple[int, int] | None = None, out: np.ndarray | None = None) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an Image or CompressedImage.

    Args:
        message: of rclpy or of a bag.
        enough: (H, W) that will do; a JPEG is then decoded at the half, quarter or eighth of its size that
            `images.decoding.reduction_for` allows, and coarsely.
        out: the picture of an earlier compressed image, if nobody needs it any more: see `decode_image` there.

    Raises:
        ImageError: if the data are truncated, corrupt or in an encoding that is not supported.
    """
    return _decode_raw(message) if hasattr(message, "encoding") else _decode_compressed(message, enough, out)


def colour_file(message: Any) -> bytes | None:
    """The file in a compressed image that is to be decoded as it is; None of a raw image, a depth image, a mosaic."""
    if hasattr(message, "encoding"):
        return None
    is_mosaic = message.format.strip().lower().startswith("bayer_")
    return None if is_mosaic or _is_depth(message.format) else bytes(message.data)


def _is_depth(format_: str) -> bool:
    """Whether it names compressed_depth_image_transport's format, before or behind the semicolon."""
    return "compresseddepth" in format_.lower().replace(" ", "")


def _decode_compressed(message: Any, enough: tuple[int, int] | None, out: np.ndarray | None) -> np.ndarray:
    source, data = f"compressed image of format {message.format!r}", bytes(message.data)
    encoding = message.format.partition(";")[0].strip()
    if _is_depth(message.format):
        raise ImageError(f"format {message.format!r} is a depth image; a camera's colour image is needed")
    if not encoding.startswith("bayer_"):
        if enough is None:
            return decode_compressed(data, source, out=out)
        return decode_compressed(data, source, reduction_of(data, enough), out, coarse=True)
    image = decode_stored(data, source)
    if image.dtype != np.uint8:
        image = (image >> 8).astype(np.uint8)
    if image.ndim == 3:  # somebody has made colours of it already
        return image
    if encoding not in _PACKED:
        known = ", ".join(name for name in _PACKED if name.startswith("bayer_"))
        raise ImageError(f"{source}: this Bayer pattern is not supported; supported are {known}")
    return _demosaiced(image, encoding)


def _decode_raw(message: Any) -> np.ndarray:
    height, width, step = int(message.height), int(message.width), int(message.step)
    encoding = message.encoding
    if height == 0 or width == 0:
        raise ImageError(f"the image is empty: {width} x {height} pixels")
    check_pixels(height, width, "the image")
    if encoding in _PLANAR:
        return _planar(message, height, width, step)
    if encoding not in _PACKED:
        return _by_cv_bridge(message)
    channels, depth, conversion = _PACKED[encoding]
    rows = _rows(message.data, height, step, width * channels * depth, encoding)
    if depth == 2:
        values = np.ascontiguousarray(rows).view(">u2" if message.is_bigendian else "<u2")
        rows = (values >> 8).astype(np.uint8)
    image = np.ascontiguousarray(rows.reshape(height, width, channels))
    if encoding.startswith("bayer_"):
        return _demosaiced(image, encoding)
    return image if conversion is None else cv2.cvtColor(image, conversion)


def _demosaiced(mosaic: np.ndarray, encoding: str) -> np.ndarray:
    """(H, W, 3) RGB of the (H, W) or (H, W, 1) uint8 values of a Bayer sensor."""
    height, width = mosaic.shape[:2]
    if height < 3 or width < 3:
        raise ImageError(f"a Bayer image needs at least 3 x 3 pixels, got {width} x {height}")
    conversion = _PACKED[encoding][2]
    assert conversion is not None
    return cv2.cvtColor(mosaic, conversion)


def _planar(message: Any, height: int, width: int, step: int) -> np.ndarray:
    if height % 2 or width % 2:
        raise ImageError(f"an image of encoding {message.encoding} needs even sides, got {width} x {height}")
    rows = _rows(message.data, height * 3 // 2, step, width, message.encoding)
    return cv2.cvtColor(np.ascontiguousarray(rows), _PLANAR[message.encoding])


def _rows(data: Any, height: int, step: int, row_bytes: int, encoding: str) -> np.ndarray:
    """(height, row_bytes) uint8 view without the padding of each row."""
    array = np.frombuffer(data, np.uint8)
    if step < row_bytes:
        raise ImageError(f"the image's step of {step} bytes is shorter than a row of {encoding} ({row_bytes} bytes)")
    if array.size < step * (height - 1) + row_bytes:
        raise ImageError(f"the image is truncated: {array.size} bytes, {step} x {height} are needed")
    # The last row may come without its padding, so the array is no whole number of rows.
    return as_strided(array, (height, row_bytes), (step, 1))


def _by_cv_bridge(message: Any) -> np.ndarray:
    """Unusual encodings, where cv_bridge is installed and loads."""
    unsupported = f"encoding {message.encoding!r} is not supported; supported are {', '.join(SUPPORTED_ENCODINGS)}"
    if message.encoding.startswith(("32FC", "64FC", "32SC")):
        raise ImageError(unsupported)
    try:
        from cv_bridge import CvBridge

        return CvBridge().imgmsg_to_cv2(message, "rgb8")
    except Exception:  # cv_bridge against another NumPy fails in many ways
        raise ImageError(unsupported) from None
