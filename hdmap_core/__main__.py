"""`python -m hdmap_core` is the command `hdmap`."""

from hdmap_core.cli import main

main()
