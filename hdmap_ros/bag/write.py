"""A scene of a data set as a rosbag2.

Every message keeps its own stamp, also as log time, so the cameras stay staggered over 43 ms as they fired. The
car's pose is written at every stamp of every sensor: map -> odom is the identity and static, odom -> base_link moves.
Where nobody knows the poses there is neither. Topics and frames are called after the cameras, as ROS allows.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hdmap_core.datasets.argoverse.sweeps import read_sweep
from hdmap_core.datasets.opening import open_dataset
from hdmap_core.datasets.protocol import SensorFrame, scene_named
from hdmap_core.datasets.sensor_files import read_file
from hdmap_core.errors import DatasetError
from hdmap_core.geometry.se3 import quaternion_from_rotation
from hdmap_core.images.decoding import check_complete, decode_image
from hdmap_ros.bag.mcap import BagWriter, write_mcap
from hdmap_ros.message_types import MessageTypes, xyz
from hdmap_ros.output.pictures import image_message

BASE, ODOM, MAP = "base_link", "odom", "map"
_POINT_FIELDS = ("x", "y", "z", "intensity", "ring")
_TWIST_WINDOW_NS = 100_000_000


def write_bag(
    root: str | Path,
    scene_name: str,
    output: str | Path,
    *,
    version: str | None = None,
    raw: bool = False,
    lidar: bool = True,
    keyframes_only: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, int]:
    """Writes one scene; `output` appears only when everything went well.

    Args:
        root: a data set's folder (`open_dataset`).
        scene_name: for example `scene-0061`.
        output: file ending in .mcap.
        version: which data set of it, where the folder has several.
        raw: decode the images to sensor_msgs/Image (rgb8) instead of keeping the JPEG bytes.
        lidar: write the LiDAR as well.
        keyframes_only: leave out the sweeps between keyframes.
        progress: called with files done and files in all.

    Returns:
        Topic -> number of messages.

    Raises:
        DatasetError: for a folder, scene or file that is missing or damaged.
        ImageError: for a truncated image.
        OutputError: if `output` cannot be written.
    """
    dataset = open_dataset(root, version)
    scene = scene_named(dataset, scene_name)
    unposed = [token for token in scene.sample_tokens if dataset.map_from_ego(token) is None]
    if 0 < len(unposed) < len(scene.sample_tokens):
        raise DatasetError(
            f"{dataset.place}: frame {unposed[0]!r} of scene {scene_name} has no pose, others have; give all or none"
        )
    frames = [
        frame
        for frame in dataset.sensor_frames(scene)
        if (frame.modality == "camera" or (lidar and frame.modality == "lidar"))
        and (frame.is_key_frame or not keyframes_only)
    ]
    if not any(frame.modality == "camera" for frame in frames):
        raise DatasetError(f"{dataset.place}: scene {scene_name} has no camera images")
    _check_names(frames)
    poses = {frame.stamp_ns: frame.map_from_ego for frame in frames}
    stamps = sorted(poses)
    velocities = _velocities(stamps, [poses[stamp] for stamp in stamps])
    with write_mcap(output) as bag:
        cameras = _declare(bag, frames, raw, moves=not unposed)
        bag.write("/tf_static", stamps[0], _tf_static(bag.types, frames, stamps[0], moves=not unposed))
        posed: set[int] = set()
        for number, frame in enumerate(frames, start=1):
            if frame.stamp_ns not in posed and not unposed:
                posed.add(frame.stamp_ns)
                _write_pose(bag, frame.stamp_ns, poses[frame.stamp_ns], velocities[frame.stamp_ns])
            if frame.channel in cameras:
                _write_camera(bag, frame, cameras[frame.channel], raw)
            else:
                bag.write("/lidar_top/points", frame.stamp_ns, _point_cloud(bag.types, frame))
            progress(number, len(frames))
        return dict(bag.counts)


def ros_name(channel: str) -> str:
    """A sensor's name as a topic and frame of ROS may be called: `Left fisheye` is `left_fisheye`."""
    name = re.sub("[^a-z0-9_]+", "_", channel.lower()).strip("_")
    return name if name[:1].isalpha() else f"camera_{name}".rstrip("_")


