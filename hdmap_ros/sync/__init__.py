"""Images of many cameras into sets, one firing cycle each: pure Python, no ROS graph."""
