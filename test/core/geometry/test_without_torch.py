"""Geometry and synthetic towns are there without torch, which takes seconds to import."""

import subprocess
import sys
from pathlib import Path

import pytest

SYNTH = """
from pathlib import Path
from hdmap_core.datasets.synthetic.presets import PRESETS
from hdmap_core.datasets.synthetic.writer import write_dataset
change = {"keyframes": 1, "image_size": (45, 80), "towns": {"val": 1}}
write_dataset(Path(sys.argv[1]), PRESETS["tiny"].model_copy(update=change))
"""


@pytest.mark.parametrize(
    "script",
    [
        "import hdmap_core",
        "import hdmap_core.geometry.ground_view, hdmap_core.geometry.raster, hdmap_core.geometry.polyline",
        "from hdmap_core import BEVGrid; assert BEVGrid().to_cells(__import__('numpy').zeros(2)).shape == (2,)",
        "from hdmap_core import MapElement, NuScenesDataset, Observation, read_elements",
        SYNTH,
    ],
    ids=["package", "geometry", "grid", "data", "synth"],
)
def test_no_torch(script: str, tmp_path: Path) -> None:
    whole = f"import sys\n{script}\nassert 'torch' not in sys.modules, 'torch was imported'\n"
    command = [sys.executable, "-c", whole, str(tmp_path / "town")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
