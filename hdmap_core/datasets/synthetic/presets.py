"""What `hdmap synth` is asked to write: the configuration, its presets, and where each town stands."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, model_validator

from hdmap_core.config import Config
from hdmap_core.datasets.nuscenes.splits import official_splits
from hdmap_core.errors import ConfigError

TOWN_SIZE_M = 320.0
TILE_M = 400.0
FIRST_TILE_M = 60.0
CITY_SIZES = {
    "singapore-onenorth": (1585.6, 2025.0),
    "singapore-hollandvillage": (2808.3, 2922.9),
    "singapore-queenstown": (3228.6, 3687.1),
    "boston-seaport": (2979.5, 2118.1),
}
"""Width and height of each city's canvas in metres, as nuscenes-devkit knows them."""
FIRST_SLOT = {"val": 0, "test": 12, "train": 24, "demo": 0}
"""A town keeps its place however many towns are asked for, so that a smaller set is a part of the bigger one."""
SEED_STRIDE = 100_000
_SEED_OFFSET = {"train": 0, "val": 1, "test": 2, "demo": 3}

Split = Literal["train", "val", "test", "demo"]
Condition = Literal["clear", "low-sun", "overcast", "dusk", "night", "rain", "rain-at-night", "fog"]
"""Weather and time of day of a scene; `rain` may have stopped and left the ground wet."""


