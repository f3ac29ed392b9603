"""`hdmap evaluate` on a few keyframes: what it writes, takes again, refuses, and shows."""

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from hdmap_core.checkpoint import CheckpointConfig, save_checkpoint
from hdmap_core.datasets.nuscenes import NuScenesDataset
from hdmap_core.datasets.nuscenes.tables import find_version
from hdmap_core.elements import read_elements
from hdmap_core.models import ModelConfig, build_model
from hdmap_core.models.bev_encoder import BEVEncoderConfig
from hdmap_core.postprocess import DecodeConfig
from training.evaluate import evaluate
from training.evaluation import predictions as predictions_module
from training.evaluation.task import EvaluateOptions

ROOT = Path(__file__).resolve().parents[2]
CPU = ("--device", "cpu")


def make_checkpoint(path: Path, seed: int, **model: Any) -> Path:
    """A random model that publishes all that it has."""
    torch.manual_seed(seed)
    encoder = BEVEncoderConfig(channels=(8, 8), blocks=(1, 1), out_channels=8)
    config = CheckpointConfig(
        model=ModelConfig(name="small", bev_encoder=encoder, **model), decode=DecodeConfig(score_threshold=0.001)
    )
    save_checkpoint(path, build_model(config.model), config, {"dataset": "none"})
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("evaluate") / "small.safetensors", 0)


