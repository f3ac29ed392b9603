"""From a released-style file to the outputs of the published code: every kind of model that `hdmap import` reads.

`HDMAP_ORACLES=FOLDER` takes the reference results of another folder.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hdmap_core.checkpoint import Checkpoint, load_checkpoint
from hdmap_core.export.in_double import in_double
from hdmap_core.model_io import DenseOutput, ModelInput, ModelOutput
from hdmap_core.models import MapModel
from hdmap_core.models.model_frame import in_model_frame
from hdmap_core.released.importing import import_file

VECTORS: tuple[str, ...] = ("mapqr_r50", "mapfm", "maptr_r50", "maptr_r50_bevformer", "maptrv2_r50")
DENSE: tuple[str, ...] = (
    *("hdmapnet_camera", "hdmapnet_fusion", "pmapnet_hdmapnet_camera", "pmapnet_hdmapnet_fusion"),
    *("pmapnet_sd_cam", "pmapnet_sd", "pmapnet_hd_cam", "pmapnet_hd_pretrain"),
    *("mapkd_teacher", "mapkd_coach_sd", "mapkd_coach", "mapkd_student"),
)
if "HDMAP_ORACLES" in os.environ:
    ALL = sorted(path.parent.name for path in Path(os.environ["HDMAP_ORACLES"]).glob("*/manifest.json"))
    VECTORS = tuple(name for name in ALL if name.startswith(("mapqr", "mapfm", "maptr")))
    DENSE = tuple(name for name in ALL if name not in VECTORS)
LIDAR_FROM_MODEL = np.array([[0.0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def imported(oracle: Any, place: Path, **options: Any) -> Checkpoint:
    oracle.write(place / "released.pth", oracle.state())
    import_file(place / "released.pth", place / "ours.safetensors", **options)
    return load_checkpoint(place / "ours.safetensors")


def assert_near(found: Tensor, wanted: Tensor, limit: float, exact: Callable[[], Tensor]) -> None:
    """At most `limit` apart, or four times what rounding to float32 makes of ours; ten times the limit at the most.

    The reference rounds as well, and nobody knows its result in float64.

    Args:
        found: ours.
        wanted: the reference's.
        limit: what nearly all models keep.
        exact: ours in float64, which is only asked for where the limit is not kept.
    """
    if (found - wanted).abs().max() > limit:
        limit = max(limit, min(10 * limit, 4 * (found - exact()).abs().max().item()))
    torch.testing.assert_close(found, wanted, atol=limit, rtol=0)


# --- HDMapNet, P-MapNet, MapKD ---


@pytest.mark.slow
@pytest.mark.parametrize("name", DENSE)
def test_dense_outputs_are_those_of_the_published_code(oracle: Callable[[str], Any], place: Path, name: str) -> None:
    """Semantic, embedding and direction; the second sample has LiDAR points beyond the grid, padding and no road."""
    reference = oracle(name)
    ours = imported(reference, place, kind=kind_of(reference.manifest))
    inputs = dense_inputs(reference.inputs)
    with torch.inference_mode():
        if "feature_sim_lidar" in reference.outputs and reference.manifest["model"].endswith("_C"):
            inputs = given_their_simulated_lidar(reference, ours, inputs)
        found = ours.model(inputs).dense
    exact = cache(lambda: in_double(ours.model, inputs).dense)
    assert isinstance(found, DenseOutput)
    for output in ("semantic", "embedding", "direction"):
        wanted = torch.from_numpy(reference.outputs[output])[: len(found.semantic)]
        step = found.semantic.shape[-1] // wanted.shape[-1]  # some are kept at every fourth cell only

        def kept(of: DenseOutput, output: str = output, step: int = step) -> Tensor:
            return getattr(of, output)[..., ::step, ::step]

        assert_near(kept(found), wanted, 2e-3, lambda kept=kept: kept(exact()))


def given_their_simulated_lidar(reference: Any, ours: Checkpoint, inputs: ModelInput) -> ModelInput:
    """From the reference's simulated LiDAR on, for the one sample that it is known of.

    The reference sums a cell by the difference of two cumulative sums over all cells, of about a thousand in float32:
    off by their last digit, 1.2e-4, which nothing repeats. In float64 this is as far from it as in float32, and the
    coach's refiner makes 6e-3 of that (of noise as large 4e-2).
    """
    features = torch.from_numpy(reference.outputs["feature_sim_lidar"])
    lidar = ours.model.lidar
    assert lidar is not None and inputs.images is not None
    whole = {field: value[:1] for field, value in vars(inputs).items() if value is not None}
    first = ModelInput(**whole)
    torch.testing.assert_close(lidar(None, first), features, atol=5e-4, rtol=0)  # four such digits
    lidar.forward = lambda *_: features
    return first


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
    that, so the numbers behind it are compared from the reference's features on. MapTRv2's decoder, in which all points
    of a query attend to one another, amplifies more than a limit of 1e-4.
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
        behind = Behind(model, theirs)
        found = behind(turned).vectors
        whole = model(inputs).vectors
        if model.auxiliary_heads is not None:
            heads = model.auxiliary_heads(theirs, bev)
    rows, columns = bev.shape[-2:]
    table = wanted["out:bev_embed"].squeeze(1).t().unflatten(1, (columns, rows))
    exact = cache(lambda: in_double(behind, turned))
    assert_near(bev[0], as_ours(table), 2e-4, lambda: exact().taps["bev"][0])
    assert_near(found.logits, wanted["out:all_cls_scores"], 1e-4, lambda: exact().vectors.logits)
    points = in_lidar(found.points, given["ego_from_lidar"])
    assert_near(
        points, wanted["out:all_pts_preds"], 1e-4, lambda: in_lidar(exact().vectors.points, given["ego_from_lidar"])
    )
    images_on = cache(lambda: in_double(model, inputs).vectors.logits)
    assert_near(whole.logits, wanted["out:all_cls_scores"], 5e-3, images_on)
    if model.auxiliary_heads is not None:
        torch.testing.assert_close(heads.image_lines, wanted["out:pv_seg"], atol=1e-4, rtol=0)
        torch.testing.assert_close(heads.bev_lines, as_ours(wanted["out:seg"]), atol=2e-3, rtol=0)
        if "out:segmap" in wanted:
            torch.testing.assert_close(heads.surface, as_ours(wanted["out:segmap"]), atol=2e-3, rtol=0)


class Behind(nn.Module):
    """What a model makes of its backbone's features."""

    def __init__(self, model: MapModel, features: Tensor) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("features", features)

    def forward(self, turned: ModelInput) -> ModelOutput:
        """Takes projections of the model's own frame."""
        model = self.model
        assert model.view_transform is not None and model.vector_head is not None and model.to_ego is not None
        bev = model.view_transform(self.features, turned)
        return ModelOutput(vectors=model.to_ego(model.vector_head((bev,))), taps={"bev": bev})


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
