"""First version: plain loops."""
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numba import njit
from torch import Tensor


@njit(nogil=True, cache=True, fastmath={"contract", "reassoc", "nsz"})
def _forward(frame, vertical, horizontal, output, first, last):
    batch, channels, height, width = output.shape
    taps = vertical.shape[1]
    t = np.empty(width, frame.dtype)
    for row in range(first, last):
        b, y = row // height, row % height
        for c in range(channels):
            o = output[b, c, y]
            o[:] = 0
            for i in range(taps):
                t[:] = 0
                for j in range(taps):
                    s = frame[b, c, y + i, j : j + width]
                    h = horizontal[b, j, y]
                    for x in range(width):
                        t[x] += s[x] * h[x]
                v = vertical[b, i, y]
                for x in range(width):
                    o[x] += v[x] * t[x]


@njit(nogil=True, cache=True, fastmath={"contract", "reassoc", "nsz"})
def _kernels(gradient, frame, vertical, horizontal, of_vertical, of_horizontal, first, last):
    batch, channels, height, width = gradient.shape
    taps = vertical.shape[1]
    for row in range(first, last):
        b, y = row // height, row % height
        of_vertical[b, :, y] = 0
        of_horizontal[b, :, y] = 0
        for i in range(taps):
            v = vertical[b, i, y]
            gv = of_vertical[b, i, y]
            for j in range(taps):
                h = horizontal[b, j, y]
                gh = of_horizontal[b, j, y]
                for c in range(channels):
                    s = frame[b, c, y + i, j : j + width]
                    g = gradient[b, c, y]
                    for x in range(width):
                        p = s[x] * g[x]
                        gv[x] += p * h[x]
                        gh[x] += p * v[x]


@njit(nogil=True, cache=True, fastmath={"contract", "reassoc", "nsz"})
def _frame(gradient, vertical, horizontal, of_frame, first, last):
    batch, channels, height, width = gradient.shape
    taps = vertical.shape[1]
    u = np.empty(width, gradient.dtype)
    for plane in range(first, last):
        b, c = plane // channels, plane % channels
        of_frame[b, c] = 0
        for y in range(height):
            g = gradient[b, c, y]
            for i in range(taps):
                v = vertical[b, i, y]
                for x in range(width):
                    u[x] = g[x] * v[x]
                for j in range(taps):
                    h = horizontal[b, j, y]
                    d = of_frame[b, c, y + i, j : j + width]
                    for x in range(width):
                        d[x] += u[x] * h[x]


def _spread(kernel, *arguments, tasks):
    threads = max(1, min(torch.get_num_threads(), tasks))
    bounds = [tasks * k // threads for k in range(threads + 1)]
    if threads == 1:
        kernel(*arguments, 0, tasks)
        return
    with ThreadPoolExecutor(threads) as pool:
        jobs = [
            pool.submit(kernel, *arguments, a, b) for a, b in zip(bounds, bounds[1:], strict=False)
        ]
        for job in jobs:
            job.result()


def forward(frame: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    f, v, h = (t.detach().contiguous().numpy() for t in (frame, vertical, horizontal))
    output = frame.new_empty(*frame.shape[:2], *vertical.shape[2:])
    _spread(_forward, f, v, h, output.numpy(), tasks=len(v) * v.shape[2])
    return output


def gradients(gradient, frame, vertical, horizontal, wanted):
    g, f, v, h = (t.detach().contiguous().numpy() for t in (gradient, frame, vertical, horizontal))
    of_frame = of_vertical = of_horizontal = None
    if wanted[0]:
        of_frame = torch.empty_like(frame)
        _spread(_frame, g, v, h, of_frame.numpy(), tasks=len(v) * f.shape[1])
    if wanted[1] or wanted[2]:
        of_vertical = torch.empty_like(vertical)
        of_horizontal = torch.empty_like(horizontal)
        tasks = len(v) * v.shape[2]
        _spread(_kernels, g, f, v, h, of_vertical.numpy(), of_horizontal.numpy(), tasks=tasks)
    return of_frame, of_vertical, of_horizontal
