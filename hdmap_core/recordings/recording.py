"""What a recording is, and what can be wanted of it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hdmap_core.datasets.protocol import CLASSES, Crossings
from hdmap_core.datasets.video_starts import Beginning
from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import BEVGrid
from hdmap_core.geometry.map_origin import MapOrigin
from hdmap_core.images.decoding import Enough
from hdmap_core.observation import Observation


@dataclass(frozen=True)
class Wanted:
    """What of a recording, and how.

    Attributes:
        whole_drive: all frames of a scene, a video, a bag; False: one frame; None: as it is usual of its kind, one of
            a data set and all of others.
        sample: token of the one frame; None: the first.
        scene: of a data set with several; None: the first.
        version: of a data set with several.
        rig: a rig file (`hdmap_core.datasets.rig_file`), for images and videos, and for bags without CameraInfo.
        rate: at most so many frames of a video per second; that of images in a folder. 0: every picture.
        beginning: when images and videos begin, as far as their owner says it by hand.
        align: find by their sound when the videos begin.
        min_cameras: frames of videos and bags with images of fewer are left out; 0: all cameras.
        topics: topic layout of a bag; None: the one that fits.
        sweeps: LiDAR sweeps that the model looks at.
        sd_map: whether it looks at an SD map.
        lidar_ground: see `MapDataset.observation`; of bags as well.
        at_least: what will do of each image, coarsely decoded; None: all there is, exactly.
        grid: region of the truth.
        classes: of the truth.
        crossings: of the truth, `outlines` or `edges`.
    """

    whole_drive: bool | None = None
    sample: str | None = None
    scene: str | None = None
    version: str | None = None
    rig: Path | None = None
    rate: float = 10.0
    beginning: Beginning = field(default_factory=Beginning)
    align: bool = False
    min_cameras: int = 0
    topics: str | None = None
    sweeps: int = 0
    sd_map: bool = False
    lidar_ground: bool = False
    at_least: Enough | None = None
    grid: BEVGrid = field(default_factory=BEVGrid)
    classes: tuple[MapClass, ...] = CLASSES
    crossings: Crossings = "outlines"


@dataclass(frozen=True)
class Recording:
    """Frames of one drive.

    Attributes:
        name: what it is called.
        frames: read one at a time.
        whole_drive: whether it is all of a drive, or one frame.
        count: how many frames; None where nobody knows before all are read.
        truth: true elements of a frame by its token, metres, ego frame; None where it has none.
        true_map: called when it is needed: true elements around all of the drive in the map's frame; None: none are.
        way: (N, 2) metres in the map's frame, where the car drives, as far as that is known ahead.
        origin: where the map's frame lies on the earth.
        starts_ns: camera -> when its video begins, on the clock of the frames' stamps; empty where there are none.
        facts: what was taken for known, a line each.
        problems: called at the end: what was wrong with it, a line each.
    """

    name: str
    frames: Iterable[Observation]
    whole_drive: bool
    count: int | None = None
    truth: Callable[[str], Sequence[MapElement] | None] = lambda token: None
    true_map: Callable[[], list[MapElement]] | None = None
    way: np.ndarray | None = None
    origin: MapOrigin | None = None
    starts_ns: Mapping[str, int] = field(default_factory=dict)
    facts: tuple[str, ...] = ()
    problems: Callable[[], Sequence[str]] = lambda: ()
