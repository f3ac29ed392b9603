"""From an image set to a map: whose fault a failure is, which cameras a model needs, the warm-up."""

from types import SimpleNamespace
from typing import Any

import pytest

from hdmap_core.errors import ConfigError, ImageError, ModelOutputError
from hdmap_ros.observing.observation_builder import NotReadyError
from hdmap_ros.pipeline import InferenceError, MapPipeline, check_cameras, warm_up
from hdmap_ros.problems import Problems
from hdmap_ros.sync.image_sets import ImageSet

IMAGES = ImageSet(5, {}, {}, (), 3_000_000)


class Builder:
    """Hands a ready observation on and remembers what was asked for."""

    pool = "threads"

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.problems = Problems()

    def build(self, images: ImageSet, enough: Any, **options: Any) -> Any:
        self.asked.append((images, enough))
        return SimpleNamespace(token="5", images=(), rig=None, camera_mask=(True, False))


class Model:
    """A predictor whose two stages may fail."""

    info = SimpleNamespace(enough_pixels=(450, 800))
    not_finite = 0

    def __init__(self, **failures: Exception) -> None:
        self.failures = failures

    def _stage(self, name: str) -> None:
        if name in self.failures:
            raise self.failures[name]

    def prepare(self, observation: Any, pool: Any = None) -> Any:
        self._stage("prepare")
        return observation, pool

    def complete(self, prepared: Any) -> Any:
        self._stage("complete")
        assert prepared[1] == "threads"
        return SimpleNamespace(elements=["line"], timings_ms={"network": 2.0}, not_finite=self.not_finite)


def test_a_map_with_the_times_of_all_stages() -> None:
    builder = Builder()
    result = MapPipeline(builder, Model()).process(IMAGES)
    assert builder.asked == [(IMAGES, (450, 800))], "no more pixels than the model needs"
    assert (result.elements, result.images, result.camera_mask) == (["line"], IMAGES, (True, False))
    assert list(result.timings_ms) == ["wait", "decode", "network"]
    assert (result.timings_ms["wait"], result.timings_ms["network"]) == (3.0, 2.0)


def test_elements_that_are_no_numbers_are_counted() -> None:
    builder, model = Builder(), Model()
    model.not_finite = 3
    assert MapPipeline(builder, model).process(IMAGES).elements == ["line"]
    told = builder.problems.report()["not_finite"]
    assert (told["count"], told["message"][:37]) == (1, "3 elements that the network gave are ")


def test_an_output_without_numbers_is_the_networks_failure() -> None:
    with pytest.raises(InferenceError, match="the network failed: all 9 elements"):
        MapPipeline(Builder(), Model(complete=ModelOutputError("all 9 elements"))).process(IMAGES)


@pytest.mark.parametrize("stage", ["prepare", "complete"])
def test_who_is_at_fault(stage: str) -> None:
    """Errors with a cure are of the images; all others are the network's."""
    with pytest.raises(NotReadyError, match="too dark") as refused:
        MapPipeline(Builder(), Model(**{stage: ImageError("too dark")})).process(IMAGES)
    assert refused.value.state == "rejected_image"
    with pytest.raises(InferenceError, match="the network failed: ZeroDivisionError: by zero") as failed:
        MapPipeline(Builder(), Model(**{stage: ZeroDivisionError("by zero")})).process(IMAGES)
    assert isinstance(failed.value.__cause__, ZeroDivisionError)


def test_cameras_that_a_model_needs() -> None:
    info = SimpleNamespace(camera_names=("FRONT", "LEFT", "BACK"))
    check_cameras(info, ("BACK", "LEFT", "FRONT", "TOP"))
    check_cameras(SimpleNamespace(camera_names=()), ("TOP",))
    with pytest.raises(ConfigError, match="the model needs BACK, LEFT; parameter camera_names"):
        check_cameras(info, ("FRONT", "TOP"))


def test_the_warm_up_is_a_ring_of_grey_images(predictor: Any) -> None:
    seen: list[Any] = []
    complete = predictor.complete
    predictor.complete = lambda observation: (seen.append(observation), complete(observation))[1]
    assert warm_up(predictor, ("A", "B", "C"), 2) > 0
    assert len(seen) == 2 and seen[0].camera_mask == (True,) * 3
    assert seen[0].images[0].shape == (900, 1600, 3) and predictor.seen == [], "it is no set"
    directions = [pose[:2, 2].tolist() for pose in seen[0].rig.ego_from_camera.numpy()]
    assert directions[0] == pytest.approx([1.0, 0.0], abs=1e-6)
    assert sum(x for x, _ in directions) == pytest.approx(0.0, abs=1e-6)
    assert warm_up(predictor, ("A",), 0) == 0.0
