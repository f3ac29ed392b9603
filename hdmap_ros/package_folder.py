"""Where the files of this ROS package lie that are no Python: in the checkout, or in the share folder of an install."""

import os
import sys
from pathlib import Path


def package_folder(name: str) -> Path | None:
    """The folder `msg`, `config/topics` ... of the checkout, else of the first install that has it; None: nowhere."""
    prefixes = [Path(prefix) for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    shares = [prefix / "share" / "hdmap_ros" for prefix in (*prefixes, Path(sys.prefix))]
    folders = [place / name for place in (Path(__file__).resolve().parents[1], *shares)]
    return next((folder for folder in folders if folder.is_dir()), None)
