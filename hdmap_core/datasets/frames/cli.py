"""`hdmap frames`: writes frames folders from what people have, and says what the format is."""

from pathlib import Path
from typing import Annotated

import typer

from hdmap_core.options import Align, MinCameras, Start, Version

app = typer.Typer(
    help="Your own data: a frames folder from nuScenes, videos, images or a bag; its JSON schema.", no_args_is_help=True
)
Out = Annotated[Path, typer.Option("-o", "--out", help="The frames folder to write")]
Split = Annotated[str | None, typer.Option(help="Which split the scene is for, e.g. train or val")]
TrueMap = Annotated[
    Path | None, typer.Option("--map", help="GeoJSON of the true map, metres in the frame of the poses; copied")
]


@app.command("from-nuscenes")
def from_nuscenes(
    dataroot: Annotated[Path, typer.Argument(help="A nuScenes folder, real or synthetic")],
    out: Out,
    split: Annotated[str | None, typer.Option(help="Only the scenes of this split")] = None,
    scene: Annotated[list[str] | None, typer.Option(help="Only this scene; may be repeated")] = None,
    version: Version = None,
    link: Annotated[bool, typer.Option("--link", help="Symbolic links in place of copies of images and LiDAR")] = False,
) -> None:
    """Write the keyframes of a nuScenes folder as frames, with LiDAR, true maps and splits.

    Example: hdmap frames from-nuscenes data/synth -o data/frames --split val
    """
    from hdmap_core.datasets.frames.writing import check_new
    from hdmap_core.datasets.frames.writing import from_nuscenes as write
    from hdmap_core.datasets.nuscenes import NuScenesDataset, version_for
    from hdmap_core.datasets.protocol import scene_named, scenes_of_split
    from hdmap_core.running.progress import progress_bar

    check_new(out)
    dataset = NuScenesDataset(dataroot, version if split is None else version_for(dataroot, split, version))
    scenes = list(dataset.scenes) if split is None else scenes_of_split(dataset, split)
    if scene:
        scenes = [scene_named(dataset, name) for name in scene]
    with progress_bar("writing") as (progress, _):
        count = write(dataset, scenes, out, link=link, progress=progress)
    typer.echo(f"{out}: {count} frames of {len(scenes)} scenes")


@app.command("from-video")
def from_video(
    inputs: Annotated[
        list[str],
        typer.Argument(help="Videos, or a folder of images, named after the cameras; or CAMERA=FILE"),
    ],
    calibration: Annotated[Path, typer.Option(help="The rig file (docs/your_own_data.md)")],
    out: Out,
    rate: Annotated[
        float, typer.Option(min=0, help="Frames per second (of images in a folder, theirs); 0: every picture")
    ] = 2.0,
    start: Start = None,
    align: Align = False,
    min_cameras: MinCameras = 0,
    poses: Annotated[
        Path | None, typer.Option(help="The car's poses: lines of time x y z qx qy qz qw (TUM's format)")
    ] = None,
    scene: Annotated[str | None, typer.Option(help="Name of the scene; that of the folder by default")] = None,
    split: Split = None,
    true_map: TrueMap = None,
) -> None:
    """Write videos of a drive, or images in step, as frames.

    A video is turned as it says itself. Of the other cameras the picture nearest in time is taken, within half of its
    period, with its own stamp. When each video begins is found by --align, or said by --start or the rig file.

    Example: hdmap frames from-video front.mp4 left.mp4 right.mp4 --calibration rig.yaml --align -o data/drive
    """
    from hdmap_core.datasets.frames.recording import FramesRecorder, placed
    from hdmap_core.datasets.frames.trajectory import Trajectory
    from hdmap_core.datasets.video_starts import parse_beginning
    from hdmap_core.recordings.recording import Wanted
    from hdmap_core.recordings.rig_pictures import open_pictures
    from hdmap_core.running.progress import progress_bar

    beginning = parse_beginning(start or ())
    recorder = FramesRecorder(out, scene or out.absolute().name, split, true_map)
    trajectory = None if poses is None else Trajectory(poses)
    wanted = Wanted(
        whole_drive=True, rig=calibration, rate=rate, beginning=beginning, align=align, min_cameras=min_cameras
    )
    recording = open_pictures(inputs, wanted)
    for fact in recording.facts:
        typer.echo(fact)
    with progress_bar("writing") as (progress, _):
        for number, observation in enumerate(recording.frames, start=1):
            recorder.add(observation if trajectory is None else placed(observation, trajectory))
            progress(number, recording.count)
    recorder.finish(recording.starts_ns)
    typer.echo(f"{out}: {len(recorder)} frames of {', '.join(observation.rig.names)}")
    for problem in recording.problems():
        typer.echo(f"  {problem}")


@app.command("schema")
def show_schema() -> None:
    """Print the JSON schema of frames.json, for editors.

    Example: hdmap frames schema > frames.schema.json
    """
    import json

    from hdmap_core.datasets.frames.format import schema

    typer.echo(json.dumps(schema(), indent=2))
