"""What a newcomer's machine depends on: versions that agree, pins that are complete, set-up that tells and mends."""

import configparser
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Callable
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest
import yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def package() -> ElementTree.Element:
    return ElementTree.parse(ROOT / "package.xml").getroot()


def test_one_version_everywhere(project: dict, package: ElementTree.Element) -> None:
    assert package.findtext("version") == project["project"]["version"]
    assert package.findtext("name") == project["project"]["name"]
    assert f"## {project['project']['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_package_xml_is_what_colcon_and_rosidl_need(package: ElementTree.Element) -> None:
    assert package.get("format") == "3"
    assert package.findtext("export/build_type") == "ament_cmake"
    assert package.findtext("member_of_group") == "rosidl_interface_packages"
    maintainer = package.find("maintainer")
    assert maintainer is not None and re.fullmatch(r"[^@\s]+@[^@\s]+\.[a-z]+", maintainer.get("email", ""))
    assert not (ROOT / "setup.cfg").exists(), "ament_python_install_package would take it for its own"


def test_package_xml_names_every_ros_package_that_is_used(package: ElementTree.Element) -> None:
    """Imported, or named as the package of a message: `"nav_msgs/msg/Odometry"`."""
    known = {element.text for tag in ("depend", "exec_depend") for element in package.findall(tag)}
    paths = [*(ROOT / "hdmap_ros").rglob("*.py"), *(ROOT / "launch").glob("*.py"), *(ROOT / "scripts").glob("*_node")]
    text = "".join(path.read_text(encoding="utf-8") for path in paths)
    ros = r"rclpy|rcl_interfaces|cv_bridge|message_filters|ament_index_python|launch|launch_ros|\w+_msgs|std_srvs"
    used = set(re.findall(rf"^\s*(?:from|import) ({ros}|builtin_interfaces)\b", text, re.MULTILINE))
    used |= set(re.findall(r'"([a-z]\w+)/(?:msg|srv)/\w+"', text)) - {"hdmap_ros", "package"}
    assert {"rclpy", "rcl_interfaces", "nav_msgs", "launch_ros"} <= used
    assert used <= known, f"package.xml lacks {sorted(used - known)}"


def test_catkin_pkg_accepts_package_xml() -> None:
    catkin_pkg = pytest.importorskip("catkin_pkg.package", reason="catkin_pkg comes with ROS or its wheels")
    warnings: list[str] = []
    parsed = catkin_pkg.parse_package(str(ROOT / "package.xml"), warnings=warnings)
    parsed.validate(warnings=warnings)
    assert warnings == []


def test_cmake_builds_every_message() -> None:
    cmake = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    files = sorted(f"msg/{f.name}" for f in (ROOT / "msg").glob("*.msg"))
    assert sorted(re.findall(r"msg/\w+\.msg", cmake)) == files
    assert cmake.index("rosidl_generate_interfaces(") < cmake.index("ament_python_install_package(")


def test_every_dependency_is_pinned(project: dict) -> None:
    pins = set()
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            assert re.match(r"[a-z0-9.-]+==\S+( ; python.*)?$", line), line
            pins.add(line.split("==")[0])
    extras = project["project"]["optional-dependencies"]
    user = {"train", "bags", "ray", "av2", "export", "openvino", "video", "view", "loggers", "pretrained"}
    assert user | {"dev", "docs", "ros"} == set(extras)
    wanted = project["project"]["dependencies"] + [d for extra in extras.values() for d in extra]
    names = {re.split(r"[\[<>=!~ ]", d)[0].lower() for d in wanted}
    assert names <= pins, f"run scripts/pin.sh: {sorted(names - pins)} have no pin"