def _check_names(frames: list[SensorFrame]) -> None:
    channels = dict.fromkeys(frame.channel for frame in frames)
    taken: dict[str, str] = {}
    for channel in channels:
        other = taken.setdefault(ros_name(channel), channel)
        if other != channel:
            raise DatasetError(f"{channel!r} and {other!r} are both {ros_name(channel)} in ROS; rename one of them")


def _declare(bag: BagWriter, frames: list[SensorFrame], raw: bool, moves: bool) -> dict[str, str]:
    """Makes all topics; returns camera -> image topic."""
    bag.declare("/tf_static", "tf2_msgs/msg/TFMessage", latched=True, depth=1)
    if moves:
        bag.declare("/tf", "tf2_msgs/msg/TFMessage", depth=100)
        bag.declare("/odom", "nav_msgs/msg/Odometry")
    cameras = {}
    for channel in sorted({frame.channel for frame in frames if frame.modality == "camera"}):
        name = f"/{ros_name(channel)}"
        cameras[channel] = f"{name}/image_raw" if raw else f"{name}/image_raw/compressed"
        bag.declare(cameras[channel], "sensor_msgs/msg/Image" if raw else "sensor_msgs/msg/CompressedImage")
        bag.declare(f"{name}/camera_info", "sensor_msgs/msg/CameraInfo")
    if any(frame.modality == "lidar" for frame in frames):
        bag.declare("/lidar_top/points", "sensor_msgs/msg/PointCloud2")
    return cameras


def _write_camera(bag: BagWriter, frame: SensorFrame, topic: str, raw: bool) -> None:
    data = read_file(frame)
    check_complete(data, str(frame.path))
    types, frame_id = bag.types, ros_name(frame.channel)
    header = types.header(frame.stamp_ns, frame_id)
    image_size = frame.image_size
    if raw or 0 in image_size:
        pixels = decode_image(data, str(frame.path))
        image_size = pixels.shape[:2]
    bag.write(f"/{frame_id}/camera_info", frame.stamp_ns, _camera_info(types, frame, image_size))
    if raw:
        message = image_message(types, header, pixels)
    else:
        kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
        message = types.get("sensor_msgs/msg/CompressedImage")(header=header, format=kind, data=types.octets(data))
    bag.write(topic, frame.stamp_ns, message)


