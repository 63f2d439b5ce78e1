"""SepConv: a network that predicts, for every pixel, the kernels that make the middle frame.

Niklaus, Mai and Liu, "Video Frame Interpolation via Adaptive Separable Convolution" (ICCV 2017,
arXiv:1708.01692), in the form that arXiv:1809.07759 replicates.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.network_shape import PAPER, NetworkForm
from model.sepconv import separable_convolution

ENCODER_CHANNELS = (6, 32, 64, 128, 256, 512, 512)
DECODER_CHANNELS = (512, 256, 128, 64)
HEADS = ("vertical_first", "horizontal_first", "vertical_third", "horizontal_third")
SIZE_MULTIPLE = 32  # five poolings halve the size five times
DIFFERENCE_GAIN = 6.0  # about the ratio of brightness to the differences within and between frames


class SepConv(nn.Module):
    """Predict the middle frame from the first and the third.

    An encoder of six modules (three 3x3 convolutions each) joined by 2x2 average pooling, a
    decoder with skip connections that are added, and four heads that give a vertical and a
    horizontal kernel for each pixel of each frame. The output is the sum of the two frames, each
    convolved with the kernels of every pixel.

    Parameters
    ----------
    settings : NetworkSettings or NetworkShape, optional
        By default the paper's network (21,675,452 parameters).

    Attributes
    ----------
    settings : NetworkSettings or NetworkShape
        What rebuilds this network.

    Notes
    -----
    Initial weights are drawn from PyTorch's global random state.
    """

    def __init__(self, settings: NetworkForm | None = None) -> None:
        super().__init__()
        self.settings: NetworkForm = settings or PAPER
        order = self.settings.module_order
        taps = self.settings.kernel_length
        # The six input channels are data, not a width.
        encoder = [6, *(self._scaled(channels) for channels in ENCODER_CHANNELS[1:])]
        decoder = [self._scaled(channels) for channels in DECODER_CHANNELS]
        self.encoder = nn.ModuleList(
            _module(i, o, order) for i, o in zip(encoder, encoder[1:], strict=False)
        )
        self.upsample = nn.ModuleList(_upsample(channels) for channels in decoder)
        self.decoder = nn.ModuleList(
            _module(i, o, order) for i, o in zip(decoder, decoder[1:], strict=False)
        )
        self.heads = nn.ModuleDict({name: _head(decoder[-1], taps) for name in HEADS})
        self._initialise()

    def _scaled(self, channels: int) -> int:
        return max(1, round(channels * self.settings.width))

    def _initialise(self) -> None:
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.orthogonal_(layer.weight, nn.init.calculate_gain("relu"))
        if self.settings.initialisation == "linear":
            self._start_at_linear()

    @torch.no_grad()
    def _start_at_linear(self) -> None:
        """Let the output be the mean of the frames, and the features start with what moves."""
        convolutions = [layer for layer in self.modules() if isinstance(layer, nn.Conv2d)]
        for layer in convolutions:
            nn.init.zeros_(_bias(layer))
        for head in self.heads.values():
            last = head.get_submodule("7")
            assert isinstance(last, nn.Conv2d)
            nn.init.zeros_(last.weight)
            # Vertical times horizontal: each frame counts one half.
            _bias(last)[self.settings.kernel_length // 2] = math.sqrt(0.5)
        # Brightness would drown the small differences between two frames, which show the motion.
        # So the first convolution sees the difference of the frames, and of their sum only what
        # varies in space, both enlarged to the size that brightness would have.
        first = convolutions[0].weight
        total, difference = first.clone().chunk(2, dim=1)
        total = total - total.mean(dim=(2, 3), keepdim=True)
        frames = torch.cat([total + difference, total - difference], dim=1)
        first.copy_(DIFFERENCE_GAIN * math.sqrt(0.5) * frames)

    # By another one where the operator has to be made of standard ones: `model.sharing.export`.
    convolve = staticmethod(separable_convolution)

    def forward(self, first: Tensor, third: Tensor) -> Tensor:
        """Predict the frame in the middle.

        Parameters
        ----------
        first, third : Tensor [B, 3, H, W]
            RGB, 0..1, any height and width. Where the weights are bfloat16, the kernels are
            predicted in it; the frames stay as they are, and are convolved in their own precision.

        Returns
        -------
        Tensor [B, 3, H, W]
            RGB; not clamped, so it may leave 0..1 a little.

        Raises
        ------
        ValueError
            if the frames are not two batches of RGB frames of one shape.
        """
        if first.shape != third.shape or first.dim() != 4 or first.shape[1] != 3:
            raise ValueError(
                "first and third must both be [B, 3, H, W], got "
                f"{list(first.shape)} and {list(third.shape)}"
            )
        height, width = first.shape[2:]
        kernels = [kernel[:, :, :height, :width] for kernel in self._kernels(first, third)]
        vertical_first, horizontal_first, vertical_third, horizontal_third = kernels
        margin = (self.settings.kernel_length // 2,) * 4
        middle = self.convolve(
            functional.pad(first, margin, mode="replicate"), vertical_first, horizontal_first
        ) + self.convolve(
            functional.pad(third, margin, mode="replicate"), vertical_third, horizontal_third
        )
        if self.settings.normalise:
            v1, h1, v2, h2 = (kernel.sum(1, True, dtype=first.dtype) for kernel in kernels)
            middle = middle / (v1 * h1 + v2 * h2)
        return middle

    def _kernels(self, first: Tensor, third: Tensor) -> list[Tensor]:
        """Kernels of every pixel, in the order of `HEADS`: each [B, K, H', W'], H' >= H."""
        frames = torch.cat([first, third], dim=1).to(next(self.parameters()).dtype)
        height, width = frames.shape[2:]
        below, beside = -height % SIZE_MULTIPLE, -width % SIZE_MULTIPLE
        if below or beside:
            frames = functional.pad(frames, (0, beside, 0, below), mode="replicate")

        features = self.encoder[0](frames)
        skips = []
        for module in self.encoder[1:]:
            features = module(functional.avg_pool2d(features, 2))
            skips.append(features)
        skips.pop()  # no skip connection takes the innermost features
        features = self.upsample[0](features) + skips.pop()
        for module, upsample in zip(self.decoder, self.upsample[1:], strict=True):
            features = upsample(module(features)) + skips.pop()
        return [self.heads[name](features) for name in HEADS]