def test_extras_are_what_something_imports(project: dict) -> None:
    """An extra that nobody's code needs would only cost disk; what `pretrained` has is found by a name put together."""
    modules = {"rerun-sdk": "rerun", "mlflow-skinny": "MLFlowLogger", "tensorboard": "torch.utils.tensorboard"}
    sources = "".join(
        path.read_text(encoding="utf-8")
        for name in ("hdmap_core", "hdmap_ros", "training")
        for path in (ROOT / name).rglob("*.py")
    )
    for extra, wanted in project["project"]["optional-dependencies"].items():
        for requirement in wanted if extra not in ("dev", "docs", "ros", "pretrained") else ():
            name = re.split(r"[\[<>=!~; ]", requirement)[0]
            module = modules.get(name, name.replace("-", "_"))
            assert re.search(rf"(import|from) {re.escape(module)}\b|import .*\b{module}\b|\"{module}\"", sources), (
                requirement
            )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of the wheel by name, built as pip builds it: of the sdist, which is built from what git knows."""
    source = tmp_path_factory.mktemp("source")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        if name.startswith(("hdmap_", "training/", "config/", "msg/", "launch/")) or "/" not in name:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    with tarfile.open(source / _built("sdist", source)) as archive:
        archive.extractall(source, filter="data")
    unpacked = next(source.glob("hdmap_ros-*/"))
    with zipfile.ZipFile(unpacked / _built("wheel", unpacked)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _built(kind: str, source: Path) -> str:
    build = f"from setuptools import build_meta; print(build_meta.build_{kind}('.'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


def test_a_wheel_has_everything_that_is_read(wheel: dict[str, bytes], project: dict) -> None:
    """Modules of every folder, weights, and what lies in share/hdmap_ros: messages, layouts, recipes."""
    modules = {
        str(path.relative_to(ROOT))
        for name in ("hdmap_core", "hdmap_ros", "training")
        for path in (ROOT / name).rglob("*.py")
    }
    assert modules <= set(wheel), f"a folder without __init__.py? {sorted(modules - set(wheel))[:5]}"
    assert "hdmap_core/weights/student.safetensors" in wheel
    prefix = f"hdmap_ros-{project['project']['version']}.data/data/share/hdmap_ros/"
    for folder in ("msg", "config", "launch"):
        for path in (ROOT / folder).rglob("*.*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert wheel.get(prefix + str(path.relative_to(ROOT))) == path.read_bytes(), path
    entries = next(content for name, content in wheel.items() if name.endswith("entry_points.txt")).decode()
    for group in project["project"]["entry-points"]:
        assert f"[{group}]" in entries
    assert not any(name.startswith(("test", "examples", "benchmarks", "experiments", "scripts")) for name in wheel)


def test_colcon_and_pip_have_the_same_entry_points(project: dict) -> None:
    """All but those of training, which a vehicle does not get."""
    written = configparser.ConfigParser()
    written.read(ROOT / "scripts" / "colcon_entry_points.cfg")
    colcon = written["options.entry_points"]
    groups = project["project"]["entry-points"]
    assert set(colcon) == set(groups)
    for group, entries in groups.items():
        lines = dict(line.split(" = ") for line in colcon[group].strip().splitlines())
        assert lines == {name: value for name, value in entries.items() if not value.startswith("training.")}, group


# What apt brings on Ubuntu 24.04 by the keys of package.xml, and its version there.
APT = {
    "python3-numpy": ("numpy", "1.26.4"),
    "python3-opencv": ("opencv-python-headless", "4.6.0.66"),
    "python3-pil": ("pillow", "10.2.0"),
    "python3-rich": ("rich", "13.7.1"),
    "python3-scipy": ("scipy", "1.11.4"),
    "python3-shapely": ("shapely", "2.0.3"),
    "python3-skimage": ("scikit-image", "0.22.0"),
    "python3-yaml": ("pyyaml", "6.0.1"),
}


def pip_lines(path: Path) -> list[set[str]]:
    """The packages that a page's or a script's `pip install -c …constraints-jazzy.txt` names."""
    text = re.sub(r"\\\n\s*", " ", path.read_text(encoding="utf-8"))
    return [set(names.split()) for names in re.findall(r"pip install .*-c \S*constraints-jazzy.txt ([a-z -]+)\n", text)]


def test_a_jazzy_workspace_gets_every_package(project: dict, package: ElementTree.Element) -> None:
    """From apt by package.xml, or from pip by the line that stands in four places; apt's versions are let be."""
    keys = {element.text for element in package.findall("exec_depend")}
    assert set(APT) == {key for key in keys if key and key.startswith("python3-")}
    names = {re.split("[<>=]", wanted)[0] for wanted in project["project"]["dependencies"]}
    from_pip = names - {name for name, _ in APT.values()} | {"rosbags"}
    for place in ("README.md", "docs/install.md", "Dockerfile", ".github/workflows/test.yml"):
        assert pip_lines(ROOT / place) == [from_pip], place
    pins = dict(
        re.findall(r"^(\S+)==(\S+)$", (ROOT / "constraints-jazzy.txt").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert from_pip <= set(pins), "run scripts/pin.sh"
    assert {name: pins[name] for name, _ in APT.values()} == dict(APT.values())


def test_the_workflow_runs_what_is_supported(project: dict) -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))["jobs"]
    assert project["project"]["requires-python"] == ">=3.10"
    assert jobs["test"]["strategy"]["matrix"]["python"] == ["3.10", "3.11", "3.12", "3.13", "3.14"]
    assert jobs["colcon"]["strategy"]["matrix"]["distro"] == ["jazzy", "kilted"]
    assert {"run": "make lint"} in jobs["lint"]["steps"] and {"run": "make test"} in jobs["test"]["steps"]


