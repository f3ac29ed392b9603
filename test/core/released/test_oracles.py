"""From a released-style file to the outputs of the published code: every kind of model that `hdmap import` reads.

By default one of each kind; `HDMAP_ORACLES=FOLDER` tests all reference results of a folder.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hdmap_core.checkpoint import Checkpoint, load_checkpoint
from hdmap_core.model_io import DenseOutput, ModelInput
from hdmap_core.models.lidar.simulated import SimulatedLidar
from hdmap_core.models.model_frame import in_model_frame
from hdmap_core.released.importing import import_file

DENSE = ("hdmapnet_camera", "pmapnet_sd", "mapkd_coach_sd", "mapkd_student", "pmapnet_hd_pretrain")
VECTORS = ("mapqr_r50", "maptr_r50", "maptr_r50_bevformer", "maptrv2_r50")
if "HDMAP_ORACLES" in os.environ:
    ALL = sorted(path.parent.name for path in Path(os.environ["HDMAP_ORACLES"]).glob("*/manifest.json"))
    VECTORS = tuple(name for name in ALL if name.startswith(("mapqr", "mapfm", "maptr")))
    DENSE = tuple(name for name in ALL if name not in VECTORS)
LIDAR_FROM_MODEL = np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def imported(oracle: Any, place: Path, **options: Any) -> Checkpoint:
    oracle.write(place / "released.pth", oracle.state())
    import_file(place / "released.pth", place / "ours.safetensors", **options)
    return load_checkpoint(place / "ours.safetensors")


# --- HDMapNet, P-MapNet, MapKD ---


@pytest.mark.slow
@pytest.mark.parametrize("name", DENSE)
def test_dense_outputs_are_those_of_the_published_code(oracle: Callable[[str], Any], place: Path, name: str) -> None:
    """Semantic, embedding and direction; the second sample has LiDAR points beyond the grid, padding and no road."""
    reference = oracle(name)
    ours = imported(reference, place, kind=kind_of(reference.manifest))
    if "coach" in name:
        round_as_published(ours)
    with torch.inference_mode():
        found = ours.model(dense_inputs(reference.inputs)).dense
    assert isinstance(found, DenseOutput)
    for output in ("semantic", "embedding", "direction"):
        wanted = torch.from_numpy(reference.outputs[output])
        values = getattr(found, output)
        step = values.shape[-1] // wanted.shape[-1]  # some are kept at every fourth cell only
        torch.testing.assert_close(values[..., ::step, ::step], wanted, atol=2e-3, rtol=0)


def round_as_published(checkpoint: Checkpoint) -> None:
    """The coach's lift-splat sums a cell by the difference of two cumulative sums over all cells, kept in float32.

    That is 1e-4 off the sum itself, and the refiner behind it makes 8e-3 of that.
    """
    lidar = checkpoint.model.lidar
    assert isinstance(lidar, SimulatedLidar)
    exact = lidar.lift_splat.splat.forward

    def rounded(*given: Any) -> Tensor:
        bev = exact(*given)
        batch, channels, rows, columns = bev.shape
        total = bev.permute(3, 2, 0, 1).reshape(-1, channels).double().cumsum(dim=0).float()
        cells = torch.cat([total[:1], total.diff(dim=0)])
        return cells.view(columns, rows, batch, channels).permute(2, 3, 1, 0)

    lidar.lift_splat.splat.forward = rounded  # type: ignore[method-assign]


def kind_of(manifest: dict[str, Any]) -> str:
    if "HDMapNet" in manifest["repository"]:
        return "hdmapnet-60x30"
    return "pmapnet-60x30" if manifest["model"].startswith("HDMapNet") else "60x30"


def dense_inputs(given: dict[str, np.ndarray]) -> ModelInput:
    if "semantic" in given:
        return ModelInput(semantic=torch.from_numpy(given["semantic"]).float())
    rotation, place = (
        torch.from_numpy(given[f"{n}"]).double() for n in ("rots_ego_from_camera", "trans_camera_in_ego")
    )
    turned = rotation.transpose(-1, -2)
    intrinsics = torch.from_numpy(given["post_rots"]).double() @ torch.from_numpy(given["intrinsics_1600x900"]).double()
    projection = intrinsics @ torch.cat([turned, -turned @ place[..., None]], dim=-1)
    inputs = ModelInput(images=torch.from_numpy(given["images_uint8"]), projection=projection.float())
    if "points" in given:
        inputs.points = torch.from_numpy(given["points"])
        inputs.point_count = torch.from_numpy(given["points_mask"]).sum(dim=1).long()
    if "sd_raster" in given:
        inputs.sd_raster = torch.from_numpy(given["sd_raster"]).float()
    return inputs


# --- MapQR, MapFM, MapTR, MapTRv2 ---


@pytest.mark.slow
@pytest.mark.parametrize("name", VECTORS)
def test_vectors_are_those_of_the_published_code(oracle: Callable[[str], Any], place: Path, name: str) -> None:
    """In the ego frame, with the LiDAR mounted as the reference has it and the vector of the CAN bus that it was given.

    A random ResNet-50 in float32 is 7e-4 off its own result in float64, here and there, and random decoders amplify
    that, so the numbers behind it are compared from the reference's features on.
    """
    reference = oracle(name)
    given, wanted = reference.inputs, {key: torch.from_numpy(value) for key, value in reference.outputs.items()}
    height, width = given["images_uint8"].shape[-2:]
    ego_from_model = given["ego_from_lidar"] @ LIDAR_FROM_MODEL
    by_depth, scale = "maptrv2" in name, float(given["img_aug_matrix"][0, 0])
    overrides = [
        f"model.backbone.image_size={given['padded_size'].tolist()}",
        f"model.backbone.filled_size=[{height},{width}]",
        f"model.vectors.num_queries={wanted['out:all_cls_scores'].shape[2]}",
        "model.vectors.one_to_many=0",
        f"model.ego_from_model={ego_from_model.tolist()}",
        *([f"model.view_transform.image_scale={scale}"] if by_depth else []),
    ]
    can_bus = None if by_depth else given["can_bus"].tolist()
    ours = imported(reference, place, can_bus=can_bus, overrides=overrides)
    inputs, model = vector_inputs(given, by_depth), ours.model
    with torch.inference_mode():
        assert inputs.images is not None and model.backbone is not None and inputs.projection is not None
        features = model.backbone(inputs.images)
        torch.testing.assert_close(features, wanted["tap:fpn0"], atol=2e-3, rtol=0)
        theirs = wanted["tap:fpn0"]
        turned = replace(inputs, projection=in_model_frame(inputs.projection, ego_from_model.tolist()))
        assert model.view_transform is not None and model.vector_head is not None and model.to_ego is not None
        bev = model.view_transform(theirs, turned)
        found = model.to_ego(model.vector_head((bev,)))
        whole = model(inputs).vectors
        if model.auxiliary_heads is not None:
            heads = model.auxiliary_heads(theirs, bev)
    rows, columns = bev.shape[-2:]
    table = wanted["out:bev_embed"].squeeze(1).t().unflatten(1, (columns, rows))
    torch.testing.assert_close(bev[0], as_ours(table), atol=2e-4, rtol=0)
    limit = 4e-4 if by_depth else 1e-4  # twenty points of a query each amplify what ten numbers differ by
    torch.testing.assert_close(found.logits, wanted["out:all_cls_scores"], atol=limit, rtol=0)
    points = in_lidar(found.points, given["ego_from_lidar"])
    torch.testing.assert_close(points, wanted["out:all_pts_preds"], atol=limit, rtol=0)
    torch.testing.assert_close(whole.logits, wanted["out:all_cls_scores"], atol=5e-3, rtol=0)
    if model.auxiliary_heads is not None:
        torch.testing.assert_close(heads.image_lines, wanted["out:pv_seg"], atol=1e-4, rtol=0)
        torch.testing.assert_close(heads.bev_lines, as_ours(wanted["out:seg"]), atol=2e-3, rtol=0)
        if "out:segmap" in wanted:
            torch.testing.assert_close(heads.surface, as_ours(wanted["out:segmap"]), atol=2e-3, rtol=0)


def vector_inputs(given: dict[str, np.ndarray], by_depth: bool) -> ModelInput:
    pixels = torch.from_numpy(given["images_uint8"])
    images = torch.zeros(1, len(pixels), 3, *given["padded_size"].tolist(), dtype=torch.uint8)
    images[0, :, :, : pixels.shape[-2]] = pixels
    if by_depth:  # which looks through the cameras as they are mounted, without the car's motion
        camera_from_ego = np.linalg.inv(given["ego_from_camera"])
        projection = given["img_aug_matrix"] @ given["intrinsics_1600x900"] @ camera_from_ego
    else:
        projection = given["lidar2img"].astype(np.float64) @ np.linalg.inv(given["ego_from_lidar"])
    return ModelInput(images=images, projection=torch.from_numpy(projection[:, :3]).float()[None])


def as_ours(raster: Tensor) -> Tensor:
    """(..., forward, right) -> (..., left, forward)."""
    return raster.flip(-1).transpose(-1, -2)


def in_lidar(points: Tensor, ego_from_lidar: np.ndarray) -> Tensor:
    """Points on the road over 60 x 30 m of the ego frame -> (right, forward) over the same of the LiDAR's."""
    metres = points.double() * torch.tensor([60.0, 30.0]) - torch.tensor([30.0, 15.0])
    road = torch.cat([metres, torch.zeros_like(metres[..., :1]), torch.ones_like(metres[..., :1])], dim=-1)
    seen = road @ torch.from_numpy(np.linalg.inv(ego_from_lidar)).T
    return ((seen[..., :2] + torch.tensor([15.0, 30.0])) / torch.tensor([30.0, 60.0])).float()
