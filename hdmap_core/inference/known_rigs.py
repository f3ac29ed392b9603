"""Which rigs a model was trained through, and whether another is like one of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hdmap_core.geometry import CameraRig
from hdmap_core.geometry.lens import Lens

ADVICE = "what to expect of such a rig: docs/results/unseen_rigs.md"
_YAW_DEG, _ACROSS_DEG, _HEIGHT_M = 15.0, 15.0, 0.3
"""How far a camera may be from one that a model knows and still be like it."""

Camera = Mapping[str, Any]


def _camera(yaw_deg: float, across_deg: float, height_m: float) -> Camera:
    return {"yaw_deg": yaw_deg, "across_deg": across_deg, "height_m": height_m, "lens": "pinhole"}


NUSCENES = (
    *(_camera(0, 65, 1.5), _camera(56, 65, 1.5), _camera(-56, 65, 1.5)),
    *(_camera(180, 89, 1.6), _camera(109, 65, 1.6), _camera(-110, 65, 1.6)),
)
"""That of nuScenes, which checkpoints that say nothing of rigs were trained through."""


def trained_through(provenance: Mapping[str, Any]) -> Sequence[Sequence[Camera]]:
    """The rigs, as `described`, of a checkpoint's provenance; none where it says nothing that makes sense."""
    rigs = provenance.get("rigs")
    numbers = "yaw_deg", "across_deg", "height_m"

    def is_camera(camera: Any) -> bool:
        known = isinstance(camera, dict) and isinstance(camera.get("lens"), str)
        return known and all(isinstance(camera.get(name), int | float) for name in numbers)

    def is_rig(rig: Any) -> bool:
        return isinstance(rig, list) and bool(rig) and all(map(is_camera, rig))

    return [rig for rig in rigs if is_rig(rig)] if isinstance(rigs, list) else []


def described(rig: CameraRig) -> list[dict[str, Any]]:
    """A rig in a few plain numbers, as provenance keeps it: direction, width of view, height, lens of each camera."""
    cameras, poses = [], rig.as_mounted().ego_from_camera
    for place, ((_, width), lens) in enumerate(zip(rig.image_sizes, rig.lens_of_each, strict=True)):
        pose, matrix = poses[place].numpy(), rig.intrinsics[place].numpy()
        ahead = pose[:3, 2]
        cameras.append(
            {
                "yaw_deg": round(float(np.rad2deg(np.arctan2(ahead[1], ahead[0])))),
                "across_deg": round(_across_deg(matrix, width, lens)),
                "height_m": round(float(pose[2, 3]), 1),
                "lens": "pinhole" if lens is None else lens.kind,
            }
        )
    return cameras


def difference(rig: CameraRig, known: Sequence[Sequence[Camera]]) -> str | None:
    """How a rig differs from the one that it is most like; None where it is like one.

    Args:
        rig: of an observation.
        known: rigs as `described`.
    """
    ours = described(rig)
    found = [_differences(rig.names, ours, theirs) for theirs in known]
    least = min(found, key=len, default=[])
    return "; ".join(least[:3]) + (f"; and {len(least) - 3} more" if len(least) > 3 else "") if least else None


def _differences(names: Sequence[str], ours: Sequence[Camera], theirs: Sequence[Camera]) -> list[str]:
    told = []
    if len(ours) != len(theirs):
        told.append(f"{len(ours)} cameras in place of {len(theirs)}")
    for name, camera in zip(names, ours, strict=True):
        nearest = min(theirs, key=lambda other: abs(_turn(camera, other)))
        if abs(_turn(camera, nearest)) > _YAW_DEG:
            told.append(f"{name} looks {camera['yaw_deg']}° to the left, where it knows no camera")
        elif camera["lens"] != nearest["lens"]:
            told.append(f"{name} has a {camera['lens']} lens in place of a {nearest['lens']}")
        elif abs(camera["across_deg"] - nearest["across_deg"]) > _ACROSS_DEG:
            told.append(f"{name} sees {camera['across_deg']}° across in place of {nearest['across_deg']}°")
        elif abs(camera["height_m"] - nearest["height_m"]) > _HEIGHT_M + 1e-6:
            told.append(f"{name} stands {camera['height_m']} m high in place of {nearest['height_m']} m")
    return told


def _turn(one: Camera, other: Camera) -> float:
    return (one["yaw_deg"] - other["yaw_deg"] + 180.0) % 360.0 - 180.0


def _across_deg(matrix: np.ndarray, width: int, lens: Lens | None) -> float:
    """The angle between the middles of an image's left and right sides."""
    sides = (np.array([-0.5, width - 0.5]) - matrix[0, 2]) / matrix[0, 0]
    if lens is None:
        return float(np.rad2deg(np.arctan(sides[1]) - np.arctan(sides[0])))
    directions, seen = lens.unproject(np.stack([sides, np.zeros(2)], axis=-1))
    if not seen.all():  # the picture is wider than what the lens brings
        return float(np.rad2deg(2 * lens.reach_rad))
    angles = np.arctan2(directions[:, 0], directions[:, 2])
    return float(np.rad2deg(angles[1] - angles[0]))
