"""Names of HDMapNet, P-MapNet and MapKD -> ours. Facts about published files; no code of theirs."""

import itertools

import torch

from hdmap_core.models import ModelConfig
from hdmap_core.models.backbones.efficientnet_names import EXPANDING, FIRST, block_places
from hdmap_core.models.lidar.pillars import PillarsConfig
from hdmap_core.models.lidar.simulated import SimulatedLidarConfig
from hdmap_core.released.translation import COUNTER, Translation

_SQUEEZE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
_UNREAD_IN_TRUNK = r"(_conv_head|_bn1|_fc)\."


def translate_dense(translation: Translation, model: ModelConfig, *, direction_by_embedding: bool) -> None:
    """Fills the state of a model of this config.

    Args:
        translation: of the file's tensors.
        model: as `dense_config` says of them.
        direction_by_embedding: the direction head reads the first block of the embedding head, and its own is unread:
            so it is in HDMapNet's own repository.
    """
    if model.view_transform is None:
        _refiner(translation, "")
        return
    _backbone(translation, "camencode", "backbone")
    translation.move("view_fusion.hw_mat", "view_transform.views")
    if isinstance(model.lidar, PillarsConfig):
        _pillars(translation)
    elif isinstance(model.lidar, SimulatedLidarConfig):
        _simulated_lidar(translation)
    if model.sd_prior is not None:
        _sd_prior(translation, layers=model.sd_prior.layers, channels=model.sd_prior.channels)
    if model.bottleneck is not None:
        _bottleneck(translation)
    _encoder_and_heads(translation, "bevencode", "bev_encoder", "dense_heads", direction_by_embedding)
    if model.hd_refiner is not None:
        _refiner(translation, "mae_head.")


