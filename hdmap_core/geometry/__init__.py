"""Frames, cameras, the bird's-eye-view grid and polylines: torch, numpy, OpenCV's drawing, nothing of ours."""

from hdmap_core.geometry.bev_grid import BEVGrid
from hdmap_core.geometry.camera_rig import CameraRig

__all__ = ["BEVGrid", "CameraRig"]
