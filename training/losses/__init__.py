"""Losses: outputs and targets to named scalars."""
