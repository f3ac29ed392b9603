import torch

from hdmap_core.models.state import listed, misfit

OURS = {"a": torch.zeros(2, 3), "b": torch.zeros(4)}


def test_all_that_can_be_wrong() -> None:
    assert misfit(OURS, dict(OURS)) is None
    assert misfit(OURS, {"b": OURS["b"]}) == "lacks 1 tensor: a"
    assert misfit(OURS, {}) == "lacks 2 tensors: a, b"
    assert misfit(OURS, {**OURS, "c": torch.zeros(1)}) == "has unknown 1 tensor: c"
    assert misfit(OURS, {**OURS, "a": torch.zeros(3, 2)}) == "has misshapen 1 tensor: a ((3, 2) instead of (2, 3))"


def test_many_names_are_cut_short() -> None:
    assert listed([f"layer{number}" for number in range(6)]) == "layer0, layer1, layer2, layer3 and 2 more"
