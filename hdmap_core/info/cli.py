"""The verb `hdmap info`: asks every package's functions what a thing is (entry points of the group `hdmap.info`)."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hdmap_core.info import What


def info(
    thing: Annotated[Path, typer.Argument(help="A checkpoint, run folder, nuScenes folder, bag, recipe, elements ...")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Say what a file or folder is, what is in it, and what can be done with it.

    Example: hdmap info runs/student
    """
    import json
    from dataclasses import asdict

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    found = identify(thing)
    if as_json:
        typer.echo(json.dumps({"path": str(thing), **asdict(found)}, indent=2))
        return
    console = Console()
    console.print(f"[bold]{escape(str(thing))}[/]: {escape(found.kind)}", soft_wrap=True, highlight=False)
    table = Table.grid(padding=(0, 2))
    for name, value in found.facts.items():
        table.add_row(f"  {escape(name)}", escape(value))
    console.print(table, highlight=False)
    for command in found.next:
        console.print(f"next: {escape(command)}", soft_wrap=True, highlight=False)  # to copy


def identify(path: Path) -> "What":
    """What a thing is.

    Raises:
        ConfigError: if it is not there, or nothing that is known.
        HdmapError: if it is damaged.
    """
    from importlib.metadata import entry_points

    from hdmap_core.errors import ConfigError
    from hdmap_core.files.shipped import shipped

    path = shipped(path)
    if not path.exists():
        raise ConfigError(f"{path}: no such file or folder")
    for entry in sorted(entry_points(group="hdmap.info"), key=lambda entry: entry.name):
        found = entry.load()(path)
        if found is not None:
            return found
    raise ConfigError(
        f"{path} is nothing that hdmap knows: no checkpoint (.safetensors), exported network (.onnx, .xml, .pt2, "
        ".engine), run folder, recipe (.yaml), nuScenes "
        "folder, bag (.mcap, .db3, a rosbag2 folder), map elements (.json, .jsonl) or GeoJSON"
    )
