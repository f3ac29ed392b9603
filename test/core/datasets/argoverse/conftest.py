import shutil
from pathlib import Path

import pytest

REAL = Path(__file__).parents[5] / "shared" / "data" / "av2-log"


@pytest.fixture(scope="session")
def real_logs() -> Path:
    """A folder with one real log, without pictures; the test is skipped where it is not at hand."""
    pytest.importorskip("pyarrow")
    if not REAL.is_dir():
        pytest.skip("no real Argoverse 2 log at hand")
    return REAL


@pytest.fixture(scope="session")
def real_log(real_logs: Path) -> Path:
    """The folder of that log itself."""
    return next((real_logs / "sensor" / "val").iterdir())


@pytest.fixture
def one_log(argoverse_world: Path, tmp_path: Path) -> Path:
    """A copy of the val log in a data set of its own, to be spoiled; the data set is its second parent."""
    log = next((argoverse_world / "val").iterdir())
    return Path(shutil.copytree(log, tmp_path / "logs" / "val" / log.name))
