"""Cameras and LiDAR: rigs, lenses, noise, and what they see."""
