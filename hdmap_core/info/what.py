"""What a thing is, as one of the functions behind the entry-point group `hdmap.info` found it.

Such a function takes a path and returns None where the thing is not of its kind. If it is, but damaged, it raises the
HdmapError that the verbs raise.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class What:
    """A thing.

    Attributes:
        kind: what it is, in a few words.
        facts: what is in it: name -> value, in the order in which they are shown.
        next: commands that take it.
    """

    kind: str
    facts: dict[str, str]
    next: tuple[str, ...] = field(default=())
