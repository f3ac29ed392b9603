"""The keyframes of a student together with what the sources of a distillation see of them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from hdmap_core.errors import DatasetError
from hdmap_core.models import ModelConfig
from training.data.keyframes import Keyframe, Keyframes


@dataclass(frozen=True)
class TaughtKeyframes:
    """Those keyframes that the student and all sources can use.

    Attributes:
        student: the student's.
        sources: the same split, prepared for each source.
        rows: (F, 1 + sources) int64: for each keyframe its number in `student`, then in each of `sources`.
    """

    student: Keyframes
    sources: Mapping[str, Keyframes]
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Keyframe:
        """Reads a keyframe, for everyone.

        Raises:
            DatasetError, ImageError: naming a file that is missing or damaged.
        """
        own, *theirs = self.rows[index].tolist()
        frame = self.student[own]
        seen_by = {}
        for (name, keyframes), row in zip(self.sources.items(), theirs, strict=True):
            # Where the camera inputs of the two are the same, images need not be decoded twice.
            same = not keyframes.inputs and _looks(self.student.model) == _looks(keyframes.model)
            seen_by[name] = keyframes.read(row, cameras=frame.inputs if same else None)
        return replace(frame, seen_by=seen_by)


def taught_keyframes(student: Keyframes, sources: Mapping[str, Keyframes]) -> TaughtKeyframes:
    """Joins keyframes by their tokens.

    Raises:
        DatasetError: if no keyframe can be used by all.
    """
    numbers = [{str(token): row for row, token in enumerate(each.tokens)} for each in (student, *sources.values())]
    shared = [token for token in numbers[0] if all(token in each for each in numbers[1:])]
    if not shared:
        raise DatasetError(f"no keyframe of {student.root} can be used by the student and by {', '.join(sources)}")
    rows = np.array([[each[token] for each in numbers] for token in shared], np.int64)
    return TaughtKeyframes(student, sources, rows)


def _looks(model: ModelConfig) -> tuple[object, ...]:
    backbone = model.image_backbone
    size = None if backbone is None else (backbone.image_size, backbone.cameras)
    return size, model.grid if model.sees_ground else None
