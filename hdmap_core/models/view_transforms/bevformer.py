"""BEVFormer's encoder with MapQR's height kernels: learned BEV queries that read the cameras layer by layer.

Sources: BEVFormer (ECCV 2022), section 3; MapQR (ECCV 2024), its encoder. Deliberate differences from their code,
beside those of the modules used here: no CAN bus (it leaks the heading and ties the model to one car), height offsets
are bounded (unbounded ones are reported to end in NaN), heights are those of our ego frame, no level embedding (there
is one level), camera embeddings only on demand.
"""

from collections.abc import Callable, Sequence
from typing import Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from hdmap_core.config import Config
from hdmap_core.errors import ConfigError
from hdmap_core.geometry import BEVGrid
from hdmap_core.model_io import ModelInput
from hdmap_core.models.layers.feed_forward import feed_forward
from hdmap_core.models.layers.known_weights import KnownWeights
from hdmap_core.models.layers.on_cpu import eager_on_cpu
from hdmap_core.models.view_transforms.bev_self_attention import BEVSelfAttention
from hdmap_core.models.view_transforms.last_rig import LastRig, Rig
from hdmap_core.models.view_transforms.needed import FEATURES, needed
from hdmap_core.models.view_transforms.pillar_projection import (
    ANCHOR_MARGIN,
    PairViews,
    PillarPairs,
    PillarViews,
    anchor_heights,
    choose_views,
    pillars_in_reach,
    project_pairs,
    project_pillars,
)
from hdmap_core.models.view_transforms.spatial_cross_attention import HeightKernelAttention, SpatialCrossAttention

Views = PillarViews | PairViews

UNBOUNDED_M = 100.0
"""How far up and down cameras are asked what they see, where heights have no bound."""


class BEVFormerConfig(Config):
    """Defaults: the encoder of MapQR and MapFM.

    Attributes:
        channels: width; a multiple of 2 and of `heads`.
        layers: encoder layers.
        heads: of both attentions.
        feedforward: hidden width of the feed-forward blocks.
        dropout: on the output of every block and inside the feed-forward ones.
        self_attention_samples: places that a head reads in each of the two BEV maps.
        cross_attention: `height_kernel`: MapQR's GKT-h, one anchor per head at a learned height; `kernel`: the same at
            fixed heights, so that where a cell looks depends on the calibration only; `nearest_kernel`: MapTR's GKT,
            which reads whole pixels, at fixed heights like those of `deformable`; `deformable`: BEVFormer's.
        kernel_size: (rows, columns) in feature pixels, of the three kernels.
        kernel_heads: of the cross-attention, where it is a kernel; null: `heads`.
        anchors: heights per cell, `deformable` only.
        samples: places that a head reads in a camera, `deformable` only; a multiple of `anchors`.
        z_range: metres in the ego frame. Published is -2..2 m in the LiDAR's frame, whose origin is 1.84 m above ours.
        height_bound: learned heights stay within this many metres of their anchors, however many layers move them;
            null: no bound, as published.
        unseen_bias: a cell that no camera sees gets the bias of the cross-attention's output layer, as published, and
            not nothing.
        position_halves: which half of the position code says what: `column_row`, or `row_column`, as MapTR and its kin
            have it, whose columns are our rows.
        half_pixel: the centre of the first pixel lies half a pixel inside of the image, as it does; false: at its edge,
            as published.
        max_views: read at most this many cameras per cell, those that see most of its anchors; None reads all. Equal
            to None if no cell is seen by more. Engines find out by themselves what the rig asks for; training on a GPU,
            whose time and memory go with it, does not.
        camera_embeddings: number of cameras to give learned embeddings to; 0: none. They bind the weights to one rig,
            whose cameras must always come in the same order.
    """

    kind: Literal["bevformer"] = "bevformer"
    channels: int = Field(default=256, gt=0)
    layers: int = Field(default=3, gt=0)
    heads: int = Field(default=8, gt=0)
    feedforward: int = Field(default=512, gt=0)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    self_attention_samples: int = Field(default=4, gt=0)
    cross_attention: Literal["height_kernel", "kernel", "nearest_kernel", "deformable"] = "height_kernel"
    kernel_size: tuple[int, int] = (2, 4)
    kernel_heads: int | None = Field(default=None, gt=0)
    anchors: int = Field(default=4, gt=0)
    samples: int = Field(default=8, gt=0)
    z_range: tuple[float, float] = (-0.16, 3.84)
    height_bound: float | None = Field(default=2.0, gt=0)
    unseen_bias: bool = False
    position_halves: Literal["column_row", "row_column"] = "column_row"
    half_pixel: bool = True
    max_views: int | None = Field(default=None, gt=0)
    camera_embeddings: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.channels % self.heads or self.channels % 2:
            raise ValueError(f"channels is {self.channels}; make it an even multiple of heads ({self.heads})")
        if self.channels % (self.kernel_heads or 1):
            raise ValueError(f"channels is {self.channels}; make it a multiple of kernel_heads ({self.kernel_heads})")
        if self.samples % self.anchors:
            raise ValueError(f"samples is {self.samples}; make it a multiple of anchors ({self.anchors})")
        if self.z_range[0] >= self.z_range[1]:
            raise ValueError(f"z_range is {self.z_range}; give the lower end first")
        inner = self.cross_attention in ("deformable", "nearest_kernel")
        if inner and self.z_range[1] - self.z_range[0] <= 2 * ANCHOR_MARGIN:
            raise ValueError(
                f"z_range is {self.z_range}; BEVFormer's anchors begin {ANCHOR_MARGIN} m off both ends, so give more "
                f"than {2 * ANCHOR_MARGIN:g} m"
            )
        if min(self.kernel_size) < 1:
            raise ValueError(f"kernel_size is {self.kernel_size}; give at least one row and one column")
        return self


