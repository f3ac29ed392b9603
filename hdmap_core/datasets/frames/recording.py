"""From observations to a frames folder: what `hdmap frames from-video` and `from-bag` write."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from hdmap_core.datasets.frames.trajectory import Trajectory
from hdmap_core.datasets.frames.writing import camera_record, check_new, pose_record, write_frames
from hdmap_core.errors import DatasetError, OutputError, os_errors_as
from hdmap_core.files import make_folder, write_atomically
from hdmap_core.geometry import se3
from hdmap_core.observation import Observation

_JPEG_QUALITY = 95


class FramesRecorder:
    """Writes one scene, frame by frame; `frames.json` comes last, with `finish`.

    Args:
        folder: where to.
        scene: its name.
        split: of the scene, if any.
        true_map: GeoJSON in the frame of the poses, which is copied beside the frames; None: none.

    Raises:
        OutputError: if the folder cannot be written, or holds frames already.
        DatasetError: if there is no such map.
    """

    def __init__(self, folder: Path, scene: str, split: str | None = None, true_map: Path | None = None) -> None:
        check_new(folder)
        if true_map is not None and not true_map.is_file():
            raise DatasetError(f"there is no map {true_map}")
        self._folder, self._map = folder, true_map
        self._scene: dict[str, Any] = {"name": scene, **({"split": split} if split else {})}
        self._frames: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self._frames)

    def add(
        self,
        observation: Observation,
        files: Mapping[str, bytes] | None = None,
        sweep: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:
        """Writes the images of an observation, which stands in the ego frame as it is (not turned onto the road).

        Args:
            observation: a camera without an image is left out of the frame.
            files: camera -> JPEG or PNG to keep as it is in place of the image, of the rig's size.
            sweep: LiDAR points, (P, 5) x, y, z in metres, intensity, ring, in the sensor's frame, and (4, 4) where that
                lies in the ego frame of the observation's stamp; None: there is none.

        Raises:
            OutputError: if a file cannot be written.
        """
        rig, pose, cameras = observation.rig, observation.map_from_ego, []
        mounted = rig.ego_from_camera if rig.mounted is None else rig.mounted
        name = str(observation.stamp_ns)
        for place, (camera, image) in enumerate(zip(rig.names, observation.images, strict=True)):
            if image is None:
                continue
            data = (files or {}).get(camera) or cv2.imencode(
                ".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
            )[1].tobytes()
            suffix = "png" if data.startswith(b"\x89PNG") else "jpg"
            file = f"images/{_plain(camera)}/{name}.{suffix}"
            write_atomically(self._folder / file, data, durable=False)
            mount, now = mounted[place].numpy(), rig.ego_from_camera[place].numpy()
            there = None if pose is None else pose @ now @ se3.inverse(mount)
            stamp_ns = observation.camera_stamps_ns[place] if observation.camera_stamps_ns else observation.stamp_ns
            cameras.append(
                camera_record(
                    camera, file, rig.image_sizes[place], rig.intrinsics[place].numpy(), rig.lens_of_each[place],
                    mount, stamp_ns, there,
                )
            )  # fmt: skip
        if cameras:
            record: dict[str, Any] = {"token": name, "scene": self._scene["name"], "stamp_ns": observation.stamp_ns}
            record |= {} if pose is None else {"map_from_ego": pose_record(pose)}
            if sweep is not None:
                points, ego_from_lidar = sweep
                file = f"lidar/{name}.bin"
                write_atomically(self._folder / file, points.astype("<f4").tobytes(), durable=False)
                record["lidar"] = {"file": file, "columns": points.shape[1], **pose_record(ego_from_lidar)}
            self._frames.append({**record, "cameras": cameras})

    def finish(self, starts_ns: Mapping[str, int] | None = None) -> None:
        """Writes map and `frames.json`.

        Args:
            starts_ns: camera -> when the video began that its images are of; None: they are of none.

        Raises:
            DatasetError: if there was no frame.
            OutputError: if a file cannot be written.
        """
        if not self._frames:
            raise DatasetError(f"no frame to write into {self._folder}")
        if self._map is not None:
            target = self._folder / "maps" / self._map.name
            make_folder(target.parent)
            with os_errors_as(OutputError, f"cannot write {target}"):
                shutil.copyfile(self._map, target)
            self._scene["map"] = f"maps/{self._map.name}"
        if starts_ns:
            self._scene["video_starts"] = {camera: start * 1e-9 for camera, start in starts_ns.items()}
        write_frames(self._folder, [self._scene], self._frames)


def placed(observation: Observation, trajectory: Trajectory) -> Observation:
    """An observation with its poses.

    Args:
        observation: with the cameras as they are mounted.
        trajectory: the car's poses.

    Raises:
        DatasetError: if the trajectory has no pose at one of its stamps.
    """
    pose, mounted = trajectory.at(observation.stamp_ns * 1e-9), observation.rig.ego_from_camera
    motion = np.stack([se3.inverse(pose) @ trajectory.at(stamp * 1e-9) for stamp in observation.camera_stamps_ns])
    rig = replace(observation.rig, ego_from_camera=torch.from_numpy(motion) @ mounted, mounted=mounted)
    return replace(observation, rig=rig, map_from_ego=pose)


def _plain(name: str) -> str:
    """A camera's name as a folder's."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name).strip(".") or "camera"
