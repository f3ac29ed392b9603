"""Files that come with the package, no Python: in the checkout, or where an install has put them."""

import os
import sys
from pathlib import Path

_SHIPPED = (("config", "recipes"), ("hdmap_core", "weights"))


def package_folder(name: str) -> Path | None:
    """The folder `msg`, `config/topics` ... of the checkout, else of the first install that has it; None: nowhere."""
    prefixes = [Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    shares = [prefix / "share" / "hdmap_ros" for prefix in (*prefixes, Path(sys.prefix))]
    folders = [place / name for place in (Path(__file__).resolve().parents[2], *shares)]
    return next((folder for folder in folders if folder.is_dir()), None)


def shipped(path: str | Path) -> Path:
    """A recipe or weights by the name that the pages call them by, wherever one stands and however it was installed.

    Args:
        path: what a user has named. Of `config/recipes/...` and `hdmap_core/weights/...` that are not there the
            package's own is meant, as in a checkout; anything else stays as it is.
    """
    path = Path(path)
    if path.parts[:2] in _SHIPPED and not path.exists():
        folder = package_folder("/".join(path.parts[:2]))
        own = folder.joinpath(*path.parts[2:]) if folder is not None else path
        return own if own.exists() else path
    return path
