"""`hdmap info`: what a file or folder is, what is in it, and what can be done with it."""
