"""Which frames a file has, and each of them when it is asked for."""

from collections.abc import Iterator
from functools import lru_cache
from io import BytesIO
from pathlib import Path

from pydantic import ValidationError

from hdmap_core.datasets.frames.format import Frame, FrameHead, FramesFile, SceneFacts
from hdmap_core.datasets.frames.mounts import check_mounts
from hdmap_core.datasets.frames.reading import loaded, parsed
from hdmap_core.errors import DatasetError, os_errors_as

CHECKED_AT_ONCE = 4_000_000
"""Bytes, of some 1600 frames of six cameras: all frames of a file up to this are checked when it is opened."""
_KEPT = 1024  # frames, 30 kB each
_BOM = b"\xef\xbb\xbf"
_SCENES, _FRAMES, _END = b'{"version": 1, "scenes": [', b'], "frames": [', b"]}"
_Record = tuple[int, bytes, str]  # first byte, the JSON of one frame or scene, what it is called in messages


def read_frames(path: Path) -> "FramesIndex":
    """The frames of a file.

    Raises:
        DatasetError: as `FramesIndex`.
    """
    with os_errors_as(DatasetError, f"cannot read {path}"):
        stat = path.stat()
        return _read(path, stat.st_size, stat.st_mtime_ns)


class FramesIndex:
    """The frames of a file: what orders them is known, each is read and checked when it is asked for.

    Of a file up to `CHECKED_AT_ONCE`, and of a `frames.json` that has not a frame per line as `write_frames` writes it,
    all are checked at once.

    Args:
        path: `frames.json`, `frames.jsonl`, or another of their kinds.

    Attributes:
        heads: token -> scene and stamp of a frame, in the file's order.
        scenes: what it says of scenes.

    Raises:
        OSError: if it cannot be read.
        DatasetError: naming file, frame, camera and field of what cannot be.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: dict[str, tuple[int, int, str]] = {}  # token -> first byte, bytes, what it is called in messages
        self._kept: dict[str, Frame] = {}
        self.heads: dict[str, FrameHead] = {}
        self.scenes: tuple[SceneFacts, ...] = ()
        data = path.read_bytes()
        if path.suffix == ".jsonl":
            self._read_lines(_lines(path, data))
        elif not self._read_ours(data):
            self._read_whole(data)
        self._check_order()
        for frame in self._kept.values():
            check_mounts(path, frame)
        if len(data) <= CHECKED_AT_ONCE:
            for token in self.heads:
                self.frame(token)

    def frame(self, token: str) -> Frame:
        """A frame of the file.

        Raises:
            KeyError: if there is none of this token.
            DatasetError: naming file, frame, camera and field of what cannot be.
        """
        if token not in self._kept:
            begin, size, where = self._places[token]
            with os_errors_as(DatasetError, f"cannot read {self._path}"), self._path.open("rb") as stream:
                stream.seek(begin)
                frame = parsed(Frame, stream.read(size), where)
            if frame.token != token:
                raise DatasetError(f"{self._path} was changed while it was read; run it again")
            check_mounts(self._path, frame)
            if len(self._kept) >= _KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[token] = frame
        return self._kept[token]

    def _read_lines(self, records: Iterator[_Record]) -> None:
        """A scene or a frame per record."""
        scenes = []
        for begin, text, where in records:
            try:
                head = FrameHead.model_validate_json(text, strict=True)
            except ValidationError:
                about = loaded(text, where)
                if isinstance(about, dict) and "token" not in about and "name" in about:
                    scenes.append(parsed(SceneFacts, text, where))
                    continue
                parsed(Frame, text, where)  # tells what is wrong with it
                raise
            self._add(head)
            self._places[head.token] = begin, len(text), where
        if not self.heads:
            raise DatasetError(f"{self._path}: there is no frame in it; expected an object with a 'token' per line")
        self.scenes = tuple(scenes)

    def _read_ours(self, data: bytes) -> bool:
        """Whether it is a `frames.json` of a frame per line, without a fault that only the whole of it explains."""
        records = _records_of_ours(self._path, data)
        if records is None:
            return False
        try:
            self._read_lines(iter(records))
        except DatasetError:
            self.heads, self._places = {}, {}
            return False
        return True

    def _read_whole(self, data: bytes) -> None:
        content = parsed(FramesFile, data.removeprefix(_BOM), str(self._path))
        self.scenes = content.scenes
        for frame in content.frames:
            self._add(FrameHead(token=frame.token, scene=frame.scene, stamp_ns=frame.stamp_ns))
            self._kept[frame.token] = frame

    def _add(self, head: FrameHead) -> None:
        if head.token in self.heads:
            raise DatasetError(f"{self._path}: frame {head.token!r} occurs twice; give each its own name")
        self.heads[head.token] = head

    def _check_order(self) -> None:
        names = [scene.name for scene in self.scenes]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DatasetError(f"{self._path}: scene {twice!r} occurs twice; give each its own name")
        instants: dict[tuple[str, int], str] = {}
        for token, head in self.heads.items():
            other = instants.setdefault((head.scene, head.stamp_ns), token)
            if other != token:
                raise DatasetError(
                    f"{self._path}: frame {token!r}: 'stamp_ns' {head.stamp_ns} is that of frame {other!r}, too, in "
                    f"the scene {head.scene!r}; frames of a scene follow one another"
                )


@lru_cache(maxsize=2)  # several steps of a verb open the same folder
def _read(path: Path, size: int, mtime_ns: int) -> FramesIndex:
    return FramesIndex(path)


def _lines(path: Path, data: bytes) -> Iterator[_Record]:
    begin = 0
    for number, line in enumerate(BytesIO(data), start=1):
        text = line.removeprefix(_BOM) if number == 1 else line
        if text.strip():
            yield begin + len(line) - len(text), text, f"{path}, line {number}"
        begin += len(line)


def _records_of_ours(path: Path, data: bytes) -> list[_Record] | None:
    """The scenes and frames in what `write_frames` writes; None where a line is none of its lines."""
    lines = [(begin, text.strip()) for begin, text, _ in _lines(path, data)]
    words = [text for _, text in lines]
    if len(lines) < 4 or words[0] != _SCENES or words[-1] != _END or words.count(_FRAMES) != 1:
        return None
    middle, records = words.index(_FRAMES), []
    for number, (begin, text) in enumerate(lines[1:-1], start=1):
        if number == middle:
            continue
        is_last = number in (middle - 1, len(lines) - 2)
        is_frame = text.startswith(b'{"token"')
        if is_frame != (number > middle) or is_last == text.endswith(b","):
            return None
        records.append((begin, text.removesuffix(b","), str(path)))
    return records
