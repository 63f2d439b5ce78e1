"""A trained network in bfloat16, for predictions on a processor that computes in it.

The weights are converted once, and what passes between the layers stays bfloat16; the operator
reads its kernels as they are, beside frames of float32 (`model.sepconv`).
"""

import torch
from torch import Tensor, nn

from model.network.architecture import SepConv


def joins_layers() -> bool:
    """Whether a convolution of bfloat16 can take the ReLU behind it along, which x86 can
    with AVX-512.

    PyTorch does not promise to keep the joined operation.
    """
    there = torch.backends.mkldnn.is_available()
    there = there and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    return bool(there and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def convert(network: SepConv) -> None:
    """Convert a network on a CPU in place, for predictions only: it can no longer be trained.

    Each convolution takes the ReLU behind it along where it can: by itself, PyTorch's ReLU of
    bfloat16 takes a third of the time of the convolution. What is computed does not change by that.
    """
    network.bfloat16()
    if not joins_layers():
        return
    for layers in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        for place in range(len(layers) - 1):
            convolution = layers[place]
            if isinstance(convolution, nn.Conv2d) and isinstance(layers[place + 1], nn.ReLU):
                layers[place] = _ConvolutionAndReLU(convolution)
                layers[place + 1] = nn.Identity()


class _ConvolutionAndReLU(nn.Module):
    """What oneDNN does in one pass over the output."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias
        self.padding, self.stride = convolution.padding, convolution.stride
        self.dilation, self.groups = convolution.dilation, convolution.groups

    def forward(self, features: Tensor) -> Tensor:
        joined: Tensor = torch.ops.mkldnn._convolution_pointwise(
            features, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups,
            "relu", [], "",
        )  # fmt: skip
        return joined
