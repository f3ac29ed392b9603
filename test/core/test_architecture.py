"""Who may import whom (docs/architecture.md), read from the sources with ast: imports inside functions count too."""

import ast
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("hdmap_core", "hdmap_ros", "training")
ROS = {"rclpy", "std_msgs", "sensor_msgs", "geometry_msgs", "visualization_msgs", "diagnostic_msgs", "nav_msgs"}
TRAINING_FRAMEWORKS = {"lightning", "lightning_fabric", "pytorch_lightning", "tensorboard", "torchmetrics"}
CORE_TYPES = {"hdmap_core.geometry", "hdmap_core.elements", "hdmap_core.observation", "hdmap_core.model_io"}
ABOVE = {"hdmap_core.inference", "hdmap_core.export", "hdmap_core.cli"}
FORBIDDEN_NAMES = {"utils", "misc", "helpers", "common", "tools", "base"}


@dataclass(frozen=True)
class Rule:
    """What the modules under a prefix may import of our own packages, and of others.

    `only` None means everything of ours but `never`. `third_party` None means everything but `never`.
    """

    only: frozenset[str] | None = None
    never: frozenset[str] = field(default_factory=frozenset)
    third_party: frozenset[str] | None = None


def rule(only: set[str] | None = None, never: set[str] | None = None, third_party: set[str] | None = None) -> Rule:
    return Rule(
        None if only is None else frozenset(only | {"hdmap_core.errors", "hdmap_core.required_packages"}),
        frozenset(never or ()),
        None if third_party is None else frozenset(third_party),
    )


CORE_NEVER = {"hdmap_ros", "training"} | ROS | TRAINING_FRAMEWORKS
# The longest prefix of a module's name decides.
RULES = {
    "hdmap_core": rule(never=CORE_NEVER),
    "hdmap_core.geometry": rule({"hdmap_core.geometry"}, CORE_NEVER, {"torch", "numpy"}),
    # Drawing polygons and resampling images is OpenCV's work; the rest of geometry stays without it.
    "hdmap_core.geometry.raster": rule({"hdmap_core.geometry"}, CORE_NEVER, {"torch", "numpy", "cv2"}),
    "hdmap_core.geometry.sd_raster": rule({"hdmap_core.geometry"}, CORE_NEVER, {"numpy", "shapely"}),
    "hdmap_core.geometry.ground_view": rule({"hdmap_core.geometry"}, CORE_NEVER, {"torch", "numpy", "cv2"}),
    "hdmap_core.geometry.ground_relief": rule({"hdmap_core.geometry"}, CORE_NEVER, {"numpy", "scipy"}),
    "hdmap_core.geometry.lens_sampling": rule({"hdmap_core.geometry"}, CORE_NEVER, {"numpy", "cv2"}),
    "hdmap_core.elements": rule(CORE_TYPES | {"hdmap_core.files"}, CORE_NEVER),
    "hdmap_core.required_packages": rule(set(), CORE_NEVER, set()),
    "hdmap_core.files": rule(set(), CORE_NEVER, set()),
    "hdmap_core.files.yaml_files": rule(set(), CORE_NEVER, {"yaml"}),
    "hdmap_core.running": rule({"hdmap_core.running"}, CORE_NEVER),
    "hdmap_core.images": rule({"hdmap_core.images"}, CORE_NEVER),
    "hdmap_core.observation": rule(CORE_TYPES, CORE_NEVER),
    "hdmap_core.model_io": rule(CORE_TYPES, CORE_NEVER),
    "hdmap_core.models": rule(
        CORE_TYPES - {"hdmap_core.observation"} | {"hdmap_core.models", "hdmap_core.config", "hdmap_core.files"},
        CORE_NEVER,
    ),
    "hdmap_core.exchange": rule(CORE_TYPES | {"hdmap_core.exchange", "hdmap_core.files"}, CORE_NEVER),
    "hdmap_core.datasets": rule(never=CORE_NEVER | ABOVE | {"hdmap_core.models"}),
    "hdmap_core.metrics": rule(never=CORE_NEVER | ABOVE | {"hdmap_core.models"}),
    "hdmap_core.postprocess": rule(never=CORE_NEVER | ABOVE | {"hdmap_core.models"}),
    "hdmap_core.fusion": rule(
        CORE_TYPES | {"hdmap_core.fusion", "hdmap_core.config", "hdmap_core.postprocess"}, CORE_NEVER
    ),
    "hdmap_core.released": rule(
        {
            "hdmap_core.released",
            "hdmap_core.models",
            "hdmap_core.postprocess",
            "hdmap_core.checkpoint",
            "hdmap_core.config",
            "hdmap_core.files",
            "hdmap_core.geometry",
            "hdmap_core.elements",
        },
        CORE_NEVER,
    ),
    "hdmap_core.viz": rule(never=CORE_NEVER | ABOVE | {"hdmap_core.models", "hdmap_core.datasets"}),
    "hdmap_core.recordings": rule(never=CORE_NEVER | ABOVE | {"hdmap_core.models"}),
    "hdmap_core.inference": rule(never=CORE_NEVER | {"hdmap_core.cli"}),
    "hdmap_core.export": rule(never=CORE_NEVER | {"hdmap_core.cli"}),
    "hdmap_ros": rule(never={"training", "rclpy"} | TRAINING_FRAMEWORKS),
    "hdmap_ros.online_map_node": rule(never={"training"} | TRAINING_FRAMEWORKS),
    "hdmap_ros.ros_graph": rule(never={"training"} | TRAINING_FRAMEWORKS),
    "hdmap_ros.bag.player": rule(never={"training"} | TRAINING_FRAMEWORKS),
    "hdmap_ros.bag.recorder": rule(never={"training"} | TRAINING_FRAMEWORKS),
    "training": rule(never={"hdmap_ros"} | ROS),
}


