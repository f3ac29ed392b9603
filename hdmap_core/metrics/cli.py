"""`hdmap score`: scores two files of elements."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from hdmap_core.elements import MapClass, MapElement
    from hdmap_core.geometry import BEVGrid


def score(
    pred: Path = typer.Argument(help="Predicted elements, one JSON line per frame."),
    gt: Path = typer.Argument(help="Ground truth in the same format."),
    protocol: str = typer.Option(
        "maptr", help="maptr, mapqr, streammapnet, streammapnet-100x50; as published: hdmapnet, hdmapnet-code, pmapnet."
    ),
    grid: str = typer.Option(
        "60x30", help="Of the published protocols: metres along x and y; @ cell size, 0.15 m unless given: 120x60@0.3."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
) -> None:
    """Chamfer AP of one file of map elements against another.

    Frames are matched by token. A ground-truth frame that PRED lacks counts as one without predictions; a frame that GT
    lacks is an error. Centerlines count where GT has any.

    hdmapnet and pmapnet are the AP of rasterised lines as those papers' code computes it, quirks included: good for
    nothing but a comparison with their tables. The vector AP (maptr) stands beside it. Both take each crossing as its
    two long edges, which is what these models are taught.

    Example: hdmap score runs/student/predictions.jsonl data/synth/val.jsonl --protocol maptr
    """
    import json

    from rich.console import Console

    from hdmap_core.elements import MapClass, read_elements
    from hdmap_core.errors import ElementError
    from hdmap_core.geometry import BEVGrid
    from hdmap_core.metrics.chamfer_ap import CLASSES, PROTOCOLS, chamfer_ap
    from hdmap_core.metrics.raster_ap import RASTER_PROTOCOLS
    from hdmap_core.metrics.report import score_json, score_table

    if protocol not in (*PROTOCOLS, *RASTER_PROTOCOLS):
        raise ElementError(f"unknown protocol {protocol!r}; known are {', '.join((*PROTOCOLS, *RASTER_PROTOCOLS))}")
    truth = read_elements(gt)
    has_centerlines = any(element.label is MapClass.CENTERLINE for elements in truth.values() for element in elements)
    classes = (*CLASSES, MapClass.CENTERLINE) if has_centerlines else CLASSES
    predictions = read_elements(pred)
    if protocol in RASTER_PROTOCOLS:
        _score_published(predictions, truth, protocol, classes, BEVGrid.parse(grid, 0.15), as_json)
        return
    result = chamfer_ap(predictions, truth, protocol, classes)
    if as_json:
        typer.echo(json.dumps(score_json(result), indent=2))
    else:
        Console().print(score_table(result))


def _score_published(
    predictions: "dict[str, list[MapElement]]",
    truth: "dict[str, list[MapElement]]",
    protocol: str,
    classes: "Sequence[MapClass]",
    grid: "BEVGrid",
    as_json: bool,
) -> None:
    import json

    from rich.console import Console

    from hdmap_core.metrics.raster_ap import published_and_honest
    from hdmap_core.metrics.report import raster_json, score_table

    published, honest = published_and_honest(predictions, truth, protocol, classes, grid)
    if as_json:
        typer.echo(json.dumps(raster_json(published, honest), indent=2))
        return
    Console().print(score_table(published))
    title = f"Honest: Chamfer AP of vectors, protocol {honest.protocol}, crossings as edges"
    Console().print(score_table(honest, title))


def register(app: typer.Typer) -> None:
    """Adds the verb to the command line."""
    app.command("score", rich_help_panel="Models")(score)
