"""Writes a frames folder: records in the format's words, files beside them, `frames.json` last."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hdmap_core.datasets.frames.format import VERSION
from hdmap_core.datasets.frames.geojson_map import write_map
from hdmap_core.datasets.nuscenes.cities import CITIES
from hdmap_core.datasets.nuscenes.observations import NuScenesDataset
from hdmap_core.datasets.protocol import Scene, SensorFrame, lidar_of
from hdmap_core.errors import OutputError, os_errors_as
from hdmap_core.files import check_folder, make_folder, write_atomically
from hdmap_core.geometry.lens import Lens


def check_new(folder: Path) -> None:
    """Whether a frames folder could be written.

    Raises:
        OutputError: if it cannot be made, or holds frames already.
    """
    check_folder(folder)
    if (folder / "frames.json").exists():
        raise OutputError(f"{folder} holds frames already; choose another folder, or delete it")


def write_frames(folder: Path, scenes: Sequence[Mapping[str, Any]], frames: Sequence[Mapping[str, Any]]) -> None:
    """Writes `frames.json`, a frame per line of it.

    Raises:
        OutputError: if it cannot be written.
    """
    lists = {"scenes": scenes, "frames": frames}
    parts = [
        f'"{name}": [\n' + ",\n".join(json.dumps(record, allow_nan=False) for record in records) + "\n]"
        for name, records in lists.items()
    ]
    write_atomically(folder / "frames.json", f'{{"version": {VERSION}, {", ".join(parts)}}}\n'.encode())


def pose_record(pose: np.ndarray) -> dict[str, Any]:
    """A (4, 4) pose, to the last bit."""
    return {"translation": pose[:3, 3].tolist(), "rotation": pose[:3, :3].tolist()}


def camera_record(
    name: str,
    image: str,
    image_size: tuple[int, int],
    intrinsics: np.ndarray,
    lens: Lens | None,
    ego_from_camera: np.ndarray,
    stamp_ns: int,
    map_from_ego: np.ndarray | None,
) -> dict[str, Any]:
    """A camera of a frame; what has its default is left out.

    Args:
        name: of the camera.
        image: its file, relative to the folder.
        image_size: (H, W).
        intrinsics: (3, 3) pixels.
        lens: that the image shows.
        ego_from_camera: (4, 4) as it is mounted.
        stamp_ns: time of exposure.
        map_from_ego: (4, 4) the car's pose then; None: nobody knows.
    """
    record: dict[str, Any] = {"name": name, "image": image, "stamp_ns": stamp_ns, "image_size": list(image_size)}
    record["intrinsics"] = intrinsics.tolist()
    if lens is not None:
        record |= {"distortion_model": lens.model, "distortion_coefficients": list(lens.coefficients)}
    record |= pose_record(ego_from_camera)
    return record if map_from_ego is None else {**record, "map_from_ego": pose_record(map_from_ego)}


def from_nuscenes(
    dataset: NuScenesDataset,
    scenes: Sequence[Scene],
    folder: Path,
    *,
    link: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Writes the keyframes of nuScenes scenes as a frames folder, with LiDAR, maps and splits.

    Args:
        dataset: where they are.
        scenes: which.
        folder: where to.
        link: images and LiDAR become symbolic links to the files that are there, in place of copies.
        progress: called with frames done and in all.

    Returns:
        How many frames.

    Raises:
        DatasetError: if a file is missing or a map damaged.
        OutputError: if the folder cannot be written, or holds frames already.
    """
    check_new(folder)
    total = sum(len(scene.sample_tokens) for scene in scenes)
    frames: list[dict[str, Any]] = []
    for scene in scenes:
        for token in scene.sample_tokens:
            frames.append(_frame(dataset, scene, token, folder, link))
            progress(len(frames), total)
    write_frames(folder, [_scene(dataset, scene, folder) for scene in scenes], frames)
    return len(frames)


def _frame(dataset: NuScenesDataset, scene: Scene, token: str, folder: Path, link: bool) -> dict[str, Any]:
    observation, files = dataset.observation(token, images=False, points=False, roads=False), dataset.keyframe(token)
    cameras = []
    for name in observation.rig.names:
        file = files[name]
        image = _place(file, f"images/{scene.name}/{name}", folder, link)
        assert file.intrinsics is not None
        cameras.append(
            camera_record(
                name, image, file.image_size, file.intrinsics, file.lens, file.ego_from_sensor, file.stamp_ns,
                file.map_from_ego,
            )
        )  # fmt: skip
    record: dict[str, Any] = {"token": token, "scene": scene.name, "stamp_ns": observation.stamp_ns}
    record |= {"map_from_ego": pose_record(dataset.map_from_ego(token)), "cameras": cameras}
    lidar = lidar_of(files)
    if lidar is not None:
        place = _place(lidar, f"lidar/{scene.name}", folder, link)
        record["lidar"] = {"file": place, **pose_record(lidar.ego_from_sensor)}
    return record


def _scene(dataset: NuScenesDataset, scene: Scene, folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = {"name": scene.name, "location": scene.location, "description": scene.description}
    own = [name for name, names in dataset.splits.items() if scene.name in names]
    if own:  # the first of train, val, mini_train ... that has it
        record["split"] = own[0]
    if scene.location in CITIES:
        record["map_origin"] = {**CITIES[scene.location]._asdict(), "earth": "sphere"}
    if dataset.has_vector_map(scene.sample_tokens[0]):
        record["map"] = f"maps/{scene.location}.geojson"
        if not (folder / record["map"]).exists():
            content = json.dumps(write_map(dataset.vector_map(scene.location).layers))
            write_atomically(folder / record["map"], content.encode())
    roads = dataset.root / "maps" / "sd" / f"{scene.location}.geojson"
    if roads.is_file():
        record["sd_map"] = f"maps/sd/{scene.location}.geojson"
        write_atomically(folder / record["sd_map"], roads.read_bytes())
    return record


def _place(file: SensorFrame, under: str, folder: Path, link: bool) -> str:
    """Puts a sensor's file into the folder; returns its name there."""
    name = f"{under}/{file.path.name}"
    target = folder / name
    make_folder(target.parent)
    with os_errors_as(OutputError, f"cannot put {file.path} into {folder}"):
        if link:
            target.unlink(missing_ok=True)
            target.symlink_to(file.path.absolute())
        else:
            shutil.copyfile(file.path, target)
    return name
