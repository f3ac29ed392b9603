"""`hdmap predict`: the map of a frame as a picture, JSON or GeoJSON; of a drive, also as a film."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hdmap_core.options import Align, Device, LidarGround, MinCameras, Rate, Rig, Start, Topics, Version

if TYPE_CHECKING:
    from hdmap_core.inference.prediction import Prediction


def predict(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint, a file that hdmap export made, or a run folder")],
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA...",
            help="A folder of nuScenes, frames or Argoverse 2; a bag; or with --rig images, a folder of images, videos",
        ),
    ],
    sample: Annotated[
        str | None, typer.Option(help="Token of the frame (of a video its number); the first by default")
    ] = None,
    scene: Annotated[str | None, typer.Option(help="All frames of this scene, e.g. scene-0061")] = None,
    out: Annotated[
        list[Path] | None,
        typer.Option(
            "-o",
            "--out",
            help="What to write, may be given several times: .png, .jpg; .json, .jsonl; .geojson, .osm; of a whole "
            "drive .mp4, .gif, .webp",
            show_default="map.png",
        ),
    ] = None,
    rig: Rig = None,
    rate: Rate = 10.0,
    start: Start = None,
    align: Align = False,
    min_cameras: MinCameras = 0,
    topics: Topics = None,
    lidar_ground: LidarGround = False,
    device: Device = "auto",
    version: Version = None,
    min_score: Annotated[
        float, typer.Option(min=0, max=1, help="Leave elements with a lower score out of pictures and films")
    ] = 0.3,
) -> None:
    """Predict the map of a frame, or of every frame of a drive: drawn over the images and from above, or its elements.

    Of a data set it is one keyframe, unless --scene or a film asks for a scene; of images of one instant, that; of a
    video, a bag or a folder of images all of it, unless --sample names a frame or only pictures are wanted. JSON and
    GeoJSON hold every element whatever its score; GeoJSON and .osm of a drive are its fused map. Longitude and latitude
    stand in them where the place on the earth is known.

    Example: hdmap predict hdmap_core/weights/student.safetensors data/synth -o map.png

    Example: hdmap predict runs/student data/synth --scene scene-0003 -o drive.mp4 -o map.geojson

    Example: hdmap predict runs/student front.jpg left.jpg --rig rig.yaml -o map.png

    Example: hdmap predict runs/student front.mp4 left.mp4 --rig rig.yaml -o drive.mp4 -o elements.jsonl

    Example: hdmap predict runs/student front.mp4 left.mp4 --rig rig.yaml --align --min-cameras 1 -o drive.mp4

    Example: hdmap predict runs/student drive.mcap -o drive.mp4
    """
    from hdmap_core.datasets.video_starts import parse_beginning
    from hdmap_core.inference.outputs import check_outputs, predict_drive
    from hdmap_core.inference.prediction import PICTURES
    from hdmap_core.inference.predictor import load_predictor
    from hdmap_core.recordings.opening import open_recording
    from hdmap_core.recordings.recording import Wanted
    from hdmap_core.running.progress import progress_bar

    outputs = out or [Path("map.png")]
    check_outputs(outputs)
    predictor = load_predictor(checkpoint, device)
    info, model = predictor.info, predictor.config.model
    wanted = Wanted(
        whole_drive=_whole_drive(outputs, sample, scene),
        sample=sample,
        scene=scene,
        version=version,
        rig=rig,
        rate=rate,
        beginning=parse_beginning(start or ()),
        align=align,
        min_cameras=min_cameras,
        topics=topics,
        sweeps=info.lidar_sweeps,
        sd_map=info.sd_map,
        lidar_ground=lidar_ground,
        at_least=info.enough_pixels,
        grid=info.grid,
        classes=model.classes,
        crossings=model.crossings,
    )
    recording = open_recording(data, wanted)
    for fact in recording.facts:
        typer.echo(fact)
    if recording.whole_drive:
        with progress_bar("predicting") as (progress, _):
            report = predict_drive(predictor, recording, outputs, min_score, progress)
        typer.echo(
            f"{recording.name}: {report.frames} frames, {report.seconds:.1f} s, {report.elements} elements of any "
            f"score → {', '.join(map(str, outputs))}"
        )
        for note in (*report.notes, *recording.problems()):
            typer.echo(f"  {note}")
        return
    observation = next(iter(recording.frames))
    prediction = predictor.predict(observation)
    for path in outputs:
        if path.suffix.lower() in PICTURES:
            prediction.save(path, observation, recording.truth(observation.token), min_score)
            typer.echo(f"{_shown_and_hidden(prediction, min_score)} → {path}")
        else:
            prediction.save(path)
            typer.echo(f"{len(prediction.elements)} elements of any score → {path}")


def _whole_drive(outputs: list[Path], sample: str | None, scene: str | None) -> bool | None:
    """Whether all frames are wanted; None: as is usual of such data."""
    from hdmap_core.inference.prediction import PICTURES
    from hdmap_core.viz.film_file import FILMS

    kinds = {path.suffix.lower() for path in outputs}
    if kinds & {*FILMS, ".osm"}:
        return True
    if sample is not None or kinds <= set(PICTURES):
        return False
    return None if scene is None else True


def _shown_and_hidden(prediction: "Prediction", min_score: float) -> str:
    """Like `3 elements drawn, 9 hidden with a score below 0.3 (7 divider, 2 boundary)`."""
    hidden = Counter(element.label.value for element in prediction.elements if element.score < min_score)
    drawn = f"{len(prediction.elements) - hidden.total()} elements drawn"
    if not hidden:
        return f"{drawn}, none hidden"
    kinds = ", ".join(f"{count} {label}" for label, count in hidden.most_common())
    return f"{drawn}, {hidden.total()} hidden with a score below {min_score:g} ({kinds}; --min-score 0 draws them)"
