"""A package that is missing or too old is one line with the remedy: from `hdmap`, from the node, in the Python API."""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hdmap_core import required_packages
from hdmap_core.config import load_config
from hdmap_core.errors import MissingDependencyError
from hdmap_core.models import build_model
from hdmap_core.required_packages import EXTRAS, NODE, REQUIREMENTS, missing_packages_named
from hdmap_ros.message_types import bag_types

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
# Loaded at start by every Python that finds it: the finders answer for some packages as if these were not there.
BLOCKER = """
import sys

class Blocked:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, *rest):
        return None if name.partition(".")[0] in {blocked} else self.finder.find_spec(name, *rest)

sys.meta_path[:] = [Blocked(finder) for finder in sys.meta_path]
"""


@pytest.fixture
def machine(tmp_path: Path):
    """Runs a command with this Python where some packages are missing and pydantic is perhaps apt's."""

    def run(*command: object, without: tuple[str, ...] = (), old_pydantic: bool = False, **environment: str):
        (tmp_path / "sitecustomize.py").write_text(BLOCKER.format(blocked=set(without)), encoding="utf-8")
        if old_pydantic:
            (tmp_path / "pydantic").mkdir()
            (tmp_path / "pydantic" / "__init__.py").write_text("VERSION = '1.10.14'\n", encoding="utf-8")
            information = tmp_path / "pydantic-1.10.14.dist-info" / "METADATA"
            information.parent.mkdir()
            information.write_text("Metadata-Version: 2.1\nName: pydantic\nVersion: 1.10.14\n", encoding="utf-8")
        path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
        return subprocess.run(
            [sys.executable, *map(str, command)],
            env={**os.environ, "PYTHONPATH": path, **environment},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def assert_one_line(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: "), done.stderr
    for part in (*parts, sys.executable, "docs/install.md", "pip install"):
        assert part in done.stderr, done.stderr


def test_bounds_are_those_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert sorted(REQUIREMENTS.values()) == sorted(project["dependencies"])
    for extra, modules in EXTRAS.items():
        listed = project["optional-dependencies"][extra]
        assert sorted(modules.values()) == sorted(wanted.partition(";")[0] for wanted in listed)  # without its Python


@pytest.mark.parametrize("module", ["typer", "rich", "torch", "pydantic", "safetensors"])
def test_the_command_line_says_what_is_missing(machine, module: str) -> None:
    weights = ROOT / "hdmap_core" / "weights" / "student.safetensors"
    verb = ("score", "p.jsonl", "t.jsonl") if module == "rich" else ("predict", weights, ROOT)
    done = machine("-m", "hdmap_core", *verb, without=(module,))
    package = REQUIREMENTS[module]
    assert_one_line(done, f"{package.split('>=')[0]} is not installed", f"'{package}'")


def test_everything_that_is_missing_is_named_at_once(machine) -> None:
    done = machine("-m", "hdmap_core", "--help", without=("typer", "torch", "timm"))
    assert_one_line(done, "typer is not installed (for", "'timm>=", "'torch>=", "'typer>=")


def test_an_export_names_all_that_it_lacks_before_it_begins(
    hdmap: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec, lacks = importlib.util.find_spec, ("onnx", "onnxscript", "openvino")

    def without(name: str, package: str | None = None) -> object:
        return None if name in lacks else find_spec(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    monkeypatch.setattr("hdmap_core.export.reference.reference", lambda *arguments: pytest.fail("the model ran"))
    weights = ROOT / "hdmap_core" / "weights" / "student.safetensors"
    ended = hdmap("export", weights, "--format", "openvino", "-o", tmp_path / "student.xml")
    assert ended.code == 2
    assert "onnx is not installed, onnxscript is not installed, openvino is not installed (for" in ended.err


def test_bags_say_it_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("rosbags", "rosbags.typesys"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=r"^rosbags is not installed \(for .* pip install .*'rosbags>="):
        bag_types()


@pytest.mark.parametrize(
    ("package", "version", "too_old"),
    [("pydantic", "1.10.14", True), ("typer", "0.9.0", True), ("typer", "1.0", False), ("numpy", "1.26.0", False)],
)
def test_what_is_too_old(monkeypatch: pytest.MonkeyPatch, package: str, version: str, too_old: bool) -> None:
    """Apt's typer 0.9 is no ImportError: it fails at annotations that it does not know."""
    monkeypatch.setattr("hdmap_core.required_packages.metadata.version", lambda name: version)
    assert bool(required_packages.complaint(package)) == too_old


def test_apt_s_pydantic_is_too_old(machine) -> None:
    weights = ROOT / "hdmap_core" / "weights" / "student.safetensors"
    done = machine("-m", "hdmap_core", "predict", weights, ROOT, old_pydantic=True, ROS_DISTRO="jazzy")
    constraints = "-c src/hdmap_ros/constraints-jazzy.txt"
    assert_one_line(done, "pydantic 1.10.14 is too old, 2.8 or newer is needed", constraints, "'pydantic>=2.8'")


@pytest.mark.parametrize("module", ["torch", "yaml", "safetensors and pydantic"])
def test_the_node_says_what_is_missing(machine, module: str) -> None:
    without = tuple(module.split(" and "))
    done = machine("-m", "hdmap_ros.online_map_node", without=without)
    assert_one_line(done, *(REQUIREMENTS[name] for name in without))


def test_what_colcon_installs_says_it_too(machine) -> None:
    """What `ros2 run` and the launch files start."""
    assert_one_line(machine(ROOT / "scripts" / "online_map_node", old_pydantic=True), "pydantic 1.10.14 is too old")
    assert_one_line(machine(ROOT / "scripts" / "hdmap", without=("typer",)), "typer is not installed")


@pytest.mark.parametrize("module", ["player", "recorder"])
def test_player_and_recorder_say_it_too(machine, module: str) -> None:
    done = machine("-m", f"hdmap_ros.bag.{module}", "drive.mcap", without=("rosbags", "typer"))
    assert_one_line(done, "rosbags is not installed, typer is not installed", EXTRAS["bags"]["rosbags"])


def test_training_says_what_it_needs(machine) -> None:
    pytest.importorskip("training.config", reason="colcon installs no `training`; see make test")
    recipe = ROOT / "config" / "recipes" / "tiny" / "ground.yaml"
    done = machine("-m", "hdmap_core", "train", recipe, "data.root=data", without=("lightning",))
    assert_one_line(done, "lightning is not installed", EXTRAS["train"]["lightning"])


def test_the_node_without_ros(machine) -> None:
    done = machine("-m", "hdmap_ros.online_map_node", without=("rclpy",))
    assert done.returncode == 2
    assert re.fullmatch(r"error: rclpy is not there [^\n]*source [^\n]*make setup[^\n]*\n", done.stderr), done.stderr


def test_the_list_of_the_node_is_what_it_imports() -> None:
    """With the shipped model loaded; the slots of others may want timm and torchvision."""
    pytest.importorskip("rclpy", reason="the node needs rclpy; run make setup")
    program = (
        "import sys, hdmap_ros.online_map_node\n"
        "from hdmap_core.inference import default_weights, load_predictor\n"
        "load_predictor(default_weights(), 'cpu')\n"
        "print(*(name for name in sys.argv[1:] if name in sys.modules))\n"
    )
    command = [sys.executable, "-c", program, *REQUIREMENTS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert tuple(done.stdout.split()) == NODE


def test_a_slot_that_wants_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of ours in the Python API, which the node logs before it refuses to be configured."""
    training = pytest.importorskip("training.config", reason="colcon installs no `training`; see make test")
    monkeypatch.setitem(sys.modules, "timm", None)
    config = load_config(training.TrainConfig, ROOT / "config" / "recipes" / "mapqr" / "resnet50.yaml", [])
    with pytest.raises(MissingDependencyError, match=r"^timm is not installed \(for .*'timm>="):
        build_model(config.model)


def test_other_import_errors_pass() -> None:
    with pytest.raises(ImportError, match="no name of ours"), missing_packages_named():
        raise ImportError("no name of ours", name="hdmap_core.elements")
    with pytest.raises(ModuleNotFoundError), missing_packages_named():
        raise ModuleNotFoundError("a module of a package that is there", name="numpy.no_such_part")


def test_a_package_built_for_numpy_1_behind_numpy_2() -> None:
    told = pytest.raises(MissingDependencyError, match=r"built for NumPy 1.* -m pip uninstall numpy$")
    with told, missing_packages_named():
        raise ImportError("numpy.core.multiarray failed to import")
