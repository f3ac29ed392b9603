"""MapModel: one shape for every model of the library, `backbone -> view_transform -> bev_encoder -> heads`."""

from torch import nn

from hdmap_core.model_io import ModelInput, ModelOutput
from hdmap_core.models.backbones.image_backbone import ImageBackbone


class MapModel(nn.Module):
    """Cameras to map, one slot after the other; a slot that is None is skipped, a head that is None makes nothing."""

    backbone: ImageBackbone | None

    def __init__(
        self,
        *,
        backbone: ImageBackbone | None = None,
        view_transform: nn.Module,
        bev_encoder: nn.Module | None = None,
        vector_head: nn.Module | None = None,
        segmentation_head: nn.Module | None = None,
        auxiliary_heads: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.view_transform = view_transform
        self.bev_encoder = bev_encoder
        self.vector_head = vector_head
        self.segmentation_head = segmentation_head
        self.auxiliary_heads = auxiliary_heads

    def forward(self, inputs: ModelInput) -> ModelOutput:
        """Runs the slots in order; `taps` holds the BEV features before and after the encoder.

        The auxiliary heads run in training mode only: inference pays nothing for them.
        """
        features = None if self.backbone is None else self.backbone(inputs.images)
        camera_bev = self.view_transform(features, inputs)
        pyramid = (camera_bev,) if self.bev_encoder is None else self.bev_encoder(camera_bev)
        auxiliary_heads = self.auxiliary_heads if self.training else None
        return ModelOutput(
            vectors=None if self.vector_head is None else self.vector_head(pyramid),
            semantic=None if self.segmentation_head is None else self.segmentation_head(pyramid[0]),
            auxiliary=None if auxiliary_heads is None else auxiliary_heads(features, pyramid[0]),
            taps={"camera": camera_bev, "bev": pyramid[0]},
        )
