"""Sun, sky, lamps, shadows and weather."""
