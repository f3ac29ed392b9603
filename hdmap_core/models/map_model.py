"""MapModel: one shape for every model of the library, `view_transform -> bev_encoder -> heads`."""

from torch import nn

from hdmap_core.model_io import ModelInput, ModelOutput


class MapModel(nn.Module):
    """Cameras to map, one slot after the other; a head that is None leaves its output None."""

    def __init__(
        self,
        *,
        view_transform: nn.Module,
        bev_encoder: nn.Module,
        vector_head: nn.Module | None = None,
        segmentation_head: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.view_transform = view_transform
        self.bev_encoder = bev_encoder
        self.vector_head = vector_head
        self.segmentation_head = segmentation_head

    def forward(self, inputs: ModelInput) -> ModelOutput:
        """Runs the slots in order; `taps` holds the BEV features before and after the encoder."""
        camera_bev = self.view_transform(inputs)
        pyramid = self.bev_encoder(camera_bev)
        return ModelOutput(
            vectors=None if self.vector_head is None else self.vector_head(pyramid),
            semantic=None if self.segmentation_head is None else self.segmentation_head(pyramid[0]),
            taps={"camera": camera_bev, "bev": pyramid[0]},
        )
