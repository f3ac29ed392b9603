"""Options that several verbs have."""

from pathlib import Path
from typing import Annotated

import typer

_PANEL = "Images, videos, bags"
Version = Annotated[
    str | None, typer.Option(help="v1.0-mini, v1.0-trainval, frames.json, 10hz ... where the folder has several")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")]
Ray = Annotated[str | None, typer.Option(metavar="ADDRESS", help="Compute on a Ray cluster: host:port, auto, or local")]
Rig = Annotated[
    Path | None,
    typer.Option(help="Rig file: YAML that says where the cameras are mounted", rich_help_panel=_PANEL),
]
Rate = Annotated[
    float,
    typer.Option(min=0, help="Frames per second, at most, of a video or a folder; 0: all", rich_help_panel=_PANEL),
]
Start = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[CAMERA=]SECONDS",
        help="When the video of a camera begins, may be repeated; without a camera when the first one does, or the "
        "first image; since 1970, or as in the poses",
        rich_help_panel=_PANEL,
    ),
]
Align = Annotated[
    bool, typer.Option("--align", help="Find by their sound when the videos begin", rich_help_panel=_PANEL)
]
MinCameras = Annotated[
    int,
    typer.Option(
        min=0, help="Leave out instants at which fewer cameras have an image; 0: all cameras", rich_help_panel=_PANEL
    ),
]
Topics = Annotated[
    str | None, typer.Option(help="Topic layout of a bag; by default the one that fits", rich_help_panel=_PANEL)
]
LidarGround = Annotated[
    bool,
    typer.Option(
        "--lidar-ground",
        help="Take the ground's shape from the LiDAR's sweep, also for models that look at cameras alone",
    ),
]
