"""The verbs of training: `hdmap prepare`, `hdmap train`, `hdmap evaluate`, `hdmap config`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from hdmap_core.options import Device, LidarGround, Ray, Version
from training.fit.interruption import answers_sigterm

Accelerator = Literal["auto", "cpu", "cuda"]
Strategy = Literal["ddp", "fsdp"]
Overrides = Annotated[list[str] | None, typer.Argument(help="Deviations from the recipe, e.g. optim.lr=1e-3")]


def register(app: typer.Typer) -> None:
    """Adds the verbs to the command line."""
    app.command(rich_help_panel="Models")(prepare)
    app.command(rich_help_panel="Models")(train)
    app.command(rich_help_panel="Models")(overfit)
    app.command(rich_help_panel="Models")(evaluate)
    app.command("config", rich_help_panel="Models")(config_schema)


def prepare(
    dataroot: Annotated[Path, typer.Argument(help="A data set: nuScenes, real or synthetic, or frames of your own")],
    recipe: Annotated[Path | None, typer.Option(help="Prepare what this recipe needs; else see --grid")] = None,
    grid: Annotated[str, typer.Option(help="Without a recipe: 60x30 or any other metres along x across")] = "60x30",
    split: Annotated[
        list[str] | None,
        typer.Option(help="train, val, train_disjoint, mini_val, a split of the folder's own ...; may be repeated"),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only look, and say what is missing (for --recipe: LiDAR and SD maps too)")
    ] = False,
    decode: Annotated[bool, typer.Option(help="Decode every image to see whether it is whole")] = True,
    on_bad: Annotated[
        str, typer.Option(help="Keyframes that cannot be used: fail, or skip (left out and recorded)")
    ] = "fail",
    version: Version = None,
    cache: Annotated[Path | None, typer.Option(help="Where the stores go; DATAROOT/cache by default")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 takes one per core")] = 0,
    ray: Ray = None,
) -> None:
    """Check a data set and cache its ground truth for training.

    An interrupted run is finished by the same command. See docs/training-data.md.

    Example: hdmap prepare data/nuscenes --recipe config/recipes/mapqr/resnet50.yaml --split train --split val
    """
    from dataclasses import replace

    from rich.console import Console

    from hdmap_core.config import load_config
    from hdmap_core.datasets.opening import cache_of
    from hdmap_core.errors import ConfigError
    from hdmap_core.files import check_folder
    from training.config import Ground, TrainConfig
    from training.data.keyframes import sweeps_for
    from training.data.preparation import Preparation, model_of_grid
    from training.prepare import check as run_check
    from training.prepare import run

    if cache is not None:
        check_folder(cache)
    if on_bad not in ("fail", "skip"):
        raise ConfigError(f"--on-bad knows fail and skip, not {on_bad!r}")
    splits, model, keep_inputs, sweeps = tuple(split or ()), None, False, 0
    grounds: tuple[Ground, ...] = ("poses",)
    if recipe is not None:
        config = load_config(TrainConfig, recipe, [f"data.root={dataroot}"])
        model, keep_inputs = config.model, config.data.keep_inputs
        sweeps, grounds = sweeps_for(model), config.data.grounds
        splits, cache = splits or (config.data.train, config.data.val), cache or config.data.cache
        version = version or config.data.version
    preparation = Preparation(
        root=dataroot,
        cache=cache or cache_of(dataroot),
        split="",
        model=model or model_of_grid(grid),
        keep_inputs=keep_inputs,
        sweeps=sweeps,
        decode=decode,
        on_bad="skip" if on_bad == "skip" else "fail",
        workers=workers,
        ray=ray,
        version=version,
    )
    for ground in grounds:
        (run_check if check else run)(replace(preparation, lidar_ground=ground == "lidar"), splits, Console())


@answers_sigterm
def train(
    recipe: Annotated[
        Path | None,
        typer.Argument(help="A recipe, e.g. config/recipes/student/ground.yaml; with --resume a run folder"),
    ] = None,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Run folder; runs/<model.name> by default")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with a run folder that already holds a run")] = False,
    dry_run: Annotated[bool, typer.Option(help="Print parameters, memory and schedule; write nothing")] = False,
    devices: Annotated[int, typer.Option(min=0, help="Processes per machine, a GPU each; 0 = all GPUs")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Machines")] = 1,
    strategy: Annotated[Strategy, typer.Option(help="Copy the model to every device, or shard it")] = "ddp",
    accelerator: Annotated[Accelerator, typer.Option(help="auto takes a GPU if there is one")] = "auto",
) -> None:
    """Train a model from a recipe.

    Ctrl-C ends the run after its step, saved, with exit code 130; --resume goes on, also after a kill, and needs only
    the run folder. Any field of the recipe can be overridden by its dotted name. See docs/training.md and
    docs/recipes.md.

    Example: hdmap train config/recipes/student/ground.yaml data.root=data/synth -o runs/student
    """
    from hdmap_core.config import load_config
    from hdmap_core.errors import ConfigError, OutputError
    from hdmap_core.files import check_folder
    from training.config import TrainConfig

    changes = overrides or []
    if resume and recipe is not None and "=" in recipe.name:  # there is no recipe, only overrides
        recipe, changes = None, [str(recipe), *changes]
    if resume and recipe is not None and recipe.is_dir():
        recipe, out = None, out or recipe
    if recipe is not None:
        config = load_config(TrainConfig, recipe, changes)
        out = out or Path("runs") / config.model.name
    if out is None or (recipe is None and not resume):
        raise ConfigError("name a recipe, e.g. config/recipes/tiny/ground.yaml, or a run to go on with: --resume RUN")
    if resume:
        if not (out / "config.yaml").is_file():
            raise OutputError(f"{out} holds no run to go on with (no config.yaml); leave --resume out to begin one")
        config = load_config(TrainConfig, out / "config.yaml", changes)
    if not dry_run:
        check_folder(out)
    if (out / "config.yaml").exists() and not resume and not dry_run:
        raise OutputError(f"{out} already holds a run; add --resume to go on with it, or choose another with -o")
    from rich.console import Console

    from training.dry_run import describe  # after the recipe is known to be right: this takes seconds
    from training.fit.launch import Hardware
    from training.train import train as run

    hardware = Hardware(accelerator, devices, nodes, strategy)
    if dry_run:
        describe(config, hardware, Console())
    else:
        run(config, out, Console(), hardware=hardware)


def overfit(
    recipe: Annotated[Path, typer.Argument(help="A recipe, e.g. config/recipes/mapqr/resnet50.yaml")],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder; runs/overfit-<name> by default")] = None,
    target: Annotated[float, typer.Option(help="Score (best_by) on the four keyframes that counts as learnt")] = 0.9,
    steps: Annotated[int, typer.Option(min=1, help="Give up after so many")] = 2000,
    full_size: Annotated[bool, typer.Option(help="Leave the model as large as the recipe has it")] = False,
) -> None:
    """Check that a model can learn: four synthetic keyframes by heart.

    The recipe is made small (not its structure), trained without augmentation and scored on the same keyframes. Prints
    which parameters are frozen and which never had a gradient; exit code 1 if the target was not reached.

    Example: hdmap overfit config/recipes/mapqr/resnet50.yaml
    """
    from rich.console import Console

    from hdmap_core.config import load_config
    from hdmap_core.errors import OutputError
    from hdmap_core.files import check_folder, make_folder
    from training.config import TrainConfig

    config = load_config(TrainConfig, recipe, overrides or [])
    folder = out or Path("runs") / f"overfit-{config.model.name}"
    if (folder / "run").exists():  # going on with it would watch no step of it
        raise OutputError(f"{folder} already holds a run; delete it, or choose another with -o")
    check_folder(folder)
    from training.overfit import overfit as run  # takes seconds

    make_folder(folder)
    if run(config, folder, Console(), shrink=not full_size, target=target, steps=steps) < target:
        raise typer.Exit(1)


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="A .safetensors file or a run folder")],
    dataroot: Annotated[Path, typer.Argument(help="A data set: nuScenes, real or synthetic, or frames of your own")],
    split: Annotated[
        str, typer.Option(help="Which scenes: val, test, mini_val, ... or a split of the folder's own")
    ] = "val",
    version: Version = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder for predictions, ground truth, report and gallery")
    ] = None,
    protocol: Annotated[str, typer.Option(help="maptr, mapqr, streammapnet or streammapnet-100x50")] = "maptr",
    head: Annotated[
        str | None, typer.Option(help="Publish vectors, masks or dense instead of what the checkpoint says")
    ] = None,
    device: Device = "auto",
    limit: Annotated[int, typer.Option(min=0, help="At most so many keyframes, evenly spread; 0 = all")] = 0,
    gallery: Annotated[int, typer.Option(min=0, help="Draw so many best and worst frames (with -o); 0 = none")] = 6,
    corruptions: Annotated[bool, typer.Option(help="Also score under every corruption, at three severities")] = False,
    corruption: Annotated[
        list[str] | None, typer.Option(help="Only this kind of corruption, e.g. fog; may be given several times")
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="Checkpoint that the corruption error (mCE) is relative to")
    ] = None,
    beside: Annotated[
        Path | None, typer.Option(help="Folder of an earlier evaluation of the same frames, to compare in the gallery")
    ] = None,
    lidar_ground: LidarGround = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes; the result does not depend on it")] = 1,
    ray: Ray = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables")] = False,
) -> None:
    """Run a model over keyframes, score what it publishes, and show where it is good and bad.

    The scores are broken down by class, threshold, distance, weather, time of day, city and scene. With -o, a second
    run takes what is there already, and gallery/index.html shows the best and the worst frames. A model with dense
    heads (HDMapNet, P-MapNet) also gets the IoU of its rasters and those papers' raster AP. See docs/evaluation.md.

    Example: hdmap evaluate hdmap_core/weights/student.safetensors data/synth --split val -o out/val --corruptions
    """
    from hdmap_core.files import check_folder

    if out is not None:
        check_folder(out)
    from training.corruptions import CORRUPTIONS
    from training.evaluate import evaluate as run
    from training.evaluation.task import EvaluateOptions

    kinds = tuple(dict.fromkeys(corruption)) if corruption else CORRUPTIONS if corruptions else ()
    options = EvaluateOptions(
        out=out,
        protocol=protocol,
        head=head,
        device=device,
        limit=limit,
        gallery=gallery,
        corruptions=kinds,
        baseline=baseline,
        beside=beside,
        lidar_ground=lidar_ground,
        workers=workers,
        ray=ray,
        as_json=as_json,
        version=version,
    )
    run(checkpoint, dataroot, split, options)


def config_schema(
    what: Annotated[str, typer.Argument(help="schema: print the JSON schema of recipes, for editors")] = "schema",
) -> None:
    """Print the JSON schema of recipes.

    Example: hdmap config schema > recipe.schema.json
    """
    import json

    from hdmap_core.errors import ConfigError
    from training.config import TrainConfig

    if what != "schema":
        raise ConfigError(f"hdmap config knows 'schema', not {what!r}")
    typer.echo(json.dumps(TrainConfig.model_json_schema(), indent=2))
