"""The verb `hdmap view`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hdmap_core.options import Align, LidarGround, MinCameras, Rate, Rig, Start, Topics, Version

if TYPE_CHECKING:
    from hdmap_core.recordings.recording import Wanted
    from hdmap_core.viewer.footage import Footage


def view(
    things: Annotated[
        list[str],
        typer.Argument(
            metavar="THING...",
            help="A data set, a bag, predictions.jsonl, a folder of hdmap evaluate or hdmap bag replay; or with --rig "
            "images, a folder of images, videos",
        ),
    ],
    data: Annotated[
        Path | None, typer.Option(help="Data set or bag that has the images of a result, where it does not say itself")
    ] = None,
    scene: Annotated[str | None, typer.Option(help="Name of the scene; the first by default")] = None,
    version: Version = None,
    weights: Annotated[
        Path | None, typer.Option(help="Predict with this checkpoint or run folder, for a data set or bag")
    ] = None,
    save: Annotated[Path | None, typer.Option("--save", help="Write a recording (.rrd) instead of showing it")] = None,
    web: Annotated[bool, typer.Option("--web", help="Show it in a browser, until Ctrl-C")] = False,
    port: Annotated[int, typer.Option(min=1, max=65534, help="Of --web; data come through the one after it")] = 9090,
    every: Annotated[int, typer.Option(min=1, help="Take only every n-th moment")] = 1,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Leave out elements with a lower score")] = 0.3,
    lidar: Annotated[bool, typer.Option("--lidar", help="Show LiDAR points, where there are any")] = False,
    rig: Rig = None,
    rate: Rate = 10.0,
    start: Start = None,
    align: Align = False,
    min_cameras: MinCameras = 0,
    topics: Topics = None,
    lidar_ground: LidarGround = False,
) -> None:
    """Look at a drive without ROS: six cameras with the map in them, the view from above, truth, the fused map, plots.

    Needs rerun: python3 -m pip install 'hdmap_ros[view]'.

    Example: hdmap view out/val

    Example: hdmap view out/replay/map.mcap --data drive.mcap --web

    Example: hdmap view data/synth --weights runs/student --save drive.rrd

    Example: hdmap view front.mp4 left.mp4 --rig rig.yaml --align --web
    """
    from itertools import islice

    from hdmap_core.errors import ConfigError
    from hdmap_core.files import check_file
    from hdmap_core.required_packages import missing_packages_named

    with missing_packages_named():  # before anything is read
        import rerun  # noqa: F401
    from hdmap_core.datasets.video_starts import parse_beginning
    from hdmap_core.recordings.recording import Wanted
    from hdmap_core.recordings.rig_pictures import are_pictures
    from hdmap_core.viewer.opening import recording_footage
    from hdmap_core.viewer.predicting import predicted
    from hdmap_core.viewer.showing import Screen, show

    if save is not None and web:
        raise ConfigError("--save writes a file, --web shows it; give one of the two")
    if save is not None:
        check_file(save, (".rrd",))
    if not (rig or topics or min_cameras or are_pictures(things)):
        footage = _with_images(things, data, Wanted(version=version, sweeps=int(lidar), lidar_ground=lidar_ground))
    elif data is not None:
        raise ConfigError("--data has the images of a result; images and videos are looked at themselves")
    else:
        footage = recording_footage(
            things,
            Wanted(
                whole_drive=True,
                rig=rig,
                rate=rate,
                beginning=parse_beginning(start or ()),
                align=align,
                min_cameras=min_cameras,
                topics=topics,
                lidar_ground=lidar_ground,
            ),
        )
    footage = footage if weights is None else predicted(footage, weights)
    for fact in footage.facts:
        typer.echo(f"{footage.name}: {fact}", err=True)
    name = footage.scene(scene)
    if len(footage.scenes) > 1:
        typer.echo(f"{name}, one of {len(footage.scenes)} scenes; --scene shows another", err=True)
    moments = islice(footage.moments(name), 0, None, every)
    screen = Screen(save, web, port)
    show(moments, footage.name, screen, region=footage.region, min_score=min_score, lidar=lidar)
    for problem in footage.problems():
        typer.echo(f"  {problem}")


def _with_images(things: list[str], data: Path | None, wanted: "Wanted") -> "Footage":
    """The one thing with its images, as far as they are known."""
    from dataclasses import replace

    from hdmap_core.errors import ConfigError
    from hdmap_core.viewer.footage import joined
    from hdmap_core.viewer.opening import open_footage

    if len(things) > 1:
        raise ConfigError(f"{', '.join(things)}: give one thing, or the images or videos of a rig")
    thing = Path(things[0])
    footage = open_footage(thing, wanted)
    source = data or footage.data
    if source is not None and (data is not None or source.exists()):
        wanted = replace(wanted, version=wanted.version or footage.version)
        footage = joined(footage, open_footage(source, wanted))
    elif source is not None:
        typer.echo(f"no images: {thing} is of {source}, which is not there; --data says where it is now", err=True)
    return footage


def register(app: typer.Typer) -> None:
    """Adds the verb to the command line."""
    app.command(rich_help_panel="Models")(view)
