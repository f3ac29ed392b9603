"""Distillation: what a student is taught beside ground truth, one term a file, and the frozen models that teach."""
