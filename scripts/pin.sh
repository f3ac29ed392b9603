#!/usr/bin/env bash
# Resolves constraints.txt anew from pyproject.toml, for every supported Python, and constraints-jazzy.txt for the Python
# of Ubuntu 24.04 beside the packages that apt brings there. Pins that still fit are kept; name packages to move them:
# scripts/pin.sh torch timm
set -euo pipefail
cd "$(dirname "$0")/.."

UV=0.13.8
DEVKIT=1.2.0
AV2=0.3.6
# What apt brings on Ubuntu 24.04 and pip shall leave alone. setuptools because newer ones break colcon's
# --symlink-install of other packages in the workspace.
JAZZY="numpy==1.26.4 opencv-python-headless==4.6.0.66 pillow==10.2.0 pyyaml==6.0.1 rich==13.7.1 scikit-image==0.22.0
    scipy==1.11.4 setuptools==68.1.2 shapely==2.0.3"

upgrade=()
for package in "$@"; do upgrade+=(--upgrade-package "$package"); done
touch constraints.txt
sed -i -e '/^av2==/d' -e '/^nuscenes-devkit==/d' -e '/^uv==/d' constraints.txt
.venv/bin/uv pip compile pyproject.toml --universal --python-version 3.10 --all-extras \
    --no-header --no-annotate --quiet "${upgrade[@]}" -o constraints.txt
{
    echo "# Exact versions for x86-64 Linux, Python 3.10 and newer. Written by scripts/pin.sh."
    echo "# uv installs them; av2 and nuscenes-devkit go in without their dependencies (scripts/setup.sh)."
    echo "av2==$AV2"
    echo "nuscenes-devkit==$DEVKIT"
    echo "uv==$UV"
    # What is true of every machine that this file is for need not stand on every line.
    grep -v '^#' constraints.txt | sed -e "s/ and platform_machine == 'x86_64' and sys_platform == 'linux'//" \
        -e "s/ and python_full_version < '3.15'//" -e "s/ ; python_full_version < '3.15'$//"
} > constraints.txt.new
mv constraints.txt.new constraints.txt

touch constraints-jazzy.txt
printf '%s\n' $JAZZY | .venv/bin/uv pip compile pyproject.toml --python-version 3.12 \
    --python-platform x86_64-unknown-linux-gnu --extra bags --extra train --constraints - \
    --no-header --no-annotate --quiet "${upgrade[@]}" -o constraints-jazzy.txt
{
    echo "# For pip's -c in a virtual environment with --system-site-packages on Ubuntu 24.04 with ROS 2 Jazzy or Kilted"
    echo "# (docs/install.md). Keeps what apt and ROS bring, as NumPy 2 breaks cv_bridge. Written by scripts/pin.sh."
    { printf '%s\n' $JAZZY; grep -v '^#' constraints-jazzy.txt; } | sort -u
} > constraints-jazzy.txt.new
mv constraints-jazzy.txt.new constraints-jazzy.txt
