"""How the viewer is laid out: six cameras above; below them the bird's-eye view, the fused map and the plots."""

import math
from typing import TYPE_CHECKING

from hdmap_core.geometry import BEVGrid, CameraRig
from hdmap_core.viewer.footage import Moment
from hdmap_core.viewer.recording import EGO, FRAME, TIME

if TYPE_CHECKING:
    import rerun.blueprint

_BACKGROUND = (18, 20, 26)


def layout(first: Moment, region: BEVGrid) -> "rerun.blueprint.Blueprint":
    """The views, by what there is to see.

    Args:
        first: the first moment: cameras without images, a fused map without poses, are not laid out.
        region: of the bird's-eye view, metres.
    """
    import rerun.blueprint as rrb

    lines = [f"+ /{EGO}/predicted/**", f"+ /{EGO}/truth/**"]
    tiles = [
        rrb.Spatial2DView(origin=f"/{EGO}/{name}", contents=["+ $origin/**", *lines], name=name)
        for name in (in_rows(first.observation.rig) if first.observation is not None else ())
    ]
    height = 1.3 * max(region.size)
    above = rrb.EyeControls3D(position=(0.0, 0.0, height), look_target=(0.0, 0.0, 0.0), eye_up=(1.0, 0.0, 0.0))
    ground: list[rrb.View] = [
        rrb.Spatial3DView(
            origin=f"/{EGO}",
            contents=[*lines, f"+ /{EGO}/car", f"+ /{EGO}/region", f"+ /{EGO}/lidar"],
            name="Bird's-eye view",
            background=_BACKGROUND,
            eye_controls=above,
        )
    ]
    if first.observation is not None and first.observation.map_from_ego is not None:
        oblique = rrb.EyeControls3D(position=(-40.0, -10.0, 45.0), look_target=(10.0, 0.0, 0.0))
        ground.append(
            rrb.Spatial3DView(
                origin="/world",
                contents=["+ /world/fused/**", "+ /world/way", f"+ /{EGO}/car", f"- /{EGO}/lidar"],
                name="Fused map",
                background=_BACKGROUND,
                eye_controls=oblique,
            )
        )
    plots = rrb.Vertical(
        rrb.TimeSeriesView(origin="/plots/latency", name="Latency, ms"),
        rrb.TimeSeriesView(origin="/plots/elements", name="Elements"),
        rrb.TimeSeriesView(origin="/plots", contents="+ /plots/f1", name="F1"),
    )
    below = rrb.Horizontal(*ground, plots, column_shares=[3] * len(ground) + [2])
    whole = rrb.Vertical(rrb.Grid(*tiles, grid_columns=3), below, row_shares=[3, 3]) if tiles else below
    return rrb.Blueprint(
        whole,
        rrb.TimePanel(state="collapsed", timeline=FRAME if first.stamp_ns is None else TIME),
        rrb.SelectionPanel(state="collapsed"),
        rrb.BlueprintPanel(state="collapsed"),
        auto_views=False,
    )


def in_rows(rig: CameraRig) -> list[str]:
    """Cameras that look ahead, from left to right, then those that look back: what is left of the car stays left."""
    axes = rig.ego_from_camera[:, :2, 2].tolist()
    angles = {name: math.degrees(math.atan2(y, x)) for name, (x, y) in zip(rig.names, axes, strict=True)}
    ahead = sorted((name for name in rig.names if abs(angles[name]) <= 90), key=lambda name: -angles[name])
    back = sorted((name for name in rig.names if abs(angles[name]) > 90), key=lambda name: angles[name] % 360)
    return ahead + back
