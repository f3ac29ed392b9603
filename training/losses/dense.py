"""Losses of dense heads: classes, instance embeddings and directions of lines (HDMapNet, section III-D)."""

from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor
from torch.nn import functional as F

from hdmap_core.config import Config
from hdmap_core.model_io import DenseOutput
from training.data.dense_targets import DenseTargets
from training.losses.global_sum import global_sum


class DenseLossConfig(Config):
    """Defaults are P-MapNet's; HDMapNet's weights are 1, 1, 1 and 0.2 in the order given here.

    Attributes:
        semantic: weight of `dense_semantic`.
        variance: weight of `dense_variance`.
        distance: weight of `dense_distance`.
        direction: weight of `dense_direction`.
        unrefined: factor on the same terms of what the heads say before an HD-map refiner. Published is 0: their
            embeddings and directions then learn nothing, and their classes only through the refiner.
        semantic_loss: one binary decision per channel, background too (the published code), or one of all channels
            (the paper).
        positive_weight: factor on cells of the channel (`bce`), or on cells of any class (`cross_entropy`).
        delta_variance: distance from its instance's mean within which an embedding is left alone.
        delta_distance: see `distance_term`.
        distance_term: `published`: means of instances nearer than `delta_distance` repel each other. `textbook` (De
            Brabandere et al. 2017, section 3.1): nearer than twice that, at twice the strength, and all means are drawn
            to the origin; their own `delta_distance` is 1.5.
        regularisation: factor on the mean norm of the means, `textbook` only.
    """

    semantic: NonNegativeFloat = 1.0
    variance: NonNegativeFloat = 0.1
    distance: NonNegativeFloat = 0.1
    direction: NonNegativeFloat = 0.1
    unrefined: NonNegativeFloat = 0.5
    semantic_loss: Literal["bce", "cross_entropy"] = "bce"
    positive_weight: PositiveFloat = 2.13
    delta_variance: NonNegativeFloat = 0.5
    delta_distance: NonNegativeFloat = 3.0
    distance_term: Literal["published", "textbook"] = "published"
    regularisation: NonNegativeFloat = 0.001


def dense_losses(output: DenseOutput, targets: DenseTargets, config: DenseLossConfig) -> dict[str, Tensor]:
    """Terms without their weights; computed in float32 whatever the model was.

    Every process must call it. A term is 0, with a gradient of 0, where there is nothing to say it about, and NaN where
    the output is.

    Args:
        output: of the heads or of a refiner, on the targets' grid.
        targets: of the same frames.
        config: which losses.

    Returns:
        `dense_semantic`: the mean over cells, and channels if binary.
        `dense_variance`, `dense_distance`: the discriminative loss, the mean over frames, those without lines counted.
        `dense_direction`: binary cross-entropy of the softmax with half a one for each of the two senses, the mean over
        channels and over cells on lines.
    """
    with torch.autocast(output.semantic.device.type, enabled=False):
        variance, distance = discriminative_loss(output.embedding.float(), targets.instance, config)
        return {
            "dense_semantic": _semantic_loss(output.semantic.float(), targets.semantic.long(), config),
            "dense_variance": variance,
            "dense_distance": distance,
            "dense_direction": _direction_loss(output.direction.float(), targets.direction),
        }


def discriminative_loss(embedding: Tensor, instance: Tensor, config: DenseLossConfig) -> tuple[Tensor, Tensor]:
    """The variance and the distance term of De Brabandere et al. 2017, means over the frames.

    Args:
        embedding: (B, E, Y, X) float32.
        instance: (B, Y, X) any integer, 0 for none; which numbers stand for the instances does not matter.
        config: margins and which distance term.
    """
    batch, channels = embedding.shape[:2]
    frame, row, column = torch.nonzero(instance > 0, as_tuple=True)
    number = instance[frame, row, column].long()
    most = int(number.max()) if len(number) else 0
    slot = frame * most + number - 1
    cells = embedding[frame, :, row, column]  # (cells, E), those on lines
    count = cells.new_zeros(batch * most).index_add(0, slot, torch.ones_like(slot, dtype=cells.dtype))
    present = (count > 0).view(batch, most)
    num = present.sum(dim=1)
    sums = cells.new_zeros(batch * most, channels).index_add(0, slot, cells)
    means = sums / count.clamp(min=1)[:, None]

    spread = (torch.linalg.vector_norm(cells - means[slot], dim=1) - config.delta_variance).clamp(min=0).square()
    spread = cells.new_zeros(batch * most).index_add(0, slot, spread) / count.clamp(min=1)
    variance = _per_frame(spread.view(batch, most).sum(dim=1), num)

    means = means.view(batch, most, channels)
    pairs = present[:, :, None] & present[:, None, :] & ~torch.eye(most, dtype=torch.bool, device=means.device)
    textbook = config.distance_term == "textbook"
    margin = 2 * config.delta_distance if textbook else config.delta_distance
    apart = torch.cdist(means, means, compute_mode="donot_use_mm_for_euclid_dist")
    push = ((margin - apart).clamp(min=0).square() * pairs).sum(dim=(1, 2))
    distance = _per_frame(push if textbook else push / 2, num * (num - 1))
    if textbook:
        norm = torch.linalg.vector_norm(means, dim=2).sum(dim=1)  # 0 of those that are not there
        distance = distance + config.regularisation * _per_frame(norm, num)
    return variance, distance


def _per_frame(sums: Tensor, counts: Tensor) -> Tensor:
    """The mean over frames of (B,) sums by their counts."""
    return (sums / counts.clamp(min=1)).mean()


def _semantic_loss(logits: Tensor, semantic: Tensor, config: DenseLossConfig) -> Tensor:
    channels = logits.shape[1]
    if config.semantic_loss == "bce":
        wanted = F.one_hot(semantic, channels).permute(0, 3, 1, 2).to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, wanted, pos_weight=logits.new_tensor(config.positive_weight))
    weight = logits.new_full((channels,), config.positive_weight)
    weight[0] = 1
    return global_sum(F.cross_entropy(logits, semantic, weight, reduction="sum")) / global_sum(weight[semantic].sum())


def _direction_loss(logits: Tensor, direction: Tensor) -> Tensor:
    """Of logits (B, 1 + D, Y, X) and bins (B, 2, Y, X); 0 if no cell of any process is on a line."""
    frame, row, column = torch.nonzero(direction[:, 0], as_tuple=True)
    probability = logits[frame, :, row, column].softmax(dim=1)  # (cells, 1 + D)
    senses = direction[frame, :, row, column].long()
    wanted = torch.zeros_like(probability).scatter_add(1, senses, torch.full_like(probability[:, :2], 0.5))
    # What is no probability ends F.binary_cross_entropy, on CUDA the whole process; a loss that is no number has to
    # reach the loop, which names the frames.
    numbers = probability.nan_to_num()
    total = F.binary_cross_entropy(numbers, wanted, reduction="sum") + (probability - numbers).sum()
    count = total.new_tensor(float(probability.numel()))
    return global_sum(total) / global_sum(count).clamp(min=1)
