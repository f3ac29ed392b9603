"""Named cameras around a vehicle: pinholes, or with lenses before them.

Pixel convention: the centre of the top-left pixel is (0, 0), u = fx x / z + cx, as OpenCV and nuScenes have it.
"""

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np

from hdmap_core.errors import CalibrationError
from hdmap_core.geometry.lens import Lens

if TYPE_CHECKING:
    from torch import Tensor

Size: TypeAlias = tuple[int, int]
"""(H, W) in pixels."""
_IDENTITY, _LAST_ROW = np.eye(3), np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class CameraRig:
    """N cameras; leading dimensions (...) are batch dimensions.

    Attributes:
        names: N camera names; cameras are found by name, never by position.
        intrinsics: (..., N, 3, 3), pixels of images of `image_size`.
        ego_from_camera: (..., N, 4, 4); camera frame optical (x right, y down, z forward), ego frame REP-103 at the
            observation's stamp, so that it contains the ego motion between the two exposures.
        image_size: (H, W) in pixels of all cameras; where they differ, one (H, W) per camera. `image_sizes` has it per
            camera in either case.
        lenses: the lens of each camera whose images still show it; None for a pinhole. Empty: all are pinholes.
        mounted: (..., N, 4, 4) `ego_from_camera` as the cameras are mounted, without the ego motion; None: the same.
    """

    names: tuple[str, ...]
    intrinsics: "Tensor"
    ego_from_camera: "Tensor"
    image_size: Size | tuple[Size, ...]
    lenses: tuple[Lens | None, ...] = ()
    mounted: "Tensor | None" = None

    @classmethod
    def from_arrays(
        cls,
        names: Sequence[str],
        intrinsics: Sequence[np.ndarray] | np.ndarray,
        ego_from_camera: Sequence[np.ndarray] | np.ndarray,
        image_size: Size | Sequence[Size],
        lenses: Sequence[Lens | None] = (),
        mounted: Sequence[np.ndarray] | np.ndarray | None = None,
    ) -> "CameraRig":
        """A checked float64 rig from N (3, 3) intrinsics, N (4, 4) extrinsics, N or one (H, W), N lenses or none.

        `mounted`: N (4, 4), see the class.

        Raises:
            CalibrationError: naming the camera whose numbers no pinhole camera can have; if the numbers of cameras
                differ, or a name occurs twice.
        """
        import torch

        _check_counts(names, intrinsics, ego_from_camera)
        if len(lenses) not in (0, len(names)):
            raise CalibrationError(
                f"{len(names)} cameras, {len(lenses)} lenses; give one per camera, None for a pinhole"
            )
        for poses in (ego_from_camera, *([] if mounted is None else [mounted])):
            if not _are_possible(intrinsics, poses):
                for name, matrix, pose in zip(names, intrinsics, poses, strict=True):
                    check_calibration(name, np.asarray(matrix), np.asarray(pose))
        return cls(
            tuple(names),
            torch.from_numpy(np.array(intrinsics, dtype=np.float64).reshape(-1, 3, 3)),
            torch.from_numpy(np.array(ego_from_camera, dtype=np.float64).reshape(-1, 4, 4)),
            _compact(_per_camera(image_size, len(names))),
            tuple(lenses) if any(lenses) else (),
            None if mounted is None else torch.from_numpy(np.array(mounted, dtype=np.float64).reshape(-1, 4, 4)),
        )

    @property
    def num_cameras(self) -> int:
        """N."""
        return len(self.names)

    @property
    def image_sizes(self) -> tuple[Size, ...]:
        """(H, W) of every camera."""
        return _per_camera(self.image_size, len(self.names))

    @property
    def lens_of_each(self) -> tuple[Lens | None, ...]:
        """The lens of every camera, None for a pinhole."""
        return self.lenses or (None,) * len(self.names)

    def to(self, *args: object, **kwargs: object) -> "CameraRig":
        """The rig with its tensors moved or cast as `Tensor.to` would."""
        return replace(
            self,
            intrinsics=self.intrinsics.to(*args, **kwargs),  # type: ignore[call-overload]
            ego_from_camera=self.ego_from_camera.to(*args, **kwargs),  # type: ignore[call-overload]
            mounted=None if self.mounted is None else self.mounted.to(*args, **kwargs),  # type: ignore[call-overload]
        )

    def changed_poses(self, change: "Callable[[Tensor], Tensor]") -> "CameraRig":
        """The rig with its poses, with the ego motion and without, changed alike; each is (..., N, 4, 4)."""
        mounted = None if self.mounted is None else change(self.mounted)
        return replace(self, ego_from_camera=change(self.ego_from_camera), mounted=mounted)

    def as_mounted(self) -> "CameraRig":
        """The rig as if the car had stood still between the exposures."""
        return self if self.mounted is None else replace(self, ego_from_camera=self.mounted)

    def select(self, names: Sequence[str]) -> "CameraRig":
        """The rig with these cameras, in this order."""
        missing = [name for name in names if name not in self.names]
        if missing:
            raise CalibrationError(f"camera {missing[0]!r} is not in this rig; it has {', '.join(self.names)}")
        index = [self.names.index(name) for name in names]
        return replace(
            self,
            names=tuple(names),
            intrinsics=self.intrinsics[..., index, :, :],
            ego_from_camera=self.ego_from_camera[..., index, :, :],
            image_size=_compact([self.image_sizes[i] for i in index]),
            lenses=tuple(self.lens_of_each[i] for i in index) if self.lenses else (),
            mounted=None if self.mounted is None else self.mounted[..., index, :, :],
        )

    def resized(self, image_size: Size | Sequence[Size]) -> "CameraRig":
        """The rig after its images were resized to (H, W), or each to its own: pixel edges, not centres, stay."""
        wanted = _per_camera(image_size, len(self.names))
        scales = [(new[0] / old[0], new[1] / old[1]) for new, old in zip(wanted, self.image_sizes, strict=True)]
        rows = [[[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2], [0, 0, 1]] for sy, sx in scales]
        scale = self.intrinsics.new_tensor(rows)
        return replace(self, intrinsics=scale @ self.intrinsics, image_size=_compact(wanted))

    def projection(self) -> "Tensor":
        """(..., N, 3, 4): homogeneous ego points -> (u z, v z, z) of the cameras without their lenses."""
        import torch

        rotation_t = self.ego_from_camera[..., :3, :3].transpose(-1, -2)
        translation = -rotation_t @ self.ego_from_camera[..., :3, 3:]
        return self.intrinsics @ torch.cat([rotation_t, translation], dim=-1)

    def project(self, points: "Tensor", min_depth: float = 0.1) -> "tuple[Tensor, Tensor, Tensor]":
        """Projects ego points into every camera.

        Args:
            points: (..., P, 3) metres, ego frame.
            min_depth: points nearer than this to the image plane, in metres, count as not visible.

        Returns:
            pixels (..., N, P, 2), depth (..., N, P) in metres, visible (..., N, P) bool: in front of the camera and
            inside the image. Depth is along the axis, through a fisheye the distance, and negative where a lens sees
            nothing.
        """
        matrix = self.projection()
        homogeneous = points[..., None, :, :] @ matrix[..., :3].transpose(-1, -2) + matrix[..., None, :, 3]
        depth = homogeneous[..., 2]
        pixels = homogeneous[..., :2] / depth.clamp(min=min_depth)[..., None]
        for index, lens in enumerate(self.lenses):
            if lens is not None:
                matrix = self.intrinsics[..., index, :, :]
                directions = homogeneous[..., index, :, :] @ matrix.inverse().transpose(-1, -2)
                bent, distance = lens.project(directions.numpy(force=True))
                plane = pixels.new_tensor(bent) @ matrix[..., :2, :2].transpose(-1, -2)
                pixels[..., index, :, :] = plane + matrix[..., None, :2, 2]
                depth[..., index, :] = depth.new_tensor(distance)
        last = pixels.new_tensor([[[width - 0.5, height - 0.5]] for height, width in self.image_sizes])
        inside = (pixels >= -0.5) & (pixels <= last)
        return pixels, depth, inside.all(dim=-1) & (depth > min_depth)


