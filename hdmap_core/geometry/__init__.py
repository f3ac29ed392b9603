"""Frames, cameras, the bird's-eye-view grid and polylines: torch, numpy, OpenCV's drawing, nothing of ours.

torch is imported by the functions that make tensors, not with the modules: synthetic towns are drawn without it.
"""

from hdmap_core.geometry.bev_grid import BEVGrid
from hdmap_core.geometry.camera_rig import CameraRig

__all__ = ["BEVGrid", "CameraRig"]
