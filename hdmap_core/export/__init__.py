"""Checkpoints as files for other runtimes: ONNX, and OpenVINO's IR. Each is compared with PyTorch before it is kept."""
