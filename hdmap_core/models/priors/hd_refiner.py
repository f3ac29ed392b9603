"""The HD-map prior of P-MapNet (Jiang et al. 2024, section III-C): a transformer that completes maps.

Pretrained on rasters of true maps with blocks of classes hidden, then placed behind the dense heads. It holds what
HD maps look like; no map is read at run time. All tokens are processed: hiding happens in the raster that comes in.

Different from the published code, on purpose:
- It is fed with probabilities, which look like the one-hot rasters of the pretraining. Published, the same weights get
  raw logits (`inputs: logits`).
- The class token, the classifier and a second patch embedding, all unused there, are left out.
- The 1x1 convolution runs before the bilinear enlargement that it commutes with: the same result at a quarter of the
  cost. Between the transformer and the batch norm nothing has a bias, which that would take away but for a pattern of
  four values that the first enlargement makes of its own (`first_bias`).
- Grids that the patch does not divide are padded with zeros (no class, nor background) and the result is cropped.
"""

from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Self

from hdmap_core.config import Config
from hdmap_core.model_io import DenseOutput
from hdmap_core.models.bev_resnet import ResNetEncoder, ResNetEncoderConfig
from hdmap_core.models.heads.dense import DenseConfig, DenseHeads
from hdmap_core.models.layers.enlarged_stem import EnlargedStem
from hdmap_core.models.layers.padding import padded_to_multiple

PATCH = 8  # published: behind two doublings a third one, bilinear


class HDRefinerConfig(Config):
    """P-MapNet's published sizes: a ViT-B over patches of 8 x 8 cells.

    Attributes:
        patch: cells per token along each axis, at least 2. Published are 8 cells of 0.15 m. With coarser cells take
            fewer: tokens of several metres give lines back worse than they get them (docs/results/mapkd_rows.md).
        width: channels of the tokens, a multiple of `heads`.
        depth: transformer blocks.
        heads: attention heads.
        mlp_ratio: hidden width of a block's feed-forward network over `width`.
        up_channels: width between the tokens and the encoder.
        inputs: what the transformer sees of logits: the probabilities of their softmax, or themselves as published.
        first_bias: the first enlargement has a bias, as published. It is seldom of use, as it hardly differs from one
            that the norm takes away, but weights that were trained with it need it.
        bev_encoder: the encoder behind the transformer.
        dense: the heads behind the encoder.
    """

    kind: Literal["masked_autoencoder"] = "masked_autoencoder"
    patch: int = Field(default=8, ge=2)
    width: PositiveInt = 768
    depth: PositiveInt = 12
    heads: PositiveInt = 12
    mlp_ratio: PositiveFloat = 4.0
    up_channels: PositiveInt = 768
    inputs: Literal["probabilities", "logits"] = "probabilities"
    first_bias: bool = False
    bev_encoder: ResNetEncoderConfig = ResNetEncoderConfig()
    dense: DenseConfig = DenseConfig()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}; give a multiple of heads ({self.heads})")
        return self


class HDRefiner(nn.Module):
    """Semantic rasters -> better ones, with embedding and direction."""

    def __init__(self, config: HDRefinerConfig, *, size: tuple[int, int], num_classes: int) -> None:
        from timm.models.vision_transformer import Block  # slow to import, and models without this slot do without

        super().__init__()
        self.config, self.size = config, size
        norm: Any = partial(nn.LayerNorm, eps=1e-6)  # as Vision Transformers have it, the published one too
        self.token_size = (-(-size[0] // config.patch), -(-size[1] // config.patch))
        self.embed = nn.Conv2d(1 + num_classes, config.width, config.patch, config.patch)
        self.places = nn.Parameter(torch.empty(1, self.token_size[0] * self.token_size[1], config.width))
        nn.init.trunc_normal_(self.places, std=0.02)
        self.blocks = nn.Sequential(
            *(
                Block(config.width, config.heads, mlp_ratio=config.mlp_ratio, qkv_bias=True, norm_layer=norm)
                for _ in range(config.depth)
            )
        )
        self.norm = norm(config.width)
        self.up = nn.Sequential(
            nn.ConvTranspose2d(config.width, config.up_channels, 4, 2, 1, bias=config.first_bias),
            nn.ConvTranspose2d(config.up_channels, config.up_channels, 4, 2, 1, bias=False),
            nn.Conv2d(config.up_channels, config.up_channels, 1, bias=False),
        )
        self.up_norm = nn.BatchNorm2d(config.up_channels)
        self.bev_encoder = ResNetEncoder(config.bev_encoder, in_channels=config.up_channels)
        self.dense = DenseHeads(
            config.dense, level_channels=self.bev_encoder.level_channels, num_classes=num_classes, size=size
        )

    def forward(self, semantic: Tensor, *, is_logits: bool = True) -> DenseOutput:
        """Rasters on the same grid.

        Args:
            semantic: (B, 1 + K, Y, X): logits, or what is taken as it is, such as a one-hot raster with hidden parts.
            is_logits: which of the two.
        """
        if is_logits and self.config.inputs == "probabilities":
            semantic = semantic.float().softmax(dim=1)
        return self.dense(self.bev_encoder.after_stem(self._stem(self._tokens(semantic))))

    def _tokens(self, semantic: Tensor) -> Tensor:
        """(B, 1 + K, Y, X) -> (B, C, y, x) at 1 / patch, rounded up."""
        embedded = self.embed(padded_to_multiple(semantic, self.config.patch)).flatten(2).transpose(1, 2)
        tokens = self.norm(self.blocks(embedded + self.places))
        return tokens.transpose(1, 2).unflatten(2, self.token_size)

    def _stem(self, tokens: Tensor) -> Tensor:
        """(B, C, y, x) -> what the encoder's first convolution makes, (B, C', Y / 2, X / 2), rounded up."""
        first, second, mix = self.up
        conv = self.bev_encoder.stem[0]
        assert isinstance(second, nn.ConvTranspose2d) and isinstance(mix, nn.Conv2d) and isinstance(conv, nn.Conv2d)
        tokens = first(tokens)
        if self.config.patch == PATCH:
            return EnlargedStem(second, mix, self.up_norm, conv, self.size)(tokens)
        padded = [self.config.patch * tokens_along for tokens_along in self.token_size]
        features = F.interpolate(mix(second(tokens)), size=padded, mode="bilinear")
        return conv(self.up_norm(features[..., : self.size[0], : self.size[1]]))
