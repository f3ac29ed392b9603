"""`hdmap predict`: the map of one keyframe, as a picture, JSON or GeoJSON."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hdmap_core.inference.prediction import Prediction


def predict(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint, a file that hdmap export made, or a run folder")],
    dataroot: Annotated[Path, typer.Argument(help="A nuScenes folder, real or synthetic")],
    sample: Annotated[str | None, typer.Option(help="Sample token; the first keyframe by default")] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="What to write: .png, .jpg; .json, .jsonl; .geojson")] = Path(
        "map.png"
    ),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    version: Annotated[
        str | None, typer.Option(help="v1.0-mini, v1.0-trainval ... where the folder has several")
    ] = None,
    min_score: Annotated[
        float, typer.Option(min=0, max=1, help="Leave elements with a lower score out of the picture")
    ] = 0.3,
) -> None:
    """Predict the map of one keyframe: drawn over the six images and from above, or its elements.

    JSON and GeoJSON hold every element whatever its score; GeoJSON has longitude and latitude.

    Example: hdmap predict hdmap_core/weights/student.safetensors data/synth -o map.png
    """
    from hdmap_core.datasets.opening import open_dataset
    from hdmap_core.datasets.sensor_check import check_sensors
    from hdmap_core.errors import DatasetError
    from hdmap_core.files import check_file
    from hdmap_core.inference.prediction import PICTURES, SUFFIXES
    from hdmap_core.inference.predictor import load_predictor

    check_file(out, SUFFIXES)
    predictor = load_predictor(checkpoint, device)
    dataset = open_dataset(dataroot, version)
    if not dataset.tokens:
        raise DatasetError(f"{dataroot} has no keyframes to predict")
    token = sample or dataset.tokens[0]
    sweeps = predictor.info.lidar_sweeps
    check_sensors(dataset, [token], lidar=sweeps > 0, sd_map=predictor.info.sd_map)
    enough = predictor.info.enough_pixels
    observation = dataset.observation(
        token, points=sweeps > 0, sweeps=max(1, sweeps), at_least=enough, coarse=enough is not None
    )
    prediction = predictor.predict(observation)
    if out.suffix.lower() not in PICTURES:
        prediction.save(out)
        typer.echo(f"{len(prediction.elements)} elements of any score → {out}")
        return
    truth = None
    if dataset.has_vector_map(token):
        grid, model = predictor.info.grid, predictor.config.model
        truth = dataset.elements(token, grid.x_range, grid.y_range, model.classes, model.crossings)
    prediction.save(out, observation, truth, min_score)
    typer.echo(f"{_shown_and_hidden(prediction, min_score)} → {out}")


def _shown_and_hidden(prediction: "Prediction", min_score: float) -> str:
    """Like `3 elements drawn, 9 hidden with a score below 0.3 (7 divider, 2 boundary)`."""
    hidden = Counter(element.label.value for element in prediction.elements if element.score < min_score)
    drawn = f"{len(prediction.elements) - hidden.total()} elements drawn"
    if not hidden:
        return f"{drawn}, none hidden"
    kinds = ", ".join(f"{count} {label}" for label, count in hidden.most_common())
    return f"{drawn}, {hidden.total()} hidden with a score below {min_score:g} ({kinds}; --min-score 0 draws them)"


def register(app: typer.Typer) -> None:
    """Adds the verb to the command line."""
    app.command(rich_help_panel="Models")(predict)
