"""What a run consists of: the loop, what it begins with, its devices, folder and loggers."""
