"""Runs a checkpoint over keyframes and scores the elements it publishes."""

import json
from pathlib import Path

from rich.console import Console
from rich.progress import track

from hdmap_core.checkpoint import find_checkpoint
from hdmap_core.datasets.nuscenes import NuScenesDataset, scenes_of_split
from hdmap_core.elements import MapElement, write_elements
from hdmap_core.errors import ConfigError, DatasetError
from hdmap_core.files import make_folder
from hdmap_core.inference import load_predictor
from hdmap_core.metrics.chamfer_ap import PROTOCOLS, chamfer_ap
from hdmap_core.metrics.report import score_json, score_table


def evaluate(
    checkpoint: Path,
    dataroot: Path,
    split: str,
    *,
    out: Path | None,
    protocol: str,
    head: str | None,
    device: str,
    limit: int,
    as_json: bool,
) -> None:
    """See the command's help. Writes `predictions.jsonl` and `gt.jsonl` to `out`, which `hdmap score` reads."""
    if protocol not in PROTOCOLS:  # before the long part
        raise ConfigError(f"protocol {protocol!r}: use one of {', '.join(PROTOCOLS)}")
    predictor = load_predictor(find_checkpoint(checkpoint), device, head=head)
    dataset = NuScenesDataset(dataroot)
    tokens = [token for scene in scenes_of_split(dataset, split) for token in scene.sample_tokens]
    if not tokens:
        raise DatasetError(f"split {split!r} of {dataroot} has no keyframes")
    if limit:
        tokens = [tokens[index * len(tokens) // limit] for index in range(min(limit, len(tokens)))]
    grid = predictor.info.grid
    classes = predictor.info.classes
    truth = {token: dataset.elements(token, grid.x_range, grid.y_range, classes) for token in tokens}
    if out is not None:
        make_folder(out)  # a place that cannot be written is told before the long part
    predictions: dict[str, list[MapElement]] = {}
    for token in track(tokens, f"evaluating {split}", console=Console(stderr=True)):
        predictions[token] = predictor.predict(dataset.observation(token, points=False)).elements
    if out is not None:
        write_elements(out / "predictions.jsonl", predictions)
        write_elements(out / "gt.jsonl", truth)
    score = chamfer_ap(predictions, truth, protocol)
    if as_json:
        heads = {label.value: predictor.config.decode.head_of(label) for label in classes}
        described = {"checkpoint": predictor.info.model_id, "split": split, "heads": heads}
        print(json.dumps({**described, **score_json(score)}, indent=2))
    else:
        Console().print(score_table(score))
