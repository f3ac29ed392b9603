"""What BEVFormer remembers of a rig, and of its weights, from frame to frame."""

import pickle
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from hdmap_core.geometry import BEVGrid, CameraRig
from hdmap_core.inference.sample import sample_observation
from hdmap_core.model_io import ModelInput
from hdmap_core.models.view_transforms.bevformer import BEVFormer, BEVFormerConfig, BEVFormerLayer
from hdmap_core.models.view_transforms.pillar_projection import PillarPairs, pillars_in_reach

SIZE = (48, 80)
RIG = sample_observation(size=SIZE).rig
OTHER = replace(RIG, intrinsics=RIG.intrinsics * torch.tensor([1.2, 1.1, 1.0])[:, None])


def build(**changes: Any) -> BEVFormer:
    """A small one with all parameters away from their zeros."""
    torch.manual_seed(0)
    small = {"channels": 16, "layers": 2, "heads": 4, "feedforward": 24, "kernel_size": (2, 3)}
    grid = BEVGrid((-9.0, 9.0), (-4.5, 4.5), 1.5)
    module = BEVFormer(BEVFormerConfig(**(small | changes)), grid=grid, in_channels=6).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return module


def batch_of(rigs: list[CameraRig]) -> tuple[Tensor, ModelInput]:
    features = torch.randn(len(rigs), 6, 6, 6, 10, generator=torch.Generator().manual_seed(0))
    projection = torch.stack([rig.projection() for rig in rigs]).float()
    return features, ModelInput(images=torch.zeros(len(rigs), 6, 3, *SIZE, dtype=torch.uint8), projection=projection)


@pytest.mark.parametrize("kind", ["height_kernel", "kernel", "deformable"])
def test_a_rig_is_looked_at_once_until_it_changes(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frame after frame the bits of a module that sees the rig for the first time, whatever about it changes."""
    looks: list[int] = []

    def counted(*arguments: Any) -> PillarPairs:
        looks.append(1)
        return pillars_in_reach(*arguments)

    monkeypatch.setattr("hdmap_core.models.view_transforms.bevformer.pillars_in_reach", counted)
    module = build(cross_attention=kind)
    features, first = batch_of([RIG])
    _, other = batch_of([OTHER])
    assert first.projection is not None and first.images is not None
    shaken = replace(first, projection=first.projection * torch.tensor([1.0, 1 + 1e-6, 1.0])[:, None])
    blind = replace(first, camera_mask=torch.tensor([[True, False, True, True, True, True]]))
    seeing = replace(first, camera_mask=torch.ones(1, 6, dtype=torch.bool))
    larger = replace(first, images=torch.zeros(1, 6, 3, SIZE[0], SIZE[1] + 32, dtype=torch.uint8))
    both = batch_of([RIG, OTHER])[1]
    with torch.inference_mode():
        for inputs in (first, other, first, shaken, blind, seeing, larger, both, first):
            given = features.expand(len(inputs.projection), -1, -1, -1, -1)  # type: ignore[arg-type]
            before = len(looks)
            found = [module(given * scale, inputs) for scale in (1.0, 1.0, -1.0)]
            assert len(looks) == before + 1, "three passes of one rig look at it once"
            fresh = build(cross_attention=kind)
            assert torch.equal(found[0], fresh(given, inputs)) and torch.equal(found[0], found[1])
            assert torch.equal(found[2], fresh(-given, inputs)) and not torch.equal(found[2], found[0])
        first.projection[:, 0] *= 0.5  # written over where it lies
        assert torch.equal(module(features, first), build(cross_attention=kind)(features, first))
        module.max_views = 1
        limited = build(cross_attention=kind, max_views=1)
        assert torch.equal(module(features, first), limited(features, first))
        module.max_views = None
        before = len(looks)
        module.train()(features, first), module(features, first)
        assert len(looks) == before + 2
    before = len(looks)
    module.eval()(features.clone().requires_grad_(), first).sum().backward()
    assert len(looks) == before + 1


def test_a_copy_knows_no_rig() -> None:
    module = build(cross_attention="kernel")
    features, inputs = batch_of([RIG])
    with torch.inference_mode():
        wanted = module(features, inputs)
    for copied in (deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert copied._last_rig._last is None and module._last_rig._last is not None
        with torch.no_grad():
            assert torch.equal(copied(features, inputs), wanted)
    assert list(module.state_dict()) == list(build(cross_attention="kernel").state_dict())


@pytest.mark.parametrize("kind", ["height_kernel", "kernel", "deformable"])
def test_what_weights_alone_decide_is_computed_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first self-attention of a BEV without past, until a weight changes; the bits are those of a fresh module."""
    attends: list[int] = []
    attended = BEVFormerLayer.attended

    def counted(*arguments: Any) -> Tensor:
        attends.append(1)
        return attended(*arguments)

    monkeypatch.setattr(BEVFormerLayer, "attended", counted)
    module = build(cross_attention=kind)
    features, inputs = batch_of([RIG, OTHER])
    layers = len(module.layers)
    with torch.inference_mode():
        first, again = module(features, inputs), module(features, inputs)
        fresh = build(cross_attention=kind)(features, inputs)
        assert torch.equal(first, again) and torch.equal(first, fresh)
    assert len(attends) == 2 * layers + (layers - 1)
    for change in ("queries", "row_position", "layers.0.self_attention.value.weight", "layers.0.norms.0.bias"):
        weight = module.get_parameter(change)
        with torch.no_grad():
            weight += torch.randn_like(weight)  # in place, as an optimiser does
        attends.clear()
        with torch.inference_mode():
            found = module(features, inputs)
            assert len(attends) == layers and not torch.equal(found, first), change
            fresh_module = build(cross_attention=kind)
            fresh_module.load_state_dict(module.state_dict())
            assert torch.equal(found, fresh_module(features, inputs))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        attends.clear()
        module(features, inputs)
        assert len(attends) == layers, "in half precision it is another value"
    module.load_state_dict(build(cross_attention=kind).state_dict())
    with torch.no_grad():
        assert torch.equal(module(features, inputs), first)
    attends.clear()
    module.train()(features, inputs), module.eval()(features, inputs)
    assert len(attends) == 2 * layers, "never with gradients or dropout"
    assert deepcopy(module)._known_start._last is None is pickle.loads(pickle.dumps(module))._known_start._last
