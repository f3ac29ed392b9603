"""Keyframes of several data sets as one list."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from training.data.keyframes import Keyframe, KeyframeList


@dataclass(frozen=True)
class JoinedKeyframes:
    """One list after the other; a list that is named twice counts twice."""

    lists: Sequence[KeyframeList]

    def __len__(self) -> int:
        return sum(map(len, self.lists))

    def __getitem__(self, index: int) -> Keyframe:
        """Reads a keyframe.

        Raises:
            DatasetError, ImageError: naming a file that is missing or damaged.
        """
        ends = list(accumulate(map(len, self.lists)))
        which = bisect_right(ends, index)
        return self.lists[which][index - (ends[which - 1] if which else 0)]
