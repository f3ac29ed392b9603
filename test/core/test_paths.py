"""Whatever of the public functions takes a path takes a string."""

from pathlib import Path

import numpy as np

from hdmap_core import MapClass, MapElement, NuScenesDataset, load_predictor, read_elements, write_elements
from hdmap_core.checkpoint import CheckpointConfig, find_checkpoint, load_checkpoint, save_checkpoint
from hdmap_core.config import load_config
from hdmap_core.datasets.nuscenes import VectorMap
from hdmap_core.datasets.sd_map import SdMap
from hdmap_core.exchange.result_files import read_result_file
from hdmap_core.files import make_folder, write_atomically
from hdmap_core.inference import default_weights
from hdmap_core.viz import write_picture


def test_strings(sensor_world: Path, tmp_path: Path) -> None:
    out, root = str(tmp_path / "out"), str(sensor_world)
    make_folder(out)
    write_atomically(f"{out}/a.txt", b"a")
    write_elements(f"{out}/a.jsonl", {"a": [MapElement(MapClass.DIVIDER, np.array([[0.0, 0], [1, 0]]))]})
    assert list(read_elements(f"{out}/a.jsonl")) == list(read_result_file(f"{out}/a.jsonl").frames) == ["a"]
    write_picture(f"{out}/a.png", np.zeros((4, 4, 3), np.uint8))
    dataset = NuScenesDataset(root)
    city = dataset.scenes[0].location
    assert VectorMap.of_city(root, city).elements(dataset.map_from_ego(dataset.tokens[0]))
    assert VectorMap(f"{root}/maps/expansion/{city}.json").elements(dataset.map_from_ego(dataset.tokens[0]))
    assert SdMap.read(f"{root}/maps/sd/{city}.geojson").lines
    loaded = load_checkpoint(str(default_weights()))
    save_checkpoint(f"{out}/checkpoints/last.safetensors", loaded.model, loaded.config, {})
    assert find_checkpoint(out) == tmp_path / "out" / "checkpoints" / "last.safetensors"
    assert load_predictor(out, "cpu").predict(dataset[0]).token == dataset.tokens[0]
    write_atomically(f"{out}/model.yaml", b"model: {name: mine}")
    assert load_config(CheckpointConfig, f"{out}/model.yaml").model.name == "mine"