class Page(HTMLParser):
    """Collects what a page refers to, and checks that its tags match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.files: list[str] = []
        self.missing_alt = 0
        self._open: list[str] = []
        self.feed(text)
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.files += [str(values[name]) for name in ("src", "href") if values.get(name)]
        self.missing_alt += tag == "img" and not values.get("alt")
        if tag not in ("img", "input", "meta", "link", "br"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


def test_everything_at_once(
    hdmap: Callable[..., Any], checkpoint: Path, synthetic_root: Path, tmp_path: Path, computed: list[str]
) -> None:
    """Corruption, baseline, gallery; a second run computes nothing and says the same."""
    other = make_checkpoint(tmp_path / "other.safetensors", 1)
    out = tmp_path / "out"
    command = ("evaluate", checkpoint, synthetic_root, *CPU, "-o", out, "--gallery", 1, "--json")
    corrupted = ("--corruption", "fog", "--corruption", "missing_camera", "--baseline", other)
    ended = hdmap(*command, *corrupted)
    assert ended.code == 0, ended.err
    report = json.loads(ended.out)
    assert len(computed) == 2 * (1 + 6 + 6), "two keyframes: clean, two kinds at three severities, and the baseline's"
    assert set(report["breakdown"]) == {"distance", "weather", "time of day", "light", "city", "cameras", "scene"}
    assert [band["name"] for band in report["breakdown"]["distance"]] == ["0-10 m", "10-20 m", "20-30 m"]
    assert report["breakdown"]["weather"][0]["num_frames"] == 2
    robustness = report["robustness"]
    assert set(robustness["corruptions"]) == {"fog", "missing_camera"} and robustness["baseline"].startswith("small-")
    assert len(robustness["corruptions"]["fog"]["mAP_by_severity"]) == 3

    written = json.loads((out / "report.json").read_text())
    assert {key: written[key] for key in report} == report
    assert [frame["F1"] for frame in written["frames"]] == sorted((f["F1"] for f in written["frames"]), reverse=True)
    tokens = set(read_elements(out / "gt.jsonl"))
    for folder in (out, out / "corruptions" / "fog-3", out / "baseline" / "corruptions" / "missing_camera-1"):
        assert set(read_elements(folder / "predictions.jsonl")) == tokens
        assert not (folder / "resume").exists()

    text = (out / "gallery" / "index.html").read_text()
    page = Page(text)
    images = [name for name in page.files if name.endswith(".jpg")]
    assert set(page.files) == set(images) and len(set(images)) == 2 * (1 + 6) + 6 and not page.missing_alt
    for name in images:
        with Image.open(out / "gallery" / name) as image:
            image.load()
    assert "://" not in text, "no network"
    assert 'data-rank="1"' in text and "fog, severity 3" in text
    assert "by distance" in text and "by scene" in text
    assert "by weather" not in text and "by cameras" not in text, "one group alone says what the overall score says"
    assert text.count('class="curve ') == 3 * 3, "three classes at three thresholds"
    assert {"predicted", "truth", "image", "divider"} <= set(re.findall(r'data-layer="(\w+)"', text))

    computed.clear()
    again = hdmap(*command, *corrupted)
    assert json.loads(again.out) == report and not computed


def test_two_runs_side_by_side(
    hdmap: Callable[..., Any], checkpoint: Path, synthetic_root: Path, tmp_path: Path
) -> None:
    """Scores, curves and every frame of both; elements lie over the pictures with their scores."""
    other = make_checkpoint(tmp_path / "other.safetensors", 1)
    command = ("evaluate", synthetic_root, *CPU, "--gallery", 1)
    assert hdmap(command[0], other, *command[1:], "-o", tmp_path / "a").code == 0
    ended = hdmap(command[0], checkpoint, *command[1:], "-o", tmp_path / "b", "--beside", tmp_path / "a")
    assert ended.code == 0, ended.err
    text = (tmp_path / "b" / "gallery" / "index.html").read_text()
    assert not Page(text).missing_alt
    names = [json.loads((tmp_path / run / "report.json").read_text())["checkpoint"] for run in ("b", "a")]
    assert all(text.count(name) > 5 for name in names) and 'data-sort="apart"' in text
    assert text.count('class="curve ') == 2 * 9 and text.count('class="curve other"') == 9
    assert text.count('class="layers"') == 2 * 2 * 7, "two runs, two frames, seven pictures"
    scores = [float(score) for score in re.findall(r'data-score="([\d.]+)"', text)]
    said = [e.score for some in read_elements(tmp_path / "b" / "predictions.jsonl").values() for e in some]
    assert max(s for s in scores if s < 1) == pytest.approx(max(said), abs=1e-3) and min(scores) >= 0.05
    weak = [float(score) for score in re.findall(r'class="\w+ weak" data-score="([\d.]+)"', text)]
    assert weak and max(weak) < 0.3, "what is below the slider's first place is there, and not shown"

    first = next(iter(read_elements(tmp_path / "a" / "predictions.jsonl")))
    lines = (tmp_path / "a" / "predictions.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "a" / "predictions.jsonl").write_text("".join(lines[1:]))
    again = (command[0], checkpoint, *command[1:], "-o", tmp_path / "b", "--beside")
    hdmap(*again, tmp_path / "a").assert_refused("other frames", first, "--limit")
    hdmap(*again, tmp_path).assert_refused("no folder of hdmap evaluate")
    hdmap(command[0], checkpoint, synthetic_root, *CPU, "--beside", tmp_path / "a").assert_refused("gallery", "-o")


def test_only_what_is_missing_is_computed(
    hdmap: Callable[..., Any], checkpoint: Path, synthetic_root: Path, tmp_path: Path, computed: list[str]
) -> None:
    command = ("evaluate", checkpoint, synthetic_root, *CPU, "-o", tmp_path / "out", "--gallery", 0)
    assert hdmap(*command, "--limit", 1).code == 0
    first = list(computed)
    assert hdmap(*command).code == 0
    assert len(first) == 1 and len(computed) == 2 and computed[0] != computed[1]
    whole = (tmp_path / "out" / "predictions.jsonl").read_bytes()
    assert hdmap(*command[:5], "-o", tmp_path / "fresh", "--gallery", 0).code == 0
    assert whole == (tmp_path / "fresh" / "predictions.jsonl").read_bytes()

    # Another checkpoint, a file that was changed, another head: computed again.
    computed.clear()
    other = make_checkpoint(tmp_path / "other.safetensors", 1)
    assert hdmap("evaluate", other, *command[2:]).code == 0 and len(computed) == 2
    lines = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    (tmp_path / "out" / "predictions.jsonl").write_text("\n".join(reversed(lines)))
    assert hdmap("evaluate", other, *command[2:]).code == 0 and len(computed) == 4
    assert hdmap("evaluate", other, *command[2:], "--head", "masks").code == 0 and len(computed) == 6


@pytest.mark.parametrize("kind", ["sd/*.geojson", "expansion/*.json"])
def test_other_maps_are_other_data(synthetic_root: Path, tmp_path: Path, kind: str) -> None:
    """Predictions of a model with an SD prior depend on the SD map, overlaps with the truth on the HD map."""
    for folder in (find_version(synthetic_root), "maps"):
        shutil.copytree(synthetic_root / folder, tmp_path / folder)
    first = NuScenesDataset(tmp_path).digest()
    assert NuScenesDataset(tmp_path).digest() == first
    path = next((tmp_path / "maps").glob(kind))
    path.write_text(path.read_text() + "\n")
    assert NuScenesDataset(tmp_path).digest() != first


def test_predictions_depend_on_all_that_makes_them() -> None:
    sources = {str(path.relative_to(ROOT)) for path in predictions_module.program_sources(ROOT)}
    drawn = {"training/data/dense_targets.py", "training/data/batches.py", "training/evaluation/raster_overlap.py"}
    assert {"hdmap_core/postprocess/dense.py", "training/corruptions/__init__.py", *drawn} <= sources
    assert "training/evaluation/gallery.py" not in sources, "a new gallery computes nothing anew"


def test_an_interrupted_run_goes_on(
    hdmap: Callable[..., Any], checkpoint: Path, synthetic_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions_module, "PIECE", 1)
    original, calls = predictions_module._predict_piece, []

    def stopped(piece: Any) -> Any:
        calls.append(piece)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(piece)

    monkeypatch.setattr(predictions_module, "_predict_piece", stopped)
    command = ("evaluate", checkpoint, synthetic_root, *CPU, "-o", tmp_path, "--gallery", 0)
    assert hdmap(*command).code != 0
    assert len(list((tmp_path / "resume").glob("*.jsonl"))) == 1 and not (tmp_path / "predictions.jsonl").exists()
    assert hdmap(*command).code == 0
    assert len(calls) == 3 and len(read_elements(tmp_path / "predictions.jsonl")) == 2
    assert not (tmp_path / "resume").exists()


def test_workers_change_nothing(
    hdmap: Callable[..., Any], checkpoint: Path, synthetic_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions_module, "PIECE", 1)
    reports = []
    for workers in (1, 2):
        out = tmp_path / str(workers)
        ended = hdmap(
            "evaluate", checkpoint, synthetic_root, *CPU, "-o", out, "--gallery", 0, "--json", "--workers", workers
        )
        assert ended.code == 0, ended.err
        reports.append(ended.out)
    assert reports[0] == reports[1]
    assert (tmp_path / "1" / "predictions.jsonl").read_bytes() == (tmp_path / "2" / "predictions.jsonl").read_bytes()


def test_mistakes_are_told_first(
    hdmap: Callable[..., Any], checkpoint: Path, synthetic_root: Path, tmp_path: Path, computed: list[str]
) -> None:
    command = ("evaluate", checkpoint, synthetic_root, *CPU, "-o", tmp_path / "out")
    hdmap(*command, "--corruption", "frost").assert_refused("no corruption 'frost'", "fog")
    hdmap(*command, "--baseline", checkpoint).assert_refused("--baseline", "--corruptions")
    hdmap(*command, "--corruptions", "--baseline", tmp_path).assert_refused("no checkpoint at")
    hdmap(*command[:3], "--device", "cuda:1", "--ray", "local").assert_refused("--ray", "cuda:1")
    smaller = make_checkpoint(tmp_path / "fewer.safetensors", 0, classes=("divider", "boundary"))
    hdmap(*command, "--corruptions", "--baseline", smaller).assert_refused("fewer.safetensors", "other classes")
    assert hdmap(*command, "--workers", 0).code == 2
    assert not computed and not (tmp_path / "out").exists()


def test_nothing_is_drawn_where_nothing_is_written(
    hdmap: Callable[..., Any], checkpoint: Path, synthetic_root: Path
) -> None:
    ended = hdmap("evaluate", checkpoint, synthetic_root, *CPU, "--limit", 1, "--corruption", "camera_crash")
    assert ended.code == 0 and "by distance" in ended.out and "camera_crash" in ended.out and "mRR" in ended.out


def test_paths_may_be_strings(checkpoint: Path, synthetic_root: Path, tmp_path: Path) -> None:
    options = {"device": "cpu", "limit": 1, "gallery": 1, "corruptions": ("fog",), "baseline": str(checkpoint)}
    evaluate(str(checkpoint), str(synthetic_root), "val", EvaluateOptions(out=str(tmp_path / "out"), **options))
    assert {"report.json", "gt.jsonl", "gallery"} <= {path.name for path in (tmp_path / "out").iterdir()}
