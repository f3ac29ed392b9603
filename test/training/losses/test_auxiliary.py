"""Losses of the auxiliary heads: least at the truth, blind to missing cameras, finite without targets."""

from dataclasses import fields

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hdmap_core.model_io import AuxiliaryOutput
from hdmap_core.models.heads.auxiliary import AuxiliaryConfig, AuxiliaryHeads, DepthConfig
from training.data.auxiliary_targets import AuxiliaryTargets
from training.losses.auxiliary import AuxiliaryLossConfig, auxiliary_losses, depth_loss, dice_loss

DEPTH = DepthConfig(min_depth=1.0, max_depth=5.0, bin_size=0.5)
WITH_BCE = AuxiliaryLossConfig(surface_bce=1.0)
TERMS = {"surface_dice", "surface_bce", "bev_lines", "image_lines", "depth"}
MASK = torch.tensor([[True, True, False], [True, True, True]])


def random_targets(seed: int = 0) -> AuxiliaryTargets:
    g = torch.Generator().manual_seed(seed)
    depth = torch.rand(2, 3, 4, 7, generator=g) * 6  # some nearer than the first bin, some farther than the last
    depth[torch.rand(2, 3, 4, 7, generator=g) < 0.5] = float("nan")
    return AuxiliaryTargets(
        surface=torch.randint(0, 2, (2, 2, 6, 9), generator=g, dtype=torch.uint8),
        bev_lines=torch.randint(0, 2, (2, 1, 6, 9), generator=g, dtype=torch.uint8),
        image_lines=torch.randint(0, 2, (2, 3, 1, 4, 7), generator=g, dtype=torch.uint8),
        depth=depth,
    )


def random_output(seed: int = 1, **kwargs: object) -> AuxiliaryOutput:
    g = torch.Generator().manual_seed(seed)
    shapes = {
        "surface": (2, 2, 6, 9),
        "bev_lines": (2, 1, 6, 9),
        "image_lines": (2, 3, 1, 4, 7),
        "depth": (2, 3, 8, 4, 7),
    }
    return AuxiliaryOutput(**{k: torch.randn(shape, generator=g).to(**kwargs) for k, shape in shapes.items()})


def truth(targets: AuxiliaryTargets, confidence: float = 60.0) -> AuxiliaryOutput:
    """Logits that are sure of what is right."""
    signs = {k: (getattr(targets, k).float() * 2 - 1) * confidence for k in ("surface", "bev_lines", "image_lines")}
    assert targets.depth is not None
    bins = ((targets.depth.nan_to_num(1.0).clamp(1, 4.99) - 1) / 0.5).floor().long()
    return AuxiliaryOutput(**signs, depth=torch.nn.functional.one_hot(bins, 8).movedim(-1, 2).float() * confidence)


def losses(output: AuxiliaryOutput, targets: AuxiliaryTargets, mask: Tensor = MASK) -> dict[str, Tensor]:
    return auxiliary_losses(output, targets, mask, WITH_BCE, DEPTH)


def test_zero_at_the_truth_only() -> None:
    targets = random_targets()
    found = losses(truth(targets), targets)
    assert set(found) == TERMS
    for name, value in found.items():
        assert value.shape == () and value.item() == pytest.approx(0, abs=1e-6), name
    for name, value in losses(random_output(), targets).items():
        assert value > 0.1, name


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.floats(0.2, 6))
def test_surer_of_the_truth_is_better(seed: int, confidence: float) -> None:
    targets = random_targets(seed)
    surer, less = losses(truth(targets, confidence * 1.5), targets), losses(truth(targets, confidence), targets)
    for name in TERMS:
        assert surer[name] < less[name], name


def test_known_values() -> None:
    targets, zero = random_targets(), AuxiliaryOutput(bev_lines=torch.zeros(2, 1, 6, 9))
    assert targets.bev_lines is not None
    share = targets.bev_lines.float().mean().item()
    found = auxiliary_losses(zero, targets, None, AuxiliaryLossConfig())
    assert set(found) == {"bev_lines"}
    assert found["bev_lines"].item() == pytest.approx(0.693147 * (1 + 3 * share), rel=1e-5)  # positives count 4 times
    # One class, four cells, two of them 1, all said to be 0.5: 1 - (2 * 1 + 1) / (2 + 2 + 1).
    assert dice_loss(torch.zeros(1, 1, 2, 2), torch.tensor([[[[1.0, 1], [0, 0]]]])).item() == pytest.approx(0.4)
    nobody_knows = depth_loss(torch.zeros(1, 1, 8, 1, 2), torch.tensor([[[[2.0, torch.nan]]]]), torch.ones(1, 1), DEPTH)
    assert nobody_knows.item() == pytest.approx(2.0794415)  # log 8, over the one cell that has a depth


@pytest.mark.parametrize(
    ("metres", "bin_index"), [(1.0, 0), (1.49, 0), (1.5, 1), (4.99, 7), (5.0, None), (0.99, None), (float("nan"), None)]
)
def test_depth_bins(metres: float, bin_index: int | None) -> None:
    logits = torch.zeros(1, 1, 8, 1, 1, requires_grad=True)
    depth_loss(logits, torch.full((1, 1, 1, 1), metres), torch.ones(1, 1), DEPTH).backward()
    assert logits.grad is not None
    expected = [] if bin_index is None else [bin_index]
    assert (logits.grad.flatten() < 0).nonzero().flatten().tolist() == expected


