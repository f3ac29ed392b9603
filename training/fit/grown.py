"""A model that begins as a narrower one, a teacher as the student that it will teach: inputs that are new, like LiDAR
beside cameras, add nothing at first.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from hdmap_core.checkpoint import Checkpoint
from hdmap_core.errors import CheckpointError
from hdmap_core.models import MapModel
from hdmap_core.models.priors.sd_fusion import SDFusion
from hdmap_core.models.state import misfit

FRESH_GAIN = 0.05
"""Of the norm behind a new SD prior that adds to the BEV features: small, but not dead."""


def grow(model: MapModel, narrower: Checkpoint, path: Path) -> str:
    """Fill a new model in place with the weights of a narrower one.

    Tensors that are wider in their second axis (input channels) get the narrower one's first and zeros behind: new
    sensors come last where BEV features are concatenated. Slots that this model lacks are left out, slots that only it
    has begin at random.

    Returns:
        A line that says what was taken.

    Raises:
        CheckpointError: if a tensor of a shared slot is missing or differs in more than its input channels.
    """
    slots = {name for name, _ in model.named_children()}
    state, theirs = model.state_dict(), narrower.model.state_dict()
    shared = {name: tensor for name, tensor in theirs.items() if name.partition(".")[0] in slots}
    if not shared:
        raise CheckpointError(f"{path} has no slot of this model: {', '.join(sorted(slots))}")
    taken = {name.partition(".")[0] for name in shared}
    expected = {name: tensor for name, tensor in state.items() if name.partition(".")[0] in taken}
    widened = {name: _widened(shared[name], expected[name]) for name in shared.keys() & expected.keys()}
    if problem := misfit(expected, {**shared, **widened}):
        raise CheckpointError(f"{path} is no narrower form of this recipe: it {problem}")
    model.load_state_dict(state | widened)
    if isinstance(model.sd_prior, SDFusion) and "sd_prior" not in taken:
        *_, norm = (part for part in model.sd_prior.up.children() if isinstance(part, nn.BatchNorm2d))
        nn.init.constant_(norm.weight, FRESH_GAIN)
    wider = [name for name in sorted(widened) if widened[name].shape != theirs[name].shape]
    left = {name.partition(".")[0] for name in theirs} - taken
    report = f"{path}: {', '.join(sorted(taken))} taken"
    report += f", with zeros for new inputs of {', '.join(wider)}" if wider else ""
    report += f"; {', '.join(sorted(slots - taken))} not from there" if slots - taken else ""
    return report + (f"; its {', '.join(sorted(left))} left out" if left else "")


def _widened(theirs: Tensor, mine: Tensor) -> Tensor:
    """`theirs` with zeros behind its second axis, if `mine` is wider there and alike otherwise; else unchanged."""
    if theirs.dim() != mine.dim() or theirs.dim() < 2 or theirs.shape[1] >= mine.shape[1]:
        return theirs
    if theirs.shape[:1] + theirs.shape[2:] != mine.shape[:1] + mine.shape[2:]:
        return theirs
    grown = torch.zeros_like(mine)
    grown[:, : theirs.shape[1]] = theirs
    return grown