def _per_camera(image_size: Size | Sequence[Size], num_cameras: int) -> tuple[Size, ...]:
    """N sizes, of one for all or of N."""
    if np.ndim(image_size) == 1:
        height, width = cast(Size, image_size)
        return ((int(height), int(width)),) * num_cameras
    sizes = tuple((int(height), int(width)) for height, width in cast("Sequence[Size]", image_size))
    if len(sizes) != num_cameras:
        raise CalibrationError(f"{num_cameras} cameras, {len(sizes)} image sizes; give one (H, W), or one per camera")
    return sizes


def _compact(sizes: Sequence[Size]) -> Size | tuple[Size, ...]:
    return sizes[0] if len(set(sizes)) == 1 else tuple(sizes)


def _check_counts(names: Sequence[str], intrinsics: Sized, poses: Sized) -> None:
    if not len(names) == len(intrinsics) == len(poses) or not len(names):
        raise CalibrationError(
            f"{len(names)} cameras ({', '.join(names)}), {len(intrinsics)} intrinsics and {len(poses)} extrinsics; "
            "give one of each per camera, and at least one camera"
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise CalibrationError(f"camera {twice!r} is in the rig twice; give every camera its own name")


def _are_possible(intrinsics: Sequence[np.ndarray] | np.ndarray, poses: Sequence[np.ndarray] | np.ndarray) -> bool:
    """Whether `check_calibration` has nothing against any of N cameras, in one go."""
    try:
        matrices, transforms = np.asarray(intrinsics, np.float64), np.asarray(poses, np.float64)
    except ValueError:  # of several shapes
        return False
    if matrices.shape[1:] != (3, 3) or transforms.shape[1:] != (4, 4):
        return False
    rotations = transforms[:, :3, :3]
    turned = np.abs(rotations @ rotations.swapaxes(1, 2) - _IDENTITY).max()
    focal, last_row = matrices[:, [0, 1], [0, 1]], np.abs(matrices[:, 2] - _LAST_ROW).max()
    finite = np.isfinite(matrices).all() and np.isfinite(transforms).all()
    return bool(
        finite and focal.min() > 0 and last_row <= 1e-5 and turned <= 1e-4 and np.linalg.det(rotations).min() > 0
    )


def check_calibration(name: str, intrinsics: np.ndarray, ego_from_camera: np.ndarray) -> None:
    """Raises CalibrationError unless (3, 3) intrinsics and (4, 4) extrinsics are those of a possible camera."""
    fault = calibration_fault(intrinsics, ego_from_camera)
    if fault:
        raise CalibrationError(f"camera {name}: {fault}")


def calibration_fault(intrinsics: np.ndarray, ego_from_camera: np.ndarray) -> str:
    """Why (3, 3) intrinsics and (4, 4) extrinsics are those of no camera; empty if they can be."""
    if intrinsics.shape != (3, 3) or not np.isfinite(intrinsics).all():
        return f"intrinsics must be a finite 3x3 matrix, got {intrinsics.tolist()}"
    if intrinsics[0, 0] <= 0 or intrinsics[1, 1] <= 0 or np.abs(intrinsics[2] - _LAST_ROW).max() > 1e-5:
        return f"focal lengths must be positive, got K = {intrinsics.tolist()}"
    if ego_from_camera.shape != (4, 4) or not np.isfinite(ego_from_camera).all():
        return f"extrinsics must be a finite 4x4 matrix, got {ego_from_camera.tolist()}"
    rotation = ego_from_camera[:3, :3]
    if np.abs(rotation @ rotation.T - _IDENTITY).max() > 1e-4 or np.linalg.det(rotation) < 0:
        return f"the extrinsics' rotation is not a rotation: {rotation.tolist()}"
    return ""
