"""Camera to bird's-eye view."""
