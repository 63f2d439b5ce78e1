"""The separable convolution on a CPU: `kernels.py`, compiled by numba, on as many threads as torch.

Threads are plain Python threads that run one nogil function each and draw tiles from a shared
counter. Neither numba's `prange` nor OpenMP takes part: numba's own layer aborts when two Python
threads call into it at once, and OpenMP's does not survive a fork. Results do not depend on
the number of threads.
"""

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from numba import from_dtype, njit, types
from numpy.typing import NDArray
from torch import Tensor

from model.sepconv import kernels

Kernel = Callable[..., None]


@cache
def _compiled(function: Kernel, dtypes: tuple[np.dtype[Any], ...]) -> Kernel:
    """Compile for arrays of any strides at the first use, or load from numba's cache."""
    arrays = [types.Array(from_dtype(dtype), 4, "A") for dtype in dtypes]
    wants = [types.UniTuple(types.boolean, 2)] if function is kernels.kernel_gradients else []
    counter = types.Array(types.int64, 1, "C")
    signature = types.void(*arrays, *wants, counter)
    return njit(signature, nogil=True, cache=True)(function)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="sepconv")


if sys.platform != "win32":  # which has no forks
    os.register_at_fork(after_in_child=_pool.cache_clear)


def _run(function: Kernel, *arguments: Any) -> None:
    """Run on torch.get_num_threads() threads, of which the caller is one.

    Helpers that have not begun when the caller finds no tile left are cancelled: a busy pool
    costs speed, never a deadlock.
    """
    arrays = [given for given in arguments if isinstance(given, np.ndarray)]
    kernel = _compiled(function, tuple(array.dtype for array in arrays))
    counter = np.zeros(1, np.int64)
    others = torch.get_num_threads() - 1
    jobs = []
    if others > 0:
        pool = _pool(others)
        jobs = [pool.submit(kernel, *arguments, counter) for _ in range(others)]
    kernel(*arguments, counter)
    for job in jobs:
        if not job.cancel():
            job.result()


def forward(frame: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """See `model.sepconv.separable_convolution`, which has checked the arguments."""
    output = frame.new_empty(*frame.shape[:2], *vertical.shape[2:])
    _run(kernels.forward, *map(_array, (frame, vertical, horizontal, output)))
    return output


def _array(tensor: Tensor) -> NDArray[Any]:
    """The tensor's memory; bfloat16, which NumPy does not know, as the int16 of the same bits."""
    tensor = tensor.detach()
    return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def gradients(
    gradient: Tensor,
    frame: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    wanted: tuple[bool, bool, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of the frame, the vertical and the horizontal kernels; None where not wanted."""
    g, f, v, h = (t.detach().numpy() for t in (gradient, frame, vertical, horizontal))
    of_frame = torch.empty_like(frame) if wanted[0] else None
    of_vertical = torch.empty_like(vertical) if wanted[1] else None
    of_horizontal = torch.empty_like(horizontal) if wanted[2] else None
    if of_frame is not None:
        _run(kernels.frame_gradient, g, v, h, of_frame.numpy())
    if of_vertical is not None or of_horizontal is not None:
        targets = (v if t is None else t.numpy() for t in (of_vertical, of_horizontal))
        _run(kernels.kernel_gradients, g, f, v, h, *targets, wanted[1:])
    return of_frame, of_vertical, of_horizontal
