"""Data sets of any format, real or synthetic, and what is read from them. Imports no models."""
