#!/usr/bin/env bash
# Resolves constraints.txt anew from pyproject.toml, for every supported Python. Pins that still fit are kept; name
# packages to move them: scripts/pin.sh torch timm
set -euo pipefail
cd "$(dirname "$0")/.."

UV=0.13.8
DEVKIT=1.2.0

upgrade=()
for package in "$@"; do upgrade+=(--upgrade-package "$package"); done
touch constraints.txt
sed -i -e '/^nuscenes-devkit==/d' -e '/^uv==/d' constraints.txt
.venv/bin/uv pip compile pyproject.toml --universal --python-version 3.10 --all-extras \
    --no-header --no-annotate --quiet "${upgrade[@]}" -o constraints.txt
{
    echo "# Exact versions for x86-64 Linux, Python 3.10 and newer. Written by scripts/pin.sh."
    echo "# uv installs them; nuscenes-devkit goes in without its dependencies (it pins numpy below 2)."
    echo "nuscenes-devkit==$DEVKIT"
    echo "uv==$UV"
    # What is true of every machine that this file is for need not stand on every line.
    grep -v '^#' constraints.txt | sed -e "s/ and platform_machine == 'x86_64' and sys_platform == 'linux'//" \
        -e "s/ and python_full_version < '3.15'//" -e "s/ ; python_full_version < '3.15'$//"
} > constraints.txt.new
mv constraints.txt.new constraints.txt
