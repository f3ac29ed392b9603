"""Names of MapTR, MapTRv2, MapQR and MapFM -> ours, turned into our axes. Facts about files; no code of theirs."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from hdmap_core.models import ModelConfig
from hdmap_core.models.heads.mapqr_decoder import MapQRDecoderConfig
from hdmap_core.models.heads.maptr_decoder import MapTRDecoderConfig
from hdmap_core.models.view_transforms.bevformer import BEVFormerConfig
from hdmap_core.models.view_transforms.depth_lift_splat import DepthLiftSplatConfig
from hdmap_core.released import lidar_axes
from hdmap_core.released.translation import Translation
from hdmap_core.released.vector_models import CAMERAS, HEAD, TRANSFORMER, VectorModel

CAN_BUS = 18
STANDING = (*[0.0] * 3, 1.0, *[0.0] * 14)
"""A vector of a car that stands and looks east: no vehicle knows nuScenes' heading."""
_TURNED = {"weight": lidar_axes.turned_points, "bias": lidar_axes.turned_points}


def translate_vectors(
    translation: Translation, released: VectorModel, model: ModelConfig, *, can_bus: Sequence[float]
) -> None:
    """Fills the state of a model of this config.

    Args:
        translation: of the file's tensors.
        released: what the file holds.
        model: as `vector_config` says of it.
        can_bus: the vector that the model is to believe in for good, see `STANDING`.
    """
    translation.move("img_backbone", "backbone.trunk")
    translation.move("img_neck.lateral_convs.0.conv", "backbone.neck.lateral.0")
    translation.move("img_neck.fpn_convs.0.conv", "backbone.neck.smooth")
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    translation.put("backbone.mean", mean.reshape(3, 1, 1))
    translation.put("backbone.std", std.reshape(3, 1, 1))
    match model.view_transform:
        case BEVFormerConfig() as config:
            _bev_tables(translation, released.cells, config.channels, can_bus)
            for layer in range(config.layers):
                _encoder_layer(translation, layer, config)
        case DepthLiftSplatConfig():
            _depth_lift_splat(translation)
    match model.vectors:
        case MapQRDecoderConfig() as decoder:
            _mapqr_decoder(translation, decoder)
        case MapTRDecoderConfig() as decoder:
            _maptr_decoder(translation, decoder)
    kernels = {"weight": lambda weight: lidar_axes.turned_kernel(weight) if weight.shape[-1] > 1 else weight}
    for theirs, ours in (("seg_head", "bev_lines"), ("segmap_head", "surface")):
        for part in ("0", "2"):
            translation.move(f"{HEAD}{theirs}.{part}", f"auxiliary_heads.{ours}.{part}", kernels)
    translation.move(f"{HEAD}pv_seg_head", "auxiliary_heads.image_lines")
    translation.drop(rf"{HEAD}code_weights$", rf"{HEAD}loss_\w+\.loss_fn\.pos_weight$")


