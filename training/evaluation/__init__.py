"""The parts of `hdmap evaluate`: predictions that can be resumed, groups of frames, robustness, the gallery."""
