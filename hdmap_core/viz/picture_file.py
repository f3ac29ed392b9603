"""Pictures as files."""

from pathlib import Path

import numpy as np
from PIL import Image

from hdmap_core.errors import OutputError


def write_picture(path: str | Path, picture: np.ndarray) -> None:
    """Writes (H, W, 3) uint8 RGB as PNG or JPEG, by the path's suffix.

    Raises:
        OutputError: if the file cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write the picture {path}: {error}") from None
