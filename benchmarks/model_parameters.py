"""Parameters of each part of the recipes' models, beside what the published layers add up to.

The papers give no counts. The published column is derived from the layer sizes of their code, one formula per part, so
that a difference has one place where it comes from.

Run: python benchmarks/model_parameters.py
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from hdmap_core.config import load_config
from hdmap_core.models import build_model
from hdmap_core.models.map_model import MapModel
from training.config import TrainConfig

RECIPES = Path(__file__).resolve().parents[1] / "config" / "recipes"
MODELS = {
    "MapQR R50": "mapqr/resnet50",
    "MapFM R50": "mapfm/resnet50",
    "MapFM Swin-T": "mapfm/swin_tiny",
    "MapFM DINOv2-S": "mapfm/dinov2_small",
    "MapFM DINOv2-B": "mapfm/dinov2_base",
    "MapFM RADIO-B": "mapfm/radio_base",
    "DINOv2-S, lean": "mapfm/dinov2_small_lean",
    "student": "student/ground",
}
# Part -> prefixes of parameter names; the first part with a fitting prefix takes a parameter.
PARTS: dict[str, tuple[str, ...]] = {
    "backbone: trunk": ("backbone.trunk.",),
    "backbone: neck": ("backbone.neck.",),
    "view transform: BEV queries": ("view_transform.queries",),
    "view transform: positions, cameras": (
        "view_transform.column_position",
        "view_transform.row_position",
        "view_transform.camera_embedding",
    ),
    "view transform: layers": ("view_transform.",),
    "BEV encoder": ("bev_encoder.",),
    "decoder: queries": ("vector_head.queries", "vector_head.query"),
    "decoder: first points": ("vector_head.reference",),
    "decoder: gather": (),  # inside the layers, see `part_of`
    "decoder: rest of the layers": ("vector_head.layers.",),
    "decoder: class branches": ("vector_head.classify",),
    "decoder: point branches": ("vector_head.refine",),
    "decoder: other": ("vector_head.",),
    "segmentation": ("segmentation_head.",),
    "auxiliary: map lines, BEV and images": ("auxiliary_heads.bev_lines.", "auxiliary_heads.image_lines."),
    "auxiliary: road surfaces (ARSS)": ("auxiliary_heads.surface.",),
}


def linear(inputs: int, outputs: int) -> int:
    return (inputs + 1) * outputs


def published(trunk: int, neck_inputs: int, surfaces: int) -> dict[str, int]:
    """Counts by part from the layer sizes of the published code; the trunk is that of timm.

    Args:
        trunk: parameters of the backbone, without a classifier.
        neck_inputs: channels that it ends with.
        surfaces: channels of the ARSS head; 0: no head.
    """
    c, points, rows, columns, cameras, classes = 256, 20, 200, 100, 6, 3
    norm = 2 * c
    feed_forward = linear(c, 512) + linear(512, c)
    self_attention = linear(2 * c, 128) + linear(2 * c, 64) + 2 * linear(c, c)
    cross_attention = linear(c, 64) + 2 * linear(c, c) + linear(c, 8)
    gather = linear(points * c, points * c // 2) + linear(points * c // 2, c) + linear(c, c)
    instances = linear(c, 3 * c) + linear(c, c)
    sampling = linear(c, 64) + linear(c, 32) + linear(c, c)
    decoder_layer = instances + linear(c, c) + sampling + feed_forward + 3 * norm
    lines = 9 * c * c + linear(c, 1)
    can_bus = linear(18, 128) + linear(128, c) + norm
    levels = 4 * c
    return {
        "backbone: trunk": trunk,
        "backbone: neck": linear(neck_inputs, c) + linear(9 * c, c),
        "view transform: BEV queries": rows * columns * c,
        "view transform: positions, cameras": (rows + columns) * c // 2 + cameras * c + levels + can_bus,
        "view transform: layers": 3 * (self_attention + cross_attention + feed_forward + 3 * norm),
        "decoder: queries": 700 * 2 * c,
        "decoder: first points": linear(c, c) + linear(c, 2 * points),
        "decoder: gather": 6 * gather,
        "decoder: rest of the layers": 6 * decoder_layer,
        "decoder: class branches": 6 * (2 * (linear(c, c) + norm) + linear(c, classes)),
        "decoder: point branches": 6 * (linear(c, 512) + 2 * linear(512, 512) + linear(512, 2 * points)),
        "auxiliary: map lines, BEV and images": 2 * lines,
        "auxiliary: road surfaces (ARSS)": 9 * c * c + linear(c, surfaces) if surfaces else 0,
    }


def part_of(name: str) -> str:
    """The part that a parameter belongs to."""
    if name.startswith("vector_head.layers.") and ".gather." in name:
        return "decoder: gather"
    return next(part for part, prefixes in PARTS.items() if name.startswith(prefixes))


def counts(model: MapModel) -> dict[str, int]:
    """Parameters by part, in the order of `PARTS`."""
    found = dict.fromkeys(PARTS, 0)
    for name, parameter in model.named_parameters():
        found[part_of(name)] += parameter.numel()
    return {part: count for part, count in found.items() if count}


def at_inference(model: MapModel, found: Mapping[str, int]) -> int:
    """Without auxiliary heads and one-to-many queries, which a forward pass in evaluation mode does not touch."""
    used = sum(count for part, count in found.items() if not part.startswith("auxiliary"))
    queries = getattr(model.vector_head, "queries", None)
    many = getattr(getattr(model.vector_head, "config", None), "one_to_many", 0)
    return used if queries is None or not many else used - queries.numel() * many // (1 + many)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    columns: dict[str, dict[str, str]] = {}
    totals: dict[str, list[str]] = {"all": [], "derived": [], "trained": [], "used at inference": []}
    for title, recipe in MODELS.items():
        config = load_config(TrainConfig, RECIPES / f"{recipe}.yaml").model
        with torch.device("meta"):  # shapes without memory
            model = build_model(config)
        found = counts(model)
        columns[title] = {part: f"{count:,}" for part, count in found.items()}
        totals["all"].append(f"{sum(found.values()):,}")
        totals["trained"].append(f"{sum(p.numel() for p in model.parameters() if p.requires_grad):,}")
        totals["used at inference"].append(f"{at_inference(model, found):,}")
        if model.backbone is None or "lean" in recipe:
            totals["derived"].append("")
            continue
        surfaces = len(config.auxiliary.surface) if config.auxiliary else 0
        inputs: Any = model.backbone.neck.lateral[0].in_channels
        derived = published(found["backbone: trunk"], inputs, surfaces)
        totals["derived"].append(f"{sum(derived.values()):,}")
        for part, count in derived.items():
            if found.get(part, 0) != count:
                columns[title][part] = f"{found.get(part, 0):,} ({count:,})"
    rows = [[part, *(columns[title].get(part, "") for title in MODELS)] for part in PARTS]
    rows = [row for row in rows if any(row[1:])]
    rows += [[f"**{name}**", *values] for name, values in totals.items()]
    head = ["part (published, where it differs)", *MODELS]
    for line in (head, ["---", *["---:"] * len(MODELS)], *rows):
        print(f"| {' | '.join(line)} |")


if __name__ == "__main__":
    main()
