"""Leaf layers shared by the slots."""
