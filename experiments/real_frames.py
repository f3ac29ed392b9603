"""What a checkpoint makes of real keyframes: Chamfer AP of dividers and boundaries, and a picture of each.

A folder per keyframe: images, `calibration.json` and `map.json`, as the README beside the data describes them. The data
are nuScenes' and not for commercial use; they are looked at here, nothing is fitted to them. The published table is in
docs/results/real_streets.md.

Run: python experiments/real_frames.py FRAME [FRAME ...] [--weights FILE] [-o FOLDER]
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from rich.console import Console
from rich.table import Table

from hdmap_core.elements import MapClass, MapElement
from hdmap_core.geometry import BEVGrid, CameraRig, se3
from hdmap_core.images.decoding import Enough, decode_image, enough_of, reduction_for
from hdmap_core.inference import default_weights, load_predictor
from hdmap_core.metrics.chamfer_ap import chamfer_ap
from hdmap_core.observation import Observation
from hdmap_core.observation.road_plane import on_the_road
from hdmap_core.viz import draw_map, write_picture

LAYERS = {MapClass.DIVIDER: ("lane_divider", "road_divider"), MapClass.BOUNDARY: ("boundary",)}
"""Which layers of `map.json` are which class; crossings are not in its source."""
INSET_M = 0.2  # boundaries are cut so far inside the window, as in MapTR


def read_frame(folder: Path, at_least: Enough | None = None) -> Observation:
    """The images, at the size that will do, as node and readers decode them; the rig, in the ego frame of the LiDAR."""
    calibration = json.loads((folder / "calibration.json").read_text(encoding="utf-8"))
    cameras, lidar = calibration["cameras"], calibration["lidar"]
    map_from_ego = _matrix(lidar["ego_to_global"])
    ego_from_map = se3.inverse(map_from_ego)
    poses = [
        _matrix(each["ego_to_global_at_camera_time"]) @ _matrix(each["camera_to_ego"]) for each in cameras.values()
    ]
    images = []
    for each in cameras.values():
        size = each["height"], each["width"]
        wanted = size if at_least is None else enough_of(at_least, size, each["intrinsics"][0][0])
        data, reduction = (folder / each["file"]).read_bytes(), reduction_for(size, wanted)
        images.append(decode_image(data, each["file"], reduction, coarse=at_least is not None))
    rig = CameraRig.from_arrays(
        tuple(cameras),
        [np.array(each["intrinsics"]) for each in cameras.values()],
        [ego_from_map @ pose for pose in poses],
        [(each["height"], each["width"]) for each in cameras.values()],
    )
    return Observation(
        images=tuple(images),
        rig=rig.resized([(image.shape[0], image.shape[1]) for image in images]),
        stamp_ns=lidar["timestamp_us"] * 1000,
        token=calibration["sample_token"],
        map_from_ego=map_from_ego,
    )


def lidar_sweep(folder: Path) -> np.ndarray:
    """(P, 3) float64 x, y, z in metres, ego frame."""
    lidar = json.loads((folder / "calibration.json").read_text(encoding="utf-8"))["lidar"]
    points = np.fromfile(folder / lidar["file"], np.float32).reshape(-1, 5)
    return se3.transform_points(_matrix(lidar["lidar_to_ego"]), points[:, :3].astype(np.float64))


def true_elements(folder: Path, observation: Observation, grid: BEVGrid) -> list[MapElement]:
    """The map's lines inside the grid; the pose's roll and pitch do not count, as in nuScenes' ground truth."""
    layers = json.loads((folder / "map.json").read_text(encoding="utf-8"))
    assert observation.map_from_ego is not None  # `read_frame` has given it
    yaw, centre = se3.yaw_of(observation.map_from_ego), observation.map_from_ego[:2, 3]
    turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    found = []
    for label, names in LAYERS.items():
        inset = INSET_M if label is MapClass.BOUNDARY else 0.0
        window = shapely.box(
            grid.x_range[0] + inset, grid.y_range[0] + inset, grid.x_range[1] - inset, grid.y_range[1] - inset
        )
        for line in (line for name in names for line in layers[name]):
            inside = shapely.LineString((np.asarray(line)[:, :2] - centre) @ turn).intersection(window)
            if isinstance(inside, shapely.MultiLineString):
                inside = shapely.line_merge(inside)
            for part in shapely.get_parts(inside):
                if isinstance(part, shapely.LineString) and part.length > 0:
                    found.append(MapElement(label, shapely.get_coordinates(part)))
    return found


def _matrix(pose: dict[str, Any]) -> np.ndarray:
    return se3.se3(se3.rotation_from_quaternion(pose["rotation_wxyz"]), pose["translation"])


def main() -> None:
    """Prints the table; writes the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frames", type=Path, nargs="+", help="folders with calibration.json and map.json")
    parser.add_argument("--weights", type=Path, default=default_weights(), help="checkpoint; the shipped student")
    parser.add_argument("--lidar-ground", action="store_true", help="take the ground's shape from the LiDAR's sweep")
    parser.add_argument("-o", "--out", type=Path, help="folder for a picture of each frame")
    options = parser.parse_args()
    predictor = load_predictor(options.weights)
    said, true = {}, {}
    for folder in options.frames:
        observation = read_frame(folder, predictor.info.enough_pixels)
        if options.lidar_ground:
            observation = on_the_road(observation, sweep=lidar_sweep(folder))
        said[observation.token] = predictor.predict(observation).elements
        true[observation.token] = true_elements(folder, observation, predictor.info.grid)
        if options.out is not None:
            options.out.mkdir(parents=True, exist_ok=True)
            picture = draw_map(observation, said[observation.token], true[observation.token], predictor.info.grid)
            write_picture(options.out / f"{observation.token}.jpg", picture)
    score = chamfer_ap(said, true, classes=tuple(LAYERS))
    table = Table("class", "true", "said", "AP", "AP at 0.5 / 1.0 / 1.5 m", title=f"{len(true)} real keyframes")
    for label, of_class in score.classes.items():
        at = " / ".join(f"{ap:.3f}" for ap in of_class.ap.values())
        table.add_row(
            label.value, str(of_class.num_truth), str(of_class.num_predictions), f"{of_class.mean_ap:.3f}", at
        )
    crossings = [e for elements in said.values() for e in elements if e.label is MapClass.PED_CROSSING]
    table.add_row(MapClass.PED_CROSSING.value, "not in the source", str(len(crossings)), "", "")
    Console().print(table, f"mean of divider and boundary: {score.mean_ap:.3f}")


if __name__ == "__main__":
    main()
