"""`hdmap info`: what a file or folder is, what is in it, and what can be done with it.

The functions behind the entry-point group `hdmap.info` take a path and return None where the thing is not of their
kind. If it is, but damaged, they raise the HdmapError that the verbs raise.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class What:
    """What a thing is.

    Attributes:
        kind: what it is, in a few words.
        facts: what is in it: name -> value, in the order in which they are shown.
        next: commands that take it.
    """

    kind: str
    facts: dict[str, str]
    next: tuple[str, ...] = ()
