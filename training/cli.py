"""The verbs of training: `hdmap train`, `hdmap evaluate`, `hdmap config`."""

from pathlib import Path
from typing import Annotated

import typer

Overrides = Annotated[list[str] | None, typer.Argument(help="Deviations from the recipe, e.g. optim.lr=1e-3")]


def register(app: typer.Typer) -> None:
    """Adds the verbs to the command line."""
    app.command(rich_help_panel="Models")(train)
    app.command(rich_help_panel="Models")(evaluate)
    app.command("config", rich_help_panel="Models")(config_schema)


def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe, e.g. config/recipes/student/ground.yaml")],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Run folder; runs/<recipe's name> by default")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with a run folder that already holds a run")] = False,
) -> None:
    """Train a model from a recipe.

    Example: hdmap train config/recipes/student/ground.yaml data.root=data/synth -o runs/student
    """
    from hdmap_core.config import load_config
    from hdmap_core.errors import MissingDependencyError, OutputError
    from training.config import TrainConfig

    folder = out or Path("runs") / recipe.stem
    if (folder / "config.yaml").exists() and not resume:
        raise OutputError(f"{folder} already holds a run; add --resume to go on with it, or choose another with -o")
    config = load_config(TrainConfig, folder / "config.yaml" if resume else recipe, overrides or [])
    try:  # after the recipe is known to be right: this takes seconds
        from rich.console import Console

        from training.train import train as run
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"training needs {error.name}; pip install 'hdmap_ros[train]'") from None
    run(config, folder, Console())


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="A .safetensors file or a run folder")],
    dataroot: Annotated[Path, typer.Argument(help="A nuScenes folder, real or synthetic")],
    split: Annotated[
        str, typer.Option(help="Which scenes: val, test, mini_val, ... or a split of the folder's own")
    ] = "val",
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Where predictions.jsonl and gt.jsonl go")] = None,
    protocol: Annotated[str, typer.Option(help="maptr, mapqr or streammapnet")] = "maptr",
    head: Annotated[
        str | None, typer.Option(help="Publish vectors or masks instead of what the checkpoint says")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    limit: Annotated[int, typer.Option(min=0, help="At most so many keyframes, evenly spread; 0 = all")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table")] = False,
) -> None:
    """Run a model over keyframes and score what it publishes.

    Example: hdmap evaluate hdmap_core/weights/student.safetensors data/synth --split val
    """
    from training.evaluate import evaluate as run

    run(
        checkpoint,
        dataroot,
        split,
        out=out,
        protocol=protocol,
        head=head,
        device=device,
        limit=limit,
        as_json=as_json,
    )


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
