"""Recordings: whatever people have of a drive, as observations that a model can look at one after the other."""
