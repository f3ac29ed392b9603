"""Which model of MapTR's line a file holds, as its names and shapes tell, and its config here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from hdmap_core.errors import CheckpointError
from hdmap_core.geometry import BEVGrid
from hdmap_core.models import ModelConfig
from hdmap_core.models.backbones.image_backbone import ImageBackboneConfig
from hdmap_core.models.heads.auxiliary import AuxiliaryConfig, Surface
from hdmap_core.models.heads.mapqr_decoder import MapQRDecoderConfig
from hdmap_core.models.heads.maptr_decoder import MapTRDecoderConfig
from hdmap_core.models.view_transforms.bevformer import BEVFormerConfig
from hdmap_core.models.view_transforms.depth_lift_splat import DepthLiftSplatConfig

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")
HEAD = "pts_bbox_head."
TRANSFORMER = HEAD + "transformer."
GROUPS = 7
"""Published: one group of queries that count, and six more for training."""

LIDAR_POSE = ((1.0, 0.0, 0.0, 0.94), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 1.84), (0.0, 0.0, 0.0, 1.0))
"""nuScenes' LiDAR, turned into x forward and y left, in the ego frame; tenths of a degree of its mounting left out."""

VectorKind = Literal["mapqr", "mapfm", "maptr", "maptrv2"]
_NAMES = {"mapqr": "MapQR", "mapfm": "MapFM", "maptr": "MapTR", "maptrv2": "MapTRv2"}


@dataclass(frozen=True)
class VectorModel:
    """What the names say.

    Attributes:
        kind: of which paper.
        looks_by: what reads the cameras: heights that are learned, MapTR's kernels, BEVFormer's samples, or depth.
        cells: (forward, right) of the grid.
        queries: rows of the table of instances.
        layers: of the encoder.
        bev_lines: whether it has the head of map lines in the BEV; only training reads it, like the next.
        image_lines: likewise in the images.
    """

    kind: VectorKind
    looks_by: Literal["height_kernel", "nearest_kernel", "deformable", "depth"]
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
        by_forward, by_right = (
            _needed_rows(tensors, f"{HEAD}positional_encoding.{each}_embed.weight") for each in ("row", "col")
        )
        encoder = f"{TRANSFORMER}encoder.layers."
        layers = len({name.removeprefix(encoder).split(".")[0] for name in tensors if name.startswith(encoder)})

        def has(part: str) -> bool:
            return any(part in name for name in tensors)

        kind: VectorKind = "maptr"
        looks_by: Literal["height_kernel", "nearest_kernel", "deformable", "depth"]
        if has(".attentions.1.height_offsets."):
            kind = "mapfm" if has(f"{HEAD}segmap_head.") else "mapqr"
            looks_by = "height_kernel"
        elif has(f"{TRANSFORMER}encoder.depth_net."):
            kind, looks_by = "maptrv2", "depth"
        elif has(".attentions.1.deformable_attention."):
            looks_by = "deformable"
        elif has(".attentions.1.attention."):
            looks_by = "nearest_kernel"
        else:
            raise CheckpointError("it is of MapTR's line, but of a variant that is not read")
        return cls(
            kind=kind,
            looks_by=looks_by,
            cells=(by_forward, by_right),
            queries=_rows(tensors, f"{HEAD}instance_embedding.weight"),
            layers=layers,
            bev_lines=has(f"{HEAD}seg_head."),
            image_lines=has(f"{HEAD}pv_seg_head."),
        )

    @property
    def title(self) -> str:
        """In words."""
        variant = " with BEVFormer's attention" if self.looks_by == "deformable" else ""
        return f"{_NAMES[self.kind]}{variant}, ResNet-50, six cameras"


def _rows(tensors: Mapping[str, Tensor], name: str) -> int:
    tensor = tensors.get(name)
    return 0 if tensor is None or tensor.dim() != 2 else len(tensor)


def _needed_rows(tensors: Mapping[str, Tensor], name: str) -> int:
    if (rows := _rows(tensors, name)) == 0:
        raise CheckpointError(f"it lacks {name}, which tells its grid, or that has no rows")
    return rows


def _check_variant(tensors: Mapping[str, Tensor]) -> None:
    blocks = {name.split(".")[2] for name in tensors if name.startswith("img_backbone.layer3.")}
    if blocks != set("012345") or not any(".conv3." in name for name in tensors):
        raise CheckpointError("its image backbone is no ResNet-50, the only one of MapTR's line that is read")
    if any(name.startswith("pts_middle_encoder.") for name in tensors):
        raise CheckpointError("it has a LiDAR branch, which no model here has; only those with cameras alone are read")
    cameras = _rows(tensors, TRANSFORMER + "cams_embeds")
    if cameras not in (0, len(CAMERAS)):
        raise CheckpointError(f"it was trained for {cameras} cameras (Argoverse 2 has 7); only nuScenes' six are read")


def vector_config(model: VectorModel) -> ModelConfig:
    """The config that a file of this kind asks for, with everything as it was published.

    Raises:
        CheckpointError: if the region's cells are not square.
    """
    forward, right = model.cells
    if forward != 2 * right or not right:
        raise CheckpointError(f"a grid of {forward} x {right} cells over 60 x 30 m has no square cells; it is not read")
    surface: tuple[Surface, ...] = ("ped_crossing", "drivable_area") if model.kind == "mapfm" else ()
    auxiliary = AuxiliaryConfig(surface=surface, bev_lines=model.bev_lines, image_lines=model.image_lines)
    return ModelConfig(
        name=f"imported-{model.kind}-resnet50",
        grid=BEVGrid((-30.0, 30.0), (-15.0, 15.0), 60.0 / forward),
        backbone=ImageBackboneConfig(
            model="resnet50.tv_in1k",
            image_size=(480, 800),
            filled_size=(450, 800),
            scaling="origin",
            poses="mounted" if model.looks_by == "depth" else "moved",
            cameras=CAMERAS,
            frozen_stages=1,
        ),
        view_transform=_view_transform(model),
        bev_encoder=None,
        vectors=_vectors(model),
        segmentation=None,
        auxiliary=auxiliary if surface or auxiliary.bev_lines or auxiliary.image_lines else None,
        ego_from_model=LIDAR_POSE,
    )


def _view_transform(model: VectorModel) -> BEVFormerConfig | DepthLiftSplatConfig:
    if model.looks_by == "depth":
        return DepthLiftSplatConfig()
    gkt = model.looks_by == "nearest_kernel"
    return BEVFormerConfig(
        layers=model.layers,
        cross_attention=model.looks_by,
        kernel_size=(3, 5) if gkt else (2, 4),
        kernel_heads=4 if gkt else None,
        z_range=(-2.0, 2.0),
        height_bound=None,
        unseen_bias=True,
        position_halves="row_column",
        half_pixel=False,
        camera_embeddings=len(CAMERAS),
    )


def _vectors(model: VectorModel) -> MapQRDecoderConfig | MapTRDecoderConfig:
    if model.kind == "maptr":
        return MapTRDecoderConfig(num_queries=max(model.queries, 1))
    ours = max(model.queries // GROUPS, 1)
    if model.kind == "maptrv2":
        return MapTRDecoderConfig(num_queries=ours, one_to_many=GROUPS - 1, self_attention="decoupled")
    return MapQRDecoderConfig(num_queries=ours, one_to_many=GROUPS - 1, separate_groups=False)
