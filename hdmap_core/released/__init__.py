"""The papers' released weights: their files, read without running them, become checkpoints of ours."""
