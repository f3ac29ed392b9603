import numpy as np
import pytest
import torch

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.errors import ConfigError
from hdmap_core.geometry import BEVGrid
from hdmap_core.model_io import ModelOutput, VectorOutput
from hdmap_core.postprocess import DecodeConfig
from hdmap_core.postprocess.decode import decode

GRID = BEVGrid()
CLASSES = (MapClass.DIVIDER, MapClass.PED_CROSSING, MapClass.BOUNDARY)


def two_queries() -> tuple[torch.Tensor, torch.Tensor]:
    logits = torch.tensor([[4.0, -6.0, -6.0], [-6.0, 2.0, 0.0]])
    anywhere = torch.rand(8, 2, generator=torch.Generator().manual_seed(0))
    points = torch.stack([torch.linspace(0.1, 0.9, 8).repeat(2, 1).T, anywhere])
    return logits, points


def decoded(logits: torch.Tensor, points: torch.Tensor, max_elements: int = 50) -> list[MapElement]:
    output = ModelOutput(vectors=VectorOutput(logits[None, None], points[None, None]))
    return decode(output, DecodeConfig(max_elements=max_elements), classes=CLASSES, grid=GRID)


def test_best_pairs_in_metres() -> None:
    found = decoded(*two_queries(), max_elements=3)
    assert [element.label for element in found] == [MapClass.DIVIDER, MapClass.PED_CROSSING, MapClass.BOUNDARY]
    assert [element.closed for element in found] == [False, True, False]
    assert [element.score for element in found] == pytest.approx(torch.tensor([4.0, 2.0, 0.0]).sigmoid().tolist())
    np.testing.assert_allclose(found[0].points[[0, -1]], [[-24, -12], [24, 12]], atol=1e-5)
    np.testing.assert_array_equal(found[1].points, found[2].points)


@pytest.mark.parametrize("max_elements", [1, 6, 100])
def test_at_most(max_elements: int) -> None:
    scores, every = ([e.score for e in decoded(*two_queries(), most)] for most in (max_elements, 50))
    assert sorted(scores) == sorted(every)[-max_elements:]


@pytest.mark.parametrize("where", ["logits", "points"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_queries_that_are_no_numbers_are_dropped(where: str, value: float) -> None:
    logits, points = two_queries()
    if where == "points":
        points[0, 3, 1] = value
    elif value != value:
        logits[0, 1] = value
    else:
        logits[0, 0] = value  # an infinite logit is a certain one
    found = decoded(logits, points)
    assert len(found) == (6 if where == "logits" and value == value else 3)
    assert all(np.isfinite(element.points).all() and 0 <= element.score <= 1 for element in found)


def test_half_precision() -> None:
    logits, points = two_queries()
    half, full = decoded(logits.half(), points.half(), 2), decoded(logits, points, 2)
    np.testing.assert_allclose(half[0].points, full[0].points, atol=0.05)


def output(semantic: torch.Tensor | None = None) -> ModelOutput:
    logits, points = two_queries()
    stacked = VectorOutput(torch.stack([logits * 0, logits])[:, None], torch.stack([points * 0, points])[:, None])
    return ModelOutput(vectors=stacked, semantic=semantic)


def test_decode_takes_the_last_layer_and_sorts_by_class_then_score() -> None:
    found = decode(output(), DecodeConfig(score_threshold=0.0), classes=CLASSES, grid=GRID)
    assert len(found) == 6
    order = [(CLASSES.index(element.label), -element.score) for element in found]
    assert order == sorted(order)
    assert max(np.abs(element.points).max() for element in found) > 20, "the first layer's points are all at a corner"


def test_decode_threshold_and_limit_keep_the_best() -> None:
    found = decode(output(), DecodeConfig(score_threshold=0.4), classes=CLASSES, grid=GRID)
    assert [element.label for element in found] == list(CLASSES)
    found = decode(output(), DecodeConfig(max_elements=2), classes=CLASSES, grid=GRID)
    assert [element.label for element in found] == [MapClass.DIVIDER, MapClass.PED_CROSSING]


def test_by_default_the_best_50_stay_whatever_their_score() -> None:
    """The published protocol: MapTR ranks all pairs of query and class and has no threshold."""
    points = torch.rand(30, 4, 2, generator=torch.Generator().manual_seed(0))
    logits = torch.arange(30.0)[:, None].repeat(1, len(CLASSES)) / 30 - 9.0  # scores of about one in ten thousand
    vectors = VectorOutput(logits[None, None], points[None, None])
    found = decode(ModelOutput(vectors=vectors), DecodeConfig(), classes=CLASSES, grid=GRID)
    assert len(found) == 50 and max(element.score for element in found) < 0.001


def test_decode_follows_the_order_of_the_models_classes() -> None:
    classes = (MapClass.BOUNDARY, MapClass.PED_CROSSING, MapClass.DIVIDER)
    found = decode(output(), DecodeConfig(score_threshold=0.4), classes=classes, grid=GRID)
    assert [element.label for element in found] == list(classes)
    assert found[0].score > 0.9


def test_decode_masks_of_one_frame_of_a_batch() -> None:
    semantic = torch.full((2, 3, 200, 400), -9.0)
    semantic[1, 0, 99:102, 20:380] = 9.0
    config = DecodeConfig(head="masks")
    assert decode(output(semantic), config, classes=CLASSES, grid=GRID, index=0) == []
    (found,) = decode(output(semantic), config, classes=CLASSES, grid=GRID, index=1)
    assert found.label is MapClass.DIVIDER and np.abs(found.points[:, 1]).max() < 0.2


@pytest.mark.parametrize("head", ["vectors", "masks"])
def test_a_head_that_is_not_there_is_named(head: str) -> None:
    with pytest.raises(ConfigError, match=f"decode.head is '{head}', .* it has none"):
        decode(ModelOutput(), DecodeConfig(head=head), classes=CLASSES, grid=GRID)


def test_each_class_comes_from_the_head_that_is_chosen_for_it() -> None:
    semantic = torch.full((1, 3, 200, 400), -9.0)
    semantic[0, :, 99:102, 20:380] = 9.0  # a line of each class
    config = DecodeConfig(head="masks", by_class={MapClass.BOUNDARY: "vectors"}, score_threshold=0.0)
    found = decode(output(semantic), config, classes=CLASSES, grid=GRID)
    by_masks = decode(output(semantic), config.only("masks"), classes=CLASSES, grid=GRID)
    by_vectors = decode(output(semantic), config.only("vectors"), classes=CLASSES, grid=GRID)
    for label in CLASSES:
        source = by_vectors if label is MapClass.BOUNDARY else by_masks
        assert [e.score for e in found if e.label is label] == [e.score for e in source if e.label is label] != []
