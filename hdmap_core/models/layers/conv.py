"""Convolution blocks."""

from torch import Tensor, nn

from hdmap_core.models.layers.folded_norm import ConvNormAct


def conv_norm_act(in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> ConvNormAct:
    """Convolution without bias, batch norm, ReLU; keeps the size when stride is 1."""
    return ConvNormAct(
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut (He et al. 2016, basic block without stride)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_norm_act(channels, channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.activation = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, Y, X) -> the same shape."""
        return self.activation(features + self.body(features))
