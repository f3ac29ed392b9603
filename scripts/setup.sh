#!/usr/bin/env bash
# Everything that `make demo` and `make test` need, in .venv/ and build/ of this checkout and nowhere else:
# the pinned packages, ROS 2 (the one that is sourced, else wheels), and the generated messages hdmap_ros.msg.
# A stamp keyed by the inputs makes a second run immediate. PYTHON=... chooses the interpreter.
# LOWER_BOUNDS=true makes build/lower_bounds/venv instead, with the oldest versions that pyproject.toml allows
# (scripts/test_lower_bounds.sh).
set -euo pipefail
cd "$(dirname "$0")/.."
ROOT=$PWD
LOWER_BOUNDS=${LOWER_BOUNDS:-false}
BUILD=$ROOT/build
VENV=$ROOT/.venv
if $LOWER_BOUNDS; then BUILD=$ROOT/build/lower_bounds VENV=$BUILD/venv; fi
CACHE=$ROOT/build/cache
STAMP=$VENV/.hdmap_setup
PYTHON=${PYTHON:-python3}

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }
die() { printf 'setup: %s\n' "$*" >&2; exit 2; }

# The start-up hook of the wheels marks with this that it has set LD_LIBRARY_PATH, perhaps for another environment.
unset _ROS_WHEELS_BOOTSTRAP_COMPLETE

