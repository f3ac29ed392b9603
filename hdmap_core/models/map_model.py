"""MapModel: one shape for every model of the library.

`backbone -> view_transform (+ lidar) -> sd_prior or bottleneck -> bev_encoder -> heads -> hd_refiner`
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from hdmap_core.errors import ConfigError
from hdmap_core.model_io import ModelInput, ModelOutput
from hdmap_core.models.backbones.image_backbone import ImageBackbone
from hdmap_core.models.heads.auxiliary import AuxiliaryHeads
from hdmap_core.models.model_frame import Matrix, PointsToEgo, in_model_frame


class MapModel(nn.Module):
    """Sensors to map, one slot after the other; a slot that is None is skipped, a head that is None makes nothing."""

    backbone: ImageBackbone | None
    ego_from_model: Tensor | None

    def __init__(
        self,
        *,
        backbone: ImageBackbone | None = None,
        view_transform: nn.Module | None = None,
        lidar: nn.Module | None = None,
        sd_prior: nn.Module | None = None,
        bottleneck: nn.Module | None = None,
        bev_encoder: nn.Module | None = None,
        vector_head: nn.Module | None = None,
        segmentation_head: nn.Module | None = None,
        dense_heads: nn.Module | None = None,
        hd_refiner: nn.Module | None = None,
        auxiliary_heads: AuxiliaryHeads | None = None,
        ego_from_model: Matrix | None = None,
        to_ego: PointsToEgo | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.view_transform = view_transform
        self.lidar = lidar
        self.sd_prior = sd_prior
        self.bottleneck = bottleneck
        self.bev_encoder = bev_encoder
        self.vector_head = vector_head
        self.segmentation_head = segmentation_head
        self.dense_heads = dense_heads
        self.hd_refiner = hd_refiner
        self.auxiliary_heads = auxiliary_heads
        self.to_ego = to_ego
        pose = None if ego_from_model is None else torch.tensor(ego_from_model, dtype=torch.float32)
        self.register_buffer("ego_from_model", pose, persistent=False)

    def forward(self, inputs: ModelInput) -> ModelOutput:
        """Runs the slots in order.

        `taps` holds BEV features that distillation may look at: `camera` (behind the view transform), `lidar`,
        `encoder_in` (all of them, as they enter the BEV encoder), `bev` (the finest that the heads see), of the SD
        fusion `bev_small` (before its attention) and `bev_out` (after), of the bottleneck `bev_small`.
        The auxiliary heads run in training mode only: inference pays nothing for them.

        Raises:
            ConfigError: if a slot's field of the inputs is missing.
        """
        if self.view_transform is None:  # a refiner by itself
            assert self.hd_refiner is not None
            if inputs.semantic is None:
                raise ConfigError("a model that is nothing but an HD-map refiner needs ModelInput.semantic, no sensor")
            return ModelOutput(dense=self.hd_refiner(inputs.semantic, is_logits=False))
        if self.backbone is not None and inputs.images is None:
            raise ConfigError("the model's backbone needs ModelInput.images; preprocess makes them")
        if self.ego_from_model is not None and inputs.projection is not None:
            inputs = replace(inputs, projection=in_model_frame(inputs.projection, self.ego_from_model))
        features = None if self.backbone is None else self.backbone(inputs.images)
        auxiliary_heads = self.auxiliary_heads if self.training else None
        with_depth = auxiliary_heads is not None and auxiliary_heads.depth_is_given
        seen, depth = self._seen(features, inputs, with_depth)
        bev, taps = self._fused(seen, features, inputs)
        pyramid = (bev,) if self.bev_encoder is None else self.bev_encoder(bev)
        dense = None if self.dense_heads is None else self.dense_heads(pyramid)
        refined = None if self.hd_refiner is None or dense is None else self.hd_refiner(dense.semantic)
        vectors = None if self.vector_head is None else self.vector_head(pyramid)
        return ModelOutput(
            vectors=vectors if vectors is None or self.to_ego is None else self.to_ego(vectors),
            semantic=None if self.segmentation_head is None else self.segmentation_head(pyramid[0]),
            dense=dense if refined is None else refined,
            unrefined=None if refined is None else dense,
            auxiliary=None if auxiliary_heads is None else auxiliary_heads(features, pyramid[0], depth),
            taps={**taps, "bev": pyramid[0]},
        )

    def _seen(self, features: Tensor | None, inputs: ModelInput, with_depth: bool) -> tuple[Tensor, Tensor | None]:
        """The BEV of the cameras, and what the view transform says of their depth, where somebody asks for it."""
        assert self.view_transform is not None
        if with_depth:
            bev, depth = self.view_transform(features, inputs, with_depth=True)
            return bev, depth
        return self.view_transform(features, inputs), None

    def _fused(self, bev: Tensor, features: Tensor | None, inputs: ModelInput) -> tuple[Tensor, dict[str, Tensor]]:
        """The BEV of all sensors and priors, and what it was made of."""
        taps = {"camera": bev}
        if self.lidar is not None:
            taps["lidar"] = self.lidar(features, inputs)
            bev = torch.cat([bev, taps["lidar"]], dim=1)
        if self.sd_prior is not None:
            bev, taps["bev_small"], taps["bev_out"] = self.sd_prior(bev, inputs.sd_raster)
        if self.bottleneck is not None:
            bev, taps["bev_small"] = self.bottleneck(bev)
        return bev, {**taps, "encoder_in": bev}
