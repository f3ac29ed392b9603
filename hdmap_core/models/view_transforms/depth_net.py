"""MapTRv2's depth network (Liao et al., IJCV 2024; from BEVDepth, Li et al. 2023): depth and context of every pixel.

The network is told which camera it looks through: 22 numbers open and close its channels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hdmap_core.models.layers.conv import conv_norm_act
from hdmap_core.models.view_transforms.pinhole_cameras import PinholeCameras

CAMERA_NUMBERS = 22
_DILATIONS = (1, 6, 12, 18)


class DepthNet(nn.Module):
    """Features and cameras -> logits of depth bins, then features to be spread."""

    def __init__(self, *, in_channels: int, channels: int, bins: int, pyramid_channels: int) -> None:
        super().__init__()
        from torchvision.models.resnet import BasicBlock  # slow to import, and models without this slot do without

        width = in_channels
        self.norm = nn.BatchNorm1d(CAMERA_NUMBERS)
        self.reduce = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.context_gate, self.depth_gate = CameraGate(width), CameraGate(width)
        self.context = nn.Conv2d(width, channels, 1)
        self.depth = nn.Sequential(
            *(BasicBlock(width, width) for _ in range(3)),
            DilatedPyramid(width, pyramid_channels),
            nn.Conv2d(width, bins, 1),
        )

    def forward(self, features: Tensor, cameras: Tensor) -> Tensor:
        """Looks at every camera by itself.

        Args:
            features: (K, C', h, w).
            cameras: (K, 22) of `camera_numbers`.

        Returns:
            (K, D + C, h, w).
        """
        cameras, features = self.norm(cameras), self.reduce(features)
        depth = self.depth(self.depth_gate(features, cameras))
        return torch.cat([depth, self.context(self.context_gate(features, cameras))], dim=1)


class CameraGate(nn.Module):
    """Channels opened and closed by what the camera is."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.describe = nn.Sequential(nn.Linear(CAMERA_NUMBERS, width), nn.ReLU(inplace=True), nn.Linear(width, width))
        self.gate = nn.Sequential(nn.Conv2d(width, width, 1), nn.ReLU(inplace=True), nn.Conv2d(width, width, 1))

    def forward(self, features: Tensor, cameras: Tensor) -> Tensor:
        """(K, C, h, w), (K, 22) -> (K, C, h, w)."""
        return features * self.gate(self.describe(cameras)[..., None, None]).sigmoid()


class DilatedPyramid(nn.Module):
    """Atrous spatial pyramid pooling (Chen et al. 2017)."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_branch(width, channels, dilation) for dilation in _DILATIONS)
        self.whole = conv_norm_act(width, channels, 1)
        self.join = conv_norm_act((len(_DILATIONS) + 1) * channels, width, 1)
        self.dropout = nn.Dropout(0.5)

    def forward(self, features: Tensor) -> Tensor:
        """(K, C, h, w) -> the same shape."""
        size = features.shape[-2:]
        whole = self.whole(F.adaptive_avg_pool2d(features, 1)).expand(-1, -1, *size)
        return self.dropout(self.join(torch.cat([*(branch(features) for branch in self.branches), whole], dim=1)))


def _branch(width: int, channels: int, dilation: int) -> nn.Sequential:
    kernel, padding = (1, 0) if dilation == 1 else (3, dilation)
    return nn.Sequential(
        nn.Conv2d(width, channels, kernel, padding=padding, dilation=dilation, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )


def camera_numbers(projection: Tensor, *, image_scale: float, ego_from_model: Tensor | None) -> Tensor:
    """What MapTRv2's network is told of a camera, as projections have it.

    Args:
        projection: (B, N, 3, 4) homogeneous points of the model's frame -> (u z, v z, z), pixels of resized images.
        image_scale: pixels of the resized images per pixel of the camera's own.
        ego_from_model: (4, 4); None: the model's frame is the ego frame.

    Returns:
        (B, N, 22): focal lengths and principal point in the camera's own pixels, two rows of the resizing, and three of
        the camera's pose in the ego frame; all about zero for a camera that is missing.
    """
    projection = projection.float()
    camera = PinholeCameras.of(projection)
    scaled = projection[..., 1, :] - camera.centre[..., 1:] * camera.depth
    down = scaled / camera.focal[..., 1:].clamp(min=1e-6)
    camera_from_model = torch.stack([camera.lateral, down, camera.depth], dim=-2)  # (B, N, 3, 4)
    rotation = camera_from_model[..., :3].transpose(-1, -2)
    place = -(rotation * camera_from_model[..., None, :, 3]).sum(dim=-1)
    if ego_from_model is not None:
        turn = ego_from_model[:3, :3]
        rotation = (turn[:, :, None] * rotation[..., None, :, :]).sum(dim=-2)
        place = (turn * place[..., None, :]).sum(dim=-1) + ego_from_model[:3, 3]
    pose = torch.cat([rotation, place[..., None]], dim=-1).flatten(-2)
    zero = torch.zeros_like(camera.focal[..., 0])
    scale = zero + image_scale
    resizing = torch.stack([scale, zero, zero, zero, scale, zero], dim=-1)
    return torch.cat([camera.focal / image_scale, camera.centre / image_scale, resizing, pose], dim=-1)
