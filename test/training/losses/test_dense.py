"""Losses of dense heads: against slow loops, at the truth, without lines, in half precision, on two processes."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import BEVGrid
from hdmap_core.model_io import DenseOutput
from training.data.dense_targets import DenseTargets, build_dense_targets
from training.losses.dense import DenseLossConfig, dense_losses, discriminative_loss

CLASSES = (MapClass.DIVIDER, MapClass.PED_CROSSING, MapClass.BOUNDARY)
PUBLISHED = DenseLossConfig()
TEXTBOOK = DenseLossConfig(distance_term="textbook", delta_distance=1.5)


def frames() -> list[list[MapElement]]:
    divider = MapElement(MapClass.DIVIDER, np.array([[-10.0, 1], [10, 2]]))
    boundary = MapElement(MapClass.BOUNDARY, np.array([[-10.0, -4], [3, -5], [12, -4]]))
    return [[divider, boundary], [boundary], []]


def targets_of(elements: list[list[MapElement]]) -> DenseTargets:
    return build_dense_targets(
        elements, grid=BEVGrid((-15, 15), (-7.5, 7.5), 0.6), classes=CLASSES, thickness_cells=3, directions=8
    )


def random_output(targets: DenseTargets, scale: float = 1.0, seed: int = 0) -> DenseOutput:
    generator = torch.Generator().manual_seed(seed)
    batch, rows, columns = targets.semantic.shape
    sizes = (4, 5, 9)
    return DenseOutput(
        *(torch.randn(batch, c, rows, columns, generator=generator).mul_(scale).requires_grad_() for c in sizes)
    )


def slow_discriminative(embedding: Tensor, instance: Tensor, config: DenseLossConfig) -> tuple[float, float]:
    """One instance and one pair after the other."""
    variance = distance = 0.0
    for cells, numbers in zip(embedding, instance, strict=True):
        ids = [number for number in numbers.unique().tolist() if number > 0]
        means = []
        for number in ids:
            own = cells[:, numbers == number]
            means.append(own.mean(dim=1))
            spread = [max(0.0, float((one - means[-1]).norm()) - config.delta_variance) ** 2 for one in own.T]
            variance += np.mean(spread) / len(ids) / len(embedding)
        textbook = config.distance_term == "textbook"
        margin = config.delta_distance * (2 if textbook else 1)
        pushes = [
            max(0.0, margin - float((a - b).norm())) ** 2 for i, a in enumerate(means) for b in means[i + 1 :]
        ]  # of unordered pairs
        if pushes:
            distance += np.mean(pushes) / (1 if textbook else 2) / len(embedding)
        if textbook and means:
            distance += config.regularisation * np.mean([float(mean.norm()) for mean in means]) / len(embedding)
    return variance, distance


@settings(deadline=None, max_examples=40)
@given(
    numbers=st.lists(st.lists(st.sampled_from([0, 0, 1, 2, 5, 9]), min_size=12, max_size=12), min_size=1, max_size=3),
    seed=st.integers(0, 99),
    config=st.sampled_from([PUBLISHED, TEXTBOOK]),
)
def test_discriminative_loss_is_that_of_a_loop(numbers: list[list[int]], seed: int, config: DenseLossConfig) -> None:
    instance = torch.tensor(numbers, dtype=torch.int16).view(-1, 3, 4)
    embedding = torch.randn(len(numbers), 5, 3, 4, generator=torch.Generator().manual_seed(seed))
    found = [float(term) for term in discriminative_loss(embedding, instance, config)]
    assert found == pytest.approx(slow_discriminative(embedding, instance, config), rel=1e-4, abs=1e-6)


def test_discriminative_loss_by_hand() -> None:
    instance = torch.tensor([[[1, 1, 0, 2]]], dtype=torch.int16)
    embedding = torch.tensor([[[[-1.0, 1.0, 50.0, 2.0]]]])  # means 0 and 2; spread (1 - 0.5)^2 and 0
    variance, distance = discriminative_loss(embedding, instance, PUBLISHED)
    assert float(variance) == pytest.approx(0.25 / 2) and float(distance) == pytest.approx((3 - 2) ** 2 / 2)
    _, textbook = discriminative_loss(embedding, instance, TEXTBOOK)
    assert float(textbook) == pytest.approx((2 * 1.5 - 2) ** 2 + 0.001 * (0 + 2) / 2)


def test_numbers_of_instances_do_not_matter() -> None:
    targets = targets_of(frames())
    embedding = random_output(targets).embedding.detach()
    first = discriminative_loss(embedding, targets.instance, PUBLISHED)
    renamed = torch.tensor([0, 400, 3], dtype=torch.int16)[targets.instance.long()]
    assert [float(term) for term in first] == pytest.approx(
        [float(term) for term in discriminative_loss(embedding, renamed, PUBLISHED)]
    )
    assert first[0] > 0 and first[1] > 0


@pytest.mark.parametrize(
    "config", [PUBLISHED, DenseLossConfig(semantic_loss="cross_entropy", distance_term="textbook")]
)
def test_every_term_has_a_gradient_where_it_should(config: DenseLossConfig) -> None:
    targets = targets_of(frames())
    for name, head in (
        ("dense_semantic", "semantic"),
        ("dense_variance", "embedding"),
        ("dense_distance", "embedding"),
        ("dense_direction", "direction"),
    ):
        output = random_output(targets, scale=0.5)
        dense_losses(output, targets, config)[name].backward()
        gradients = {key: getattr(output, key).grad for key in ("semantic", "embedding", "direction")}
        assert [key for key, value in gradients.items() if value is not None and value.any()] == [head]
        if head != "semantic":
            assert not (gradients[head].abs().sum(dim=1)[targets.instance == 0]).any(), "lines only"


def test_the_truth_costs_least() -> None:
    targets = targets_of(frames())
    classes = F.one_hot(targets.semantic.long(), 4).permute(0, 3, 1, 2) * 40.0 - 20
    embedding = torch.zeros(3, 5, *targets.semantic.shape[1:])
    embedding[:, 0] = targets.instance * 4.0
    senses = F.one_hot(targets.direction.long(), 9).sum(dim=1).permute(0, 3, 1, 2) * 20.0
    right = dense_losses(DenseOutput(classes, embedding, senses), targets, PUBLISHED)
    assert [float(right[f"dense_{name}"]) for name in ("semantic", "variance", "distance")] == pytest.approx(
        [0] * 3, abs=1e-6
    )
    assert float(right["dense_direction"]) == pytest.approx(4 * math.log(2) / 2 / 9, rel=1e-3), "two halves are certain"
    wrong = dense_losses(DenseOutput(-classes, -embedding * 0, -senses), targets, PUBLISHED)
    assert all(wrong[name] > right[name] + 0.05 for name in right if name != "dense_variance")


@pytest.mark.parametrize("semantic_loss", ["bce", "cross_entropy"])
def test_semantic_loss_by_hand(semantic_loss: str) -> None:
    """Background and a line, said to be a line and background with the logits 1 and -1."""
    config = DenseLossConfig.model_validate({"semantic_loss": semantic_loss, "positive_weight": 3.0})
    none = torch.zeros(1, 1, 2)
    targets = DenseTargets(
        torch.tensor([[[0, 1]]], dtype=torch.uint8), none.short(), none[:, None].byte().repeat(1, 2, 1, 1)
    )
    logits = torch.tensor([[[[-1.0, 2.0]], [[1.0, -2.0]]]])
    output = DenseOutput(logits, torch.zeros(1, 2, 1, 2), torch.zeros(1, 9, 1, 2))
    found = float(dense_losses(output, targets, config)["dense_semantic"])
    cost = [math.log1p(math.exp(value)) for value in (1, 2, 4)]
    if semantic_loss == "bce":  # each channel of the one-hot is missed once and false once
        assert found == pytest.approx((3 * cost[0] + cost[0] + 3 * cost[1] + cost[1]) / 4)
    else:
        assert found == pytest.approx((math.log1p(math.exp(2)) + 3 * cost[2]) / (1 + 3))


@pytest.mark.parametrize("config", [PUBLISHED, TEXTBOOK])
@pytest.mark.parametrize("elements", [[[], []], [frames()[1], []]], ids=["no instance", "one instance"])
def test_few_instances(elements: list[list[MapElement]], config: DenseLossConfig) -> None:
    targets = targets_of(elements)
    output = random_output(targets)
    terms = dense_losses(output, targets, config)
    torch.stack(list(terms.values())).sum().backward()
    assert all(torch.isfinite(value) for value in terms.values())
    assert all(torch.isfinite(getattr(output, head).grad).all() for head in ("semantic", "embedding", "direction"))
    if config is PUBLISHED:
        assert terms["dense_distance"] == 0, "nothing to push apart"
    if not any(elements):
        assert terms["dense_variance"] == 0 and terms["dense_direction"] == 0


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_what_is_no_number_comes_out_as_none(wrong: float) -> None:
    """The loop then ends the run and names the frames."""
    targets = targets_of(frames())
    output = random_output(targets)
    row, column = (targets.instance[0] > 0).nonzero()[0]
    with torch.no_grad():
        output.direction[0, 2, row, column] = wrong
    terms = dense_losses(output, targets, PUBLISHED)
    assert [name for name, value in terms.items() if not value.isfinite()] == ["dense_direction"]


def test_equal_embeddings_have_a_finite_gradient() -> None:
    targets = targets_of(frames())
    output = random_output(targets, scale=0.0)
    torch.stack(list(dense_losses(output, targets, TEXTBOOK).values())).sum().backward()
    assert all(torch.isfinite(getattr(output, head).grad).all() for head in ("semantic", "embedding", "direction"))


def test_half_precision_is_computed_in_float32() -> None:
    targets = targets_of(frames())
    output = random_output(targets)
    half = DenseOutput(*(getattr(output, head).detach().bfloat16() for head in ("semantic", "embedding", "direction")))
    whole = DenseOutput(half.semantic.float(), half.embedding.float(), half.direction.float())
    expected = dense_losses(whole, targets, PUBLISHED)
    with torch.autocast("cpu", torch.bfloat16):
        found = dense_losses(half, targets, PUBLISHED)
    for name, value in found.items():
        assert value.dtype == torch.float32 and torch.equal(value, expected[name])


def test_two_processes_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and gradients, with `global_sum`, which has a test of its own, acted by one process in two passes."""
    config, heads = DenseLossConfig(semantic_loss="cross_entropy"), ("semantic", "embedding", "direction")
    targets = targets_of([frames()[0], [], frames()[0], frames()[1]])  # the second process has fewer lines
    output = random_output(targets)
    terms = dense_losses(output, targets, config)
    torch.stack(list(terms.values())).sum().backward()

    said: dict[int, list[Tensor]] = {0: [], 1: []}
    for listens in (False, True):
        means = dict.fromkeys(terms, 0.0)
        for rank in (0, 1):
            others = iter(list(said[1 - rank]))

            def acted(value: Tensor, rank: int = rank, others: Iterator[Tensor] = others) -> Tensor:
                if not listens:  # noqa: B023
                    said[rank].append(value.detach())
                    return value
                return 2 * value - value.detach() + next(others)  # its gradient is that of two processes

            monkeypatch.setattr("training.losses.dense.global_sum", acted)
            own = DenseOutput(*(getattr(output, head).detach()[rank::2].requires_grad_() for head in heads))
            found = dense_losses(
                own,
                DenseTargets(targets.semantic[rank::2], targets.instance[rank::2], targets.direction[rank::2]),
                config,
            )
            torch.stack(list(found.values())).sum().backward()
            means = {name: means[name] + float(value.detach()) / 2 for name, value in found.items()}
            if listens:
                for head in heads:
                    torch.testing.assert_close(getattr(own, head).grad / 2, getattr(output, head).grad[rank::2])
    assert means == pytest.approx({name: value.item() for name, value in terms.items()}, rel=1e-5)
    assert len(said[0]) == 4, "sums of two losses and of their counts"
