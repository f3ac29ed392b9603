"""Distillation of vector heads: who is matched to whom, in which order of points, and values by hand."""

import pytest
import torch
from torch import Tensor

from hdmap_core.elements import MapClass
from hdmap_core.model_io import ModelOutput, VectorOutput
from training.data.targets import Targets
from training.distill.vector_relation import VectorRelation, VectorRelationConfig
from training.distill.vector_response import VectorResponse, VectorResponseConfig, VectorTermConfig, said_elements

from .test_msrd import bce, sigmoid

CLASSES = (MapClass.DIVIDER, MapClass.PED_CROSSING)
TRUTH = Targets(None, torch.zeros(1, 1), torch.zeros(0), torch.zeros(0), torch.tensor([10.0, 10.0]))
LINE = torch.tensor([[0.1, 0.5], [0.5, 0.5], [0.9, 0.5]])
RING = torch.tensor([[0.2, 0.2], [0.4, 0.2], [0.4, 0.4]])


def says(
    logits: list[list[float]], points: list[Tensor], queries: Tensor | None = None, layers: int = 1
) -> ModelOutput:
    every = torch.tensor(logits).expand(layers, 1, -1, -1), torch.stack(points).expand(layers, 1, -1, -1, -1)
    return ModelOutput(vectors=VectorOutput(*(each.clone().requires_grad_() for each in every), queries=queries))


def test_what_a_source_says_as_targets() -> None:
    vectors = says([[-4.0, -4], [-3, 2], [1, -3]], [LINE, RING, LINE]).vectors
    config = VectorTermConfig(source="teacher", min_score=0.5, max_elements=3)
    said, query = said_elements(vectors, TRUTH.extent, CLASSES, config)
    assert query.tolist() == [[1, 2, 0]] and said.labels.tolist() == [[1, 0, -1]]
    orders = [said.orders[0][said.owners[0] == number] for number in range(3)]
    assert [len(each) for each in orders] == [6, 2, 0], "all orders of a ring, both of a line, none of what is unsure"
    torch.testing.assert_close(orders[1], torch.stack([LINE, LINE.flip(0)]))
    rolls = [torch.roll(way, -k, 0) for way in (RING, RING.flip(0)) for k in range(3)]
    assert {str(each.tolist()) for each in orders[0]} == {str(each.tolist()) for each in rolls}
    own, _ = said_elements(vectors, TRUTH.extent, CLASSES, config, own_order=True)
    assert torch.equal(own.orders[0][own.owners[0] == 0], RING[None])
    directed, _ = said_elements(vectors, TRUTH.extent, (MapClass.CENTERLINE, MapClass.BOUNDARY), config)
    assert [(directed.owners == number).sum().item() for number in (0, 1)] == [2, 1], "a centerline has one direction"


@pytest.mark.parametrize(("orders", "reversed_costs"), [("equivalent", False), ("source", True)])
def test_response_by_hand(orders: str, reversed_costs: bool) -> None:
    """One sure element, said backwards by the nearer of two queries, 1 m beside it, in both decoder layers."""
    config = VectorResponseConfig(source="teacher", classes=2.0, points=3.0, order=0.5, orders=orders)
    backwards = LINE.flip(0) + torch.tensor([0.0, 0.1])
    student = says([[0.5, -1.0], [0.5, -1.0]], [torch.zeros(3, 2), backwards], layers=2)
    source = says([[1.0, -2.0], [-5.0, -5.0]], [LINE, RING])
    value = VectorResponse(config, CLASSES)(student, source, TRUTH)
    score = sigmoid(1.0)
    distance = 3 * 0.1 + (2 * 0.8 if reversed_costs else 0)  # of normalised coordinates, summed over points
    turn = 2 * 2 if reversed_costs else 0  # two edges against the source's
    classes = bce(0.5, score) + bce(-1.0, sigmoid(-2.0))
    expected = (2 * classes + score * (3 * distance + 0.5 * turn)) / score
    assert value.item() == pytest.approx(expected, rel=1e-4)
    value.backward()
    gradient = student.vectors.points.grad
    assert gradient[:, 0, 1].any() and not gradient[:, 0, 0].any(), "only the matched query is drawn"


def test_a_silent_source_teaches_nothing() -> None:
    student = says([[0.5, -1.0]], [LINE])
    value = VectorResponse(VectorResponseConfig(source="teacher"), CLASSES)(student, says([[-9.0, -9]], [LINE]), TRUTH)
    value.backward()
    assert value == 0 and not student.vectors.points.grad.any()


def test_relations_by_hand() -> None:
    """Two elements, matched crosswise: their queries are alike in the source, at right angles in the student."""
    logits = [[2.0, -4.0], [-4.0, 2.0]]
    own = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]], requires_grad=True)
    student = says(logits[::-1], [RING, LINE], own)
    source = says(logits, [LINE, RING], torch.tensor([[[1.0, 1], [2, 2]]]))
    value = VectorRelation(VectorRelationConfig(source="teacher"), CLASSES)(student, source, TRUTH)
    assert value.item() == pytest.approx(1.0, rel=1e-5)
    value.backward()
    assert own.grad.any()
    lonely = says([[2.0, -4.0], [-9.0, -9]], [LINE, RING], torch.ones(1, 2, 2))
    assert VectorRelation(VectorRelationConfig(source="teacher"), CLASSES)(student, lonely, TRUTH) == 0
