"""Where operators run one by one on a CPU: there a shorter way to the same numbers may be taken."""

import torch
from torch import Tensor


def eager_on_cpu(tensor: Tensor) -> bool:
    """Whether operators run one by one on a CPU: not for an export or a compiler, not on a GPU, nor on fake tensors."""
    recorded = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return tensor.device.type == "cpu" and not recorded


def only_inferred_on_cpu(tensor: Tensor) -> bool:
    """Whether, beside that, nobody asks for gradients or other precisions than float32."""
    plain = not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
    return plain and tensor.dtype == torch.float32 and eager_on_cpu(tensor)
