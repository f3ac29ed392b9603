#!/usr/bin/env bash
# Makes an environment with exactly the oldest versions that pyproject.toml allows (on Python 3.12 those are Ubuntu
# 24.04's of what apt brings there) and runs the tests of core and node in it. Arguments go to pytest.
#
#     PYTHON=/path/to/python3.12 scripts/test_lower_bounds.sh -n 2 --dist loadfile
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3.12} LOWER_BOUNDS=true scripts/setup.sh
VENV=$PWD/build/lower_bounds/venv
unset _ROS_WHEELS_BOOTSTRAP_COMPLETE

"$VENV/bin/python" - <<'PYTHON'
import re
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
print(f"Python {sys.version.split()[0]}:", end=" ")
print(", ".join(f"{name} {version(name)}" for name in (re.split("[<>=]", d)[0] for d in project["dependencies"])))
PYTHON
exec "$VENV/bin/python" -m pytest test/core test/ros "$@"
