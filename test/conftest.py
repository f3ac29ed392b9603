"""Fixtures for all tests."""

import importlib.util
import os
from pathlib import Path

import pytest

# --- every test process: its own ROS graph, one thread per library, nothing written to the home folder ---
# Read when rclpy, torch and matplotlib are first imported, which happens after this file.
BUILD = Path(__file__).resolve().parents[1] / "build"
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
for _name, _value in {
    "MPLBACKEND": "Agg",
    "MPLCONFIGDIR": str(BUILD / "cache" / "matplotlib"),
    "OMP_NUM_THREADS": "1",
    "ROS_LOG_DIR": str(BUILD / "cache" / "ros_log"),
}.items():
    os.environ.setdefault(_name, _value)

# --- the real nuScenes keyframe beside the repository ---
_spec = importlib.util.spec_from_file_location("nuscenes_frame", Path(__file__).with_name("nuscenes_frame.py"))
assert _spec is not None and _spec.loader is not None
nuscenes_frame = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(nuscenes_frame)


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
