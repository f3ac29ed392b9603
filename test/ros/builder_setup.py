"""An observation builder with the test rig around it."""

from concurrent.futures import Executor
from typing import Any

from hdmap_ros.observing.observation_builder import BuilderConfig, ObservationBuilder
from hdmap_ros.observing.transforms import TransformBuffer
from hdmap_ros.problems import Problems
from hdmap_ros.sync.image_sets import ImageSet

TICK = 1_700_000_001_000_000_000


class Setup:
    """A builder that has heard everything about the test rig."""

    def __init__(self, rig_module: Any, rig: Any, pool: Executor | None = None, **config: Any) -> None:
        self.module, self.rig = rig_module, rig
        self.transforms = TransformBuffer()
        self.warnings: list[str] = []
        self.builder = ObservationBuilder(
            rig_module.CAMERAS,
            BuilderConfig(**{"tf_timeout_s": 0.0, **config}),
            self.transforms,
            pool=pool,
            problems=Problems(self.warnings.append),
        )

    def hear(self, motion: bool = True, infos: bool = True) -> "Setup":
        self.transforms.add(self.rig.tf_static().transforms, static=True)
        for stamp_ns in range(TICK - 200_000_000, TICK + 200_000_000, 10_000_000) if motion else ():
            self.transforms.add(self.rig.tf(stamp_ns).transforms, static=False)
        for camera in self.module.CAMERAS if infos else ():
            assert self.builder.add_camera_info(camera, self.rig.info(camera, TICK)) is None
        return self

    def images(self, without: tuple[str, ...] = (), tick_ns: int = TICK, **data: bytes) -> ImageSet:
        present = [camera for camera in self.module.CAMERAS if camera not in without]
        stamps = {camera: tick_ns + self.module.PHASES_NS[camera] for camera in present}
        messages = {camera: self.rig.image(camera, stamps[camera], data.get(camera)) for camera in present}
        return ImageSet(tick_ns + self.module.PHASES_NS["CAM_FRONT"], messages, stamps, without, 0)
