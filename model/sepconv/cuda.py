"""The separable convolution on CUDA, compiled by CuPy, on torch's current stream.

The tensors stay where they are: kernels get their addresses and strides. Results are allocated
by torch on its current stream and written on the same one, so nothing needs to be waited for.
Which kernels run is `model.sepconv.variants`' choice.
"""

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.sepconv.variants import Build, choose

THREADS_PER_BLOCK = 128  # THREADS in simple.cu and in tiled.cu
ROWS_PER_THREAD = 4  # ROWS in simple.cu; another value would change speed, not results
MOST_BLOCKS = 2**31 - 1  # in the first dimension of a grid


@cache
def _kernel(name: str, build: Build) -> Any:
    """Compile a build (CuPy keeps the result on disk, and one for each device)."""
    return _module(build).get_function(name)


@cache
def _module(build: Build) -> Any:
    try:
        import cupy
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "separable_convolution on CUDA needs CuPy: pip install 'midframe[cuda]' "
            "(or move the tensors to the CPU)"
        ) from error
    return cupy.RawModule(code=build.source(), options=build.options())


def _torch_stream(device: torch.device) -> AbstractContextManager[Any]:
    """Make torch's current stream of the device CuPy's."""
    import cupy

    stream = torch.cuda.current_stream(device)
    if hasattr(cupy.cuda.Stream, "from_external"):  # CuPy 14; before, ExternalStream
        return cupy.cuda.Stream.from_external(stream)
    return cupy.cuda.ExternalStream(stream.cuda_stream, stream.device_index)


def _launch(name: str, sizes: tuple[int, ...], rows: int, columns: int, *tensors: Tensor) -> None:
    """Run a kernel over batch x rows x columns pixels.

    Every tensor goes as its address and four strides, then the sizes [B, C, K, H, W].
    """
    result = tensors[-1]
    if result.numel() == 0:
        return
    build = choose(name, sizes, tensors)
    arguments: list[np.generic] = []
    for tensor in tensors:
        arguments.append(np.uintp(tensor.data_ptr()))
        arguments.extend(np.int64(stride) for stride in tensor.stride())
    arguments.extend(np.int64(size) for size in sizes)
    if build.tile is None:
        threads = sizes[0] * -(-rows // ROWS_PER_THREAD) * columns
        blocks = -(-threads // THREADS_PER_BLOCK)
    else:
        down, across = build.tile
        blocks = sizes[0] * -(-rows // down) * -(-columns // across)
    kernel = _kernel(name, build)
    with torch.cuda.device_of(result), _torch_stream(result.device):
        kernel((min(blocks, MOST_BLOCKS),), (THREADS_PER_BLOCK,), tuple(arguments))


def forward(frame: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """See `model.sepconv.separable_convolution`, which has checked the arguments."""
    batch, taps, height, width = vertical.shape
    channels = frame.shape[1]
    output = frame.new_empty(batch, channels, height, width)
    sizes = (batch, channels, taps, height, width)
    _launch("forward", sizes, height, width, frame, vertical, horizontal, output)
    return output


def gradients(
    gradient: Tensor,
    frame: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    wanted: tuple[bool, bool, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of the frame, the vertical and the horizontal kernels; None where not wanted."""
    batch, taps, height, width = vertical.shape
    sizes = (batch, frame.shape[1], taps, height, width)
    of_frame = torch.empty_like(frame) if wanted[0] else None
    of_vertical = torch.empty_like(vertical) if wanted[1] else None
    of_horizontal = torch.empty_like(horizontal) if wanted[2] else None
    if of_frame is not None:
        rows, columns = frame.shape[2:]
        tensors = (gradient, vertical, horizontal, of_frame)
        _launch("frame_gradient", sizes, rows, columns, *tensors)
    if of_vertical is not None:
        tensors = (gradient, frame, horizontal, of_vertical)
        _launch("vertical_gradient", sizes, height, width, *tensors)
    if of_horizontal is not None:
        tensors = (gradient, frame, vertical, of_horizontal)
        _launch("horizontal_gradient", sizes, height, width, *tensors)
    return of_frame, of_vertical, of_horizontal
