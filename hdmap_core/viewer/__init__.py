"""`hdmap view`: looks at a drive without ROS, in the viewer of rerun (https://rerun.io)."""
