"""What a synthetic town consists of: plain data, made by `world`, drawn by `ground`, `cameras` and `lidar`,
written down by `writer`.

All coordinates are metres in the town frame: x east, y north, z up, origin at the town's south-west corner, the ground
as high as `Town.relief` says (edition 1: z = 0 everywhere). Angles are radians, counter-clockwise from east. Polylines
are (P, 2) float64 arrays.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from shapely import MultiPolygon, Polygon

from hdmap_core.datasets.synthetic.curve import lengths_along
from hdmap_core.datasets.synthetic.ground.relief import FLAT, Relief

RGB = tuple[float, float, float]
"""Linear reflectance or radiance, 0..1 per channel."""
DividerKind = Literal["lane_divider", "road_divider"]
"""nuScenes' layers: `lane_divider` between lanes of one direction, `road_divider` between opposite directions."""
MarkingStyle = Literal["solid", "dashed", "double_solid", "double_dashed", "solid_dashed"]
"""`solid_dashed`: solid on the right of the line's direction, dashed on its left."""
MarkingColour = Literal["white", "yellow"]
CrossingStyle = Literal["zebra", "ladder", "lines"]
VehicleKind = Literal["car", "truck", "bus", "van", "motorcycle", "bicycle"]
BoxKind = Literal[
    "building", "car", "truck", "bus", "van", "motorcycle", "bicycle", "tree", "pole", "person", "barrier",
    "water_barrier", "railing", "cone", "bollard", "hedge", "wall", "sign", "traffic_light", "gantry", "bus_stop",
]  # fmt: skip
TimeOfDay = Literal["day", "dusk", "night"]
DecalMaterial = Literal["white_paint", "yellow_paint", "asphalt", "concrete", "metal", "rubber", "leaves"]


@dataclass(frozen=True)
class Marking:
    """A painted line: what the map calls a divider."""

    line: np.ndarray
    kind: DividerKind
    style: MarkingStyle
    colour: MarkingColour
    dash_m: float = 3.0
    gap_m: float = 4.5
    width_m: float = 0.15
    """Of a single line; each line of a double one is 0.12 m wide."""


@dataclass(frozen=True)
class Decal:
    """Something flat on the ground that the map does not know: paint, a repair, a cover, tyre marks, leaves.

    Each of `rings` (P, 2) is a shape of its own, without holes. White and yellow paint wears and shines in the LiDAR as
    the town's other paint does; all else lies below the paint, in the order given, `cover` 0..1 opaque.
    """

    rings: tuple[np.ndarray, ...]
    material: DecalMaterial
    colour: RGB | None = None
    """None: paint as it is, and of everything else the town's asphalt."""
    gain: float = 1.0
    """Brightness factor of the colour."""
    cover: float = 1.0


@dataclass(frozen=True)
class KerbPaint:
    """A stretch of kerb in blocks of changing colours, as black and white ones are.

    `line` (P, 2) runs along the outline of the asphalt.
    """

    line: np.ndarray
    colours: tuple[RGB, ...]
    block_m: float


@dataclass(frozen=True)
class Crossing:
    """A pedestrian crossing. `corners` (4, 2): the first edge runs along the kerb (the short side of the walk), so
    corner 0 → 1 is parallel to the traffic and 1 → 2 leads across the road.
    """

    corners: np.ndarray
    style: CrossingStyle
    stripe_m: float = 0.5
    period_m: float = 1.05
    """From stripe to stripe."""
    edge_m: float = 0.25
    """Width of the lines across the road."""


@dataclass(frozen=True)
class RoadSegment:
    """A piece of asphalt: a stretch of road or a junction."""

    polygon: Polygon
    is_intersection: bool


@dataclass(frozen=True)
class Lane:
    """A lane or, inside a junction, a lane connector. `outgoing` are indices into `Town.lanes`."""

    polygon: Polygon
    centerline: np.ndarray
    is_connector: bool
    outgoing: tuple[int, ...] = ()


@dataclass(frozen=True)
class Box:
    """An upright cuboid that stands on the ground and hides what is behind it."""

    centre: tuple[float, float]
    yaw: float
    size: tuple[float, float, float]
    """Length along yaw, width, height."""
    colour: RGB
    kind: BoxKind


