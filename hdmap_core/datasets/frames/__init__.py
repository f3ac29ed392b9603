"""Frames of your own: the plain format, its reader and its writer (docs/your_own_data.md)."""
