"""Recordings of people's own images and videos: the pictures, and a rig file that says where the cameras are."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hdmap_core.datasets.rig_file import RigCamera, read_rig_file, rig_for
from hdmap_core.datasets.video_starts import starts_of
from hdmap_core.datasets.videos import SUFFIXES as VIDEOS
from hdmap_core.datasets.videos import VideosInStep, video_facts
from hdmap_core.errors import ConfigError, DatasetError, ImageError, os_errors_as
from hdmap_core.images.decoding import decode_image
from hdmap_core.observation import Observation
from hdmap_core.recordings.recording import Recording, Wanted

IMAGES = (".jpg", ".jpeg", ".png")


def are_pictures(inputs: Sequence[str]) -> bool:
    """Whether these are files of images or videos, by their names."""
    return all(given.lower().endswith((*IMAGES, *VIDEOS)) for given in inputs)


def open_pictures(inputs: Sequence[str], wanted: Wanted) -> Recording:
    """The recording of images of one instant, of a folder with images of many, or of videos.

    Args:
        inputs: files or one folder, each file written `CAMERA=FILE` or called after its camera.
        wanted: with the rig file.

    Raises:
        ConfigError: if there is no rig file, or it cannot be told which file belongs to which camera.
        HdmapError: if a file cannot be read, or does not fit the rig.
    """
    if wanted.rig is None:
        raise ConfigError(f"{inputs[0]}: where the cameras are mounted is not known; give --rig rig.yaml")
    rig = read_rig_file(wanted.rig)
    if wanted.sweeps or wanted.sd_map:
        raise ConfigError("the model looks at LiDAR or an SD map, but here are only cameras; give one of cameras alone")
    if wanted.lidar_ground:
        raise ConfigError("--lidar-ground looks at LiDAR, but here are only cameras; leave it away")
    folder = Path(inputs[0])
    if len(inputs) == 1 and folder.is_dir():
        frames = folder_frames(folder, rig)
        name = folder.name
    else:
        files = files_of_cameras(inputs, rig)
        kinds = {path.suffix.lower() in VIDEOS for path in files.values()}
        if len(kinds) > 1:
            raise ConfigError("images and videos at once cannot be read; give one kind")
        if kinds == {True}:
            return _of_videos(files, rig, wanted)
        frames, name = [files], ", ".join(path.name for path in files.values())
    if wanted.align or wanted.beginning.cameras_ns:
        raise ConfigError("--align and --start CAMERA=SECONDS are for videos; images of one instant have the same name")
    if wanted.whole_drive or (wanted.whole_drive is None and len(frames) > 1):
        return Recording(name, _observed(frames, rig, wanted), True, len(frames))
    number = _number(wanted.sample)
    if number >= len(frames):
        raise DatasetError(f"there is no frame {number}; they are numbered from 0 to {len(frames) - 1}")
    return Recording(name, _observed(frames[number : number + 1], rig, wanted, number), False, 1)


def files_of_cameras(inputs: Sequence[str], cameras: Mapping[str, RigCamera]) -> dict[str, Path]:
    """Camera -> file, in the order of the rig.

    Raises:
        ConfigError: if a file belongs to no camera of the rig, or two belong to the same one.
    """
    found: dict[str, Path] = {}
    for given in inputs:
        camera, path = _camera_of(given, tuple(cameras))
        if camera in found:
            raise ConfigError(f"{found[camera]} and {path} both belong to camera {camera}; give one file per camera")
        found[camera] = path
    return {name: found[name] for name in cameras if name in found}


def folder_frames(folder: Path, cameras: Mapping[str, RigCamera]) -> list[dict[str, Path]]:
    """The images of a folder, frame by frame: of a folder for each camera in it, or all beside each other.

    Names without the camera's in them tell which belong together, else their order does.

    Raises:
        DatasetError: if it holds no image of the rig's cameras, or it cannot be told which belong together.
    """
    found: dict[str, dict[str, Path]] = {}
    for path in sorted((path for path in folder.rglob("*") if path.suffix.lower() in IMAGES), key=_counted):
        name = path.relative_to(folder).with_suffix("").as_posix()
        camera = _named(name, tuple(cameras))
        if camera is not None:
            found.setdefault(camera, {})[re.sub(re.escape(camera), "", name, flags=re.IGNORECASE)] = path
    if not found:
        raise DatasetError(
            f"{folder} holds no image that is called after a camera of the rig, or lies in a folder called so; it has "
            f"{', '.join(cameras)}"
        )
    first = next(iter(found))
    if any(files.keys() != found[first].keys() for files in found.values()):
        counts = {camera: len(files) for camera, files in found.items()}
        odd = next((camera for camera, count in counts.items() if count != counts[first]), None)
        if odd is not None:
            raise DatasetError(
                f"{folder}: camera {first} has {counts[first]} images, camera {odd} has {counts[odd]}; it cannot "
                "be told which belong together: give those of one instant the same name"
            )
        found = {camera: {str(n): path for n, path in enumerate(files.values())} for camera, files in found.items()}
    return [{camera: found[camera][key] for camera in cameras if camera in found} for key in found[first]]


def _camera_of(given: str, cameras: tuple[str, ...]) -> tuple[str, Path]:
    name, equals, file = given.partition("=")
    if equals and name in cameras:
        return name, Path(file)
    path = Path(given)
    camera = _named(path.stem, cameras) or (cameras[0] if len(cameras) == 1 else None)
    if camera is None:
        raise ConfigError(
            f"{path}: which camera of the rig made it? Its name has none of {', '.join(cameras)} in it; "
            f"write CAMERA={path}"
        )
    return camera, path


def _named(text: str, cameras: tuple[str, ...]) -> str | None:
    """The camera whose name stands in a file's; the longest one, as CAM_FRONT stands in CAM_FRONT_LEFT."""
    fitting = [camera for camera in cameras if camera.casefold() in text.casefold()]
    return max(fitting, key=len, default=None)


