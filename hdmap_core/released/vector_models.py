"""Which model of MapTR's line a file holds, as its names and shapes tell, and its config here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from hdmap_core.errors import CheckpointError, ConfigError
from hdmap_core.geometry import BEVGrid
from hdmap_core.models import ModelConfig
from hdmap_core.models.backbones.image_backbone import ImageBackboneConfig
from hdmap_core.models.heads.auxiliary import AuxiliaryConfig
from hdmap_core.models.heads.mapqr_decoder import MapQRDecoderConfig
from hdmap_core.models.view_transforms.bevformer import BEVFormerConfig

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")
HEAD = "pts_bbox_head."
TRANSFORMER = HEAD + "transformer."
GROUPS = 7
"""Published: one group of queries that count, and six more for training."""

LIDAR_POSE = ((1.0, 0.0, 0.0, 0.94), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 1.84), (0.0, 0.0, 0.0, 1.0))
"""nuScenes' LiDAR, turned into x forward and y left, in the ego frame; tenths of a degree of its mounting left out."""

VectorKind = Literal["mapqr", "mapfm"]


@dataclass(frozen=True)
class VectorModel:
    """What the names say.

    Attributes:
        kind: of which paper.
        cells: (forward, right) of the grid.
        queries: rows of the table of instances.
        layers: of the encoder.
        bev_lines: whether it has the head of map lines in the BEV; only training reads it, like the next.
        image_lines: likewise in the images.
    """

    kind: VectorKind
    cells: tuple[int, int]
    queries: int
    layers: int
    bev_lines: bool
    image_lines: bool

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "VectorModel | None":
        """None if the names are of another family.

        Raises:
            CheckpointError: if they are of this one, but of a variant that is not known.
        """
        if not any(name.startswith(TRANSFORMER) for name in tensors):
            return None
        _check_variant(tensors)
        by_forward, by_right = (_rows(tensors, f"{HEAD}positional_encoding.{name}_embed.weight") for name in ("row", "col"))
        kernels = f"{TRANSFORMER}encoder.layers.0.attentions.1.height_offsets.weight"
        if kernels not in tensors:
            raise CheckpointError("it is of MapTR's line, but neither MapQR nor MapFM, the only ones that are read")
        encoder = f"{TRANSFORMER}encoder.layers."
        layers = 1 + max(int(name.removeprefix(encoder).split(".")[0]) for name in tensors if name.startswith(encoder))
        return cls(
            kind="mapfm" if f"{HEAD}segmap_head.0.weight" in tensors else "mapqr",
            cells=(by_forward, by_right),
            queries=_rows(tensors, f"{HEAD}instance_embedding.weight"),
            layers=layers,
            bev_lines=f"{HEAD}seg_head.0.weight" in tensors,
            image_lines=f"{HEAD}pv_seg_head.0.weight" in tensors,
        )

    @property
    def title(self) -> str:
        """In words."""
        names = {"mapqr": "MapQR", "mapfm": "MapFM"}
        return f"{names[self.kind]}, ResNet-50, six cameras"


def _rows(tensors: Mapping[str, Tensor], name: str) -> int:
    tensor = tensors.get(name)
    return 0 if tensor is None or tensor.dim() != 2 else len(tensor)


def _check_variant(tensors: Mapping[str, Tensor]) -> None:
    if "img_backbone.layer3.5.conv3.weight" not in tensors or "img_backbone.layer3.6.conv1.weight" in tensors:
        raise CheckpointError("its image backbone is no ResNet-50, the only one of MapTR's line that is read")
    if any(name.startswith("pts_middle_encoder.") for name in tensors):
        raise CheckpointError("it has a LiDAR branch, which no model here has; only those with cameras alone are read")
    cameras = _rows(tensors, TRANSFORMER + "cams_embeds")
    if cameras not in (0, len(CAMERAS)):
        raise CheckpointError(
            f"it was trained for {cameras} cameras (Argoverse 2 has 7); only nuScenes' six are read"
        )


def vector_config(model: VectorModel) -> ModelConfig:
    """The config that a file of this kind asks for, with everything as it was published.

    Raises:
        ConfigError: if the region's cells are not square.
    """
    forward, right = model.cells
    if forward != 2 * right or not right:
        raise ConfigError(f"a grid of {forward} x {right} cells over 60 x 30 m has no square cells; it is not read")
    surface = ("ped_crossing", "drivable_area") if model.kind == "mapfm" else ()
    return ModelConfig(
        name=f"imported-{model.kind}-resnet50",
        grid=BEVGrid((-30.0, 30.0), (-15.0, 15.0), 60.0 / forward),
        backbone=ImageBackboneConfig(
            model="resnet50.tv_in1k",
            image_size=(480, 800),
            filled_size=(450, 800),
            scaling="origin",
            cameras=CAMERAS,
            frozen_stages=1,
        ),
        view_transform=BEVFormerConfig(
            layers=model.layers,
            z_range=(-2.0, 2.0),
            height_bound=None,
            unseen_bias=True,
            position_halves="row_column",
            half_pixel=False,
            camera_embeddings=len(CAMERAS),
        ),
        bev_encoder=None,
        vectors=MapQRDecoderConfig(
            num_queries=max(model.queries // GROUPS, 1), one_to_many=GROUPS - 1, separate_groups=False
        ),
        segmentation=None,
        auxiliary=AuxiliaryConfig(surface=surface, bev_lines=model.bev_lines, image_lines=model.image_lines),
        ego_from_model=LIDAR_POSE,
    )
