"""Corruptions of what the cameras see, after the benchmarks of camera bird's-eye-view perception."""

from training.corruptions.observations import CORRUPTIONS, SEVERITIES, Corruption, corrupt

__all__ = ["CORRUPTIONS", "SEVERITIES", "Corruption", "corrupt"]
