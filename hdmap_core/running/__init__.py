"""How long work runs: in parallel, with a bar, and what Ctrl-C does to it."""
