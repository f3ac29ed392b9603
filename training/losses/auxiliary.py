"""Losses of the auxiliary heads."""

import torch
from torch import Tensor
from torch.nn import functional as F

from hdmap_core.config import Config
from hdmap_core.model_io import AuxiliaryOutput
from hdmap_core.models.heads.auxiliary import DepthConfig
from training.data.auxiliary_targets import AuxiliaryTargets
from training.losses.global_sum import global_mean, global_sum
from training.losses.segmentation import class_dice


class AuxiliaryLossConfig(Config):
    """Weights of the terms, each under the term's name, and of cells that are 1.

    Attributes:
        surface_dice: MapFM's loss of the surfaces; its weight is not published, so this one is ours.
        surface_bce: binary cross-entropy beside it. The paper has none; 0 leaves the term out.
        bev_lines, image_lines: MapTRv2's and MapQR's.
        depth: MapTRv2's.
        bev_positive_weight, image_positive_weight: factor on cells of a line in either cross-entropy.
    """

    surface_dice: float = 1.0
    surface_bce: float = 0.0
    bev_lines: float = 1.0
    image_lines: float = 2.0
    depth: float = 3.0
    bev_positive_weight: float = 4.0
    image_positive_weight: float = 1.0


def auxiliary_losses(
    output: AuxiliaryOutput,
    targets: AuxiliaryTargets,
    camera_mask: Tensor | None,
    config: AuxiliaryLossConfig,
    depth: DepthConfig | None = None,
) -> dict[str, Tensor]:
    """The unweighted terms of the heads that there are, in float32; names are those of the weights in the config.

    Args:
        output: logits.
        targets: with a target for every head of `output`.
        camera_mask: (B, N) bool; missing cameras do not count. May be None if no head reads images.
        config: factors on positive cells, and whether `surface_bce` is wanted.
        depth: the bins of the depth head.

    Raises:
        ValueError: if the target, the camera mask or the bins that a head needs are not given or do not fit.
    """
    terms: dict[str, Tensor] = {}
    if output.surface is not None:
        logits, masks = _pair("surface", output.surface, targets.surface)
        terms["surface_dice"] = dice_loss(logits, masks)
        if config.surface_bce:
            terms["surface_bce"] = F.binary_cross_entropy_with_logits(logits, masks)
    if output.bev_lines is not None:
        logits, masks = _pair("bev_lines", output.bev_lines, targets.bev_lines)
        weight = logits.new_tensor(config.bev_positive_weight)
        terms["bev_lines"] = F.binary_cross_entropy_with_logits(logits, masks, pos_weight=weight)
    if output.image_lines is not None:
        logits, masks = _pair("image_lines", output.image_lines, targets.image_lines)
        weight = logits.new_tensor(config.image_positive_weight)
        cells = F.binary_cross_entropy_with_logits(logits, masks, reduction="none", pos_weight=weight)
        present = _present("image_lines", camera_mask, logits)
        terms["image_lines"] = (cells.mean(dim=(2, 3, 4)) * present).sum() / global_mean(present.sum()).clamp(min=1)
    if output.depth is not None:
        if depth is None:
            raise ValueError("the depth head needs the config of its bins")
        present = _present("depth", camera_mask, output.depth)
        terms["depth"] = depth_loss(output.depth, _target("depth", targets.depth), present, depth)
    return terms


def dice_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """One minus the dice score, averaged over the classes that the batch has.

    MapFM's is per frame and class. There, a frame without a class costs 1 whatever is said about it, and all the more
    gradient the surer the head already is that there is nothing. So the score is pooled over the batch: frames without
    a class count by their false positives. A class that no frame of the batch has says nothing about overlap and is
    left out; `surface_bce` is for those who want such batches to count.

    Args:
        logits: (B, K, Y, X) float32.
        masks: (B, K, Y, X), 0 or 1.
    """
    present = (global_sum(masks.sum(dim=(0, 2, 3))) > 0).to(logits.dtype)
    return (class_dice(logits, masks) * present).sum() / present.sum().clamp(min=1)


def depth_loss(logits: Tensor, depth: Tensor, present: Tensor, config: DepthConfig) -> Tensor:
    """Cross-entropy over the bins, mean over the cells that have a depth within them.

    MapTRv2 takes the binary cross-entropy of every bin's share of the softmax instead; it is least at the same place,
    but needs the logarithm of one minus a softmax, which float32 cannot hold near the truth.

    Args:
        logits: (B, N, D, h, w).
        depth: (B, N, h, w) metres, NaN where unknown.
        present: (B, N), 1 for cameras that are there.
        config: the bins.
    """
    if logits.shape[2] != config.num_bins:
        raise ValueError(f"the depth head has {logits.shape[2]} bins, its config {config.num_bins}")
    _check_shape("depth", logits[:, :, 0], depth)
    known = (depth >= config.min_depth) & (depth < config.max_depth) & (present[..., None, None] > 0)
    bins = ((depth.nan_to_num(nan=config.min_depth) - config.min_depth) / config.bin_size).floor().long()
    target = torch.where(known, bins.clamp(max=config.num_bins - 1), -1)
    total = F.cross_entropy(logits.float().flatten(0, 1), target.flatten(0, 1), ignore_index=-1, reduction="sum")
    return total / global_mean(known.sum().float()).clamp(min=1)


def _pair(head: str, logits: Tensor, masks: Tensor | None) -> tuple[Tensor, Tensor]:
    """Logits and masks as float32 of one shape."""
    target = _target(head, masks)
    _check_shape(head, logits, target)
    return logits.float(), target.float()


def _target(head: str, target: Tensor | None) -> Tensor:
    if target is None:
        raise ValueError(f"the model has the auxiliary head {head!r}, but its target was not built")
    return target


def _check_shape(head: str, output: Tensor, target: Tensor) -> None:
    if output.shape != target.shape:
        raise ValueError(f"auxiliary head {head!r} says {tuple(output.shape)}, its target is {tuple(target.shape)}")


def _present(head: str, camera_mask: Tensor | None, like: Tensor) -> Tensor:
    """(B, N) float32."""
    if camera_mask is None or camera_mask.shape != like.shape[:2]:
        got = None if camera_mask is None else tuple(camera_mask.shape)
        raise ValueError(f"auxiliary head {head!r} needs a camera mask of shape {tuple(like.shape[:2])}, got {got}")
    return camera_mask.float()
