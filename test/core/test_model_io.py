import pytest
import torch

from hdmap_core.model_io import ModelInput, ModelOutput, stack


def ground(value: int) -> ModelInput:
    return ModelInput(torch.full((1, 4, 6, 8), value, dtype=torch.uint8))


def test_stack_keeps_the_order() -> None:
    batch = stack([ground(1), ground(2), ground(3)])
    assert batch.ground is not None and batch.ground.shape == (3, 4, 6, 8)
    assert batch.ground[:, 0, 0, 0].tolist() == [1, 2, 3]


def test_stack_of_nothing_known() -> None:
    assert stack([ModelInput(), ModelInput()]).ground is None


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_a_field_that_only_some_have(order: list[int]) -> None:
    both = [ground(1), ModelInput()]
    with pytest.raises(ValueError, match="only 1 of 2 inputs have the field 'ground'"):
        stack([both[index] for index in order])


def test_to_moves_tensors_and_leaves_none() -> None:
    assert ModelInput().to("cpu") == ModelInput()
    moved = ground(5).to("meta")
    assert moved.ground is not None and moved.ground.device.type == "meta"


def test_outputs_do_not_share_their_taps() -> None:
    first, second = ModelOutput(), ModelOutput()
    first.taps["bev"] = torch.zeros(1)
    assert second.taps == {}


def test_rigs_of_several_sizes_are_filled_up_with_missing_cameras() -> None:
    small, large = (
        ModelInput(
            images=torch.full((1, count, 3, 2, 2), count, dtype=torch.uint8),
            projection=torch.ones(1, count, 3, 4),
            camera_mask=torch.ones(1, count, dtype=torch.bool),
        )
        for count in (4, 7)
    )
    both = stack([small, large])
    assert both.images is not None and both.projection is not None and both.camera_mask is not None
    assert both.camera_mask.sum(dim=1).tolist() == [4, 7] and both.images.dtype == torch.uint8
    assert torch.equal(both.images[0, :4], small.images[0]) and not both.images[0, 4:].any()
    assert torch.equal(both.images[1], large.images[0])
    assert not both.projection[0, 4:].any() and both.projection.shape == (2, 7, 3, 4)
    assert stack([small]).images is not None
