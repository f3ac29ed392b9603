"""The image backbone: any timm network that gives feature maps, behind one adapter, with a neck of ours."""

import difflib
from typing import Any, Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Self

from hdmap_core.config import Config
from hdmap_core.errors import ConfigError
from hdmap_core.models.backbones.aggregation import Aggregation, Neck
from hdmap_core.models.backbones.tuning import Tuning, tune
from hdmap_core.models.layers.folded_norm import fold_norms
from hdmap_core.models.layers.on_cpu import eager_on_cpu

OURS = {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir", "features_only"}
OURS |= {"num_classes", "in_chans", "img_size", "out_indices", "scriptable", "exportable"}


class ImageBackboneConfig(Config):
    """A timm network and how it is used. Weights come in by `weights.load_pretrained`, never by building.

    Attributes:
        model: timm's name; the tag after the dot decides the pretrained weights and the normalisation of pixels.
        image_size: (height, width) of the images, whole multiples of the network's patch or stride.
        filled_size: (height, width) in the upper left of the images that pictures are resized to; what is below and to
            the right is zero behind the normalisation, as MapTR and its kin pad. None: all of them.
        resampling: how pictures are resized: `area`, the mean over each pixel's area; `bicubic` with antialiasing, as
            Pillow does it and HDMapNet's line was trained with.
        scaling: where the calibration puts things in resized pictures. `edges`: what they are, the outer edges stay;
            `origin`: numbers of pixels are multiplied, as published code does it, by a fraction of a pixel elsewhere.
        poses: where the calibration puts the cameras. `moved`: where each was when it saw, by the car's motion;
            `mounted`: as if the car had stood still, as HDMapNet's line and MapTRv2 were trained.
        cameras: names in order, for slots that bind weights to cameras; empty: any rig.
        features: which maps are taken, from 0, negative from the end: blocks of a ViT, stages of a Swin; of a ResNet
            0 is the stem and 1 to 4 are its stages. Layers behind the last one taken are cut off.
        aggregation: how several maps become one (`Neck`).
        tuning: what trains (`tuning.tune`).
        frozen_stages: with tuning full: the stem and this many stages stay fixed; MapQR's ResNet-50 has 1.
        frozen_batch_norm: batch norms keep the statistics and affine of the pretraining, as MapQR's ResNet-50.
            Switch it off for a network that starts from random weights.
        out_channels: channels of the map that leaves the neck.
        arguments: passed on to timm's constructor, e.g. depth, embed_dim, drop_path_rate.
        checkpoint_gradients: recompute activations in the backward pass: less memory, more time.
    """

    kind: Literal["timm"] = "timm"
    model: str = "vit_small_patch14_dinov2.lvd142m"
    image_size: tuple[PositiveInt, PositiveInt] = (448, 798)
    filled_size: tuple[PositiveInt, PositiveInt] | None = None
    resampling: Literal["area", "bicubic"] = "area"
    scaling: Literal["edges", "origin"] = "edges"
    poses: Literal["moved", "mounted"] = "moved"
    cameras: tuple[str, ...] = ()
    features: tuple[int, ...] = Field(default=(-1,), min_length=1)
    aggregation: Aggregation = "last"
    tuning: Tuning = "full"
    frozen_stages: int | None = Field(default=None, ge=0)
    frozen_batch_norm: bool = True
    out_channels: PositiveInt = 256
    arguments: dict[str, Any] = Field(default_factory=dict)
    checkpoint_gradients: bool = False

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.aggregation == "last") != (len(self.features) == 1):
            raise ValueError(
                f"aggregation {self.aggregation!r} with {len(self.features)} features: 'last' takes exactly one, "
                "the others take several"
            )
        if self.frozen_stages is not None and self.tuning != "full":
            raise ValueError(f"frozen_stages is for tuning 'full'; {self.tuning!r} says itself what is fixed")
        if self.filled_size is not None and any(a > b for a, b in zip(self.filled_size, self.image_size, strict=True)):
            raise ValueError(f"filled_size {self.filled_size} is larger than image_size {self.image_size}")
        if len(set(self.cameras)) != len(self.cameras):
            raise ValueError(f"cameras names one twice: {list(self.cameras)}")
        if taken := OURS & self.arguments.keys():
            raise ValueError(f"arguments may not hold {sorted(taken)}: the adapter sets them")
        return self