def _counted(path: Path) -> list[tuple[int, str]]:
    """Sorts 2.jpg before 10.jpg."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.as_posix())]


def _number(sample: str | None) -> int:
    if sample is not None and not sample.isdecimal():
        raise DatasetError(f"there is no frame {sample!r}; frames are numbered from 0 on")
    return int(sample or 0)


def _observed(
    frames: Sequence[Mapping[str, Path]], rig: Mapping[str, RigCamera], wanted: Wanted, first: int = 0
) -> Iterator[Observation]:
    for number, files in enumerate(frames, start=first):
        images = {name: decode_image(_bytes(path), str(path)) for name, path in files.items()}
        stamp_ns = (wanted.beginning.first_ns or 0) + round(number * 1e9 / (wanted.rate or 1.0))
        sizes = {name: (image.shape[0], image.shape[1]) for name, image in images.items()}
        yield Observation(
            tuple(images.values()),
            rig_for(rig, sizes, wanted.rig or ""),
            stamp_ns,
            str(number),
            camera_stamps_ns=(stamp_ns,) * len(images),
        )


def _of_videos(videos: Mapping[str, Path], rig: Mapping[str, RigCamera], wanted: Wanted) -> Recording:
    starts = starts_of(videos, rig, wanted.beginning, wanted.align)
    in_step = VideosInStep(videos, wanted.rate, starts.at_ns, wanted.min_cameras)
    one = wanted.whole_drive is False
    asked = _number(wanted.sample) if one else 0

    def frames() -> Iterator[Observation]:
        sizes = {name: rig[name].image_size for name in videos}
        number = -1
        for number, (stamp_ns, pictures) in enumerate(in_step):
            for name, picture in pictures.items():
                if picture is not None:
                    sizes[name] = (picture.image.shape[0], picture.image.shape[1])
            if number < asked:
                continue
            yield Observation(
                tuple(None if picture is None else picture.image for picture in pictures.values()),
                rig_for(rig, sizes, wanted.rig or ""),
                stamp_ns,
                str(number),
                camera_stamps_ns=tuple(stamp_ns if p is None else p.stamp_ns for p in pictures.values()),
            )
            if one:
                return
        if number < 0:
            raise DatasetError(
                f"there is no instant at which {wanted.min_cameras or len(videos)} cameras have a picture "
                f"({'; '.join(_gaps(in_step))}); --start says when each begins, --align finds it, --min-cameras "
                "takes fewer"
            )
        if one:
            raise DatasetError(f"there is no frame {asked}; the video has {number + 1}, numbered from 0")

    if one:
        count: int | None = 1
    elif wanted.rate or len(videos) > 1:
        count = None
    else:
        count = video_facts(next(iter(videos.values()))).pictures or None
    return Recording(
        ", ".join(path.name for path in videos.values()),
        frames(),
        not one,
        count,
        starts_ns=starts.at_ns,
        facts=(f"videos begin {starts.told}",) if starts.told else (),
        problems=lambda: _gaps(in_step),
    )


def _gaps(videos: VideosInStep) -> list[str]:
    """A line for each camera that had no picture now and then."""
    done = f", {videos.left_out} instants left out in all" if videos.left_out else ""
    return [
        f"{name} had no picture within half a period of {len(stamps)} instants between {stamps[0] * 1e-9:.3f} and "
        f"{stamps[-1] * 1e-9:.3f} s{done}"
        for name, stamps in videos.missing.items()
    ]


def _bytes(path: Path) -> bytes:
    with os_errors_as(ImageError, f"cannot read {path}"):
        return path.read_bytes()