def _camera_info(types: MessageTypes, frame: SensorFrame, image_size: tuple[int, int]) -> Any:
    assert frame.intrinsics is not None
    region = types.get("sensor_msgs/msg/RegionOfInterest")(x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return types.get("sensor_msgs/msg/CameraInfo")(
        header=types.header(frame.stamp_ns, ros_name(frame.channel)),
        height=image_size[0],
        width=image_size[1],
        distortion_model="plumb_bob" if frame.lens is None else frame.lens.model,
        d=np.zeros(5) if frame.lens is None else np.array(frame.lens.coefficients),
        k=frame.intrinsics.reshape(-1),
        r=np.eye(3).reshape(-1),
        p=np.concatenate([frame.intrinsics, np.zeros((3, 1))], axis=1).reshape(-1),
        binning_x=0,
        binning_y=0,
        roi=region,
    )


def _point_cloud(types: MessageTypes, frame: SensorFrame) -> Any:
    data = read_sweep(frame.path).tobytes() if frame.path.suffix == ".feather" else read_file(frame)
    names = (*_POINT_FIELDS, *(f"field_{number}" for number in range(6, 1 + frame.point_columns)))
    step = 4 * frame.point_columns
    if len(data) % step:
        raise DatasetError(f"{frame.path} has {len(data)} bytes, no whole number of {step}-byte points; copy it again")
    field = types.get("sensor_msgs/msg/PointField")
    return types.get("sensor_msgs/msg/PointCloud2")(
        header=types.header(frame.stamp_ns, ros_name(frame.channel)),
        height=1,
        width=len(data) // step,
        fields=[
            field(name=n, offset=4 * i, datatype=field.FLOAT32, count=1)
            for i, n in enumerate(names[: frame.point_columns])
        ],
        is_bigendian=False,
        point_step=step,
        row_step=len(data),
        data=types.octets(data),
        is_dense=True,
    )


def _tf_static(types: MessageTypes, frames: list[SensorFrame], stamp_ns: int, moves: bool) -> Any:
    mounts = {ros_name(frame.channel): frame.ego_from_sensor for frame in frames}
    transforms = [transform_message(types, MAP, ODOM, stamp_ns, np.eye(4))] if moves else []
    transforms += [transform_message(types, BASE, name, stamp_ns, pose) for name, pose in sorted(mounts.items())]
    return types.get("tf2_msgs/msg/TFMessage")(transforms=transforms)


def _write_pose(bag: BagWriter, stamp_ns: int, pose: np.ndarray, velocity: np.ndarray) -> None:
    types = bag.types
    moving = transform_message(types, ODOM, BASE, stamp_ns, pose)
    bag.write("/tf", stamp_ns, types.get("tf2_msgs/msg/TFMessage")(transforms=[moving]))
    vector, unknown = types.get("geometry_msgs/msg/Vector3"), np.zeros(36)
    odometry = types.get("nav_msgs/msg/Odometry")(
        header=types.header(stamp_ns, ODOM),
        child_frame_id=BASE,
        pose=types.get("geometry_msgs/msg/PoseWithCovariance")(
            pose=types.get("geometry_msgs/msg/Pose")(
                position=types.get("geometry_msgs/msg/Point")(**xyz(pose[:3, 3])),
                orientation=moving.transform.rotation,
            ),
            covariance=unknown,
        ),
        twist=types.get("geometry_msgs/msg/TwistWithCovariance")(
            twist=types.get("geometry_msgs/msg/Twist")(
                linear=vector(**xyz(velocity[:3])), angular=vector(**xyz(velocity[3:]))
            ),
            covariance=unknown,
        ),
    )
    bag.write("/odom", stamp_ns, odometry)


def transform_message(types: MessageTypes, parent: str, child: str, stamp_ns: int, pose: np.ndarray) -> Any:
    """A TransformStamped of a pose (4, 4)."""
    w, x, y, z = map(float, quaternion_from_rotation(pose[:3, :3]))
    return types.get("geometry_msgs/msg/TransformStamped")(
        header=types.header(stamp_ns, parent),
        child_frame_id=child,
        transform=types.get("geometry_msgs/msg/Transform")(
            translation=types.get("geometry_msgs/msg/Vector3")(**xyz(pose[:3, 3])),
            rotation=types.get("geometry_msgs/msg/Quaternion")(x=x, y=y, z=z, w=w),
        ),
    )


def _velocities(stamps: list[int], poses: list[np.ndarray]) -> dict[int, np.ndarray]:
    """(6,) linear and angular velocity in the car's frame per stamp, from poses about 100 ms apart."""
    times = np.array(stamps)
    result = {}
    for index, stamp_ns in enumerate(stamps):
        first = int(np.searchsorted(times, stamp_ns - _TWIST_WINDOW_NS // 2))
        last = int(np.searchsorted(times, stamp_ns + _TWIST_WINDOW_NS // 2, "right")) - 1
        seconds = (stamps[last] - stamps[first]) * 1e-9
        velocity = np.zeros(6)
        if seconds > 0:
            to_car = poses[index][:3, :3].T
            velocity[:3] = to_car @ (poses[last][:3, 3] - poses[first][:3, 3]) / seconds
            turn, _ = cv2.Rodrigues(poses[last][:3, :3] @ poses[first][:3, :3].T)
            velocity[3:] = to_car @ turn[:, 0] / seconds
        result[stamp_ns] = velocity
    return result
