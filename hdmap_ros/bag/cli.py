"""`hdmap bag write`, `hdmap bag replay` and `hdmap frames from-bag`."""

from pathlib import Path
from typing import Annotated

import typer

from hdmap_core.options import Device, LidarGround, Ray, Version

_NODE = "As the node's parameters"
Recover = Annotated[bool, typer.Option("--recover", help="Read what is whole of a bag that is cut off or damaged")]

app = typer.Typer(help="Data sets to rosbag2, and bags through the model without a ROS graph.", no_args_is_help=True)


def register(root: typer.Typer) -> None:
    """Adds `bag`, and `from-bag` to the verbs of `hdmap frames`."""
    from hdmap_core.datasets.frames.cli import app as frames

    root.add_typer(app, name="bag", rich_help_panel="Data")
    frames.command("from-bag")(frames_from_bag)


@app.command()
def write(
    dataroot: Annotated[Path, typer.Argument(help="A data set: nuScenes, real or synthetic, or frames of your own")],
    scene: Annotated[str, typer.Option(help="Name of the scene, e.g. scene-0061")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The bag: one file that ends in .mcap")],
    version: Version = None,
    raw: Annotated[bool, typer.Option("--raw", help="Decoded images (24 times as large) instead of JPEG")] = False,
    lidar: Annotated[bool, typer.Option(help="Points as PointCloud2")] = True,
    keyframes_only: Annotated[bool, typer.Option("--keyframes-only", help="Without the frames in between")] = False,
) -> None:
    """Write a scene as a rosbag2 that `ros2 bag play` and Foxglove open.

    Example: hdmap bag write data/synth --scene scene-0001 -o drive.mcap
    """
    from hdmap_core.files import check_file

    check_file(out, (".mcap",))
    from hdmap_core.running.progress import progress_bar
    from hdmap_ros.bag.write import write_bag

    with progress_bar("writing") as (progress, _):
        counts = write_bag(
            dataroot,
            scene,
            out,
            version=version,
            raw=raw,
            lidar=lidar,
            keyframes_only=keyframes_only,
            progress=progress,
        )
    size_mb = out.stat().st_size / 1e6
    typer.echo(f"{out}: {sum(counts.values())} messages on {len(counts)} topics, {size_mb:.1f} MB")


@app.command()
def replay(
    bags: Annotated[list[Path], typer.Argument(help="An .mcap file or a rosbag2 folder, or several")],
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            help="Folder for predictions.jsonl, map.mcap and report.json; several bags: one in it for each",
        ),
    ],
    weights: Annotated[
        Path | None, typer.Option(help="Checkpoint, exported file or run folder; the shipped student by default")
    ] = None,
    topics: Annotated[str, typer.Option(help="Topic layout: a name of config/topics, or a .yaml file")] = "hdmap",
    device: Device = "auto",
    min_cameras: Annotated[int, typer.Option(min=0, help="Drop sets with fewer images; 0: all cameras")] = 0,
    every: Annotated[int, typer.Option(min=1, help="Take only every n-th set")] = 1,
    calibration: Annotated[Path | None, typer.Option(help="YAML, for bags without CameraInfo")] = None,
    projection: Annotated[
        str,
        typer.Option(help="k: images as the lens made them; p: rectified; auto: by CameraInfo", rich_help_panel=_NODE),
    ] = "auto",
    motion_compensation: Annotated[
        str, typer.Option(help="auto (when the fixed frame is known), on or off", rich_help_panel=_NODE)
    ] = "auto",
    sync_timeout: Annotated[
        float | None,
        typer.Option(help="Seconds after a set's latest image until it is closed", rich_help_panel=_NODE),
    ] = None,
    sync_max_spread: Annotated[
        float | None,
        typer.Option(help="Seconds from the anchor within which a camera's phase is looked for", rich_help_panel=_NODE),
    ] = None,
    sync_anchor: Annotated[
        str, typer.Option(help="Camera whose stamp the map carries", rich_help_panel=_NODE, show_default="CAM_FRONT")
    ] = "",
    fuse: Annotated[
        Path | None, typer.Option(help="Write the map of the whole drive, fused: .geojson, or .osm for Lanelet2")
    ] = None,
    origin: Annotated[
        str | None,
        typer.Option(
            metavar="LAT,LON", help="Where the fixed frame's x = y = 0 lies, x east, y north; for longitudes in --fuse"
        ),
    ] = None,
    recover: Recover = False,
    lidar_ground: LidarGround = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes, for several bags; the maps do not depend on it")] = 1,
    ray: Ray = None,
) -> None:
    """Run the model over bags, every set of images, without a ROS graph.

    Several bags run on one thread each. One that cannot be replayed is named at the end, the others are done.

    Example: hdmap bag replay drive.mcap -o out/

    Example: hdmap bag replay drive.mcap -o out/ --fuse map.geojson

    Example: hdmap bag replay monday.mcap tuesday.mcap -o out/ --workers 2
    """
    from hdmap_core.errors import ConfigError
    from hdmap_core.exchange.map_file import SUFFIXES, parse_origin
    from hdmap_core.files import check_file, check_folder

    check_folder(out)
    if fuse is not None:
        check_file(fuse, SUFFIXES)
        if len(bags) > 1:
            raise ConfigError("--fuse writes the map of one bag; replay the bags one at a time")
    elif origin is not None:
        raise ConfigError("--origin says where the map of --fuse lies; give --fuse too")
    place = None if origin is None else parse_origin(origin)
    from hdmap_core.checkpoint import find_checkpoint
    from hdmap_core.inference import default_weights, load_predictor
    from hdmap_core.running.progress import progress_bar
    from hdmap_ros.bag.layouts import load_layout
    from hdmap_ros.bag.replay import replay_bag
    from hdmap_ros.bag.replay_many import folders_of, replay_bags
    from hdmap_ros.bag.sources import ReplayConfig
    from hdmap_ros.node_config import config_from_values
    from hdmap_ros.observing.calibration import read_calibration_file
    from hdmap_ros.problems import problem_lines

    layout = load_layout(topics)
    calibrations = read_calibration_file(calibration) if calibration else None
    path = find_checkpoint(weights) if weights else default_weights()
    given = {
        "calibration.projection": projection,
        "tf.motion_compensation": motion_compensation,
        "sync.timeout": sync_timeout,
        "sync.max_spread": sync_max_spread,
        "sync.anchor": sync_anchor,
    }
    parameters = config_from_values({name: value for name, value in given.items() if value is not None})
    target = None if fuse is None else fuse.absolute()
    config = ReplayConfig(layout, min_cameras, every, calibrations, parameters, recover, target, place, lidar_ground)
    folders = folders_of(bags, out)
    with progress_bar("replaying") as (progress, warn):
        if len(bags) > 1 or ray is not None:
            reports = replay_bags(bags, path, device, folders, config, workers=workers, ray=ray, progress=progress)
        else:
            predictor = load_predictor(path, device, cameras_only=True)
            reports = [replay_bag(bags[0], predictor, out, config, progress, warn)]
    for folder, report in zip(folders, reports, strict=True):
        network_ms = report["latency_ms"].get("network", {}).get("p50", 0.0)
        typer.echo(
            f"{folder}: {report['published']} maps from {report['sets']} sets, "
            f"{report['published_elements']} elements, {report['rate_hz']:.1f} maps/s, network {network_ms:.0f} ms"
        )
        for line in problem_lines(report["problems"]):
            typer.echo(f"  {line}")
    if fuse is not None:
        typer.echo(f"{fuse}: the map of the drive")


