# hdmap_ros on ROS 2 Jazzy, by the steps of docs/install.md. Untested: no Docker where this was written (docs/status.md).
#
#     docker build -t hdmap_ros .
#     docker run --rm -it --net host --ipc host --gpus all hdmap_ros ros2 launch hdmap_ros online_map.launch.py
ARG ROS_DISTRO=jazzy
FROM ros:${ROS_DISTRO}-ros-base
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /hdmap_ws

# What changes seldom comes first: the system's packages, then pip's.
COPY package.xml src/hdmap_ros/package.xml
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
    && rosdep update --rosdistro "$ROS_DISTRO" \
    && rosdep install --from-paths src --ignore-src -y --rosdistro "$ROS_DISTRO" --skip-keys rviz2 \
    && rm -rf /var/lib/apt/lists/*
COPY constraints-jazzy.txt src/hdmap_ros/constraints-jazzy.txt
RUN python3 -m venv --system-site-packages .venv && touch .venv/COLCON_IGNORE \
    && .venv/bin/python3 -m pip install --no-cache-dir -c src/hdmap_ros/constraints-jazzy.txt \
        pydantic pyshp rosbags safetensors simplejpeg timm torch torchvision typer typing-extensions

COPY . src/hdmap_ros
RUN source "/opt/ros/$ROS_DISTRO/setup.bash" && source .venv/bin/activate && colcon build

RUN printf '%s\n' '#!/bin/bash' 'set -e' 'source /hdmap_ws/.venv/bin/activate' \
        'source /hdmap_ws/install/setup.bash' 'exec "$@"' > /entrypoint.sh && chmod +x /entrypoint.sh
ENTRYPOINT ["/entrypoint.sh"]
CMD ["ros2", "launch", "hdmap_ros", "online_map.launch.py"]
