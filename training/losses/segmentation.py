"""Losses of BEV masks: binary cross-entropy, and the dice score that they share with the auxiliary heads."""

from torch import Tensor
from torch.nn import functional as F

from training.losses.global_sum import global_sum


def mask_losses(logits: Tensor, masks: Tensor, positive_weight: float) -> dict[str, Tensor]:
    """Binary cross-entropy and dice of class masks.

    Args:
        logits: (B, K, Y, X).
        masks: (B, K, Y, X), 0 or 1, any dtype.
        positive_weight: factor on cells of the class, which are few.

    Returns:
        `mask_bce`, the mean over cells; `mask_dice`, the mean over classes of one minus the dice score, pooled over
        the batch, over all processes, so that frames without a class do not push it.
    """
    masks = masks.to(logits.dtype)
    bce = F.binary_cross_entropy_with_logits(logits, masks, pos_weight=logits.new_tensor(positive_weight))
    return {"mask_bce": bce, "mask_dice": class_dice(logits, masks).mean()}


def class_dice(logits: Tensor, masks: Tensor) -> Tensor:
    """(K,): one minus the dice score of each class, pooled over the batch and all processes.

    Args:
        logits: (B, K, Y, X).
        masks: (B, K, Y, X), 0 or 1, of the same dtype.
    """
    probability = logits.sigmoid()
    overlap = global_sum((probability * masks).sum(dim=(0, 2, 3)))
    total = global_sum(probability.sum(dim=(0, 2, 3)) + masks.sum(dim=(0, 2, 3)))
    return 1 - (2 * overlap + 1) / (total + 1)
