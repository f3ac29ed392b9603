"""`hdmap prepare` on folders with faults: named, counted, and left out where that is asked for."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from hdmap_core.datasets.nuscenes import CAMERAS, NuScenesDataset, NuScenesTables
from hdmap_core.datasets.nuscenes.keyframe_index import KeyframeIndex, open_tables, write_index
from hdmap_core.datasets.synthetic.presets import SynthConfig
from hdmap_core.datasets.synthetic.writer import write_dataset
from hdmap_core.elements import MapClass
from hdmap_core.errors import ConfigError, DatasetError, OutputError
from hdmap_core.model_io import stack
from hdmap_core.models import ModelConfig
from hdmap_core.models.backbones.image_backbone import ImageBackboneConfig
from hdmap_core.models.bev_resnet import ResNetEncoderConfig
from hdmap_core.models.heads.dense import DenseConfig
from hdmap_core.models.lidar.pillars import PillarsConfig
from hdmap_core.models.priors.hd_refiner import HDRefinerConfig
from hdmap_core.models.priors.sd_fusion import SDFusionConfig
from hdmap_core.models.view_transforms.bevformer import BEVFormerConfig
from training.data import preparation as module
from training.data.keyframes import load_keyframes
from training.data.preparation import Preparation, left_out, model_of_grid, prepare
from training.prepare import check, run

MODEL = model_of_grid("30x18")
WITHOUT_SENSORS = dict.fromkeys(("view_transform", "bev_encoder", "vectors", "segmentation"))
HEADS = {"bev_encoder": ResNetEncoderConfig(), "dense": DenseConfig(), "vectors": None, "segmentation": None}
DENSE = ModelConfig(name="dense", grid=MODEL.grid, **HEADS)
REFINER = ModelConfig(name="refiner", grid=MODEL.grid, hd_refiner=HDRefinerConfig(), **WITHOUT_SENSORS)


@pytest.fixture
def root(synthetic_root: Path, tmp_path: Path) -> Path:
    """A folder of its own to damage."""
    return shutil.copytree(synthetic_root, tmp_path / "town", ignore=shutil.ignore_patterns("cache"))


def preparation(root: Path, **changes) -> Preparation:
    return Preparation(
        **{"root": root, "cache": root.parent / "stores", "split": "train", "model": MODEL, "workers": 1} | changes
    )


def tokens_of(root: Path) -> tuple[str, ...]:
    (scene,) = [scene for scene in NuScenesTables(root).scenes if scene.name == "scene-0061"]
    return scene.sample_tokens


def image(root: Path, token: str, camera: str = "CAM_BACK") -> Path:
    return NuScenesTables(root).keyframe(token)[camera].path


def lose_image(root: Path, token: str) -> str:
    image(root, token).unlink()
    return "1 with a missing image"


def truncate_image(root: Path, token: str) -> str:
    path = image(root, token)
    path.write_bytes(path.read_bytes()[:700])
    return "1 with an unreadable image"


def scramble_image(root: Path, token: str) -> str:
    image(root, token).write_bytes(b"\xff\xd8" + bytes(200) + b"\xff\xda\x00\xff\xd9")
    return "1 with an unreadable image"


def blank_image(root: Path, token: str) -> str:
    path = image(root, token)
    data = path.read_bytes()
    half = len(data) // 2
    path.write_bytes(data[:half] + bytes(512) + data[half + 512 :])
    return "1 with an unreadable image"


def lose_camera(root: Path, token: str) -> str:
    path = root / "v1.0-mini" / "sample_data.json"
    lost = NuScenesTables(root).keyframe(token)["CAM_BACK"].token
    path.write_text(json.dumps([row for row in json.loads(path.read_text()) if row["token"] != lost]))
    return "1 without all cameras"


FAULTS = [lose_image, truncate_image, scramble_image, blank_image, lose_camera]


@pytest.mark.parametrize("damage", FAULTS)
def test_a_bad_keyframe_is_named_and_counted(root: Path, damage) -> None:
    first, second = tokens_of(root)
    kind = damage(root, second)
    with pytest.raises(DatasetError) as caught:
        prepare(preparation(root, decode=True))
    message = str(caught.value)
    assert f"1 of 2 keyframes cannot be used ({kind})" in message and "\n" not in message
    assert second in message and first not in message and "scene-0061" in message and "CAM_BACK" in message
    assert "--on-bad skip" in message


@pytest.mark.parametrize("damage", FAULTS)
@pytest.mark.parametrize("keep_inputs", [False, True])
def test_skipping_leaves_out_exactly_the_bad_one(root: Path, damage, keep_inputs: bool) -> None:
    good, bad = tokens_of(root)[::-1]
    damage(root, bad)
    folder = prepare(preparation(root, decode=True, on_bad="skip", keep_inputs=keep_inputs))
    assert [(frame.token, frame.scene) for frame in left_out(folder)] == [(bad, "scene-0061")]
    frames = load_keyframes(root, "train", MODEL, keep_inputs=keep_inputs, cache=root.parent / "stores", workers=1)
    assert frames.tokens.tolist() == [good] and frames.left_out == 1
    expected = NuScenesDataset(root).elements(good, *((-15.0, 15.0), (-9.0, 9.0)))
    assert len(frames[0].elements) == len(expected) > 0
    assert frames[0].inputs.ground is not None and frames[0].inputs.ground.any()


def test_mending_and_trying_again_works(root: Path) -> None:
    token = tokens_of(root)[0]
    path = image(root, token)
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(DatasetError, match="with a missing image"):
        prepare(preparation(root))
    path.write_bytes(whole)
    assert not left_out(prepare(preparation(root)))


def test_a_store_made_without_some_is_no_full_one(root: Path) -> None:
    lose_image(root, tokens_of(root)[0])
    run(preparation(root, on_bad="skip"), ["train"], Console(quiet=True))
    with pytest.raises(DatasetError, match="was made without 1 keyframes; delete it"):
        run(preparation(root), ["train"], Console(quiet=True))


def test_a_refiner_needs_no_sensor_files(root: Path) -> None:
    """Nor may its store, made without a look at the images, pass for one of a model that looks at them."""
    whole = prepare(preparation(root, model=DENSE))
    assert prepare(preparation(root, model=REFINER)) == whole, "what was checked for more will do"
    shutil.rmtree(root / "samples")
    alone = preparation(root, cache=root.parent / "others", model=REFINER, decode=True)
    check(alone, ["train"], Console(quiet=True))
    assert len(load_keyframes(root, "train", REFINER, keep_inputs=False, cache=alone.cache, workers=1)) == 2
    assert left_out(prepare(alone)) == []
    with pytest.raises(DatasetError, match="2 with a missing image"):
        prepare(replace(alone, model=MODEL))


def test_dense_models_have_stores_of_their_own(root: Path) -> None:
    """They know crossings by two edges of each, where vector models know outlines."""
    crossings = {}
    for model in (MODEL, DENSE):
        frames = load_keyframes(root, "train", model, keep_inputs=False, cache=root.parent / "stores", workers=1)
        elements = [element for index in range(len(frames)) for element in frames[index].elements]
        crossings[model.name] = [element for element in elements if element.label is MapClass.PED_CROSSING]
        (cut, _) = frames[0].cut(np.eye(4))
        assert [e.closed for e in cut] == [e.closed for e in frames[0].elements], "a moved view has the same"
    assert crossings["grid"] and all(element.closed for element in crossings["grid"])
    assert crossings["dense"] and not any(element.closed for element in crossings["dense"])


def test_nothing_left(root: Path) -> None:
    for token in tokens_of(root):
        lose_image(root, token)
    with pytest.raises(DatasetError, match=r"no keyframe of split 'train' of .* can be used"):
        prepare(preparation(root, on_bad="skip"))


def test_a_city_without_map(root: Path) -> None:
    shutil.rmtree(root / "maps" / "expansion")
    with pytest.raises(DatasetError, match=r"2 of 2 keyframes cannot be used \(2 without map\).*expansion.*json"):
        prepare(preparation(root))


def test_another_map_is_another_store(root: Path) -> None:
    before = prepare(preparation(root))
    assert prepare(preparation(shutil.copytree(root, root.parent / "copy"))).name == before.name
    path, *_ = (root / "maps" / "expansion").glob("*.json")
    layers = json.loads(path.read_text())
    path.write_text(json.dumps({**layers, "road_divider": layers["road_divider"][:-1]}))
    after = prepare(preparation(root))
    assert after != before and (after / "complete").is_file()


def test_what_was_not_looked_for_is_another_store(root: Path) -> None:
    """A store for cameras must not serve a model that reads LiDAR sweeps, which nobody has looked for."""
    shutil.rmtree(root / "samples" / "LIDAR_TOP")
    prepare(preparation(root))
    with pytest.raises(DatasetError, match="2 with a missing sweep"):
        prepare(preparation(root, sweeps=1))


def test_check_looks_at_the_whole_folder_and_makes_no_store(root: Path) -> None:
    check(preparation(root, decode=True), [], Console(quiet=True))
    truncate_image(root, tokens_of(root)[1])
    check(preparation(root, decode=False), [], Console(quiet=True))
    with pytest.raises(DatasetError, match=r"1 of 4 keyframes cannot be used \(1 with an unreadable image\)"):
        check(preparation(root, decode=True), [], Console(quiet=True))
    check(preparation(root, decode=True), ["val"], Console(quiet=True))
    with pytest.raises(DatasetError, match="no scene of trian"):
        check(preparation(root), ["trian"], Console(quiet=True))
    assert [path.name.split("-")[0] for path in (root.parent / "stores").iterdir()] == ["index"]


def test_check_says_which_images_it_looked_at(root: Path) -> None:
    three = ImageBackboneConfig(model="resnet18.tv_in1k", image_size=(32, 64), cameras=CAMERAS[:3])
    images = ModelConfig(name="images", grid=MODEL.grid, backbone=three, view_transform=BEVFormerConfig())
    for model, decode, said in (
        (MODEL, True, "all images of their rigs decoded"),
        (images, False, "3 images each there"),
        (REFINER, True, "images not looked at"),
    ):
        console = Console(file=io.StringIO(), width=200)
        check(preparation(root, model=model, decode=decode), ["train"], console)
        assert f"2 keyframes, 2 complete, {said}" in console.file.getvalue()


@pytest.mark.parametrize(
    ("needs", "missing"),
    [
        ({"sd_prior": SDFusionConfig()}, r"an SD map, but .*is missing"),
        ({"lidar": PillarsConfig()}, "the sweep of .*is empty"),
    ],
)
def test_check_looks_for_what_the_model_reads_besides_images(root: Path, needs, missing: str) -> None:
    for path in (root / "maps" / "sd").iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match=missing):
        check(preparation(root, model=MODEL.model_copy(update=needs)), ["train"], Console(quiet=True))
    check(preparation(root), ["train"], Console(quiet=True))


def test_a_cache_that_cannot_be_written(root: Path) -> None:
    (root / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write the cache"):
        prepare(preparation(root, cache=root / "file" / "cache"))
    with pytest.raises(OutputError, match="cannot write the cache"):
        run(preparation(root, cache=root / "file" / "cache"), ["train"], Console(quiet=True))


def test_the_store_does_not_depend_on_the_order_of_the_work(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several workers finish scenes in any order (`map_scenes` has tests of real processes)."""
    names = [scene.name for scene in NuScenesTables(root).scenes]
    assert len(names) == 2
    (root / "v1.0-mini" / "splits.json").write_text(json.dumps({"own": names}))
    forwards = prepare(preparation(root, cache=root.parent / "forwards", split="own", keep_inputs=True))

    def backwards(function, items, workers, ray, done):
        for index in reversed(range(len(items))):
            done(index, function(items[index]))

    with monkeypatch.context() as patch:
        patch.setattr(module, "map_scenes", backwards)
        other = prepare(preparation(root, cache=root.parent / "backwards", split="own", keep_inputs=True))
    files = sorted(path.relative_to(forwards) for path in forwards.rglob("*.npy"))
    assert forwards.name == other.name and len(files) == 6
    for file in files:
        assert (forwards / file).read_bytes() == (other / file).read_bytes(), file