class SynthConfig(Config):
    """Everything that decides the bytes of a synthetic data set."""

    format: Literal[1] = 1
    edition: Literal[1, 2] = Field(default=1, description="which world: 1 flat and tidy, 2 closer to real streets")
    version: Literal["v1.0-mini", "v1.0-trainval"] = "v1.0-trainval"
    towns: dict[Split, int] = Field(description="towns per split")
    scenes: int = Field(default=1, ge=1, le=8, description="scenes per town")
    keyframes: int = Field(default=40, ge=1, le=41, description="keyframes per scene, half a second apart")
    image_size: tuple[int, int] = Field(default=(900, 1600), description="height, width")
    lidar: Literal["none", "keyframes", "all"] = "keyframes"
    sweeps: bool = Field(default=False, description="also the camera frames between keyframes (12 Hz)")
    jpeg_quality: int = Field(default=90, ge=50, le=100)
    seed: int = Field(default=0, ge=0, le=1_000_000)
    rigs: Literal["nuscenes", "varied", "unseen", "argoverse"] = Field(
        default="nuscenes",
        description="whose cameras: nuScenes', others of many kinds, others that are kept back, or seven in a ring",
    )
    weather: Literal["changing", Condition] = Field(
        default="changing", description="of edition 2: another from scene to scene, or the same everywhere"
    )

    @model_validator(mode="after")
    def _check(self) -> "SynthConfig":
        if min(self.image_size) < 32 or max(self.image_size) > 8192:
            raise ValueError(f"image_size: height and width must lie within 32 and 8192, got {self.image_size}")
        if not any(self.towns.values()):
            raise ValueError("towns: at least one town is needed")
        if self.weather != "changing" and self.edition == 1:
            raise ValueError(f"weather {self.weather}: the first edition knows no weather; take a preset of the second")
        room = len(tile_places())
        limits = {"val": 12, "test": 12, "train": room - FIRST_SLOT["train"], "demo": 12}
        for split, count in self.towns.items():
            names = len(scene_names(split, self.version))
            limit = min(limits[split], names // self.scenes)
            if not 0 <= count <= limit:
                raise ValueError(f"towns.{split}: must lie within 0 and {limit} (with {self.scenes} scenes each)")
        return self


@dataclass(frozen=True)
class TownPlan:
    """Which town to draw and where it stands."""

    split: Split
    index: int
    seed: int
    city: str
    origin: tuple[float, float]
    """South-west corner in the city's map frame, metres."""
    slot: int
    scene_names: tuple[str, ...]

    @property
    def key(self) -> str:
        """Name of the town, unique in its data set."""
        return f"{self.split}-{self.index:04d}"

    @property
    def drives_left(self) -> bool:
        """Singapore does, Boston does not."""
        return self.city.startswith("singapore")


def tile_places() -> list[tuple[str, tuple[float, float]]]:
    """(city, south-west corner) of every slot, the cities taking turns in proportion to their room."""
    free = {}
    for city, (width, height) in CITY_SIZES.items():
        columns, rows = (int((extent - FIRST_TILE_M - TOWN_SIZE_M) // TILE_M) + 1 for extent in (width, height))
        free[city] = [
            (FIRST_TILE_M + TILE_M * i, FIRST_TILE_M + TILE_M * j) for j in range(rows) for i in range(columns)
        ]
    places: list[tuple[str, tuple[float, float]]] = []
    taken = dict.fromkeys(free, 0)
    for _ in range(sum(map(len, free.values()))):
        city = min(free, key=lambda name: ((taken[name] + 0.5) / len(free[name]), name))
        places.append((city, free[city][taken[city]]))
        taken[city] += 1
    return places


def scene_names(split: Split, version: str) -> tuple[str, ...]:
    """Scene names for a split, such that the official split of that name holds them; mini's own names come first."""
    official = official_splits()
    kind = "val" if split == "demo" else split
    names = official[kind]
    first = official.get(f"mini_{kind}", ()) if version == "v1.0-mini" else ()
    return (*first, *(name for name in names if name not in first))


def plan_towns(config: SynthConfig) -> list[TownPlan]:
    """Every town of a data set: seeds and places disjoint between splits."""
    places = tile_places()
    plans = []
    for split, count in config.towns.items():
        names = scene_names(split, config.version)
        for index in range(count):
            slot = FIRST_SLOT[split] + index
            seed = (config.seed * len(_SEED_OFFSET) + _SEED_OFFSET[split]) * SEED_STRIDE + index
            scenes = names[index * config.scenes : (index + 1) * config.scenes]
            plans.append(TownPlan(split, index, seed, *places[slot], slot, scenes))
    return plans


def with_towns(config: SynthConfig, total: int) -> dict[Split, int]:
    """Spread `total` towns over the splits of a config in its proportions, at least one each where that is possible."""
    whole = sum(config.towns.values())
    counts: dict[Split, int] = {split: min(1, count) for split, count in config.towns.items()}
    splits = [split for split in config.towns if config.towns[split]]
    if total < len(splits):
        return {split: int(i < total) for i, split in enumerate(splits)}
    for _ in range(total - sum(counts.values())):
        counts[max(splits, key=lambda split: config.towns[split] / whole * total - counts[split])] += 1
    return counts


def with_splits(config: SynthConfig, splits: Collection[str]) -> dict[Split, int]:
    """The towns of some splits of a config; they are those that the whole has there.

    Raises:
        ConfigError: the config has no town in one of them.
    """
    for split in splits:
        if not any(count for name, count in config.towns.items() if name == split):
            raise ConfigError(f"--split {split}: the preset has towns in {', '.join(config.towns)} only")
    return {split: count for split, count in config.towns.items() if split in splits}


PRESETS: dict[str, SynthConfig] = {
    "v1": SynthConfig(towns={"train": 100, "val": 12, "test": 12}),
    # v1 with every town that the canvases have room for: more to train on, the same val and test.
    "v1-large": SynthConfig(towns={"train": 152, "val": 12, "test": 12}),
    # The second world: streets, paint and clutter closer to real ones (docs/results/town_shapes.md).
    "v2": SynthConfig(edition=2, towns={"train": 152, "val": 12, "test": 12}),
    # The second world through other rigs: to train on, and the ones that nobody trains on.
    "v2-rigs": SynthConfig(edition=2, rigs="varied", towns={"train": 152, "val": 12, "test": 12}),
    "unseen-rigs": SynthConfig(edition=2, rigs="unseen", towns={"test": 12}),
    "tiny": SynthConfig(
        version="v1.0-mini", towns={"train": 1, "val": 1}, keyframes=4, image_size=(225, 400), lidar="keyframes"
    ),
    "tiny-v2": SynthConfig(
        edition=2, version="v1.0-mini", towns={"train": 1, "val": 1}, keyframes=4, image_size=(225, 400)
    ),
    "demo": SynthConfig(version="v1.0-mini", towns={"demo": 1}, keyframes=25, lidar="all", sweeps=True),
}
