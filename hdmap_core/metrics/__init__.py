"""Scores of map elements and of segmentation masks. Imports no models.

Imports nothing itself, so that `hdmap --help` need not wait for torch and scipy.
"""
