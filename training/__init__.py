"""Training, distillation and evaluation of hdmap_core's models."""
