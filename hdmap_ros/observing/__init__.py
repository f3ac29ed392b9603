"""Messages into observations: images, calibration, transforms."""
