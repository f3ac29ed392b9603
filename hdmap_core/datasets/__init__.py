"""Data sets: nuScenes folders, real or synthetic, and what is read from them. Imports no models."""