class ImageBackbone(nn.Module):
    """uint8 camera images -> one feature map each.

    `trunk` is the pretrained part (learning rate x 0.1 in the published recipes), `neck` the new one.

    Attributes:
        out_channels: channels C of the output.
        stride: pixels per cell of the output.
        feature_size: (h, w) of the output.
        cut_keys: names of timm's parameters that are not here, because nothing that is taken needs them.

    Raises:
        ConfigError: for a network, feature or argument that timm does not have, or an image size it cannot take.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: ImageBackboneConfig) -> None:
        super().__init__()
        self.config = config
        trunk, cfg = _timm_network(config)
        stages = list(trunk.feature_info)
        self.indices = _resolved(config.features, len(stages))
        taken = [stages[index] for index in self.indices]
        _check_size(config, max(stage["reduction"] for stage in taken))
        self.stride = int(taken[0]["reduction"])
        self.feature_size = (config.image_size[0] // self.stride, config.image_size[1] // self.stride)
        complete = set(trunk.state_dict())
        trunk.prune_intermediate_layers(self.indices, prune_norm=False, prune_head=True)
        self.cut_keys = frozenset(complete - set(trunk.state_dict()))
        if config.checkpoint_gradients:
            trunk.set_grad_checkpointing(True)
        fold_norms(trunk)
        tune(trunk, config.tuning, frozen_stages=config.frozen_stages, frozen_batch_norm=config.frozen_batch_norm)
        self.trunk = trunk.to(memory_format=torch.channels_last)  # twice as fast for a CNN on a CPU
        self.neck = Neck(
            config.aggregation, in_channels=[stage["num_chs"] for stage in taken], out_channels=config.out_channels
        )
        self.out_channels = config.out_channels
        # In the checkpoint, so that a file's images are normalised as they were in its training.
        self.register_buffer("mean", 255.0 * torch.tensor(cfg.mean).reshape(3, 1, 1))
        self.register_buffer("std", 255.0 * torch.tensor(cfg.std).reshape(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Features of every camera by itself.

        Args:
            images: (B, N, 3, H, W) uint8 RGB of `image_size`.

        Returns:
            (B, N, C, h, w), float32 or the dtype of autocast.

        Raises:
            ValueError: for images of another size.
        """
        batch, cameras = images.shape[:2]
        if tuple(images.shape[-2:]) != self.config.image_size:
            raise ValueError(f"images are {tuple(images.shape[-2:])}, the backbone takes {self.config.image_size}")
        pixels = images.flatten(0, 1)
        if eager_on_cpu(pixels) and not self.training and not torch.is_grad_enabled():
            # One camera's activations stay in the caches better than all cameras', and need less memory.
            return torch.cat([self._features(image) for image in pixels.split(1)]).unflatten(0, (batch, cameras))
        return self._features(pixels).unflatten(0, (batch, cameras))

    def _features(self, pixels: Tensor) -> Tensor:
        """(K, 3, H, W) uint8 -> (K, C, h, w)."""
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        pixels = (pixels.to(self.mean.dtype) - self.mean) / self.std
        if self.config.filled_size is not None:
            (height, width), (filled_height, filled_width) = self.config.image_size, self.config.filled_size
            filled = pixels[..., :filled_height, :filled_width]
            pixels = F.pad(filled, (0, width - filled_width, 0, height - filled_height))
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        # Maps of a ViT are taken behind its final norm, without class and register tokens.
        maps = self.trunk.forward_intermediates(pixels, indices=self.indices, norm=True, intermediates_only=True)
        return self.neck(maps)


def _timm_network(config: ImageBackboneConfig) -> tuple[Any, Any]:
    """The random network and timm's record of its pretraining; never reaches for the network or a file."""
    import timm  # slow to import, and models without this slot do without

    name = config.model
    if not timm.is_model(name) or ":" in name:
        close = difflib.get_close_matches(name.partition(".")[0], timm.list_models(), n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise ConfigError(f"backbone.model: timm {timm.__version__} has no network {name!r}{hint}")
    if name.startswith("vit_") and "_radio_" in name:
        # timm's plain ViT stretches the position embedding; RADIO resizes to a square and crops.
        raise ConfigError(f"backbone.model: take naflex{name}, which places its positions as RADIO does at any size")
    try:
        record = timm.get_pretrained_cfg(name)
    except RuntimeError:
        tags = [tagged.partition(".")[2] for tagged in timm.list_pretrained(f"{name.partition('.')[0]}.*")]
        raise ConfigError(f"backbone.model: {name!r} has an unknown tag; there are {', '.join(tags)}") from None
    if record is None:
        raise ConfigError(f"backbone.model: timm does not say how {name!r} normalises its images; take another")
    size: dict[str, Any] = {"img_size": config.image_size} if record.fixed_input_size else {}
    try:
        trunk = timm.create_model(name, pretrained=False, num_classes=0, **size, **config.arguments)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise ConfigError(f"backbone.arguments: timm cannot build {name!r} with {config.arguments}: {error}") from None
    if not hasattr(trunk, "forward_intermediates") or not hasattr(trunk, "prune_intermediate_layers"):
        raise ConfigError(f"backbone.model: {name!r} gives no feature maps in timm {timm.__version__}; take another")
    return trunk, record


def _resolved(features: tuple[int, ...], count: int) -> list[int]:
    indices = [index + count if index < 0 else index for index in features]
    if not all(0 <= index < count for index in indices) or sorted(set(indices)) != indices:
        raise ConfigError(
            f"backbone.features {list(features)}: give ascending numbers from 0 to {count - 1}, or negative ones"
        )
    return indices


def _check_size(config: ImageBackboneConfig, multiple: int) -> None:
    """A size between multiples would shift the features against the pixels that the calibration speaks of."""
    if not any(side % multiple for side in config.image_size):
        return
    below = [max(side // multiple, 1) * multiple for side in config.image_size]
    above = [-(-side // multiple) * multiple for side in config.image_size]
    height, width = (" or ".join(map(str, sorted(set(pair)))) for pair in zip(below, above, strict=True))
    raise ConfigError(
        f"backbone.image_size {list(config.image_size)}: {config.model} needs multiples of {multiple}; "
        f"nearest: height {height}, width {width}"
    )
