"""How the viewer is laid out: six cameras above; below them the bird's-eye view, the fused map and the plots."""

from typing import TYPE_CHECKING

from hdmap_core.geometry import BEVGrid
from hdmap_core.viewer.footage import Moment
from hdmap_core.viewer.recorder import EGO, FRAME, TIME
from hdmap_core.viz.camera_mosaic import camera_rows

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
        rrb.Spatial2DView(origin=f"/{EGO}/{name}", contents=["+ $origin/**", *lines], name=name, background=_BACKGROUND)
        for row in (camera_rows(first.observation.rig) if first.observation is not None else ())
        for name in row
    ]
    height = 1.05 * max(region.size)  # metres
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
