"""The frames folder: the plain format for cameras, drives and maps of one's own. These types are its JSON schema.

A folder holds `frames.json`, an object of scenes and frames, or `frames.jsonl`, a scene or a frame per line, and beside
it the files that these name. A camera says what an entry of the rig file says (`rig_file`), and which image it took.
"""

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

VERSION = 1


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name or "\\" in name or name.strip() in ("", "."):
        raise ValueError("outside")
    return name


File = Annotated[str, AfterValidator(_inside)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Row = tuple[float, float, float]
Matrix = tuple[Row, Row, Row]
Stamp = Annotated[int, Field(ge=0, lt=2**63)]
Side = Annotated[int, Field(ge=1, lt=2**16)]
_STAMP = "a whole number of nanoseconds, usually since 1970"
_FILE = "a path inside the folder, with / and without .."


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Pose(_Part):
    """Where something stands, and how it is turned: target_from_source."""

    translation: Row = Field(description="[x, y, z], finite numbers, metres")
    rotation: Matrix | tuple[float, float, float, float] = Field(
        description="a quaternion [w, x, y, z], or a 3 x 3 rotation matrix row by row, of finite numbers"
    )


class Camera(_Part):
    """One camera of a frame: its image, its calibration and where it is mounted."""

    name: Name = Field(description="a name, the same in all frames of a scene")
    image: File = Field(description=f"a JPEG or PNG file: {_FILE}")
    image_size: tuple[Side, Side] = Field(description="[height, width] of the image, pixels")
    intrinsics: Matrix | tuple[float, float, float, float] = Field(
        description="[fx, fy, cx, cy], or a 3 x 3 matrix row by row, of finite numbers, pixels of this image"
    )
    distortion_model: str = Field(
        default="", description="a name that CameraInfo has, such as plumb_bob or equidistant"
    )
    distortion_coefficients: tuple[float, ...] = Field(
        default=(), max_length=14, description="a list of finite numbers in OpenCV's order; none: a pinhole"
    )
    translation: Row = Field(description="[x, y, z] of the camera in the ego frame, finite numbers, metres")
    rotation: Matrix | tuple[float, float, float, float] | None = Field(
        default=None,
        description="ego_from_camera of the optical frame (x right, y down, z forward): a quaternion [w, x, y, z], or "
        "a 3 x 3 matrix row by row, of finite numbers",
    )
    yaw_pitch_roll_deg: Row | None = Field(
        default=None,
        description="in place of rotation: three finite numbers, degrees the view is turned left, down, clockwise",
    )
    stamp_ns: Stamp | None = Field(
        default=None, description=f"time of exposure, {_STAMP}; the frame's where it is left out"
    )
    map_from_ego: Pose | None = Field(
        default=None, description="pose of the car at the exposure; where it is left out the car has not moved since"
    )


class Lidar(_Part):
    """A LiDAR sweep."""

    file: File = Field(description=f"little-endian float32, point by point: {_FILE}")
    columns: Annotated[int, Field(ge=3, le=16)] = Field(
        default=5, description="a whole number of float32 per point: x, y, z, intensity 0..255, ring, and more; 3 to 16"
    )
    translation: Row = Field(description="[x, y, z] of the sensor in the ego frame, finite numbers, metres")
    rotation: Matrix | tuple[float, float, float, float] = Field(
        description="ego_from_lidar: a quaternion [w, x, y, z], or a 3 x 3 matrix row by row, of finite numbers"
    )


class Element(_Part):
    """A true map element."""

    label: Literal["divider", "ped_crossing", "boundary", "centerline"] = Field(
        description="divider, ped_crossing, boundary or centerline"
    )
    points: tuple[tuple[float, float], ...] = Field(
        min_length=2, description="a list of at least two [x, y], finite numbers, metres ahead and to the left"
    )
    closed: bool = Field(
        default=False, description="true or false: whether the last point joins the first, as of a crossing"
    )
    score: float = Field(default=1.0, description="1, or left out")
    track_id: int = Field(default=0, description="0, or left out")


class Frame(_Part):
    """What the car saw at one instant."""

    token: Name = Field(description="a name that no other frame has")
    scene: Name = Field(default="drive", description="the name of its scene: one drive with one rig")
    stamp_ns: Stamp = Field(description=_STAMP)
    cameras: tuple[Camera, ...] = Field(min_length=1, description="a list of at least one camera")
    map_from_ego: Pose | None = Field(default=None, description="pose of the car at stamp_ns in the frame of its map")
    lidar: Lidar | None = Field(default=None, description="a sweep that ended at stamp_ns")
    sd_lines: tuple[tuple[tuple[float, float], ...], ...] | None = Field(
        default=None, description="roads as lists of [x, y], finite numbers, metres ahead and to the left"
    )
    elements: tuple[Element, ...] | None = Field(default=None, description="a list of true elements around the car")


class FrameHead(BaseModel):
    """What orders a frame among others; of its other fields nothing is known."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    token: Name
    scene: Name = "drive"
    stamp_ns: Stamp


class Origin(_Part):
    """Where x = y = 0 of the map lies on the earth; x is east and y is north."""

    latitude: Annotated[float, Field(ge=-90, le=90)] = Field(description="degrees, -90 to 90")
    longitude: Annotated[float, Field(ge=-180, le=180)] = Field(description="degrees, -180 to 180")
    earth: Literal["ellipsoid", "sphere"] = Field(
        default="ellipsoid", description="ellipsoid (WGS84, as GNSS has it), or sphere, as nuScenes has it"
    )


class SceneFacts(_Part):
    """What all frames of a scene share; a scene of which nothing is known need not be named."""

    name: Name = Field(description="a name that no other scene has; frames refer to it")
    split: Name | None = Field(default=None, description="a name such as train or val")
    location: Name | None = Field(default=None, description="a name of the place")
    description: str = Field(default="", description="a text; rain, fog, night ... in it group the scores")
    map: File | None = Field(
        default=None, description=f"the true map as GeoJSON, metres in the map frame or degrees: {_FILE}"
    )
    map_origin: Origin | None = Field(default=None, description="where the map lies on the earth")
    sd_map: File | None = Field(default=None, description=f"roads as GeoJSON lines, in the same way: {_FILE}")
    elements: File | None = Field(
        default=None, description=f"true elements per frame, JSON lines as hdmap evaluate writes gt.jsonl: {_FILE}"
    )
    video_starts: dict[Name, Annotated[float, Field(ge=0)]] | None = Field(
        default=None,
        description="camera by camera the seconds, on the clock of the stamps, at which the video that the frames were "
        "made of began; nothing reads it",
    )


class FramesFile(_Part):
    """The content of frames.json."""

    version: Literal[1] = Field(default=1, description="1")
    scenes: tuple[SceneFacts, ...] = Field(default=(), description="a list of scenes")
    frames: tuple[Frame, ...] = Field(min_length=1, description="a list of at least one frame")


def schema() -> dict[str, Any]:
    """The JSON schema of frames.json (draft 2020-12); lines of frames.jsonl are its `Frame` and `SceneFacts`."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **FramesFile.model_json_schema()}
