"""The command `hdmap`. Every package brings its verbs as an entry point of the group `hdmap.commands`."""

import os
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer

from hdmap_core.errors import HdmapError


def main() -> None:
    """Runs the command line: errors that a user can mend become one line and exit code 2."""
    app = typer.Typer(
        name="hdmap",
        help="Online HD maps from surround cameras: make data, train, evaluate, predict, handle bags.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    for entry in sorted(entry_points(group="hdmap.commands"), key=lambda entry: entry.name):
        entry.load()(app)
    try:
        app()
    except HdmapError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader of our output went away, e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def register(app: typer.Typer) -> None:
    """Adds the core's verbs."""
    from hdmap_core.datasets.sd_cli import register as register_sdmap
    from hdmap_core.datasets.synthetic.cli import register as register_synth
    from hdmap_core.metrics.cli import register as register_score

    register_synth(app)
    register_sdmap(app)
    register_score(app)
    app.command(rich_help_panel="Models")(predict)


def predict(
    checkpoint: Annotated[Path, typer.Argument(help="A .safetensors file or a run folder")],
    dataroot: Annotated[Path, typer.Argument(help="A nuScenes folder, real or synthetic")],
    sample: Annotated[str | None, typer.Option(help="Sample token; the first keyframe by default")] = None,
    version: Annotated[
        str | None, typer.Option(help="v1.0-mini, v1.0-trainval ... where the folder has several")
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="The picture to write")] = Path("map.png"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
) -> None:
    """Predict the map of one keyframe and draw it over the six images and from above.

    Example: hdmap predict hdmap_core/weights/student.safetensors data/synth -o map.png
    """
    from hdmap_core.checkpoint import find_checkpoint
    from hdmap_core.datasets.nuscenes import NuScenesDataset
    from hdmap_core.datasets.nuscenes.sensor_check import check_sensors
    from hdmap_core.errors import DatasetError
    from hdmap_core.inference import load_predictor
    from hdmap_core.viz import draw_map, write_picture

    predictor = load_predictor(find_checkpoint(checkpoint), device)
    dataset = NuScenesDataset(dataroot, version)
    if not dataset.tokens:
        raise DatasetError(f"{dataroot} has no keyframes to predict")
    token = sample or dataset.tokens[0]
    sweeps = predictor.info.lidar_sweeps
    check_sensors(dataset, [token], lidar=sweeps > 0, sd_map=predictor.info.sd_map)
    observation = dataset.observation(token, points=sweeps > 0, sweeps=max(1, sweeps))
    grid = predictor.info.grid
    prediction = predictor.predict(observation)
    truth = None
    if dataset.has_vector_map(token):
        model = predictor.config.model
        truth = dataset.elements(token, grid.x_range, grid.y_range, model.classes, model.crossings)
    write_picture(out, draw_map(observation, prediction.elements, truth, grid))
    typer.echo(f"{len(prediction.elements)} elements → {out}")
