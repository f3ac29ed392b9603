"""Heads that only training has: road surfaces and map lines in the BEV, map lines and depth in the images.

Sources: MapTRv2 (Liao et al., IJCV 2024), section 3.5, and MapQR for the masks of map lines in the BEV and in the
images; MapFM for road surfaces (ARSS, auxiliary road surface segmentation). All are the same small head: 3 x 3
convolution without bias, ReLU, 1 x 1 convolution, no norm.

Deliberate differences: MapTRv2's depth is that of its view transform (`DepthConfig.said_by`); for view transforms that
have none there is a head on the image features like the others. MapFM's up-sampling of image features of stride 32 is
left out: the mask has the size of the features that the model uses.
"""

from typing import Literal

from pydantic import PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from hdmap_core.config import Config
from hdmap_core.errors import ConfigError
from hdmap_core.model_io import AuxiliaryOutput

Surface = Literal["ped_crossing", "drivable_area", "road_segment"]


class DepthConfig(Config):
    """Depth bins: MapTRv2's 68 of 0.5 m from 1 m to 35 m; metres along the camera's axis.

    Attributes:
        said_by: who says how deep a cell of the features is: a `head` of its own, which shapes the backbone, or the
            `view_transform`, which spreads features by what it says, as MapTRv2 has it.
    """

    said_by: Literal["head", "view_transform"] = "head"
    min_depth: PositiveFloat = 1.0
    max_depth: PositiveFloat = 35.0
    bin_size: PositiveFloat = 0.5

    @model_validator(mode="after")
    def _whole_bins(self) -> Self:
        bins = (self.max_depth - self.min_depth) / self.bin_size
        if bins < 1 or abs(bins - round(bins)) > 1e-6:
            raise ValueError(
                f"{self.min_depth} m to {self.max_depth} m is not a whole number of bins of {self.bin_size} m"
            )
        return self

    @property
    def num_bins(self) -> int:
        """D."""
        return round((self.max_depth - self.min_depth) / self.bin_size)


class AuxiliaryConfig(Config):
    """Which heads there are, any of them or none. The defaults are MapQR's; MapFM adds `surface`.

    Attributes:
        surface: polygon layers of the map, one channel each, in this order; MapFM's are ped_crossing, drivable_area.
        bev_lines: map lines of all classes in one BEV mask.
        image_lines: the same in the cameras' feature maps.
        depth: LiDAR depth in the cameras' feature maps, of a head or of the view transform.
        channels: hidden channels of every head.
    """

    kind: Literal["auxiliary"] = "auxiliary"
    surface: tuple[Surface, ...] = ()
    bev_lines: bool = True
    image_lines: bool = True
    depth: DepthConfig | None = None
    channels: PositiveInt = 256

    @model_validator(mode="after")
    def _surfaces_differ(self) -> Self:
        if len(set(self.surface)) != len(self.surface):
            raise ValueError(f"surface names a layer twice: {', '.join(self.surface)}")
        return self

    @property
    def needs_images(self) -> bool:
        """Whether a head reads the backbone's features."""
        return self.image_lines or self.depth is not None


class AuxiliaryHeads(nn.Module):
    """Backbone features and BEV features -> logits of every head that the config asks for.

    Attributes:
        depth_is_given: whether the depth is that of the view transform.

    Args:
        config: which heads.
        image_channels: of the backbone's features; None for a model without a backbone.
        bev_channels: of the BEV features.

    Raises:
        ConfigError: if a head needs image features and the model has none.
    """

    def __init__(self, config: AuxiliaryConfig, *, image_channels: int | None, bev_channels: int) -> None:
        super().__init__()
        if config.needs_images and image_channels is None:
            name = "image_lines" if config.image_lines else "depth"
            raise ConfigError(
                f"auxiliary.{name} reads image features, and this model has no backbone; "
                "set auxiliary.image_lines=false and auxiliary.depth=null, or choose a view transform of features"
            )
        hidden, image = config.channels, image_channels or 0
        depth = config.depth
        self.depth_is_given = depth is not None and depth.said_by == "view_transform"
        self.surface = _head(bev_channels, hidden, len(config.surface)) if config.surface else None
        self.bev_lines = _head(bev_channels, hidden, 1) if config.bev_lines else None
        self.image_lines = _head(image, hidden, 1) if config.image_lines else None
        self.depth = _head(image, hidden, depth.num_bins) if depth and not self.depth_is_given else None

    def forward(self, features: Tensor | None, bev: Tensor, depth: Tensor | None = None) -> AuxiliaryOutput:
        """All heads.

        Args:
            features: (B, N, C, h, w) of the backbone; may be None if no head reads them.
            bev: (B, C, Y, X), what the vector head reads.
            depth: (B, N, D, h, w) of the view transform, if it is the one to say it.
        """
        if self.depth_is_given and depth is None:
            raise ValueError("the depth of the view transform was asked for, but not given")
        return AuxiliaryOutput(
            surface=None if self.surface is None else self.surface(bev),
            bev_lines=None if self.bev_lines is None else self.bev_lines(bev),
            image_lines=_per_camera(self.image_lines, features),
            depth=depth if self.depth_is_given else _per_camera(self.depth, features),
        )


def _head(in_channels: int, hidden: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, hidden, 3, padding=1, bias=False),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden, out_channels, 1),
    )


def _per_camera(head: nn.Sequential | None, features: Tensor | None) -> Tensor | None:
    """(B, N, C, h, w) -> (B, N, K, h, w)."""
    if head is None:
        return None
    if features is None:
        raise ValueError("a head of the images was asked for, but the backbone's features were not given")
    return head(features.flatten(0, 1)).unflatten(0, features.shape[:2])