def _bev_tables(translation: Translation, cells: tuple[int, int], channels: int, can_bus: Sequence[float]) -> None:
    target, forward, right = "view_transform", *cells
    table = translation.take(f"{HEAD}bev_embedding.weight", forward * right, channels)
    table = table + can_bus_constant(translation, channels, can_bus)
    translation.put(f"{target}.queries", lidar_axes.turned_cells(table, cells))
    cameras = translation.take(f"{TRANSFORMER}cams_embeds", len(CAMERAS), channels)
    levels = translation.take(f"{TRANSFORMER}level_embeds", -1, channels)
    translation.put(f"{target}.camera_embedding", cameras + levels[0])
    by_right = translation.take(f"{HEAD}positional_encoding.col_embed.weight", right, channels // 2)
    by_forward = translation.take(f"{HEAD}positional_encoding.row_embed.weight", forward, channels // 2)
    translation.put(f"{target}.row_position", by_right.flip(0))
    translation.put(f"{target}.column_position", by_forward)


def can_bus_constant(translation: Translation, channels: int, can_bus: Sequence[float]) -> Tensor:
    """(C,): what the vector adds to every query."""
    source = f"{TRANSFORMER}can_bus_mlp"
    layers = [
        (translation.take(f"{source}.{i}.weight", -1, -1), translation.take(f"{source}.{i}.bias", -1)) for i in (0, 2)
    ]
    scale, shift = (translation.take(f"{source}.norm.{name}", channels).double() for name in ("weight", "bias"))
    if translation.lacks_some:  # which is told at the end
        return torch.zeros(channels)
    hidden = torch.tensor(can_bus, dtype=torch.float64)
    for weight, bias in layers:
        hidden = F.relu(F.linear(hidden, weight.double(), bias.double()))
    return F.layer_norm(hidden, (channels,), scale, shift).float()


def _encoder_layer(translation: Translation, layer: int, config: BEVFormerConfig) -> None:
    source, target = f"{TRANSFORMER}encoder.layers.{layer}", f"view_transform.layers.{layer}"
    theirs, ours = f"{source}.attentions.0", f"{target}.self_attention"
    offsets = partial(lidar_axes.turned_offsets_of_maps, heads=config.heads)
    weights = partial(lidar_axes.maps_first, heads=config.heads)
    translation.move(f"{theirs}.sampling_offsets", f"{ours}.offset", {"weight": offsets, "bias": offsets})
    translation.move(f"{theirs}.attention_weights", f"{ours}.weight", {"weight": weights, "bias": weights})
    translation.move(f"{theirs}.value_proj", f"{ours}.value")
    translation.move(f"{theirs}.output_proj", f"{ours}.output")
    theirs, ours = f"{source}.attentions.1", f"{target}.cross_attention"
    if config.cross_attention == "deformable":
        inner, changes = f"{theirs}.deformable_attention", None
        translation.move(f"{inner}.sampling_offsets", f"{ours}.offset")
    else:
        inner, heads = f"{theirs}.attention", config.kernel_heads or config.heads
        taps = partial(lidar_axes.kernel_rows_first, heads=heads, kernel=config.kernel_size)
        changes = {"weight": taps, "bias": taps}
    translation.move(f"{inner}.attention_weights", f"{ours}.weight", changes)
    translation.move(f"{inner}.value_proj", f"{ours}.value", {"weight": _as_convolution})
    translation.move(f"{theirs}.output_proj", f"{ours}.output")
    translation.move(f"{theirs}.height_offsets", f"{target}.height")
    _feedforward(translation, source, f"{target}.feedforward")
    translation.move(f"{source}.norms", f"{target}.norms")


def _depth_lift_splat(translation: Translation) -> None:
    source, target = f"{TRANSFORMER}encoder", "view_transform"
    theirs, ours = f"{source}.depth_net", f"{target}.depth_net"
    translation.move(f"{theirs}.bn", f"{ours}.norm")
    translation.move(f"{theirs}.reduce_conv", f"{ours}.reduce")
    translation.move(f"{theirs}.context_conv", f"{ours}.context")
    for name in ("context", "depth"):
        gate = f"{ours}.{name}_gate"
        translation.move(f"{theirs}.{name}_mlp.fc1", f"{gate}.describe.0")
        translation.move(f"{theirs}.{name}_mlp.fc2", f"{gate}.describe.2")
        translation.move(f"{theirs}.{name}_se.conv_reduce", f"{gate}.gate.0")
        translation.move(f"{theirs}.{name}_se.conv_expand", f"{gate}.gate.2")
    for block in (0, 1, 2, 4):
        translation.move(f"{theirs}.depth_conv.{block}", f"{ours}.depth.{block}")
    pyramid, mine = f"{theirs}.depth_conv.3", f"{ours}.depth.3"
    for branch in range(4):
        translation.move(f"{pyramid}.aspp{branch + 1}.atrous_conv", f"{mine}.branches.{branch}.0")
        translation.move(f"{pyramid}.aspp{branch + 1}.bn", f"{mine}.branches.{branch}.1")
    translation.move(f"{pyramid}.global_avg_pool.1", f"{mine}.whole.0")
    translation.move(f"{pyramid}.global_avg_pool.2", f"{mine}.whole.1")
    translation.move(f"{pyramid}.conv1", f"{mine}.join.0")
    translation.move(f"{pyramid}.bn1", f"{mine}.join.1")
    for conv in range(3):
        translation.move(f"{source}.downsample.{3 * conv}", f"{target}.halve.{conv}.0")
        translation.move(f"{source}.downsample.{3 * conv + 1}", f"{target}.halve.{conv}.1")
    translation.drop(rf"{source}\.(dx|bx|nx)$", rf"{HEAD}positional_encoding\.", rf"{HEAD}bev_embedding\.")
    translation.drop(rf"{TRANSFORMER}(level_embeds|cams_embeds)$", rf"{TRANSFORMER}can_bus_mlp\.")


def _maptr_decoder(translation: Translation, config: MapTRDecoderConfig) -> None:
    target = "vector_head"
    table = translation.take(f"{HEAD}instance_embedding.weight", -1, 2 * config.channels)
    translation.put(f"{target}.instances", table[: config.num_queries * (1 + config.one_to_many)])
    translation.put(f"{target}.points", translation.take(f"{HEAD}pts_embedding.weight", -1, 2 * config.channels))
    translation.move(f"{TRANSFORMER}reference_points", f"{target}.reference", _TURNED)
    rounds = 1 if config.self_attention == "full" else 2
    for layer in range(config.layers):
        source, ours = f"{TRANSFORMER}decoder.layers.{layer}", f"{target}.layers.{layer}"
        for number in range(rounds):
            translation.move(f"{source}.attentions.{number}.attn", f"{ours}.attentions.{number}")
        _sampling(translation, f"{source}.attentions.{rounds}", f"{ours}.sampling")
        translation.move(f"{source}.attentions.{rounds}.output_proj", f"{ours}.output")
        _feedforward(translation, source, f"{ours}.feed_forward")
        translation.move(f"{source}.norms", f"{ours}.norms")
        _branches(translation, target, layer, last=4)


def _mapqr_decoder(translation: Translation, config: MapQRDecoderConfig) -> None:
    target = "vector_head"
    table = translation.take(f"{HEAD}instance_embedding.weight", -1, 2 * config.channels)
    translation.put(f"{target}.queries", table[: config.num_queries * (1 + config.one_to_many)])
    translation.move(f"{TRANSFORMER}reference_points.0", f"{target}.reference.0")
    translation.move(f"{TRANSFORMER}reference_points.2", f"{target}.reference.2", _TURNED)
    for layer in range(config.layers):
        source, ours = f"{TRANSFORMER}decoder.layers.{layer}", f"{target}.layers.{layer}"
        projection = f"{TRANSFORMER}decoder.pt_pos_query_projs.{layer}"
        translation.move(projection, f"{ours}.position", {"weight": lidar_axes.turned_sine})
        translation.move(f"{source}.attentions.0.attn", f"{ours}.attention")
        _sampling(translation, f"{source}.attentions.1", f"{ours}.sampling")
        for part in (0, 2, 4):
            translation.move(f"{source}.attentions.1.output_proj.{part}", f"{ours}.gather.{part + 1}")
        _feedforward(translation, source, f"{ours}.feed_forward")
        translation.move(f"{source}.norms", f"{ours}.norms")
        _branches(translation, target, layer, last=6)


def _branches(translation: Translation, target: str, layer: int, *, last: int) -> None:
    """A layer's points, whose branch ends with the linear layer `last`, and its classes."""
    source = f"{HEAD}reg_branches.{layer}"
    translation.move(f"{source}.{last}", f"{target}.refine.{layer}.{last}", _TURNED)
    translation.move(source, f"{target}.refine.{layer}")
    translation.move(f"{HEAD}cls_branches.{layer}", f"{target}.classify.{layer}")


def _sampling(translation: Translation, source: str, target: str) -> None:
    translation.move(f"{source}.sampling_offsets", f"{target}.offset", _TURNED)
    translation.move(f"{source}.attention_weights", f"{target}.weight")
    translation.move(f"{source}.value_proj", f"{target}.value", {"weight": _as_convolution})


def _feedforward(translation: Translation, source: str, target: str) -> None:
    translation.move(f"{source}.ffns.0.layers.0.0", f"{target}.0")
    translation.move(f"{source}.ffns.0.layers.1", f"{target}.3")


def _as_convolution(weight: Tensor) -> Tensor:
    return weight[:, :, None, None]
