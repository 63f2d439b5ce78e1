"""The separable convolution in plain PyTorch: short, slow, and what the others are compared to."""

import torch
from torch import Tensor


def forward(frame: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """Sum over the rows of the kernel, each a sum over the columns, as the formula is written."""
    taps, height, width = vertical.shape[1:]
    output = frame.new_zeros(*frame.shape[:2], height, width)
    for i in range(taps):
        for j in range(taps):
            window = frame[:, :, i : i + height, j : j + width]
            output += window * vertical[:, None, i] * horizontal[:, None, j]
    return output


def gradients(
    gradient: Tensor,
    frame: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    wanted: tuple[bool, bool, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of the frame, the vertical and the horizontal kernels; None where not wanted."""
    taps, height, width = vertical.shape[1:]
    of_frame = torch.zeros_like(frame) if wanted[0] else None
    of_vertical = torch.zeros_like(vertical) if wanted[1] else None
    of_horizontal = torch.zeros_like(horizontal) if wanted[2] else None
    for i in range(taps):
        for j in range(taps):
            rows, columns = slice(i, i + height), slice(j, j + width)
            v, h = vertical[:, i], horizontal[:, j]
            if of_frame is not None:
                of_frame[:, :, rows, columns] += gradient * (v * h)[:, None]
            if of_vertical is not None or of_horizontal is not None:
                pixel = (gradient * frame[:, :, rows, columns]).sum(dim=1)
                if of_vertical is not None:
                    of_vertical[:, i] += pixel * h
                if of_horizontal is not None:
                    of_horizontal[:, j] += pixel * v
    return of_frame, of_vertical, of_horizontal
