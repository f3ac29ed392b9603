"""Fixtures for all tests."""

import contextlib
import fcntl
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# --- the same examples in every run, so that a failure can be repeated; how long one takes says nothing ---
settings.register_profile("repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("repeatable")


def _claim_ros_domain() -> socket.socket:
    """Takes a ROS domain that no other test process of this machine has; ends with the socket that is returned.

    They are below 20; `make demo` takes others.
    """
    claim = socket.socket(socket.AF_UNIX)
    for number in range(19):
        domain = 1 + (os.getpid() + number) % 19
        with contextlib.suppress(OSError):
            claim.bind(f"\0hdmap_ros_test_domain_{domain}")
            os.environ["ROS_DOMAIN_ID"] = str(domain)
            return claim
    raise RuntimeError("nineteen test processes have every ROS domain below 20")


# --- every test process: its own ROS graph, one thread per library, nothing written to the home folder ---
# Read when rclpy, torch and matplotlib are first imported, which happens after this file.
BUILD = Path(__file__).resolve().parents[1] / "build"
_ROS_DOMAIN = _claim_ros_domain()
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
for _name, _value in {
    "MPLBACKEND": "Agg",
    "MPLCONFIGDIR": str(BUILD / "cache" / "matplotlib"),
    "OMP_NUM_THREADS": "1",
    "ROS_LOG_DIR": str(BUILD / "cache" / "ros_log"),
    "TORCHINDUCTOR_CACHE_DIR": str(BUILD / "cache" / "inductor"),
}.items():
    os.environ.setdefault(_name, _value)
# PyTorch makes it where it is missing; a process of another user, which a test starts, may not.
Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).mkdir(parents=True, exist_ok=True)


# --- bytecode is kept, for the many processes that tests start: each would compile PyTorch anew, seconds at a time ---
# Where the environment asks for none beside the sources, it lies in build/.
if sys.dont_write_bytecode:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    sys.pycache_prefix = os.environ.setdefault("PYTHONPYCACHEPREFIX", str(BUILD / "cache" / "bytecode"))


# --- a shell's background jobs ignore Ctrl-C and so do their children; tests that press it start processes ---
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# --- Python files that are in no package ---
def _load_module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    sys.path.insert(0, str(path.parent))  # as when it is run: scripts import those beside them
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


@pytest.fixture(scope="session")
def load_module() -> Callable[[Path], ModuleType]:
    """Loads a script as a module."""
    return _load_module


@pytest.fixture(scope="session")
def recorded() -> ModuleType:
    """Writes videos as the cameras of a drive record them: `recorded_videos`; the test is skipped without PyAV."""
    pytest.importorskip("av", reason="videos need PyAV; run make setup")
    return _load_module(Path(__file__).with_name("recorded_videos.py"))


# --- the real nuScenes keyframe beside the repository ---
nuscenes_frame = _load_module(Path(__file__).with_name("nuscenes_frame.py"))


@pytest.fixture(scope="session")
def real_frame_source() -> Path:
    """The folder with the keyframe's files and calibration.json; skips where it is absent."""
    source = nuscenes_frame.real_frame_source()
    if source is None:
        pytest.skip("the real keyframe is not beside the repository (HDMAP_SHARED_DATA)")
    return source


