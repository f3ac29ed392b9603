"""`hdmap show`: what is in a data set, what is missing, and its frames as pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hdmap_core.options import Version

if TYPE_CHECKING:
    from hdmap_core.datasets.contents import Contents
    from hdmap_core.datasets.protocol import MapDataset

_MOST_ROWS = 30


def show(
    data: Annotated[Path, typer.Argument(help="A folder of nuScenes, frames or Argoverse 2")],
    token: Annotated[str | None, typer.Option(help="Draw this frame: its images and the truth in them")] = None,
    scene: Annotated[str | None, typer.Option(help="List the frames of this scene")] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="The picture of --token: .png or .jpg")] = Path("frame.png"),
    grid: Annotated[str, typer.Option(help="Region of the truth, metres along x and y")] = "60x30",
    version: Version = None,
    every_frame: Annotated[bool, typer.Option("--every-frame", help="Look at every frame, not at 200 of them")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Show a data set: scenes, splits, counts of each class, what is missing; or a frame of it as a picture.

    Example: hdmap show data/synth

    Example: hdmap show data/synth --token c8ac2977fb46e7c75afd34cd1c3ac26e -o frame.png
    """
    import json
    from dataclasses import asdict

    from hdmap_core.datasets.contents import MOST, contents_of
    from hdmap_core.datasets.opening import open_dataset
    from hdmap_core.running.progress import progress_bar

    if token is not None:
        from hdmap_core.files import check_file

        check_file(out, (".png", ".jpg", ".jpeg"))
        _draw(open_dataset(data, version), token, out, grid)
        return
    dataset = open_dataset(data, version)
    if scene is not None:
        _list_frames(dataset, scene, as_json)
        return
    with progress_bar("looking") as (progress, _):
        found = contents_of(dataset, max(1, len(dataset.tokens)) if every_frame else MOST, progress)
    if as_json:
        typer.echo(json.dumps({"path": str(data), **asdict(found)}, indent=2, default=str))
    else:
        _print(dataset, found)


def _draw(dataset: "MapDataset", token: str, out: Path, region: str) -> None:
    from hdmap_core.geometry import BEVGrid
    from hdmap_core.viz import draw_map, write_picture

    grid = BEVGrid.parse(region, 0.1)
    observation = dataset.observation(token, points=False)
    has_map = dataset.has_vector_map(token)
    truth = dataset.elements(token, grid.x_range, grid.y_range) if has_map else []
    facts = ["no true map here" if not has_map else f"{len(truth)} true elements", dataset.scene_of(token).name]
    write_picture(out, draw_map(observation, truth, None, grid, f"{dataset.root.name}   {token}", facts))
    typer.echo(f"{len(truth)} true elements in {observation.rig.num_cameras} images and from above → {out}")


def _list_frames(dataset: "MapDataset", name: str, as_json: bool) -> None:
    import json

    from hdmap_core.datasets.protocol import scene_named

    tokens = scene_named(dataset, name).sample_tokens
    typer.echo(json.dumps(tokens, indent=2) if as_json else "\n".join(tokens))


def _print(dataset: "MapDataset", found: "Contents") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()

    def table(title: str, *columns: str) -> Table:
        made = Table(title=escape(title), title_justify="left", title_style="bold")
        for number, column in enumerate(columns):
            is_text = not number or column in ("place", "splits", "example")
            made.add_column(column, justify="left" if is_text else "right")
        return made

    def row(made: Table, *values: Any) -> None:
        made.add_row(*(escape(str(value)) for value in values))

    scenes = table(f"{dataset.root}: scenes", "scene", "place", "frames", "seconds", "metres", "splits")
    for each in found.scenes[:_MOST_ROWS]:
        metres = "?" if each.metres is None else f"{each.metres:.0f}"
        row(scenes, each.name, each.location, each.frames, f"{each.seconds:.1f}", metres, ", ".join(each.splits))
    console.print(scenes)
    if len(found.scenes) > _MOST_ROWS:
        console.print(f"  and {len(found.scenes) - _MOST_ROWS} scenes more; --json lists all")
    if found.splits:
        splits = table("splits", "split", "scenes", "frames")
        for name, (count, frames) in found.splits.items():
            row(splits, name, count, frames)
        console.print(splits)
    sensors = [f"{name} {size[1]}x{size[0]}" if size and any(size) else name for name, size in found.sensors.items()]
    console.print(f"[bold]sensors[/]  {escape(', '.join(sensors))}", highlight=False, soft_wrap=True)
    looked = f"{len(found.looked_at)} of {len(dataset.tokens)} frames"
    if found.elements:
        truth = table(f"truth in 60 x 30 m ({looked})", "class", "elements", "per frame")
        for label, count in found.elements.items():
            row(truth, label.value, count, f"{count / len(found.looked_at):.1f}")
        console.print(truth)
    if found.missing:
        missing = table(f"missing ({looked})", "what", "frames", "example")
        for what, (count, example) in found.missing.items():
            row(missing, what, count, example)
        console.print(missing)
    else:
        console.print(f"[green]nothing is missing[/] ({looked})", highlight=False)
    console.print(
        f"next: hdmap show {escape(str(dataset.root))} --token {escape(found.looked_at[0])} -o frame.png"
        if found.looked_at
        else "it has no frames",
        highlight=False,
        soft_wrap=True,
    )