def test_the_index_says_what_the_tables_say(root: Path, tmp_path: Path) -> None:
    tables = NuScenesTables(root)
    write_index(tables, tmp_path / "cache")
    index = open_tables(root, tmp_path / "cache")
    assert isinstance(index, KeyframeIndex) and index.scenes == tables.scenes
    for scene in tables.scenes:
        for token in scene.sample_tokens:
            expected = {c: f for c, f in tables.keyframe(token).items() if f.modality != "radar"}
            found = index.keyframe(token)
            assert list(found) == list(expected)
            for channel, frame in expected.items():
                for name, value in vars(frame).items():
                    np.testing.assert_array_equal(getattr(found[channel], name), value, err_msg=f"{channel} {name}")
    with pytest.raises(DatasetError, match="has no sample 'x'"):
        index.keyframe("x")


def test_changed_tables_have_another_index(root: Path, tmp_path: Path) -> None:
    write_index(NuScenesTables(root), tmp_path / "cache")
    path = root / "v1.0-mini" / "scene.json"
    path.write_text(path.read_text() + "\n")
    assert isinstance(open_tables(root, tmp_path / "cache"), NuScenesTables)


def test_a_damaged_index_is_named(root: Path, tmp_path: Path) -> None:
    write_index(NuScenesTables(root), tmp_path / "cache")
    (file,) = (tmp_path / "cache").glob("index-*/rows.npy")
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DatasetError, match=r"the index .* is damaged .* delete it"):
        open_tables(root, tmp_path / "cache")


