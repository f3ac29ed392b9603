"""`hdmap score`: scores two files of elements."""

from pathlib import Path

import typer


def score(
    pred: Path = typer.Argument(help="Predicted elements: ours, MapTR's, StreamMapNet's or MapTracker's file."),
    gt: Path = typer.Argument(help="Ground truth, in any of these formats."),
    protocol: str = typer.Option(
        "maptr", help="maptr, mapqr, streammapnet, streammapnet-100x50; as published: hdmapnet, hdmapnet-code, pmapnet."
    ),
    grid: str = typer.Option(
        "60x30", help="Of the published protocols: metres along x and y; @ cell size, 0.15 m unless given: 120x60@0.3."
    ),
    label_order: str = typer.Option(
        "", help="Classes by number where a file names none, e.g. divider,ped_crossing,boundary; else its program's."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
) -> None:
    """Chamfer AP of one file of map elements against another.

    Frames are matched by token. A ground-truth frame that PRED lacks counts as one without predictions; a frame that GT
    lacks is an error. Centerlines count where GT has any.

    Files are ours (one JSON line per frame), MapTR's nuscmap_results.json and nuscenes_map_anns_val.json, or the
    submission_vector.json of StreamMapNet and MapTracker; each kind may stand on either side. All are brought to the
    ego frame. What looks like exchanged axes or classes is said.

    hdmapnet and pmapnet are the AP of rasterised lines as those papers' code computes it, quirks included: good for
    nothing but a comparison with their tables. The vector AP (maptr) stands beside it. Both take each crossing as its
    two long edges, which is what these models are taught.

    Example: hdmap score runs/student/predictions.jsonl data/synth/val.jsonl --protocol maptr
    """
    import json

    from rich.console import Console

    from hdmap_core.elements import MapClass
    from hdmap_core.errors import ElementError
    from hdmap_core.exchange.result_files import class_order, read_result_file
    from hdmap_core.geometry import BEVGrid
    from hdmap_core.metrics.chamfer_ap import CLASSES, PROTOCOLS, chamfer_ap
    from hdmap_core.metrics.plausibility import doubts
    from hdmap_core.metrics.raster_ap import RASTER_PROTOCOLS, published_and_honest
    from hdmap_core.metrics.report import raster_json, score_json, score_table

    if protocol not in (*PROTOCOLS, *RASTER_PROTOCOLS):
        raise ElementError(f"unknown protocol {protocol!r}; known are {', '.join((*PROTOCOLS, *RASTER_PROTOCOLS))}")
    numbers = class_order(label_order) if label_order else None
    theirs, ours = read_result_file(gt, numbers), read_result_file(pred, numbers)
    truth, predictions = theirs.frames, ours.frames
    if predictions and truth and not predictions.keys() & truth.keys():
        raise ElementError(
            f"the frames of {pred} have no ground truth in {gt}: {next(iter(predictions))!r} is one of the former, "
            f"{next(iter(truth))!r} of the latter; give the ground truth of the same split of the same data set"
        )
    if ours.program or theirs.program:
        for doubt in doubts(predictions, truth):
            typer.echo(f"note: {doubt}", err=True)
    has_centerlines = any(element.label is MapClass.CENTERLINE for elements in truth.values() for element in elements)
    classes = (*CLASSES, MapClass.CENTERLINE) if has_centerlines else CLASSES
    if protocol in RASTER_PROTOCOLS:
        region = BEVGrid.parse(grid, 0.15)
        published, honest = published_and_honest(predictions, truth, protocol, classes, region)
        content = raster_json(published, honest)
        title = f"Honest: Chamfer AP of vectors, protocol {honest.protocol}, crossings as edges"
        tables = [score_table(published), score_table(honest, title)]
    else:
        result = chamfer_ap(predictions, truth, protocol, classes)
        content, tables = score_json(result), [score_table(result)]
    if as_json:
        typer.echo(json.dumps(content, indent=2))
        return
    for table in tables:
        Console().print(table)
