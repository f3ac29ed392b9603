"""Plays a bag through the online map node with RViz, and stops everything at its end.

ros2 launch hdmap_ros replay.launch.py bag:=drive.mcap
ros2 launch hdmap_ros replay.launch.py bag:=drive.mcap bag_rate:=0.5 rviz:=false

Takes every argument of online_map.launch.py; only the defaults of three differ.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

DEFAULTS = {
    "layout": ("hdmap", "topic layout of the bag, config/topics/"),
    "rviz": ("true", "open RViz"),
    "exit_on_bag_end": ("true", "stop everything when the bag has been played"),
}


def generate_launch_description() -> LaunchDescription:
    """Called by `ros2 launch`. Arguments that are not named here pass through to the included file."""
    online_map = PathJoinSubstitution([FindPackageShare("hdmap_ros"), "launch", "online_map.launch.py"])
    names = ["bag", *DEFAULTS]
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="rosbag2 to play"),
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, (default, description) in DEFAULTS.items()
            ),
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(online_map),
                launch_arguments={name: LaunchConfiguration(name) for name in names}.items(),
            ),
        ]
    )
