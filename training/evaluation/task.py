"""What an evaluation is of: a model, the keyframes of a split, and what is true of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hdmap_core.checkpoint import find_checkpoint
from hdmap_core.datasets.opening import open_dataset
from hdmap_core.datasets.protocol import MapDataset, scenes_of_split
from hdmap_core.datasets.sensor_check import check_sensors
from hdmap_core.elements import MapElement
from hdmap_core.errors import ConfigError, DatasetError
from hdmap_core.inference import ModelInfo, load_predictor
from hdmap_core.metrics.chamfer_ap import PROTOCOLS
from hdmap_core.running.parallel import ray_has_gpus
from training.corruptions import SEVERITIES, Corruption
from training.evaluation.groups import frame_groups
from training.evaluation.predictions import Source


@dataclass(frozen=True)
class EvaluateOptions:
    """What `hdmap evaluate` is asked for; see the command's help.

    Attributes:
        limit: at most so many keyframes, evenly spread; 0 means all.
        gallery: so many best and so many worst frames are drawn.
        corruptions: kinds of corruption; none by default.
        baseline: a checkpoint that the corruption error is relative to.
        beside: the folder of an earlier evaluation of the same frames, shown beside this one in the gallery.
        lidar_ground: see `MapDataset.observation`.
        version: which data set of the folder; by default the one that the split tells.
    """

    out: str | Path | None = None
    protocol: str = "maptr"
    head: str | None = None
    device: str = "auto"
    limit: int = 0
    gallery: int = 6
    corruptions: tuple[str, ...] = ()
    baseline: str | Path | None = None
    beside: str | Path | None = None
    lidar_ground: bool = False
    workers: int = 1
    ray: str | None = None
    as_json: bool = False
    version: str | None = None


@dataclass(frozen=True)
class EvaluationTask:
    """What is scored on what: model and keyframes, put together once.

    Attributes:
        heads: label -> head that it is published from.
        truth: token -> elements, of every keyframe that is scored, in order.
        groups: see `frame_groups`.
        corruptions: to score under as well.
        source: of the clean predictions.
        gpus: that each worker takes on Ray.
    """

    options: EvaluateOptions
    split: str
    info: ModelInfo
    heads: Mapping[str, str]
    dataset: MapDataset
    scenes: list[tuple[str, ...]]
    truth: dict[str, list[MapElement]]
    groups: dict[str, dict[str, list[str]]]
    corruptions: list[Corruption]
    source: Source
    gpus: float

    @property
    def out(self) -> Path | None:
        """Where everything goes; None: nothing is kept."""
        return None if self.options.out is None else Path(self.options.out)


def evaluation_task(checkpoint: str | Path, dataroot: Path, split: str, options: EvaluateOptions) -> EvaluationTask:
    """Opens the model and the data set, and knows of both what the evaluation needs.

    Raises:
        HdmapError: of the class that fits what is wrong with options, model, data set or split.
    """
    corruptions = _checked(options)
    path = find_checkpoint(checkpoint)
    predictor = load_predictor(path, "cpu" if options.ray else options.device, head=options.head)
    info, model = predictor.info, predictor.config.model
    dataset = open_dataset(dataroot, options.version, split=split)
    scenes = _limited([scene.sample_tokens for scene in scenes_of_split(dataset, split)], options.limit)
    tokens = [token for scene in scenes for token in scene]
    if not tokens:
        raise DatasetError(f"split {split!r} of {dataroot} has no keyframes")
    check_sensors(dataset, tokens, lidar=info.lidar_sweeps > 0, sd_map=info.sd_map, ground=options.lidar_ground)
    region = info.grid.x_range, info.grid.y_range, info.classes, model.crossings
    truth = {token: dataset.elements(token, *region) for token in tokens}
    groups = frame_groups(dataset, tokens)
    device, gpus = _device(options, info)
    digest, dense = dataset.digest(), model.dense is not None
    source = Source(
        path,
        info.weights_sha256,
        dataroot,
        dataset.version,
        digest,
        options.head,
        device,
        dense,
        lidar_ground=options.lidar_ground,
    )
    heads = {label.value: predictor.config.decode.head_of(label) for label in info.classes}
    return EvaluationTask(options, split, info, heads, dataset, scenes, truth, groups, corruptions, source, gpus)


def _checked(options: EvaluateOptions) -> list[Corruption]:
    """The corruptions that are asked for, once the options are known to make sense."""
    if options.protocol not in PROTOCOLS:
        raise ConfigError(f"protocol {options.protocol!r}: use one of {', '.join(PROTOCOLS)}")
    if options.baseline is not None and not options.corruptions:
        raise ConfigError("--baseline is for the corruption error; add --corruptions, or leave it out")
    if options.beside is not None and (options.out is None or not options.gallery):
        raise ConfigError("--beside is shown in the gallery; add -o, and leave out --gallery 0")
    if options.ray is not None and options.device not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device {options.device!r} with --ray: use auto, cpu or cuda; Ray chooses which GPU")
    return [Corruption(kind, severity) for kind in options.corruptions for severity in SEVERITIES]


def _limited(scenes: Sequence[Sequence[str]], limit: int) -> list[tuple[str, ...]]:
    """At most `limit` tokens, evenly spread over all of them; scenes that lose all of theirs are left out."""
    tokens = [token for scene in scenes for token in scene]
    if not limit or limit >= len(tokens):
        return [tuple(scene) for scene in scenes]
    kept = {tokens[index * len(tokens) // limit] for index in range(limit)}
    return [some for scene in scenes if (some := tuple(token for token in scene if token in kept))]


def _device(options: EvaluateOptions, info: ModelInfo) -> tuple[str, float]:
    """Where workers compute, and the GPUs that each takes on Ray."""
    if options.ray is None:
        return info.device, 0.0
    has_gpus = options.device != "cpu" and ray_has_gpus(options.ray, options.workers)
    if options.device == "cuda" and not has_gpus:
        raise ConfigError(f"device 'cuda' asked for, but the Ray cluster at {options.ray!r} has no GPU")
    return ("cuda", 1.0) if has_gpus else ("cpu", 0.0)