def within(name: str, prefixes: frozenset[str]) -> bool:
    return any(name == p or name.startswith(p + ".") for p in prefixes)


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def exists(name: str, root: Path) -> bool:
    path = root.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def imports(path: Path, root: Path) -> list[tuple[int, str]]:
    """Line and full name of each module that a file imports; relative imports are resolved."""
    package = module_name(path, root).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*start, *([node.module] if node.module else [])])
            for alias in node.names:
                member = f"{source}.{alias.name}"
                found.append((node.lineno, member if exists(member, root) else source))
    return found


def violations(root: Path) -> tuple[list[str], int]:
    """Every import under `root` that the table forbids, as file:line, and how many files were read."""
    paths = [path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))]
    told = []
    for path in paths:
        name = module_name(path, root)
        prefix = max((p for p in RULES if within(name, frozenset({p}))), key=len)
        rules = RULES[prefix]
        for line, imported in imports(path, root):
            top = imported.split(".")[0]
            ours = top in PACKAGES
            forbidden = within(imported, rules.never) or (
                (ours and rules.only is not None and not within(imported, rules.only))
                or (
                    not ours
                    and rules.third_party is not None
                    and top not in rules.third_party | sys.stdlib_module_names
                )
            )
            if forbidden:
                told.append(f"{path.relative_to(root)}:{line}: {name} may not import {imported} (rule of {prefix})")
    return told, len(paths)


def test_imports_follow_the_table() -> None:
    told, files_seen = violations(ROOT)
    assert files_seen >= 60, f"only {files_seen} files were found: is this the repository?"
    assert not told, "\n".join(told)


@pytest.mark.parametrize(
    ("path", "source", "forbidden"),
    [
        ("hdmap_core/geometry/pose.py", "import scipy.spatial", True),
        ("hdmap_core/geometry/pose.py", "import math\nimport torch", False),
        ("hdmap_core/geometry/pose.py", "from ..elements import MapElement", True),
        ("hdmap_core/models/x.py", "from hdmap_core import datasets", True),
        ("hdmap_core/models/x.py", "from hdmap_core.geometry import pose", False),
        ("hdmap_core/datasets/x.py", "def f():\n    from hdmap_core.models import x", True),
        ("hdmap_core/inference/x.py", "from hdmap_core.models import x", False),
        ("hdmap_core/viz/film_file.py", "import lightning.fabric", True),
        ("hdmap_core/viz/film_file.py", "from sensor_msgs.msg import Image", True),
        ("hdmap_ros/worker.py", "import rclpy", True),
        ("hdmap_ros/worker.py", "from rclpy.node import Node", True),
        ("hdmap_ros/online_map_node.py", "import rclpy", False),
        ("hdmap_ros/bag/player.py", "import rclpy", False),
        ("hdmap_ros/worker.py", "import training.fit.loop", True),
        ("training/fit/loop.py", "from hdmap_ros import worker", True),
        ("training/fit/loop.py", "import lightning", False),
    ],
)
def test_the_walk_finds_what_it_should(tmp_path: Path, path: str, source: str, forbidden: bool) -> None:
    for folder in ("hdmap_core/datasets", "hdmap_core/geometry", "hdmap_core/models", "hdmap_ros/bag", "training"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(source, encoding="utf-8")
    told, files_seen = violations(tmp_path)
    assert files_seen == 1
    assert bool(told) == forbidden, told


def test_file_names_say_what_is_inside() -> None:
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*")]
    assert [p for p in paths if p.stem in FORBIDDEN_NAMES] == []