inputs() {
    printf '%s\n' "$ROOT" "${ROS_DISTRO:-}" "${ROS_DISTRO:+${AMENT_PREFIX_PATH:-}}" "${UV_TORCH_BACKEND:-}"
    cat pyproject.toml setup.py constraints.txt package.xml CMakeLists.txt msg/*.msg hdmap_ros/__init__.py \
        scripts/setup.sh scripts/mend_ros_wheels.py scripts/tf2_msgs/*.* scripts/tf2_msgs/msg/*.msg
}
KEY=$(inputs | sha256sum)
is_current() { [[ -x $VENV/bin/python && -f $STAMP && $(<"$STAMP") == "$KEY" ]]; }
is_current && exit 0

mkdir -p "$BUILD" "$CACHE"
exec 9>"$BUILD/setup.lock"
flock 9 # another make may be at it
is_current && exit 0

HAS_ROS=false # a sourced ROS 2 counts when its rclpy answers
if [[ -n ${ROS_DISTRO:-} && -n ${AMENT_PREFIX_PATH:-} ]] && "$PYTHON" -c 'import rclpy' 2>/dev/null; then
    HAS_ROS=true
fi

check_machine() {
    [[ $(uname -s)-$(uname -m) == Linux-x86_64 ]] || die "needs Linux on x86-64, this is $(uname -s) on $(uname -m)"
    command -v "$PYTHON" >/dev/null || die "no '$PYTHON' found: install Python 3.10 or newer, or set PYTHON=/path/to/python3"
    "$PYTHON" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' ||
        die "$("$PYTHON" --version 2>&1) is not supported: install Python 3.10 to 3.14, or set PYTHON=/path/to/python3"
    command -v gcc >/dev/null && command -v g++ >/dev/null ||
        die "gcc and g++ are needed to compile the ROS messages: install them (Debian, Ubuntu: build-essential)"
    local header
    header=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')/Python.h
    [[ -f $header ]] || die "$header is missing: install Python's headers (Debian, Ubuntu: python3-dev)"
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null ||
        die "$PYTHON cannot make virtual environments: install its venv module (Debian, Ubuntu: python3-venv)"
}

make_venv() {
    local options=()
    if $HAS_ROS; then options=(--system-site-packages); fi
    # A copied or moved checkout, or one whose ROS came or went, needs a new environment; one made by hand is kept.
    if [[ -f $STAMP.root && $(<"$STAMP.root") != "$ROOT $HAS_ROS" ]] ||
        [[ -e $VENV ]] && ! "$VENV/bin/python" -c 'import sys, pip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
        say "setup: $VENV does not fit any more; making it anew"
        rm -rf "$VENV"
    fi
    [[ -x $VENV/bin/python ]] || "$PYTHON" -m venv "${options[@]}" "$VENV" || die "could not make $VENV"
    printf '%s\n' "$ROOT $HAS_ROS" >"$STAMP.root"
}

install_packages() {
    local uv_pin extras=train,bags,ray,av2,export,openvino,video,view,loggers,docs,dev versions=(--constraints constraints.txt)
    if $LOWER_BOUNDS; then extras=train,bags,av2,video,dev versions=(--resolution lowest-direct); fi
    export UV_CACHE_DIR=${UV_CACHE_DIR:-$CACHE/uv} UV_PYTHON_DOWNLOADS=never UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-120}
    uv_pin=$(grep '^uv==' constraints.txt)
    [[ $("$VENV/bin/uv" --version 2>/dev/null) == "uv ${uv_pin#uv==}"* ]] ||
        "$VENV/bin/python" -m pip install --quiet --no-cache-dir --disable-pip-version-check "$uv_pin" || offline
    $HAS_ROS || extras+=,ros
    local install=("$VENV/bin/uv" pip install --python "$VENV/bin/python")
    "${install[@]}" "${versions[@]}" --build-constraints constraints.txt -e ".[$extras]" || offline
    # Without their dependencies, which would bring NumPy 1 and a second OpenCV; the extra `dev` holds what they import.
    "${install[@]}" --no-deps "$(grep '^nuscenes-devkit==' constraints.txt)" "$(grep '^av2==' constraints.txt)" || offline
}
offline() {
    die "packages could not be installed, see above. Is the package index reachable? Run 'make setup' again: what was" \
        "downloaded is kept in build/cache"
}

# first_program NAME...: the first that is there. No pipe: its reader may leave first, and under pipefail that is a failure.
first_program() {
    local name
    for name; do command -v "$name" && return; done
    return 1
}

# build_interfaces SOURCE NAME [CMAKE OPTION...]
build_interfaces() {
    local source=$1 build=$BUILD/$2 log=$BUILD/$2.log cmake ninja
    shift 2
    cmake=$(first_program "$VENV/bin/cmake" cmake) || die "cmake is missing (Debian, Ubuntu: cmake)"
    ninja=$(first_program "$VENV/bin/ninja" ninja) || true
    rm -rf "$build"
    {
        "$cmake" -S "$source" -B "$build" ${ninja:+-G Ninja "-DCMAKE_MAKE_PROGRAM=$ninja"} \
            "-DCMAKE_INSTALL_PREFIX=$VENV" "-DPython3_EXECUTABLE=$VENV/bin/python" -DPython3_FIND_VIRTUALENV=ONLY \
            -DCMAKE_BUILD_TYPE=Release -DBUILD_TESTING=OFF "-DCMAKE_INSTALL_RPATH=\$ORIGIN;\$ORIGIN/../../.." "$@" &&
            "$cmake" --build "$build" --parallel && "$cmake" --install "$build"
    } >"$log" 2>&1 || { tail -n 40 "$log" >&2; die "the messages of $source could not be built; the whole log is $log"; }
}

build_messages() {
    if ! $HAS_ROS; then
        "$VENV/bin/python" scripts/mend_ros_wheels.py
        export AMENT_PREFIX_PATH=$VENV CMAKE_PREFIX_PATH=$VENV
        build_interfaces scripts/tf2_msgs tf2_msgs
    fi
    export PATH=$VENV/bin:$PATH
    build_interfaces . hdmap_ros -DHDMAP_MESSAGES_ONLY=ON
    env -u _ROS_WHEELS_BOOTSTRAP_COMPLETE LD_LIBRARY_PATH="$VENV/lib:${LD_LIBRARY_PATH:-}" "$VENV/bin/python" -c \
        'from hdmap_ros.msg import MapElementArray; MapElementArray.__class__.__import_type_support__()' ||
        die "the generated messages do not load; please report this with $BUILD/hdmap_ros.log"
}

check_machine
rm -f "$STAMP"
say "setup: virtual environment"
make_venv
if $HAS_ROS; then say "setup: packages, beside the sourced ROS 2 $ROS_DISTRO"
else say "setup: packages and ROS 2 wheels (the first time downloads about 3 GB, most of it PyTorch)"; fi
install_packages
say "setup: messages"
build_messages
printf '%s' "$KEY" >"$STAMP"
say "setup: done; \`source ${VENV#"$ROOT/"}/bin/activate\` puts hdmap on the PATH of this terminal"