def heights_in_reach(config: BEVFormerConfig) -> tuple[float, float]:
    """The lowest and the highest z that any anchor can have, in metres, whatever is learned."""
    bound = UNBOUNDED_M if config.height_bound is None else config.height_bound
    reach = bound if config.cross_attention == "height_kernel" else 0.0
    return config.z_range[0] - reach, config.z_range[1] + reach


def most_views(config: BEVFormerConfig, grid: BEVGrid, projection: Tensor, image_size: tuple[int, int]) -> int:
    """By how many cameras any cell can be seen, whatever heights are learned: `max_views` of that many loses nothing.

    Args:
        config: of the encoder.
        grid: whose cells.
        projection: (B, N, 3, 4), see `project_pillars`; on the CPU.
        image_size: (H, W) in pixels.
    """
    centres = grid.cell_centres().flatten(0, 1)
    return pillars_in_reach(centres, heights_in_reach(config), _pixels_of(config, projection), image_size).most


def _pixels_of(config: BEVFormerConfig, projection: Tensor) -> Tensor:
    """(B, N, 3, 4) whose pixels are counted as `pillar_projection` counts them."""
    if config.half_pixel:
        return projection
    projection = projection.float()
    return torch.cat([projection[..., :2, :] - 0.5 * projection[..., 2:, :], projection[..., 2:, :]], dim=-2)


