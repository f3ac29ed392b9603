"""Makes the CMake files of ROS wheels name this interpreter instead of the one of the machine that built them.

The exported CMake files of message packages hold `/opt/python/cpXY-cpXY/include/pythonX.Y` and
`/opt/python/cpXY-cpXY/lib/pythonX.Y/site-packages/...`, NumPy's headers among them, of the image in which the wheels
were built, so nothing that depends on them configures elsewhere. Running this twice changes nothing; an upgrade of the
wheels needs it again.

    .venv/bin/python scripts/mend_ros_wheels.py
"""

from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

import numpy

BUILD_PYTHON = r"/opt/python/cp\d+-cp\d+"


def mend_text(text: str, include_dir: str, site_packages: str, numpy_include: str) -> str:
    """Replaces the build machine's folders in one CMake file's text; NumPy 1 has its headers elsewhere than NumPy 2."""
    packages = rf"{BUILD_PYTHON}/lib/python\d+\.\d+/site-packages"
    text = re.sub(rf"{BUILD_PYTHON}/include/python\d+\.\d+", lambda _: include_dir, text)
    text = re.sub(rf"{packages}/numpy/_?core/include", lambda _: numpy_include, text)
    return re.sub(packages, lambda _: site_packages, text)


def mend_prefix(prefix: Path, include_dir: str, site_packages: str, numpy_include: str) -> int:
    """Mends every `share/*/cmake/*.cmake` under `prefix`; returns how many files changed.

    Each file is written anew and renamed over the old one: the installer may have hard-linked the old one into its
    cache, and writing through the link would spoil the cache.
    """
    mended = 0
    for path in sorted(prefix.glob("share/*/cmake/*.cmake")):
        text = path.read_text(encoding="utf-8")
        new_text = mend_text(text, include_dir, site_packages, numpy_include)
        if new_text == text:
            continue
        new_path = path.with_name(path.name + ".mended")
        new_path.write_text(new_text, encoding="utf-8")
        new_path.chmod(path.stat().st_mode & 0o777)
        new_path.replace(path)
        mended += 1
    return mended


def main() -> None:
    """Mends the virtual environment that this interpreter belongs to."""
    if sys.prefix == sys.base_prefix:
        sys.exit("mend_ros_wheels: run me with the interpreter of the virtual environment that holds the wheels")
    paths = sysconfig.get_paths()
    mended = mend_prefix(Path(sys.prefix), paths["include"], paths["purelib"], numpy.get_include())
    print(f"mended {mended} CMake files of the ROS wheels")


if __name__ == "__main__":
    main()
