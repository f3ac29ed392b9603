"""Whatever of the public functions takes a path takes a string."""

from pathlib import Path
from typing import Any

import yaml

from hdmap_core.elements import read_elements
from hdmap_core.inference import default_weights
from hdmap_ros.bag.layouts import layout_folder, load_layout
from hdmap_ros.bag.mcap import open_bag, write_mcap
from hdmap_ros.bag.replay import ReplayConfig, replay_bag
from hdmap_ros.bag.replay_many import folders_of, replay_bags
from hdmap_ros.bag.storage import storage_files
from hdmap_ros.bag.write import write_bag
from hdmap_ros.node_report import write_report
from hdmap_ros.observing.calibration import read_calibration_file


def test_strings(rig_nuscenes: Path, rig_module: Any, tmp_path: Path) -> None:
    bag, out = f"{tmp_path}/drive.mcap", f"{tmp_path}/out"
    write_bag(str(rig_nuscenes), "scene-0001", bag, keyframes_only=True)
    assert storage_files(bag) == [Path(bag)]
    with open_bag(bag) as drive, write_mcap(f"{tmp_path}/copy.mcap") as copy:
        copy.declare("/tf", drive.topics["/tf"])
        for topic, stamp_ns, data in drive.raw(lambda topic: topic == "/tf"):
            copy.write(topic, stamp_ns, data)
    config = ReplayConfig(load_layout(str(layout_folder() / "hdmap.yaml")))
    assert load_layout(layout_folder() / "hdmap.yaml") == config.layout
    report = replay_bag(bag, rig_module.RigLines(), out, config)
    assert len(read_elements(f"{out}/predictions.jsonl")) == report["published"] > 0
    assert folders_of([bag, f"{tmp_path}/copy.mcap"], out) == [Path(out) / "drive", Path(out) / "copy"]
    (many,) = replay_bags([bag], str(default_weights()), "cpu", [f"{out}/many"], config)
    assert many["bag"] == "drive.mcap"
    camera = {"intrinsics": [[9.0, 0, 4], [0, 9, 3], [0, 0, 1]], "image_size": [6, 8]}
    Path(f"{tmp_path}/rig.yaml").write_text(yaml.safe_dump({"cameras": {"CAM_FRONT": camera}}), encoding="utf-8")
    assert list(read_calibration_file(f"{tmp_path}/rig.yaml")) == ["CAM_FRONT"]
    write_report(f"{out}/again.json", report)
