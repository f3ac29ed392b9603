"""Other programs' files: elements in, elements out; one file a format."""
