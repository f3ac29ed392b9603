"""The objective `distillation`: the supervised terms, and what frozen models teach beside the ground truth."""

from collections.abc import Mapping

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

from hdmap_core.model_io import ModelOutput
from hdmap_core.models.build import tap_channels
from training.config import TrainConfig
from training.data.batches import Batch
from training.distill.kept_outputs import KeptOutputs
from training.distill.sources import Source
from training.distill.terms import build_term
from training.objectives import Forward, against_truth

_HALF = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class Distillation:
    """Model and batch to named scalars. The sources are no part of the student, nor of anything that is trained.

    Args:
        config: the recipe.
        sources: see `load_sources`; on the device of the training.

    Attributes:
        learned: the terms by the names of their scalars; its parameters are the projections.
        kept: of sources whose outputs are kept, where.
    """

    def __init__(self, config: TrainConfig, sources: Mapping[str, Source]) -> None:
        self._config, self._sources = config, sources
        self._terms = [term for term in config.distillation if term.weight]
        student, classes = tap_channels(config.model), config.model.classes
        taps = {name: tap_channels(source.config) for name, source in sources.items()}
        self.kept: Mapping[str, KeptOutputs] = {}
        names = list[str]()
        for term in self._terms:
            name = f"{term.kind}_{term.source}"
            again = sum(other.partition("-")[0] == name for other in names)
            names.append(f"{name}-{again + 1}" if again else name)
        self.learned = nn.ModuleDict(
            {
                name: build_term(term, student, taps[term.source], classes)
                for name, term in zip(names, self._terms, strict=True)
            }
        )

    def __call__(self, forward: Forward, batch: Batch) -> dict[str, Tensor]:
        """The weighted terms; their sum is the loss."""
        output = forward(batch.inputs)
        terms = against_truth(output, batch, self._config)
        said = {name: self._said(name, batch) for name in self._sources}
        with torch.autocast(batch.targets.labels.device.type, enabled=False):
            for (name, module), term in zip(self.learned.items(), self._terms, strict=True):
                terms[name] = term.weight * module(output, said[term.source], batch.targets)
        return terms

    @torch.no_grad()
    def _said(self, name: str, batch: Batch) -> ModelOutput:
        """What a source says of the batch, now or before, in float32 whatever it was computed in."""
        model, half = self._sources[name].model, _HALF.get(self._config.optim.precision)
        device, kept = next(model.parameters()).device, self.kept.get(name)
        said = kept.recall(batch.tokens) if kept else None
        if said is None:
            with torch.autocast(device.type, half, enabled=half is not None):
                said = model(batch.seen_by[name])
            if kept:  # as it will be recalled, so that a run does not depend on what others have kept
                kept.keep(batch.tokens, said)
                said = kept.recall(batch.tokens)
        return apply_to_collection(
            said, Tensor, lambda value: value.to(device, torch.float32 if value.is_floating_point() else value.dtype)
        )