def test_missing_cameras_count_for_nothing() -> None:
    targets, output = random_targets(), random_output()
    before = losses(output, targets)
    for tensor in (output.image_lines, output.depth):
        assert tensor is not None
        tensor[0, 2] = 1e4
        tensor.requires_grad_()
    after = losses(output, targets)
    for name in TERMS:
        torch.testing.assert_close(before[name], after[name])
    (after["image_lines"] + after["depth"]).backward()
    for tensor in (output.image_lines, output.depth):
        assert tensor is not None and tensor.grad is not None
        assert not tensor.grad[0, 2].any() and tensor.grad[0, 1].any() and tensor.grad[1, 2].any()


def test_cameras_in_any_order() -> None:
    targets, output, order = random_targets(), random_output(), [2, 0, 1]
    assert targets.image_lines is not None and targets.depth is not None
    assert output.image_lines is not None and output.depth is not None
    turned = auxiliary_losses(
        AuxiliaryOutput(image_lines=output.image_lines[:, order], depth=output.depth[:, order]),
        AuxiliaryTargets(image_lines=targets.image_lines[:, order], depth=targets.depth[:, order]),
        MASK[:, order],
        WITH_BCE,
        DEPTH,
    )
    straight = losses(output, targets)
    for name, value in turned.items():
        torch.testing.assert_close(value, straight[name])


def test_dice_leaves_out_classes_that_the_batch_does_not_have() -> None:
    logits, masks = torch.randn(2, 2, 6, 9, generator=torch.Generator().manual_seed(0)), torch.zeros(2, 2, 6, 9)
    masks[0, 0, :3] = 1
    torch.testing.assert_close(dice_loss(logits, masks), dice_loss(logits[:, :1], masks[:, :1]))
    worse = logits.clone()
    worse[1, 0] = 9.0  # false positives in the frame that has not the class, though the batch has it
    assert dice_loss(worse, masks) > dice_loss(logits, masks) + 0.05


def test_empty_targets_are_finite_and_have_gradients() -> None:
    targets = random_targets()
    for f in fields(targets):
        getattr(targets, f.name).fill_(float("nan") if f.name == "depth" else 0)
    heads = AuxiliaryHeads(
        AuxiliaryConfig(surface=("ped_crossing", "drivable_area"), depth=DEPTH, channels=4),
        image_channels=3,
        bev_channels=3,
    )
    for mask in (MASK, torch.zeros_like(MASK)):
        heads.zero_grad()
        found = losses(heads(torch.randn(2, 3, 3, 4, 7), torch.randn(2, 3, 6, 9)), targets, mask)
        assert (found["surface_dice"], found["depth"]) == (0, 0)
        sum(found.values()).backward()
        for name, parameter in heads.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_give_float32_losses(dtype: torch.dtype) -> None:
    targets, output = random_targets(), random_output(dtype=dtype)
    with torch.autocast("cpu", dtype=dtype):
        found = losses(output, targets)
    exact = losses(AuxiliaryOutput(**{f.name: getattr(output, f.name).float() for f in fields(output)}), targets)
    for name, value in found.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, exact[name])
    # Wide masks: sums of probabilities pass what float16 can hold.
    many = torch.zeros(2, 1, 300, 300, dtype=dtype), torch.ones(2, 1, 300, 300, dtype=torch.uint8)
    found = auxiliary_losses(AuxiliaryOutput(surface=many[0]), AuxiliaryTargets(surface=many[1]), None, WITH_BCE)
    assert found["surface_dice"].item() == pytest.approx(1 / 3, abs=1e-4)


def test_terms_are_those_of_the_heads_and_have_a_weight_of_their_name() -> None:
    targets, output = random_targets(), random_output()
    assert output.surface is not None
    found = auxiliary_losses(output, targets, MASK, AuxiliaryLossConfig(), DEPTH)
    assert set(found) == TERMS - {"surface_bce"}
    assert set(AuxiliaryLossConfig.model_fields) > TERMS
    assert auxiliary_losses(AuxiliaryOutput(), targets, None, WITH_BCE) == {}


def test_what_does_not_fit_is_named() -> None:
    targets, output = random_targets(), random_output()
    with pytest.raises(ValueError, match="'surface', but its target was not built"):
        losses(output, AuxiliaryTargets())
    with pytest.raises(ValueError, match=r"needs a camera mask of shape \(2, 3\), got None"):
        auxiliary_losses(output, targets, None, WITH_BCE, DEPTH)
    with pytest.raises(ValueError, match="config of its bins"):
        auxiliary_losses(output, targets, MASK, WITH_BCE)
    with pytest.raises(ValueError, match="has 8 bins, its config 68"):
        auxiliary_losses(output, targets, MASK, WITH_BCE, DepthConfig())
    assert targets.image_lines is not None
    targets.image_lines = targets.image_lines[..., :-1]
    with pytest.raises(ValueError, match=r"'image_lines' says \(2, 3, 1, 4, 7\), its target is \(2, 3, 1, 4, 6\)"):
        losses(output, targets)