class BEVFormerLayer(nn.Module):
    """Self-attention, cross-attention, feed-forward; each with residual and norm after it."""

    def __init__(self, config: BEVFormerConfig, *, grid: BEVGrid, in_channels: int) -> None:
        super().__init__()
        channels, heads = config.channels, config.heads
        self.height_bound = config.height_bound
        self.self_attention = BEVSelfAttention(channels, grid=grid, heads=heads, samples=config.self_attention_samples)
        self.cross_attention: nn.Module
        if config.cross_attention == "deformable":
            self.cross_attention = SpatialCrossAttention(
                channels,
                in_channels=in_channels,
                heads=heads,
                samples=config.samples,
                unseen_bias=config.unseen_bias,
            )
        else:
            self.cross_attention = HeightKernelAttention(
                channels,
                in_channels=in_channels,
                heads=config.kernel_heads or heads,
                kernel_size=config.kernel_size,
                unseen_bias=config.unseen_bias,
                nearest=config.cross_attention == "nearest_kernel",
            )
        self.height = (
            nn.Linear(channels, config.kernel_heads or heads) if config.cross_attention == "height_kernel" else None
        )
        if self.height is not None:
            nn.init.zeros_(self.height.weight)
            nn.init.zeros_(self.height.bias)
        self.feedforward = feed_forward(channels, config.feedforward, config.dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))
        self.dropout = nn.Dropout(config.dropout)

    def attended(self, bev: Tensor, position: Tensor) -> Tensor:
        """(B, Q, C) -> (B, Q, C): behind the self-attention; arguments as `BEVSelfAttention.forward` has them."""
        return self.norms[0](bev + self.dropout(self.self_attention(bev, position)))

    def forward(
        self,
        bev: Tensor,
        offsets: Tensor,
        *,
        features: Tensor,
        look: Callable[[Tensor], Views],
        views: Views | None,
    ) -> tuple[Tensor, Tensor]:
        """One step of the BEV and of its anchors, from behind the self-attention on.

        Args:
            bev: (B, Q, C) of `attended`.
            offsets: (B, Q, A) of the anchors' heights in metres, before the bound.
            features: (B, N, C', h, w).
            look: finds the views of pillars whose anchors are raised by (B, Q, A) metres.
            views: those of anchors that no layer moves, made once for all layers; None if the layers move them.

        Returns:
            bev and offsets for the next layer.
        """
        if self.height is not None:
            with torch.autocast(bev.device.type, enabled=False):
                offsets = offsets + self.height(bev.float())
            bound = self.height_bound
            views = look(offsets if bound is None else (offsets / bound).tanh() * bound)
        bev = self.norms[1](bev + self.dropout(self.cross_attention(bev, features, views)))
        return self.norms[2](bev + self.dropout(self.feedforward(bev))), offsets