@dataclass(frozen=True)
class Mover:
    """A vehicle that follows a route at constant speed. At time t its middle is `start + speed * t` metres along."""

    route: np.ndarray
    start: float
    speed: float
    size: tuple[float, float, float]
    colour: RGB
    kind: VehicleKind = "car"

    @cached_property
    def along(self) -> np.ndarray:
        """(P,) distance of each vertex of the route from its start."""
        return lengths_along(self.route)


@dataclass(frozen=True)
class Street:
    """One road of the SD map: a centre line as OpenStreetMap would know it."""

    line: np.ndarray
    num_lanes: int
    is_one_way: bool


@dataclass(frozen=True)
class Weather:
    """Weather and time of day of one scene; the defaults are a dry day."""

    time_of_day: TimeOfDay = "day"
    wetness: float = 0.0
    """0 dry .. 1 wet: darker, mirroring ground with puddles."""
    rain: float = 0.0
    """0 none .. 1 heavy: streaks in the air, drops on lenses."""
    words: tuple[str, ...] = ()
    """What the scene's description says of it, in nuScenes' words."""


@dataclass(frozen=True)
class Paving:
    """Of what, and how old, the ground is; the defaults are asphalt of one age and walkways of slabs."""

    resurfaced: float = 0.0
    """Stretches of newer or older asphalt, and of concrete, per 100 m of lane."""
    contrast: float = 0.0
    """How much they differ: 0 not at all .. 1 new asphalt on worn grey."""
    walkway: Literal["slabs", "pavers", "brick"] = "slabs"
    grass_edge_m: float = 0.0
    """How far grass grows over the walkway's edge."""


@dataclass(frozen=True)
class Appearance:
    """How the town looks. Everything random about the drawing derives from `seed`."""

    seed: int
    sun_azimuth: float
    sun_elevation: float
    sun_strength: float
    """0 (overcast, no cast shadows) .. 1 (clear), 1.3 (clear and dry, with deep shadows)."""
    exposure: float
    """Overall brightness factor, about 0.5 (dusk) .. 1.2."""
    haze_per_m: float
    """Extinction; 0.0 clear, 0.02 thick."""
    sky: RGB
    asphalt: RGB
    walkway: RGB
    terrain: RGB
    kerb: RGB
    paint_wear: float
    """0 fresh .. 0.6 nearly gone in places."""
    horizon: RGB | None = None
    """Colour of the sky low above the horizon, and of haze; None derives it from `sky`."""
    shadow_softness_m: float = 0.18
    """Half the width of the edges of cast shadows."""
    lamp: RGB = (1.0, 0.86, 0.66)
    """Colour of street lamps at night."""
    glare: float = 0.0
    """How strongly the sun blinds a camera that looks towards it; 0 also leaves its disc out of the sky."""
    shades_objects: bool = False
    """Whether what stands in a cast shadow, or far from the lamps, is dark too, and vehicles cast moving shadows."""
    weather: Weather = field(default=Weather())
    paving: Paving = field(default=Paving())


@dataclass(frozen=True)
class Town:
    """Everything that stands, lies or moves in a town, and how it looks."""

    seed: int
    size: tuple[float, float]
    drivable: MultiPolygon
    """All asphalt; its outline (outer rings and the holes of islands) is where kerbs stand."""
    road_segments: tuple[RoadSegment, ...]
    """A coverage of `drivable`: neighbours share vertices exactly, so that their union has no slits."""
    lanes: tuple[Lane, ...]
    markings: tuple[Marking, ...]
    crossings: tuple[Crossing, ...]
    stop_lines: tuple[np.ndarray, ...]
    """(4, 2) corners each, painted white; not part of the map classes."""
    walkways: tuple[Polygon, ...]
    boxes: tuple[Box, ...]
    movers: tuple[Mover, ...]
    routes: tuple[np.ndarray, ...]
    """Smooth drivable paths of the ego vehicle along lanes and connectors, vertices every 1 m or less."""
    streets: tuple[Street, ...]
    appearance: Appearance
    islands: tuple[Polygon, ...] = ()
    """Raised islands and medians: holes of `drivable` with a kerb around them."""
    relief: Relief = FLAT
    """Height of the ground."""
    decals: tuple[Decal, ...] = ()
    """A town that has any brings its lane arrows and covers among them."""
    kerb_paint: tuple[KerbPaint, ...] = ()
    flush: tuple[Polygon, ...] = ()
    """Where the outline of the asphalt is no step: driveways' ends, dropped kerbs, roads that go on out of town."""
