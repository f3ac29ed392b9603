"""Names of the tensors of EfficientNets in PyTorch's first port of them, and timm's for the same."""

import torch

EXPANDING = {"_expand_conv": "conv_pw", "_depthwise_conv": "conv_dw", "_project_conv": "conv_pwl"}
EXPANDING |= {f"_bn{number}": f"bn{number + 1}" for number in range(3)}
"""Parts of a block."""
FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""Parts of the first block, which does not expand."""


def block_places(network: str) -> list[str]:
    """Where timm has each block of a network, in the order of the forward pass: `blocks.1.0`."""
    import timm  # slow to import, and who only asks for names does without

    with torch.device("meta"):
        names = timm.create_model(network, pretrained=False).state_dict()
    return list(dict.fromkeys(".".join(name.split(".")[:3]) for name in names if name.startswith("blocks.")))