class BEVFormer(nn.Module):
    """Camera features and calibration -> (B, C, Y, X) BEV features, for any rig of any number of cameras."""

    centres: Tensor
    anchors: Tensor

    def __init__(self, config: BEVFormerConfig, *, grid: BEVGrid, in_channels: int) -> None:
        super().__init__()
        self.config, self.out_channels = config, config.channels
        self.max_views, self.learned_heights = config.max_views, config.cross_attention == "height_kernel"
        self.shape = rows, columns = grid.shape
        many = config.anchors if config.cross_attention == "deformable" else config.kernel_heads or config.heads
        ends = config.cross_attention in ("height_kernel", "kernel")
        heights = anchor_heights(config.z_range, many, ends=ends)
        self.z_range = heights_in_reach(config)
        self.register_buffer("anchors", heights, persistent=False)
        self.register_buffer("centres", grid.cell_centres().flatten(0, 1), persistent=False)
        self.queries = nn.Parameter(torch.randn(rows * columns, config.channels))
        self.column_position = nn.Parameter(torch.rand(columns, config.channels // 2))
        self.row_position = nn.Parameter(torch.rand(rows, config.channels // 2))
        embeddings = config.camera_embeddings
        self.camera_embedding = nn.Parameter(torch.randn(embeddings, in_channels)) if embeddings else None
        self._known_start = KnownWeights()
        self._last_rig: LastRig[tuple[PillarPairs, PairViews | None]] = LastRig()
        self.layers = nn.ModuleList(
            BEVFormerLayer(config, grid=grid, in_channels=in_channels) for _ in range(config.layers)
        )

    def forward(self, features: Tensor | None, inputs: ModelInput) -> Tensor:
        """Builds the BEV.

        Args:
            features: (B, N, C', h, w) of `inputs.images`.
            inputs: `images` (their size only), `projection`, and `camera_mask` if cameras may be missing.

        Raises:
            ConfigError: if something needed is missing, or another number of cameras comes than has embeddings.
        """
        features, images, projection = self._check(features, inputs)
        batch = len(features)
        if self.camera_embedding is not None:
            features = features + self.camera_embedding[:, :, None, None]

        rig: Rig = projection, (images.shape[-2], images.shape[-1]), inputs.camera_mask
        look = self._look(rig)
        bev = self.queries.expand(batch, -1, -1)
        offsets = self.anchors.new_zeros(batch, len(self.centres), len(self.anchors))
        views = None if self.learned_heights else look(offsets)
        position = self._position()
        for number, layer in enumerate(cast("Sequence[BEVFormerLayer]", self.layers)):
            knows_weights_only = number == 0 and not self.training
            bev = self._first_attended(layer, batch) if knows_weights_only else layer.attended(bev, position)
            bev, offsets = layer(bev, offsets, features=features, look=look, views=views)
        return bev.transpose(1, 2).unflatten(-1, self.shape)

    def _first_attended(self, layer: BEVFormerLayer, batch: int) -> Tensor:
        """(B, Q, C) behind the first self-attention, which has seen nothing but weights."""
        seen = [*layer.self_attention.parameters(), *layer.norms[0].parameters()]
        weights = [self.queries, self.column_position, self.row_position, *seen]
        once = self._known_start(weights, lambda: layer.attended(self.queries[None], self._position()))
        return once.expand(batch, -1, -1)

    def _look(self, rig: Rig) -> Callable[[Tensor], Views]:
        """Offsets (B, Q, A) of the anchors in metres -> their views, by what this rig's calibration asks for."""
        projection, image_size, camera_mask = rig
        if eager_on_cpu(projection):
            is_fixed = not self.training and not torch.is_grad_enabled()
            pairs, views = self._last_rig(rig, lambda: self._pairs(rig)) if is_fixed else self._pairs(rig)
            if self.max_views is None or pairs.most <= self.max_views:
                return lambda offsets: views or project_pairs(pairs, self.anchors + offsets, image_size)

        def look(offsets: Tensor) -> PillarViews:
            points, visible = project_pillars(self.centres, self.anchors + offsets, projection, image_size)
            if camera_mask is not None:
                visible = visible & camera_mask[:, :, None, None]
            return choose_views(points, visible, self.max_views)

        return look

    def _pairs(self, rig: Rig) -> tuple[PillarPairs, PairViews | None]:
        """What depends on the rig alone: its pairs, and where no layer moves the anchors, what they see."""
        projection, image_size, camera_mask = rig
        pairs = pillars_in_reach(self.centres, self.z_range, projection, image_size, camera_mask)
        if self.learned_heights:
            return pairs, None
        heights = self.anchors.expand(len(projection), len(self.centres), -1)
        return pairs, project_pairs(pairs, heights, image_size)

    def _check(self, features: Tensor | None, inputs: ModelInput) -> tuple[Tensor, Tensor, Tensor]:
        slot = "the slot view_transform (bevformer)"
        features = needed(features, FEATURES, slot)
        images = needed(inputs.images, "ModelInput.images", slot)
        projection = needed(inputs.projection, "ModelInput.projection", slot)
        if self.camera_embedding is not None and len(self.camera_embedding) != features.shape[1]:
            raise ConfigError(
                f"view_transform.camera_embeddings is {len(self.camera_embedding)}, but {features.shape[1]} cameras "
                "came; a model with camera embeddings works with its own rig only"
            )
        return features, images, _pixels_of(self.config, projection)

    def _position(self) -> Tensor:
        """(Q, C): a half of the column, a half of the row."""
        rows, columns = self.shape
        column = self.column_position[None].expand(rows, -1, -1)
        row = self.row_position[:, None].expand(-1, columns, -1)
        halves = [column, row] if self.config.position_halves == "column_row" else [row, column]
        return torch.cat(halves, dim=-1).flatten(0, 1)
