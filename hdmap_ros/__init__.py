"""ROS 2 side of the online map: the node, its parts, and bags. Imports hdmap_core, never training.

The generated messages `hdmap_ros.msg` live in another folder (the virtual environment or a colcon workspace). Extending
the path makes a checkout and that folder one package. Nothing of ROS is imported here, so that the parts which need no
ROS work without it.
"""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