def place(network: nn.Module, device: str | torch.device) -> None:
    """Move a network's parameters to a device, in the memory format that is fastest there.

    On a CPU that is channels-last: predictions take 0.7 of the time, training steps 0.7 to 0.9
    (``benchmarks/bench_network.py``).
    """
    network.to(device)
    if torch.device(device).type == "cpu":
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias


def _module(inputs: int, outputs: int, order: str) -> nn.Sequential:
    """Three convolutions; the first or the last changes the number of channels."""
    middle = outputs if order == "niklaus" else inputs
    return nn.Sequential(
        *_convolution(inputs, middle), *_convolution(middle, middle), *_convolution(middle, outputs)
    )


def _upsample(channels: int) -> nn.Sequential:
    return nn.Sequential(_doubling(), *_convolution(channels, channels))


def _head(inputs: int, taps: int) -> nn.Sequential:
    """From the decoder's features, at half the frame's size, to one kernel for every pixel."""
    return nn.Sequential(
        *_convolution(inputs, inputs),
        *_convolution(inputs, inputs),
        *_convolution(inputs, taps),
        _doubling(),
        nn.Conv2d(taps, taps, kernel_size=3, padding=1),
    )


def _convolution(inputs: int, outputs: int) -> tuple[nn.Conv2d, nn.ReLU]:
    # In place, without a second copy of the largest tensors: no gradient needs the values before.
    return nn.Conv2d(inputs, outputs, kernel_size=3, padding=1), nn.ReLU(inplace=True)


def _doubling() -> nn.Upsample:
    return nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
