"""Pictures in files: bounded, mended where that is harmless, decoded."""