def test_installed_versions_are_the_pinned_ones() -> None:
    for name in ("numpy", "torch", "shapely", "nuscenes-devkit"):
        pins = re.findall(rf"^{name}==([^\s;]+)", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
        assert version(name).split("+")[0] in pins


def test_command_and_verbs_are_registered() -> None:
    assert [e.value for e in entry_points(group="console_scripts", name="hdmap")] == ["hdmap_core.__main__:main"]
    assert {e.name for e in entry_points(group="hdmap.commands")} >= {"core", "training", "bag"}


def test_checkout_and_generated_messages_are_one_package() -> None:
    import hdmap_ros

    assert str(ROOT / "hdmap_ros") in [str(Path(p).resolve()) for p in hdmap_ros.__path__]


@pytest.mark.parametrize("stub", ["scripts/online_map_node", "scripts/hdmap", "scripts/setup.sh", ".ci/run"])
def test_scripts_are_executable(stub: str) -> None:
    assert (ROOT / stub).stat().st_mode & stat.S_IXUSR


def test_ci_runs_the_test_command_and_nothing_else() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    commands = [line for line in lines if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == ["make test"]


def test_mending_replaces_and_repeats_without_effect(load_module: Callable, tmp_path: Path) -> None:
    mender = load_module(ROOT / "scripts" / "mend_ros_wheels.py")
    cmake = tmp_path / "share" / "std_msgs" / "cmake" / "export.cmake"
    cmake.parent.mkdir(parents=True)
    cmake.write_text(
        'set(a "/opt/python/cp311-cp311/include/python3.11;/usr/include")\n'
        'set(b "/opt/python/cp311-cp311/lib/python3.11/site-packages/lark")\n'
        'set(c "/opt/python/cp311-cp311/lib/python3.11/site-packages/numpy/_core/include")\n',
        encoding="utf-8",
    )
    linked = tmp_path / "cache.cmake"
    os.link(cmake, linked)
    before = linked.read_text(encoding="utf-8")
    here = ("/here/include", "/here/site-packages", "/here/site-packages/numpy/core/include")
    assert mender.mend_prefix(tmp_path, *here) == 1
    assert cmake.read_text(encoding="utf-8") == (
        'set(a "/here/include;/usr/include")\n'
        'set(b "/here/site-packages/lark")\n'
        'set(c "/here/site-packages/numpy/core/include")\n'
    )
    assert linked.read_text(encoding="utf-8") == before, "the installer's cache shares the file's inode"
    assert mender.mend_prefix(tmp_path, *here) == 0


def run_setup(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs setup.sh in a folder that holds nothing but its inputs, so that it stops at its first check."""
    for name in ("scripts", "msg", "hdmap_ros"):
        (folder / name).mkdir(exist_ok=True)
    for name in ("pyproject.toml", "setup.py", "constraints.txt", "package.xml", "CMakeLists.txt"):
        (folder / name).touch()
    for name in ("scripts/setup.sh", "scripts/mend_ros_wheels.py", "hdmap_ros/__init__.py", "msg/MapElement.msg"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    (folder / "scripts" / "tf2_msgs" / "msg").mkdir(parents=True)
    for name in ("package.xml", "CMakeLists.txt", "msg/TFMessage.msg"):
        (folder / "scripts" / "tf2_msgs" / name).touch()
    command = ["bash", str(folder / "scripts" / "setup.sh")]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


def fake_python(folder: Path, script: str) -> str:
    path = folder / "fake-python"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def test_setup_tells_that_python_is_missing(tmp_path: Path) -> None:
    done = run_setup(tmp_path, PYTHON="python-that-is-not-there")
    assert done.returncode == 2
    assert "no 'python-that-is-not-there' found: install Python 3.10 or newer" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_setup_tells_that_python_is_too_old(tmp_path: Path) -> None:
    old = fake_python(tmp_path, 'case "$1" in --version) echo "Python 3.8.18";; *) exit 1;; esac')
    done = run_setup(tmp_path, PYTHON=old)
    assert done.returncode == 2
    assert "Python 3.8.18 is not supported: install Python 3.10 to 3.14" in done.stderr


def test_setup_tells_that_the_compiler_is_missing(tmp_path: Path) -> None:
    binaries = tmp_path / "bin"
    binaries.mkdir()
    for name in ("bash", "cat", "sha256sum", "mkdir", "flock", "uname", "dirname"):
        source = next(Path(p) / name for p in os.environ["PATH"].split(":") if (Path(p) / name).exists())
        (binaries / name).symlink_to(source)
    done = run_setup(tmp_path, PYTHON=sys.executable, PATH=str(binaries))
    assert done.returncode == 2
    assert "gcc and g++ are needed" in done.stderr and "build-essential" in done.stderr


def two_cmakes(folder: Path) -> list[str]:
    """The same program in two places, as in .venv and in /usr/bin."""
    paths = []
    for name in ("venv", "usr"):
        (folder / name).mkdir()
        path = folder / name / "cmake"
        path.write_text("#!/bin/sh\n", encoding="utf-8")
        path.chmod(0o755)
        paths.append(str(path))
    return paths


def test_setup_finds_a_program_that_is_there_twice_however_busy_the_machine(tmp_path: Path) -> None:
    """`command -v A B | head -n 1` under pipefail failed at random: head had left before the second line came."""
    source = (ROOT / "scripts" / "setup.sh").read_text(encoding="utf-8")
    function = re.search(r"^first_program\(\) \{\n.*?^\}\n", source, re.MULTILINE | re.DOTALL)
    assert function is not None and source.count("$(first_program ") == 2
    first, second = two_cmakes(tmp_path)
    script = (
        "set -euo pipefail\n" + function[0] + "for ((i = 0; i < 1000; i++)); do\n"
        f'    cmake=$(first_program "{first}" cmake) || {{ echo "call $i failed with $?"; exit 1; }}\n'
        f'    [[ $cmake == "{first}" ]] || {{ echo "call $i found $cmake"; exit 1; }}\n'
        "done\n"
    )
    environment = {**os.environ, "PATH": f"{Path(second).parent}:{os.environ['PATH']}"}
    # Six at once on two cores: each one is the others' load.
    calls = [
        subprocess.Popen(["bash", "-c", script], env=environment, stdout=subprocess.PIPE, text=True) for _ in range(6)
    ]
    assert [(call.communicate()[0], call.returncode) for call in calls] == [("", 0)] * 6
    elsewhere = f'set -e\n{function[0]}first_program "{first}.none" cmake\nfirst_program nobody-s-program || echo none'
    done = subprocess.run(["bash", "-c", elsewhere], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [second, "none"]


def test_no_pipe_ends_in_a_reader_that_leaves_early() -> None:
    """Under pipefail that is a failure at random, wherever it stands."""
    leaves_early = re.compile(r"\|\s*(head|grep\s+-\w*[qm]|sed\s+\S*q\b|awk\s.*\bexit\b|read\b)")
    assert leaves_early.search("command -v a b | head -n 1") and leaves_early.search("x | grep -qF y")
    paths = [*(ROOT / "scripts").iterdir(), *(ROOT / ".github").rglob("*.yml"), ROOT / "Makefile", ROOT / ".ci" / "run"]
    scripts = [path for path in paths if path.is_file() and path.suffix in ("", ".sh", ".yml")]
    assert len(scripts) >= 6
    for path in scripts:
        for line in path.read_text(encoding="utf-8").splitlines():
            assert not leaves_early.search(line.split("#")[0]), f"{path}: {line}"