@pytest.mark.parametrize("text", ["60", "60x", "axb", "0x30", "60x30x2"])
def test_a_grid_that_is_none(text: str) -> None:
    with pytest.raises(ConfigError, match="grid"):
        model_of_grid(text)


def test_the_verb(root: Path) -> None:
    import typer

    from training.cli import register

    app = typer.Typer()
    register(app)
    done = CliRunner().invoke(app, ["prepare", str(root), "--grid", "30x18", "--split", "train", "--workers", "1"])
    assert done.exit_code == 0, done.output
    for said in ("keyframes", "divider elements", "34149 keyframes would take", "1 processes"):
        assert said in done.output
    assert load_keyframes(root, "train", MODEL, keep_inputs=False, workers=1).left_out == 0


def test_several_rigs_in_one_folder(tmp_path: Path) -> None:
    """Towns through rigs of their own: nothing is left out for the cameras that another scene has."""
    config = SynthConfig(
        version="v1.0-mini", towns={"train": 2}, keyframes=1, image_size=(45, 80), lidar="none", rigs="varied"
    )
    write_dataset(tmp_path / "rigs", config)
    dataset = NuScenesDataset(tmp_path / "rigs")
    counts = {dataset.observation(token, images=False).rig.num_cameras for token in dataset.tokens}
    assert counts == {5, 8}
    for keep_inputs in (False, True):
        frames = load_keyframes(
            tmp_path / "rigs", "train", MODEL, keep_inputs=keep_inputs, cache=tmp_path / "stores", workers=1
        )
        assert len(frames) == 2 and not frames.left_out
        assert frames[1].inputs.ground is not None and frames[1].inputs.ground[0, 3].any()
    backbone = ImageBackboneConfig(model="resnet18.tv_in1k", image_size=(32, 64))
    images = ModelConfig(name="images", grid=MODEL.grid, backbone=backbone, view_transform=BEVFormerConfig())
    frames = load_keyframes(tmp_path / "rigs", "train", images, keep_inputs=False, cache=tmp_path / "b", workers=1)
    batch = stack([frames[index].inputs for index in range(2)])
    assert batch.camera_mask is not None and set(batch.camera_mask.sum(dim=1).tolist()) == counts
    with pytest.raises(DatasetError, match=r"several rigs cannot be kept side by side, say data\.keep_inputs=false"):
        load_keyframes(tmp_path / "rigs", "train", images, keep_inputs=True, cache=tmp_path / "c", workers=1)
