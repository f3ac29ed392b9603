"""The map over time: elements of successive maps joined into tracks, and fused to a local map in a fixed frame."""
