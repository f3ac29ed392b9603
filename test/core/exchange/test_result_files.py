"""Other programs' result files, built from elements as those programs write them, score what our own do."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hdmap_core.elements import MapClass, MapElement, write_elements
from hdmap_core.errors import ElementError
from hdmap_core.exchange.result_files import class_order, read_result_file
from hdmap_core.metrics.chamfer_ap import PROTOCOLS, chamfer_ap

Frames = dict[str, list[MapElement]]
DIVIDER, CROSSING, BOUNDARY = MapClass.DIVIDER, MapClass.PED_CROSSING, MapClass.BOUNDARY
MAPTR, STREAMMAPNET = [DIVIDER, CROSSING, BOUNDARY], [CROSSING, DIVIDER, BOUNDARY]


def town(number: int, noise: float = 0.0) -> list[MapElement]:
    """A frame of lines, a crossing and an island; with noise, predictions of them."""
    random = np.random.default_rng(number)
    shift = random.uniform(-2, 2, 2)
    elements = []
    for label, y in ((DIVIDER, 3.0), (DIVIDER, -2.5), (BOUNDARY, 7.0), (BOUNDARY, -6.0)):
        x = np.linspace(-25, 25, 20)
        elements.append((label, np.stack([x, y + np.sin(x / 9 + number)], axis=1), False))
    elements.append((CROSSING, np.array([[9, -5], [12, -5], [12, 6], [9, 6]], float), True))
    elements.append((BOUNDARY, np.array([[-12, 10], [-8, 10], [-8, 13]], float), True))
    return [
        MapElement(
            label,
            points + shift + random.normal(0, noise, points.shape),
            closed,
            1.0 if noise == 0 else float(random.uniform(0.1, 1)),
        )
        for label, points, closed in elements
    ]


TRUTH: Frames = {f"token{number}": town(number) for number in range(6)}
PREDICTED: Frames = {f"token{number}": town(number, 0.5) for number in range(5)}  # the last frame is left out


def path_of(element: MapElement) -> np.ndarray:
    points = element.points.astype(float)
    return np.concatenate([points, points[:1]]) if element.closed else points


def to_lidar(points: np.ndarray) -> np.ndarray:
    """To x right, y forward, from 0.94 m ahead of the ego origin."""
    return np.stack([-points[:, 1], points[:, 0] - 0.94], axis=1)


def maptr(frames: Frames, *, truth: bool = False) -> dict[str, Any]:
    samples = []
    for token, elements in frames.items():
        vectors = []
        for element in elements:
            points = to_lidar(element.path.astype(np.float64)).tolist()
            line = {"pts": points, "pts_num": len(points), "cls_name": str(element.label)}
            line["type"] = MAPTR.index(element.label)
            vectors.append(line if truth else {**line, "confidence_level": element.score})
        samples.append({"sample_token": token, "vectors": vectors})
    return {"GTs": samples} if truth else {"meta": {"use_camera": True, "use_lidar": False}, "results": samples}


def submission(frames: Frames, *, maptracker: bool = False) -> dict[str, Any]:
    results = {}
    for token, elements in frames.items():
        shift = (-0.94, 0.0) if maptracker else (0.0, 0.0)
        results[token] = {
            "vectors": [(element.path.astype(np.float64) + shift).tolist() for element in elements],
            "scores": [element.score for element in elements],
            "labels": [STREAMMAPNET.index(element.label) for element in elements],
            "props" if maptracker else "prop": [False] * len(elements),
        }
    if maptracker:
        for sample in results.values():
            sample |= {"track_vectors": [], "track_scores": [], "track_labels": []}
    return {"meta": {"output_format": "vector"}, "results": results}


WRITERS: dict[str, tuple[str | None, Callable[[Frames], dict[str, Any]]]] = {
    "nuscmap_results.json": ("MapTR", maptr),
    "nuscenes_map_anns_val.json": ("MapTR", lambda frames: maptr(frames, truth=True)),
    "submission_vector.json": ("StreamMapNet", submission),
    "maptracker/submission_vector.json": ("MapTracker", lambda frames: submission(frames, maptracker=True)),
}


def written(folder: Path, name: str, frames: Frames, indent: int | None = None) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(WRITERS[name][1](frames), indent=indent))
    return path


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("indent", [None, 2])
def test_elements_come_back_in_the_ego_frame(name: str, indent: int | None, tmp_path: Path) -> None:
    read = read_result_file(written(tmp_path, name, TRUTH, indent))
    assert read.program == WRITERS[name][0]
    assert list(read.frames) == list(TRUTH)
    for token, elements in TRUTH.items():
        for got, wanted in zip(read.frames[token], elements, strict=True):
            assert (got.label, got.closed, got.score) == (wanted.label, wanted.closed, wanted.score)
            np.testing.assert_allclose(got.points, wanted.points, atol=1e-5)


def test_our_own_files_are_read_as_ever(tmp_path: Path) -> None:
    write_elements(tmp_path / "ours.jsonl", TRUTH)
    read = read_result_file(tmp_path / "ours.jsonl")
    assert read.program is None and read.frames.keys() == TRUTH.keys()


@pytest.mark.parametrize("pred", [*(name for name in WRITERS if "anns" not in name)])
@pytest.mark.parametrize("gt", [*WRITERS, "ours"])
def test_scores_are_those_of_our_own_files(hdmap: Any, pred: str, gt: str, tmp_path: Path) -> None:
    truth = tmp_path / "gt.jsonl"
    write_elements(truth, TRUTH)
    if gt != "ours":
        truth = written(tmp_path / "gt", gt, TRUTH)
    for protocol in PROTOCOLS:
        wanted = chamfer_ap(PREDICTED, TRUTH, protocol)
        ended = hdmap("score", written(tmp_path, pred, PREDICTED), truth, "--protocol", protocol, "--json")
        assert ended.code == 0, ended.err
        got = json.loads(ended.out)
        assert 0.1 < wanted.mean_ap < 1 and got["mAP"] == pytest.approx(wanted.mean_ap, abs=1e-9)
        assert (got["num_frames"], got["frames_without_prediction"]) == (6, 1)


def test_lines_that_no_program_scores_and_padding(tmp_path: Path) -> None:
    content = maptr({"a": TRUTH["token0"][:1]})
    vectors = content["results"][0]["vectors"]
    vectors[0]["pts"] += [[-10000.0, -10000.0]] * 3  # padding behind pts_num
    vectors.append({"pts": [[1.0, 2.0]], "pts_num": 1, "cls_name": "divider", "type": 0, "confidence_level": 0.9})
    vectors.append(
        {"pts": [[1, 2, 0.5], [3, 4, 0.5]], "cls_name": "centerline", "type": 3, "confidence_level": 1.000001}
    )
    (tmp_path / "a.json").write_text(json.dumps(content))
    first, last = read_result_file(tmp_path / "a.json").frames["a"]
    np.testing.assert_allclose(first.points, TRUTH["token0"][0].points, atol=1e-5)
    assert last.label is MapClass.CENTERLINE and last.score == 1.0
    np.testing.assert_allclose(last.points, [[2.94, -1], [4.94, -3]], atol=1e-6)


def test_a_nearly_closed_prediction_stays_open(tmp_path: Path) -> None:
    """As MapTR scores it: the line from its first to its last point."""
    ring = np.concatenate([np.array([[0, 0], [5, 0], [5, 5], [0, 5]], float), [[0, 0.2]]])
    (tmp_path / "a.json").write_text(json.dumps(submission({"a": [MapElement(CROSSING, ring)]})))
    (element,) = read_result_file(tmp_path / "a.json").frames["a"]
    assert not element.closed and len(element.points) == 5


def changed(content: dict[str, Any], change: Callable[[Any], object]) -> dict[str, Any]:
    change(content["results"])
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            changed(maptr(TRUTH), lambda r: r[0]["vectors"][1].update(cls_name="contour")),
            "'token0', line 1: .*contour.*kn",
        ),
        (
            changed(maptr(TRUTH), lambda r: r[0]["vectors"][0].update(pts=[[0, "x"], [1, 1]])),
            r"must be a list of \[x, y\]",
        ),
        (changed(maptr(TRUTH), lambda r: r[1]["vectors"][0].update(pts=[1, 2, 3])), "shape"),
        (changed(maptr(TRUTH), lambda r: r[0]["vectors"][0].update(confidence_level=1.5)), "score 1.5"),
        (changed(maptr(TRUTH), lambda r: r[0]["vectors"][0].update(pts=[[0, float("nan")], [1, 1]])), "not finite"),
        (changed(maptr(TRUTH), lambda r: r[0].pop("vectors")), 'a "sample_token" and a list of "vectors"'),
        (changed(maptr(TRUTH), lambda r: r.append(r[0])), "'token0' occurs twice"),
        (
            changed(submission(TRUTH), lambda r: r["token2"]["labels"].__setitem__(0, 7)),
            "number 7.*0 ped_crossing, 1 div",
        ),
        (changed(submission(TRUTH), lambda r: r["token2"]["labels"].pop()), "of one length"),
        (changed(submission(TRUTH), lambda r: r.update(token2=[])), "'token2': expected an object"),
        ({"meta": {}, "results": 3}, 'expected a list of samples under "results" or "GTs"'),
        ({"meta": {}}, "no results are in it; give elements as"),
    ],
)
def test_malformed_files_are_named(content: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ElementError, match=message) as caught:
        read_result_file(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"results": {}}), "a Python pickle .* which is not read: .*; give elements as"),
        (json.dumps(maptr(TRUTH)).encode()[:-100], "broken or truncated JSON"),
        pytest.param(b'{"results": ' + b"[" * 100_000, "broken or truncated JSON", id="nested"),
        (b"<!doctype html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", None),
        (b'{"a": 1}', None),
    ],
)
def test_other_files_are_named(content: bytes, message: str | None, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(content)
    with pytest.raises(ElementError, match=message or "results.json"):
        read_result_file(path)


@pytest.mark.parametrize("name", [name for name in WRITERS if "maptracker" not in name])
def test_fractions_of_a_region_are_told(name: str, tmp_path: Path) -> None:
    content = WRITERS[name][1](TRUTH)
    fractions = json.loads(json.dumps(content), parse_float=lambda text: (float(text) + 40) / 80)
    (tmp_path / "a.json").write_text(json.dumps(fractions))
    with pytest.raises(ElementError, match=r"all coordinates lie in 0\.\.1"):
        read_result_file(tmp_path / "a.json")


def test_no_frame_in_common_is_told(hdmap: Any, tmp_path: Path) -> None:
    others = {f"other{number}": elements for number, elements in enumerate(TRUTH.values())}
    pred, gt = written(tmp_path, "nuscmap_results.json", others), tmp_path / "gt.jsonl"
    write_elements(gt, TRUTH)
    hdmap("score", pred, gt).assert_refused("have no ground truth in", "'other0'", "'token0'")


def test_another_order_of_classes_is_told_and_can_be_named(hdmap: Any, tmp_path: Path) -> None:
    content = submission(PREDICTED)
    for sample in content["results"].values():
        sample["labels"] = [MAPTR.index(STREAMMAPNET[label]) for label in sample["labels"]]
    pred, gt = tmp_path / "submission_vector.json", tmp_path / "gt.jsonl"
    pred.write_text(json.dumps(content))
    write_elements(gt, TRUTH)
    said = hdmap("score", pred, gt, "--json").err
    assert "divider were ped_crossing, ped_crossing were divider" in said and "--label-order" in said
    ended = hdmap("score", pred, gt, "--json", "--label-order", "divider,ped_crossing,boundary")
    assert ended.err == ""
    assert json.loads(ended.out)["mAP"] == pytest.approx(chamfer_ap(PREDICTED, TRUTH).mean_ap)
    hdmap("score", pred, gt, "--label-order", "divider,kerb").assert_refused("--label-order", "'kerb'")


def test_orders_of_classes() -> None:
    assert class_order("ped_crossing, divider") == (CROSSING, DIVIDER)
    with pytest.raises(ElementError, match="'divider' is unknown or twice"):
        class_order("divider,divider")
