"""The pictures of an image set: on a GPU what that decodes, the rest on the CPU, into the memory of earlier sets."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, TypeAlias

import numpy as np

from hdmap_core.errors import HdmapError
from hdmap_ros.images import GUESSED_ENCODINGS, colour_file, decode_image
from hdmap_ros.problems import Problems

DeviceDecoder: TypeAlias = Callable[
    [Mapping[str, bytes], Mapping[str, tuple[int, int]] | None, Executor | None], Mapping[str, Any]
]
"""See `hdmap_core.inference.device_path.DevicePath.decode`."""


class SetDecoder:
    """Decodes set after set.

    Args:
        problems: is told of what had to be guessed.
        pool: the threads that decode; None: the caller's does.
    """

    def __init__(self, problems: Problems, pool: Executor | None = None) -> None:
        self._problems, self._pool = problems, pool
        self._old: deque[dict[str, np.ndarray]] = deque(({}, {}), maxlen=2)

    def __call__(
        self,
        messages: Mapping[str, Any],
        cameras: Sequence[str],
        enough: Mapping[str, tuple[int, int]] | None,
        reuse: bool,
        on_device: DeviceDecoder | None,
    ) -> dict[str, Any]:
        """By camera the picture, (H, W, 3) uint8, an array or a tensor on a GPU; or why there is none, as a string.

        Args:
            messages: of the set, by camera.
            cameras: those that are wanted.
            enough: (H, W) of the picture that will do, by camera; None: all there is, exactly.
            reuse: see there.
            on_device: see there.
        """
        old = self._old.popleft() if reuse else {}
        kept: dict[str, np.ndarray] = {}
        ready: Mapping[str, Any] = {}
        if on_device is not None:
            files = {camera: colour_file(messages[camera]) for camera in cameras}
            ready = on_device({camera: data for camera, data in files.items() if data is not None}, enough, self._pool)

        def attempt(camera: str) -> Any:
            message = messages[camera]
            if camera in ready:
                return ready[camera]
            try:
                picture = decode_image(message, enough[camera] if enough else None, old.get(camera))
                if not hasattr(message, "encoding"):  # a raw image's picture may be the message's own bytes
                    kept[camera] = picture
                elif meant := GUESSED_ENCODINGS.get(message.encoding):
                    guess = f"its encoding {message.encoding} does not say the channels' order; taken as {meant}"
                    self._problems.add_once("guessed_encoding", camera, f"camera {camera}: {guess}")
                return picture
            except HdmapError as error:
                return str(error)
            except Exception as error:  # foreign bytes make decoders fail in many ways, and concern this image only
                return f"the image cannot be decoded ({type(error).__name__}: {error})"

        decoded = list(self._pool.map(attempt, cameras) if self._pool else map(attempt, cameras))
        if reuse:
            self._old.append(kept)
        return dict(zip(cameras, decoded, strict=True))