def _backbone(translation: Translation, source: str, target: str) -> None:
    trunk, ours = f"{source}.trunk", f"{target}.trunk"
    translation.move(f"{trunk}._conv_stem", f"{ours}.conv_stem")
    translation.move(f"{trunk}._bn0", f"{ours}.bn1")
    for index, place in enumerate(block_places("tf_efficientnet_b0")):
        names = EXPANDING if index else FIRST
        for theirs, mine in {**names, **_SQUEEZE}.items():
            translation.move(f"{trunk}._blocks.{index}.{theirs}", f"{ours}.{place}.{mine}")
    translation.drop(rf"{trunk}\.{_UNREAD_IN_TRUNK}")
    _two_convolutions(translation, f"{source}.up1.conv", f"{target}.neck.smooth")
    mean, std = (torch.tensor(values) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    translation.put(f"{target}.mean", 255 * mean.reshape(3, 1, 1))
    translation.put(f"{target}.std", 255 * std.reshape(3, 1, 1))


def _two_convolutions(translation: Translation, source: str, target: str) -> None:
    for theirs, mine in {"0": "0.0", "1": "0.1", "3": "1.0", "4": "1.1"}.items():
        translation.move(f"{source}.{theirs}", f"{target}.{mine}")


def _pillars(translation: Translation) -> None:
    translation.put("lidar.linear.weight", translation.take("pp.pn.pointnet.0.weight", -1, -1, 1).squeeze(2))
    translation.drop(rf"pp\.pn\.pointnet\.1\.{COUNTER}")
    translation.move("pp.pn.pointnet.1", "lidar.norm")
    # They convolve (X, Y) and swap the axes at the end, so kernels are swapped.
    names = {}
    for block, conv, part in itertools.product(range(3), range(3), range(2)):
        names[f"pp.block{block + 1}.layers.{3 * conv + part}"] = f"lidar.blocks.{block}.{conv}.{part}"
    for branch, part in itertools.product(range(3), range(2)):
        enlarged = int(branch > 0)  # before their convolutions the others have a layer without weights
        names[f"pp.up{branch + 1}.{enlarged + part}"] = f"lidar.branches.{branch}.{part}"
    for theirs, mine in {"0": "0.0", "1": "0.1", "3": "1.0", "4": "1.1", "6": "2"}.items():
        names[f"pp.conv_out.{theirs}"] = f"lidar.fusion.{mine}"
    swapped = {"weight": lambda weight: weight.transpose(-1, -2) if weight.dim() == 4 else weight}
    for theirs, mine in names.items():
        translation.move(theirs, mine, swapped)


def _simulated_lidar(translation: Translation) -> None:
    _backbone(translation, "pp.camencode", "lidar.backbone")
    translation.move("pp.camencode.depthnet", "lidar.lift_splat.depth_and_context")
    translation.move("expand_to_128", "lidar.expand")
    translation.drop(r"pp\.(dx|bx|nx|frustum)$", r"pp\.reduce_to_3\.", r"pp\.bevencode\.")


def _sd_prior(translation: Translation, *, layers: int, channels: int) -> None:
    for source, target in (("conv_bev", "down"), ("conv_osm", "sd_encoder"), ("conv_up", "up")):
        translation.move(source, f"sd_prior.{target}")
    translation.move("input_proj", "sd_prior.project")
    translation.move("sdmap_crossattn.norm", "sd_prior.norm")
    for layer in range(layers):
        source, target = f"sdmap_crossattn.layers.{layer}", f"sd_prior.layers.{layer}"
        for theirs, mine in (("self_attn", "self_attention"), ("multihead_attn", "cross_attention")):
            weight = translation.take(f"{source}.{theirs}.in_proj_weight", 3 * channels, channels)
            bias = translation.take(f"{source}.{theirs}.in_proj_bias", 3 * channels)
            for name, part, shift in zip(("query", "key", "value"), weight.chunk(3), bias.chunk(3), strict=True):
                translation.put(f"{target}.{mine}.{name}.weight", part)
                if name != "key":  # whose bias the softmax takes away
                    translation.put(f"{target}.{mine}.{name}.bias", shift)
            translation.move(f"{source}.{theirs}.out_proj", f"{target}.{mine}.output")
        translation.move(f"{source}.linear1", f"{target}.feedforward.0")
        translation.move(f"{source}.linear2", f"{target}.feedforward.3")
        for number in range(3):
            translation.move(f"{source}.norm{number + 1}", f"{target}.norms.{number}")


def _bottleneck(translation: Translation) -> None:
    """Of MapKD's student; what its class has for an SD map, it does not read."""
    for number in range(2):
        conv, norm = f"feature_expand.conv{number + 1}", f"feature_expand.bn{number + 1}"
        target = f"bottleneck.widen.{number}"
        bias = translation.take(f"{conv}.bias", -1)
        translation.move(conv, f"{target}.0")
        # A constant before a batch norm is one that its mean has too.
        translation.move(norm, f"{target}.1", {"running_mean": lambda mean, bias=bias: mean - bias})  # type: ignore[misc]
    translation.move("conv_bev", "bottleneck.down")
    translation.drop(r"input_proj\.", r"conv_osm\.", r"conv_up\.")


def _encoder_and_heads(
    translation: Translation, source: str, encoder: str, heads: str, direction_by_embedding: bool = False
) -> None:
    translation.move(f"{source}.conv1", f"{encoder}.stem.0")
    translation.move(f"{source}.bn1", f"{encoder}.stem.1")
    for stage in range(3):
        translation.move(f"{source}.layer{stage + 1}", f"{encoder}.stages.{stage}")
    for suffix, head in (("", "semantic"), ("_embedded", "embedding"), ("_direction", "direction")):
        _two_convolutions(translation, f"{source}.up1{suffix}.conv", f"{heads}.{head}.join")
        for theirs, mine in {"1": "0.0", "2": "0.1", "4": "1"}.items():
            translation.move(f"{source}.up2{suffix}.{theirs}", f"{heads}.{head}.finish.{mine}")
    if direction_by_embedding:
        first = f"{heads}.embedding.join."
        read = {name: tensor for name, tensor in translation.state.items() if name.startswith(first)}
        for name, tensor in read.items():
            translation.put(f"{heads}.direction.join." + name.removeprefix(first), tensor.clone())


def _refiner(translation: Translation, source: str) -> None:
    target = "hd_refiner"
    translation.move(f"{source}map_patch_embed.proj", f"{target}.embed")
    # One place more than tokens, for the class token, and it is the last one that is unread.
    translation.put(f"{target}.places", translation.take(f"{source}pos_embed", 1, -1, -1)[:, :-1])
    translation.move(f"{source}blocks", f"{target}.blocks")
    translation.move(f"{source}norm", f"{target}.norm")
    translation.move(f"{source}conv_up.0", f"{target}.up.0")
    shift = translation.take(f"{source}conv_up.1.bias", -1)
    translation.move(f"{source}conv_up.1", f"{target}.up.1")
    mix = translation.take(f"{source}conv_up.3.conv.weight", -1, len(shift), 1, 1)
    translation.put(f"{target}.up.2.weight", mix)
    # The second bias is a constant of each channel that reaches the batch norm through the 1x1 convolution.
    constant = (mix[:, :, 0, 0].double() @ shift.double()).float()
    translation.move(f"{source}conv_up.3.bn", f"{target}.up_norm", {"running_mean": lambda mean: mean - constant})
    _encoder_and_heads(translation, f"{source}bev_head", f"{target}.bev_encoder", f"{target}.dense")
    prefix = source.replace(".", r"\.")
    translation.drop(rf"{prefix}cls_token$", rf"{prefix}patch_embed\.", rf"{prefix}head\.")
