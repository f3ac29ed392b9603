"""Corruptions of what the cameras see, after the benchmarks of camera bird's-eye-view perception."""

from training.corruptions.images import SEVERITIES
from training.corruptions.observations import CORRUPTIONS, Corruption, corrupt

__all__ = ["CORRUPTIONS", "SEVERITIES", "Corruption", "corrupt"]
