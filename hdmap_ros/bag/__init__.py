"""Bags: nuScenes to rosbag2, offline replay, a player and a recorder for machines without rosbag2."""
