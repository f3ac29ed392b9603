"""`hdmap score`: scores two files of elements."""

from pathlib import Path

import typer


def score(
    pred: Path = typer.Argument(help="Predicted elements, one JSON line per frame."),
    gt: Path = typer.Argument(help="Ground truth in the same format."),
    protocol: str = typer.Option("maptr", help="maptr, mapqr, streammapnet or streammapnet-100x50."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
) -> None:
    """Chamfer AP of one file of map elements against another.

    Frames are matched by token. A ground-truth frame that PRED lacks counts as one without predictions; a frame that GT
    lacks is an error. Centerlines count where GT has any.

    Example: hdmap score runs/student/predictions.jsonl data/synth/val.jsonl --protocol maptr
    """
    import json

    from rich.console import Console

    from hdmap_core.elements import MapClass, read_elements
    from hdmap_core.metrics.chamfer_ap import CLASSES, chamfer_ap
    from hdmap_core.metrics.report import score_json, score_table

    truth = read_elements(gt)
    has_centerlines = any(element.label is MapClass.CENTERLINE for elements in truth.values() for element in elements)
    classes = (*CLASSES, MapClass.CENTERLINE) if has_centerlines else CLASSES
    result = chamfer_ap(read_elements(pred), truth, protocol, classes)
    if as_json:
        typer.echo(json.dumps(score_json(result), indent=2))
    else:
        Console().print(score_table(result))


def register(app: typer.Typer) -> None:
    """Adds the verb to the command line."""
    app.command("score", rich_help_panel="Models")(score)