@pytest.fixture(scope="session")
def real_frame_root(real_frame_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A nuScenes folder of the one real keyframe."""
    return nuscenes_frame.build_real_frame(tmp_path_factory.mktemp("nuscenes-frame"))


# --- inputs that failed once, beside the repository ---
@pytest.fixture(scope="session")
def shared_case() -> Callable[[str], Path]:
    """The path of one by its name in the folder of cases; skips where that is absent."""
    cases = Path(__file__).resolve().parents[2] / "shared" / "cases"

    def find(name: str) -> Path:
        if not (cases / name).exists():
            pytest.skip("the collected inputs that failed are not beside the repository")
        return cases / name

    return find


# --- the command line and a world that it made ---
class Ended:
    """How a call of `hdmap` ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def assert_refused(self, *parts: str) -> None:
        """Exit code 2 and one line on stderr that holds all of `parts`."""
        assert self.code == 2
        # The lines before are a progress bar's.
        *bars, line = self.err.rstrip("\n").split("\n")
        assert line.startswith("error: ") and not any("error" in bar for bar in bars), self.err
        assert "Traceback" not in self.err
        for part in parts:
            assert part in line


@pytest.fixture
def hdmap(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Calls the command line in this process."""
    from hdmap_core.__main__ import main

    def call(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["hdmap", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "300")
        code: object = 0
        handler = signal.getsignal(signal.SIGINT)
        try:
            main()
        except SystemExit as error:
            code = error.code or 0
        finally:
            signal.signal(signal.SIGINT, handler)  # the command leaves it as an ending process wants it
        captured = capsys.readouterr()
        assert isinstance(code, int)
        return Ended(code, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def folder_made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Function (name, fill) -> a folder that `fill` has filled: by one of the test processes, each has its own copy."""

    def made(name: str, fill: Callable[[Path], object]) -> Path:
        own = tmp_path_factory.mktemp(Path(name).parent.name) / Path(name).name
        if "PYTEST_XDIST_WORKER" not in os.environ:
            fill(own)
            return own
        shared = tmp_path_factory.getbasetemp().parent / f"made-once-{name.replace('/', '-')}"
        with shared.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not shared.is_dir():
                fill(own)
                shutil.copytree(own, shared.with_suffix(".part"), dirs_exist_ok=True).rename(shared)
                return own
        return Path(shutil.copytree(shared, own))

    return made


@pytest.fixture(scope="session")
def tiny_world(folder_made_once: Callable[..., Path]) -> Path:
    """Two towns, train and val, made by `hdmap synth`: three keyframes, 12 Hz, images of 90 x 160, LiDAR."""

    def fill(root: Path) -> None:
        options = ("--preset", "tiny", "--keyframes", "3", "--image-size", "90x160", "--sweeps", "--workers", "1")
        command = [sys.executable, "-m", "hdmap_core", "synth", str(root), *options]
        subprocess.run(command, check=True, capture_output=True, cwd=BUILD.parent)

    return folder_made_once("world/tiny", fill)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of the student's kind, as small as can be; it publishes what its vector head says."""
    import torch

    from hdmap_core.checkpoint import CheckpointConfig, save_checkpoint
    from hdmap_core.models import ModelConfig, build_model
    from hdmap_core.models.bev_encoder import BEVEncoderConfig

    encoder = BEVEncoderConfig(channels=(8, 8), blocks=(1, 1), out_channels=8)
    config = CheckpointConfig(model=ModelConfig(name="small", bev_encoder=encoder))
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    torch.manual_seed(0)
    save_checkpoint(path, build_model(config.model), config, {"dataset": "none"})
    return path


@pytest.fixture(scope="session")
def sensor_world(folder_made_once: Callable[..., Path]) -> Path:
    """Two towns, train and val, of two keyframes: images of 45 x 80, SD maps, LiDAR sweeps between the keyframes."""
    from hdmap_core.datasets.synthetic.presets import PRESETS
    from hdmap_core.datasets.synthetic.writer import write_dataset

    config = PRESETS["tiny"].model_copy(update={"keyframes": 2, "image_size": (45, 80), "lidar": "all"})
    return folder_made_once("sensors/town", lambda root: write_dataset(root, config, 1))


@pytest.fixture(scope="session")
def argoverse_world(folder_made_once: Callable[..., Path]) -> Path:
    """The drives of `sensor_world`, through the same cameras, as Argoverse 2 logs."""
    pytest.importorskip("pyarrow")
    from hdmap_core.datasets.synthetic.argoverse_writer import write_logs
    from hdmap_core.datasets.synthetic.presets import PRESETS

    config = PRESETS["tiny"].model_copy(update={"keyframes": 2, "image_size": (45, 80), "lidar": "all"})
    return folder_made_once("argoverse/logs", lambda root: write_logs(root, config, 1))


@pytest.fixture
def without_sd_maps(sensor_world: Path, tmp_path: Path) -> Path:
    """The same folder without `maps/sd`; its files are links."""
    root = tmp_path / "without-sd"
    (root / "maps").mkdir(parents=True)
    for path in sensor_world.iterdir():
        if path.name not in ("maps", "cache"):
            (root / path.name).symlink_to(path)
    for path in (sensor_world / "maps").iterdir():
        if path.name != "sd":
            (root / "maps" / path.name).symlink_to(path)
    return root


# --- results of the papers' own code beside the repository ---
@pytest.fixture(scope="session")
def oracle() -> Callable[[str], Any]:
    """A reference model by its name (`reference_models.Oracle`); the test is skipped where it is not at hand."""
    reference_models = _load_module(Path(__file__).with_name("reference_models.py"))  # imports torch

    def found(name: str) -> Any:
        folder, shared = reference_models.FOLDER, reference_models.SHARED
        if not (folder / name / "manifest.json").is_file():
            pytest.skip(f"{folder / name} is not at hand")
        fill = folder / "fill.py" if (folder / "fill.py").is_file() else shared / "fill.py"
        return reference_models.Oracle(folder / name, _load_module(fill))

    return found


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder for files of half a gigabyte, emptied at the end."""
    yield tmp_path
    for path in tmp_path.rglob("*"):
        if path.suffix in (".pth", ".safetensors"):
            path.unlink()
