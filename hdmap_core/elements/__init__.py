"""MapElement: what a map is made of. Ground truth, predictions, messages, bags, metrics and pictures all speak it."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from hdmap_core.errors import ElementError
from hdmap_core.files import write_atomically
from hdmap_core.geometry.polyline import closed_ring

MAX_TRACK_ID = (1 << 32) - 1
"""The largest that MapElement.msg holds."""


class MapClass(str, Enum):  # StrEnum needs Python 3.11
    """The classes of a vectorised map. Which of them a model knows, and their order, is part of its checkpoint."""

    DIVIDER = "divider"
    PED_CROSSING = "ped_crossing"
    BOUNDARY = "boundary"
    CENTERLINE = "centerline"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class MapElement:
    """One polyline of the map.

    Attributes:
        label: its class.
        points: (P, 2) float32, metres, ego frame (x forward, y left); P >= 2, or >= 3 when closed; all finite.
        closed: the last point joins the first; the first is not repeated.
        score: confidence in 0..1; 1 for ground truth.
        track_id: the same number means the same element in successive maps; 0: not tracked.
        heights: (P,) float32, metres above the ego frame's origin, of maps that have them; None: not known, as after a
            `replace` of the points by another number of them.
    """

    label: MapClass
    points: np.ndarray
    closed: bool = False
    score: float = 1.0
    track_id: int = 0
    heights: np.ndarray | None = None

    def __post_init__(self) -> None:
        points = np.asarray(self.points, dtype=np.float32)
        if points.ndim != 2 or points.shape[1] != 2 or len(points) < (3 if self.closed else 2):
            need = "at least 3 points when closed" if self.closed else "at least 2 points"
            raise ElementError(f"a {self.label} needs {need} of (x, y), got an array of shape {points.shape}")
        if not np.isfinite(points).all():
            raise ElementError(f"a {self.label} has a point that is not finite")
        if not 0.0 <= self.score <= 1.0:
            raise ElementError(f"a {self.label} has score {self.score}; scores lie in 0..1")
        if self.heights is not None:
            heights = np.asarray(self.heights, dtype=np.float32)
            if not np.isfinite(heights).all():
                raise ElementError(f"a {self.label} has a height that is not finite")
            # Who cuts or resamples a line by `replace` gets one without heights.
            object.__setattr__(self, "heights", heights if heights.shape == points.shape[:1] else None)
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "label", MapClass(self.label))

    @property
    def path(self) -> np.ndarray:
        """(P, 2) float32 as `points`; of a closed one (P + 1, 2), with the first repeated at the end."""
        return closed_ring(self.points) if self.closed else self.points

    def to_json(self) -> dict[str, Any]:
        """The element as plain JSON values, points rounded to a millimetre."""
        return {
            "label": self.label.value,
            "points": [[round(float(x), 3), round(float(y), 3)] for x, y in self.points],
            "closed": self.closed,
            "score": round(float(self.score), 6),
            **({"track_id": self.track_id} if self.track_id else {}),
            **({} if self.heights is None else {"heights": [round(float(z), 3) for z in self.heights]}),
        }

    @classmethod
    def from_json(cls, record: Any) -> "MapElement":
        """The element of a JSON object `{"label", "points", "closed", "score", "track_id", "heights"}`; all but two may
        lack.

        Raises:
            ElementError: naming the field that is missing, of the wrong type or out of range.
        """
        if not isinstance(record, Mapping):
            raise ElementError(f"an element must be an object, got {type(record).__name__}")
        for key in ("label", "points"):
            if key not in record:
                raise ElementError(f"an element lacks the field {key!r}")
        known = [label.value for label in MapClass]
        if record["label"] not in known:
            raise ElementError(f"unknown label {record['label']!r}; known are {', '.join(known)}")
        closed, score = record.get("closed", False), record.get("score", 1.0)
        if not isinstance(closed, bool):
            raise ElementError(f"field 'closed' must be true or false, got {closed!r}")
        if isinstance(score, bool) or not isinstance(score, int | float) or not abs(score) <= sys.float_info.max:
            raise ElementError(f"field 'score' must be a finite number, got {score!r:.40}")
        track_id = record.get("track_id", 0)
        if isinstance(track_id, bool) or not isinstance(track_id, int) or not 0 <= track_id <= MAX_TRACK_ID:
            raise ElementError(f"field 'track_id' must be a whole number in 0..{MAX_TRACK_ID}, got {track_id!r:.40}")
        points = _numbers(record["points"], "field 'points' must be a list of [x, y] numbers")
        heights = None
        if record.get("heights") is not None:
            heights = _numbers(record["heights"], "field 'heights' must be a list of numbers")
        return cls(MapClass(record["label"]), points, closed, float(score), track_id, heights)


def _numbers(values: Any, need: str) -> np.ndarray:
    """float32; what is too large for it is infinite, and refused later."""
    try:
        with np.errstate(over="ignore"):
            return np.array(values, dtype=np.float32)
    except (TypeError, ValueError, OverflowError):
        raise ElementError(need) from None


def write_elements(path: str | Path, frames: Mapping[str, Sequence[MapElement]]) -> None:
    """Writes one JSON line per frame: `{"token": ..., "elements": [...]}`, atomically.

    Raises:
        OutputError: if the file cannot be written; what stood there before is left as it was.
    """
    lines = [
        json.dumps({"token": token, "elements": [e.to_json() for e in elements]}, separators=(",", ":")) + "\n"
        for token, elements in frames.items()
    ]
    write_atomically(path, "".join(lines).encode())


def read_elements(path: str | Path) -> dict[str, list[MapElement]]:
    """Reads what `write_elements` writes; frames keep their order.

    Raises:
        ElementError: naming file, line and field of the first malformed record, or a token that occurs twice.
    """
    frames: dict[str, list[MapElement]] = {}
    for number, record in _json_lines(Path(path)):
        token = record.get("token") if isinstance(record, Mapping) else None
        if not isinstance(token, str) or not isinstance(record.get("elements"), list):
            raise ElementError(f'{path}, line {number}: expected {{"token": string, "elements": list}}')
        if token in frames:
            raise ElementError(f"{path}, line {number}: frame {token!r} occurs twice; give each frame one line")
        try:
            frames[token] = [MapElement.from_json(element) for element in record["elements"]]
        except ElementError as error:
            raise ElementError(f"{path}, line {number}, frame {token!r}: {error}") from None
    return frames


def _json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        with path.open(encoding="utf-8") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield number, json.loads(line)
    except OSError as error:
        raise ElementError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise ElementError(f"{path}: not JSON lines ({error}); expected one frame per line") from None
