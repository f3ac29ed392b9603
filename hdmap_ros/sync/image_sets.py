"""What a synchroniser is told, makes and counts."""

from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from hdmap_core.errors import ConfigError


@dataclass(frozen=True)
class ImageSet:
    """Images of one cycle.

    Attributes:
        stamp_ns: reference time: the anchor camera's stamp, or where its image is missing, when it was due.
        messages: camera -> what was given to `add`.
        stamps_ns: camera -> stamp of its image; mended where the camera's clock is known to be wrong.
        missing: cameras without an image, in the rig's order.
        waited_ns: from the arrival of the first image until the set was handed on.
        held_ns: how much of that after its last image had arrived: others did not come, or phases were being learnt.
    """

    stamp_ns: int
    messages: dict[str, Any]
    stamps_ns: dict[str, int]
    missing: tuple[str, ...]
    waited_ns: int
    held_ns: int = 0

    @property
    def complete(self) -> bool:
        """Whether every camera has an image."""
        return not self.missing

    @property
    def spread_ns(self) -> int:
        """Newest minus oldest stamp."""
        return max(self.stamps_ns.values()) - min(self.stamps_ns.values())

    def held_for(self, longer_ns: int) -> "ImageSet":
        """The same set, handed on so much later."""
        return replace(self, waited_ns=self.waited_ns + longer_ns, held_ns=self.held_ns + longer_ns)


@dataclass(frozen=True)
class SyncConfig:
    """How sets are formed; times in nanoseconds.

    Attributes:
        cameras: names in the rig's order.
        anchor: the camera whose stamp is the set's.
        min_cameras: sets with fewer images are dropped.
        max_spread_ns: how far from the anchor a camera's phase is looked for.
        timeout_ns: a set is closed when no further image of it has arrived for this long; counted from the latest
            one, so that a bag played at half speed still makes complete sets.
        jump_ns: stamps that go back by more than this, of most cameras, reset everything.
    """

    cameras: tuple[str, ...]
    anchor: str
    min_cameras: int
    max_spread_ns: int = 60_000_000
    timeout_ns: int = 75_000_000
    jump_ns: int = 500_000_000

    def __post_init__(self) -> None:
        if not self.cameras or len(set(self.cameras)) != len(self.cameras):
            raise ConfigError(f"cameras must be a list of different names, got {list(self.cameras)}")
        if self.anchor not in self.cameras:
            raise ConfigError(f"anchor camera {self.anchor!r} is not among the cameras {', '.join(self.cameras)}")
        if not 1 <= self.min_cameras <= len(self.cameras):
            raise ConfigError(f"min_cameras must lie in 1..{len(self.cameras)}, got {self.min_cameras}")


class Move(NamedTuple):
    """A camera whose stamps moved against the others': its clock was set, or it was started again."""

    camera: str
    shift_ns: int
    stamp_ns: int

    def __str__(self) -> str:
        return f"{self.camera} by {self.shift_ns * 1e-6:+.1f} ms at {self.stamp_ns * 1e-9:.3f} s"


@dataclass
class SyncStatistics:
    """Counts since the start, plus the spreads of the latest sets.

    `complete` and `partial` sets were handed on; `incomplete` ones had too few images. `superseded` sets were closed
    unfinished because a newer one was complete (they count as partial or incomplete as well). Images: `late` ones
    came after their cycle was closed (`late_by_camera`), `duplicate` ones twice, `unplaced` ones belonged to no
    cycle: their camera's phase was not known, or they lay off it. `moved` counts how often a camera's stamps moved
    against the others', `last_move` is the latest of these.
    """

    complete: int = 0
    partial: int = 0
    incomplete: int = 0
    superseded: int = 0
    late: int = 0
    duplicate: int = 0
    unplaced: int = 0
    resets: int = 0
    missing: Counter[str] = field(default_factory=Counter)
    late_by_camera: Counter[str] = field(default_factory=Counter)
    moved: Counter[str] = field(default_factory=Counter)
    last_move: Move | None = None
    spreads_ns: deque[int] = field(default_factory=lambda: deque(maxlen=200))

    @property
    def sets(self) -> int:
        """How many sets were handed on."""
        return self.complete + self.partial

    def note(self, move: Move) -> None:
        """Counts a camera's move, the latest so far."""
        self.moved[move.camera] += 1
        self.last_move = move
