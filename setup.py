"""For pip only; everything is said in pyproject.toml. colcon builds the ROS package with CMakeLists.txt."""

from setuptools import setup

setup()
