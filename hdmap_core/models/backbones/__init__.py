"""Backbones: camera images -> one feature map per camera."""