def frames_from_bag(
    bag: Annotated[Path, typer.Argument(help="An .mcap file or a rosbag2 folder")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The frames folder to write")],
    topics: Annotated[
        str | None, typer.Option(help="Topic layout: a name of config/topics, or a .yaml file; the one that fits")
    ] = None,
    min_cameras: Annotated[int, typer.Option(min=0, help="Drop sets with fewer images; 0: all cameras")] = 0,
    every: Annotated[int, typer.Option(min=1, help="Take only every n-th set")] = 1,
    calibration: Annotated[Path | None, typer.Option(help="A rig file, for bags without CameraInfo")] = None,
    lidar: Annotated[bool, typer.Option(help="The points on the layout's LiDAR topic, where there are any")] = True,
    recover: Recover = False,
    scene: Annotated[str | None, typer.Option(help="Name of the scene; that of the bag by default")] = None,
    split: Annotated[str | None, typer.Option(help="Which split the scene is for, e.g. train or val")] = None,
    true_map: Annotated[
        Path | None, typer.Option("--map", help="GeoJSON of the true map, metres in the bag's frame map; copied")
    ] = None,
) -> None:
    """Write a bag as frames: images as they are, calibration, the car's poses from TF, LiDAR.

    Example: hdmap frames from-bag drive.mcap -o data/drive
    """
    from hdmap_core.datasets.frames.recording import FramesRecorder
    from hdmap_core.running.progress import progress_bar
    from hdmap_ros.bag.frames import write_frames_of_bag
    from hdmap_ros.bag.layouts import load_layout
    from hdmap_ros.bag.recording import fitting_layout
    from hdmap_ros.bag.sources import ReplayConfig
    from hdmap_ros.observing.calibration import read_calibration_file
    from hdmap_ros.problems import Problems, problem_lines

    recorder = FramesRecorder(out, scene or bag.stem, split, true_map)
    calibrations = read_calibration_file(calibration) if calibration else None
    layout = load_layout(topics or fitting_layout(bag))
    config = ReplayConfig(layout, min_cameras, every, calibrations, recover=recover)
    with progress_bar("writing") as (progress, warn):
        problems = Problems(warn)
        swept = write_frames_of_bag(bag, recorder, config, problems, progress, lidar)
    with_lidar = f", {swept} with LiDAR" if swept else ""
    typer.echo(f"{out}: {len(recorder)} frames of {', '.join(layout.cameras)}{with_lidar}")
    for line in problem_lines(problems.report()):
        typer.echo(f"  {line}")
