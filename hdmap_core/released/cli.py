"""`hdmap import`: a released weight file of one of the papers becomes a checkpoint."""

from pathlib import Path
from typing import Annotated

import typer


def import_command(
    file: Annotated[Path, typer.Argument(help="The file as its authors offer it: .pth, .pt")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The checkpoint to write: .safetensors")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Changes to the checkpoint's config: decode.score_threshold=0.3")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option("--as", help="What it is, where the file does not tell: pmapnet-60x30, hdmapnet-120x60 ..."),
    ] = None,
    can_bus: Annotated[
        str | None,
        typer.Option(help="MapQR, MapFM, MapTR: 18 numbers, with commas between them, of the vector they were given"),
    ] = None,
) -> None:
    """Turn released weights of a paper into a checkpoint that predict, evaluate, export and the node take.

    MapQR, MapFM, MapTR, MapTRv2, HDMapNet, P-MapNet and MapKD: docs/released_weights.md. None of the file is run.

    Example: hdmap import mapqr_r50.pth -o mapqr.safetensors
    """
    from hdmap_core.checkpoint import SUFFIX
    from hdmap_core.errors import ConfigError
    from hdmap_core.files import check_file
    from hdmap_core.released.importing import import_file

    check_file(out, (SUFFIX,))
    try:
        vector = None if can_bus is None else [float(number) for number in can_bus.split(",")]
    except ValueError:
        raise ConfigError(f"--can-bus takes 18 numbers with commas between them, not {can_bus!r}") from None
    found = import_file(file, out, kind=kind, can_bus=vector, overrides=overrides or ())
    typer.echo(f"{found.kind} ({found.title}), {found.num_parameters / 1e6:.1f} M parameters → {out}")
    for note in found.notes:
        typer.echo(note)
