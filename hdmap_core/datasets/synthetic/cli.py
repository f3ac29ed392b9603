"""`hdmap synth`: write a synthetic world as a nuScenes folder, or as Argoverse 2 logs."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hdmap_core.errors import ConfigError

if TYPE_CHECKING:
    from hdmap_core.datasets.synthetic.presets import SynthConfig


def synth(
    out: Annotated[Path, typer.Argument(help="Folder to write: new, empty, or one to finish with the same options.")],
    preset: Annotated[
        str,
        typer.Option(
            help="tiny (test data), demo (one drive), v1 (the benchmark), v1-large (52 more towns to train on), v2 "
            "(the second world: streets closer to real ones), tiny-v2 (test data of it), v2-rigs (through other rigs) "
            "or unseen-rigs (rigs kept back from training)."
        ),
    ] = "tiny",
    split: Annotated[
        list[str] | None,
        typer.Option(help="Only this split of the preset, e.g. val; may be given several times."),
    ] = None,
    towns: Annotated[int | None, typer.Option(help="Towns in all, spread over the splits.")] = None,
    scenes: Annotated[int | None, typer.Option(help="Scenes (drives) per town.")] = None,
    keyframes: Annotated[int | None, typer.Option(help="Keyframes per scene, half a second apart.")] = None,
    image_size: Annotated[str | None, typer.Option(help="HxW in pixels; nuScenes has 900x1600.")] = None,
    lidar: Annotated[str | None, typer.Option(help="none, keyframes or all (20 Hz).")] = None,
    sweeps: Annotated[bool | None, typer.Option(help="Camera frames between keyframes too (12 Hz).")] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed, another world.")] = None,
    rigs: Annotated[
        str | None,
        typer.Option(
            help="nuscenes, varied (4 to 8 cameras, other heights, lenses, calibration off by up to 0.5 degrees), "
            "unseen (such rigs kept back from training) or argoverse (seven in a ring, the one ahead upright)."
        ),
    ] = None,
    weather: Annotated[
        str | None,
        typer.Option(
            help="Of the second edition: changing (from scene to scene), or in every scene clear, low-sun, overcast, "
            "dusk, night, rain, rain-at-night or fog. Towns and drives stay the same."
        ),
    ] = None,
    layout: Annotated[
        str,
        typer.Option(
            "--format",
            help="nuscenes, or av2: Argoverse 2 logs, with the extra `av2` and, unless --rigs says nuscenes, its rig.",
        ),
    ] = "nuscenes",
    workers: Annotated[
        int, typer.Option(help="Processes; 0 takes one per core. The result does not depend on it.")
    ] = 0,
) -> None:
    """Write a synthetic world as a nuScenes folder: tables, JPEGs, LiDAR, map expansion, SD map; or as other logs.

    Example: hdmap synth data/synth --preset v1 --image-size 450x800 --lidar none
    Example: hdmap synth data/night --preset v2 --split val --weather night
    Example: hdmap synth data/av2 --preset tiny --format av2

    An interrupted run is finished by the same command.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from hdmap_core.datasets.synthetic.argoverse_writer import write_logs
    from hdmap_core.datasets.synthetic.writer import write_dataset

    if layout not in ("nuscenes", "av2"):
        raise ConfigError(f"--format {layout}: write nuscenes or av2")
    if layout == "av2" and rigs is None:
        rigs = "argoverse"
    config = resolve(
        preset, split=split, towns=towns, scenes=scenes, keyframes=keyframes, image_size=image_size, lidar=lidar,
        sweeps=sweeps, seed=seed, rigs=rigs, weather=weather,
    )  # fmt: skip
    if workers < 0:
        raise ConfigError(f"--workers {workers}: give a number of processes, or 0 for one per core")
    columns = (TextColumn("synth"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("files", total=None)
        write = write_dataset if layout == "nuscenes" else write_logs
        scene_names = write(
            out, config, workers or os.cpu_count() or 1,
            lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
    counts = ", ".join(f"{split}: {len(names)} scenes" for split, names in scene_names.items())
    typer.echo(
        f"{out}: {config.version if layout == 'nuscenes' else 'Argoverse 2 logs'}, {counts}, "
        f"{config.keyframes} keyframes each"
    )


def resolve(preset: str, **options: object) -> "SynthConfig":
    """The preset with the options that were given.

    Raises:
        ConfigError: an unknown preset or a value out of range.
    """
    from hdmap_core.config import parse_config
    from hdmap_core.datasets.synthetic.presets import PRESETS, SynthConfig, with_splits, with_towns
    from hdmap_core.datasets.synthetic.sensors.ring_rig import LANDSCAPE

    if preset not in PRESETS:
        raise ConfigError(f"--preset {preset}: there is no such preset; choose one of {', '.join(PRESETS)}")
    base, splits = PRESETS[preset], options.pop("split", None)
    if isinstance(splits, list) and splits:
        base = base.model_copy(update={"towns": with_splits(base, splits)})
    content = base.model_dump()
    if options.get("rigs") == "argoverse":  # as wide as the preset says, in the shape of these cameras
        content["image_size"] = (round(base.image_size[1] * LANDSCAPE[0] / LANDSCAPE[1]), base.image_size[1])
    for name, value in options.items():
        if value is None:
            continue
        if name == "towns":
            if not isinstance(value, int) or value < 1:
                raise ConfigError(f"--towns {value}: at least one town is needed")
            content["towns"] = with_towns(base, value)
        elif name == "image_size":
            content["image_size"] = _parse_size(str(value))
        else:
            content[name] = value
    return parse_config(SynthConfig, content, f"hdmap synth --preset {preset}")


def _parse_size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise ConfigError(f"--image-size {text}: write height x width in pixels, for example 450x800")
    return int(height), int(width)


def register(app: typer.Typer) -> None:
    """Add the verb to the command `hdmap`."""
    app.command(rich_help_panel="Data")(synth)
