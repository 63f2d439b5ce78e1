"""Which CUDA kernels run, the simple ones or those in tiles, and how they are compiled.

`simple.cu` computes anything and is what the others are compared with. `tiled.cu` is compiled for
one number of taps and channels. Both have 32-bit indices where no tensor spans more.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

FOLDER = Path(__file__).parent
SCALARS = {
    torch.float32: "float",
    torch.float64: "double",
    torch.float16: "half_t",
    torch.bfloat16: "bfloat16_t",
}
CHOICES = ("simple", "tiled")
VARIABLE = "MIDFRAME_SEPCONV_KERNELS"
TILED_KERNELS = ("forward", "vertical_gradient", "horizontal_gradient")
MOST_TAPS, MOST_CHANNELS = 64, 4  # or a tile's samples do not fit in 48 KiB of shared memory
MOST_ROWS = ((17, 6), (27, 4), (51, 3), (64, 2))  # up to so many taps: with more, registers spill
LEAST_WORK = 9  # taps: below, a tile's samples cost more to stage than to use
MOST_SPAN = 2**29  # elements; an index may go a whole grid beyond before it is compared


@dataclass(frozen=True)
class Build:
    """A compilation of kernels.

    Attributes
    ----------
    dtype : of the elements.
    wide : whether indices have 64 bits instead of 32.
    taps, channels, rows : what tiled kernels are compiled for; 0 for the simple ones. `rows` are
        a thread's pixels, below each other.
    """

    dtype: torch.dtype
    wide: bool = False
    taps: int = 0
    channels: int = 0
    rows: int = 0

    @property
    def name(self) -> str:
        """For reports, such as ``tiled3/32``: rows a thread, bits of an index."""
        kind = f"tiled{self.rows}" if self.taps else "simple"
        return f"{kind}/{64 if self.wide else 32}"

    @property
    def tile(self) -> tuple[int, int] | None:
        """Rows and columns that a block makes; None for the simple kernels."""
        return (4 * self.rows, 32) if self.taps else None  # WARPS * ROWS, LANES

    def options(self) -> tuple[str, ...]:
        """Options of the compiler; NVRTC, nvcc, hipcc and g++ know them all."""
        index = "long long" if self.wide else "int"
        defined = [("SCALAR", SCALARS[self.dtype]), ("INDEX", index)]
        if self.taps:
            defined += [
                ("TAPS", f"{self.taps}"),
                ("CHANNELS", f"{self.channels}"),
                ("ROWS", f"{self.rows}"),
            ]
        return ("-std=c++17", *(f"-D{name}={value}" for name, value in defined))

    def source(self, folder: Path = FOLDER) -> str:
        """The text to compile: one, because compilers' caches do not look into included files."""
        files = ("scalars.cu", "tiled.cu" if self.taps else "simple.cu")
        return "\n".join((folder / name).read_text(encoding="utf-8") for name in files)


@cache
def tiled(dtype: torch.dtype, taps: int, channels: int, wide: bool = False) -> Build | None:
    """The tiled build for these sizes, or None where there is none."""
    if dtype == torch.float64 or taps > MOST_TAPS or channels > MOST_CHANNELS:
        return None
    rows = next(rows for most, rows in MOST_ROWS if taps <= most)
    return Build(dtype, wide, taps, channels, rows)


def choose(name: str, sizes: Sequence[int], tensors: Sequence[Tensor]) -> Build:
    """The build that a kernel runs in, by size, unless `MIDFRAME_SEPCONV_KERNELS` names one.

    Parameters
    ----------
    sizes : [B, C, K, H, W].

    Raises
    ------
    ValueError
        if the variable names none.
    """
    asked = os.environ.get(VARIABLE, "")
    if asked not in ("", *CHOICES):
        raise ValueError(f"{VARIABLE}={asked!r}: choose from {', '.join(CHOICES)}")
    _, channels, taps, height, width = sizes
    wide = max(map(_span, tensors)) > MOST_SPAN
    dtype = tensors[-1].dtype
    build = tiled(dtype, taps, channels, wide) if name in TILED_KERNELS else None
    large = taps >= LEAST_WORK and width >= 16 and height >= 4  # or most of a tile is outside
    if build is None or asked == "simple" or not (large or asked == "tiled"):
        return Build(dtype, wide)
    return build


def _span(tensor: Tensor) -> int:
    """Elements from the first to the last, in memory."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return 1 + sum((size - 1) * stride for size, stride in steps)
