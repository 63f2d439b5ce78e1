"""Separable convolution: each output pixel has its own kernel, the outer product of two vectors.

The operator of video frame interpolation by adaptive separable convolution (Niklaus, Mai and
Liu, ICCV 2017, arXiv:1708.01692, equations 1 and 2).

Start reading at `model.sepconv.separable_convolution`.

May import: `pipeline.simd`.
"""

import importlib
import os
import warnings
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

__all__ = ["IMPLEMENTATIONS", "separable_convolution"]

IMPLEMENTATIONS = ("reference", "cpu", "cuda")
_DTYPES = {
    "reference": (torch.float32, torch.float64, torch.float16, torch.bfloat16),
    "cpu": (torch.float32, torch.float64),
    "cuda": (torch.float32, torch.float64, torch.float16, torch.bfloat16),
}


def separable_convolution(
    frame: Tensor, vertical: Tensor, horizontal: Tensor, implementation: str | None = None
) -> Tensor:
    """Convolve each pixel's neighbourhood with the pixel's own separable kernel.

        out[b, c, y, x] = sum over i < K and j < K of
            frame[b, c, y + i, x + j] * vertical[b, i, y, x] * horizontal[b, j, y, x]

    Equation 2 of Niklaus et al. (2017), whose kernel is the outer product of the two vectors.
    Differentiable once with respect to all three tensors; works under `torch.compile`,
    `torch.export` and autocast (which computes it in float32).

    Parameters
    ----------
    frame : Tensor [B, C, H + K - 1, W + K - 1]
        The padded frame. float32 or float64; on CUDA also float16 and bfloat16, which are
        accumulated in float32. Any strides.
    vertical, horizontal : Tensor [B, K, H, W]
        The kernels, same dtype and device as `frame`, or bfloat16 beside a float32 `frame`: then
        they count as the float32 that they stand for, and on a CPU, where no gradient is wanted,
        are widened as they are read. Any strides; a channels-last tensor is read where it lies.
    implementation : {"reference", "cpu", "cuda"}, optional
        By default the environment variable `MIDFRAME_SEPCONV` decides, and without it the
        device does: devices without kernels of their own (Apple's MPS among them), and a CPU
        without numba, get the reference, which is slow, and a warning.

    Returns
    -------
    Tensor [B, C, H, W]
        Contiguous, of the dtype and on the device of `frame`.

    Raises
    ------
    ValueError
        Shapes that do not fit, tensors on different devices, an unknown implementation or one
        that cannot run on the device.
    TypeError
        An argument that is no tensor, tensors of different dtypes, or of a dtype that the
        implementation does not compute in.
    ModuleNotFoundError
        CUDA tensors, and CuPy is not installed.

    Examples
    --------
    >>> frame = torch.arange(9.0).reshape(1, 1, 3, 3)
    >>> middle = torch.tensor([0.0, 1.0, 0.0]).reshape(1, 3, 1, 1)
    >>> separable_convolution(frame, middle, middle)
    tensor([[[[4.]]]])
    """
    for name, tensor in (("frame", frame), ("vertical", vertical), ("horizontal", horizontal)):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}")
    wanted = any(tensor.requires_grad for tensor in (frame, vertical, horizontal))
    if _is_mixed(frame, vertical, horizontal) and torch.is_grad_enabled() and wanted:
        vertical, horizontal = vertical.float(), horizontal.float()
    return _convolve(frame, vertical, horizontal, implementation or "")


def _check(frame: Tensor, vertical: Tensor, horizontal: Tensor) -> None:
    """Raise unless the three tensors belong together."""
    named = {"frame": frame, "vertical": vertical, "horizontal": horizontal}
    for name, tensor in named.items():
        if tensor.dim() != 4:
            raise ValueError(f"{name} must have 4 dimensions, got shape {_shape(tensor)}")
    if vertical.shape != horizontal.shape:
        raise ValueError(
            "vertical and horizontal must have one shape [B, K, H, W], "
            f"got {_shape(vertical)} and {_shape(horizontal)}"
        )
    batch, taps, height, width = vertical.shape
    if taps < 1:
        raise ValueError(f"kernels need at least one tap, got shape {_shape(vertical)}")
    expected = (batch, frame.shape[1], height + taps - 1, width + taps - 1)
    if tuple(frame.shape) != expected:
        raise ValueError(
            f"frame must be [B, C, H + K - 1, W + K - 1] = {_text(expected)} "
            f"for kernels {_shape(vertical)}, got {_shape(frame)}"
        )
    if not frame.device == vertical.device == horizontal.device:
        devices = ", ".join(f"{name} on {tensor.device}" for name, tensor in named.items())
        raise ValueError(f"all tensors must be on one device, got {devices}")
    if not (
        frame.dtype == vertical.dtype == horizontal.dtype or _is_mixed(frame, vertical, horizontal)
    ):
        dtypes = ", ".join(f"{name} {tensor.dtype}" for name, tensor in named.items())
        raise TypeError(f"all tensors must have one dtype, got {dtypes}")
    if not frame.dtype.is_floating_point:
        raise TypeError(f"tensors must be floating point, got {frame.dtype}")


def _is_mixed(frame: Tensor, vertical: Tensor, horizontal: Tensor) -> bool:
    """Whether kernels of bfloat16 come with a frame of float32."""
    kernels = torch.bfloat16
    return frame.dtype == torch.float32 and vertical.dtype == horizontal.dtype == kernels


def _shape(tensor: Tensor) -> str:
    return _text(tuple(tensor.shape))


def _text(shape: tuple[int, ...]) -> str:
    return "[" + ", ".join(str(size) for size in shape) + "]"


def _implementation(name: str, frame: Tensor) -> ModuleType:
    """Import the implementation asked for, by argument, environment or device, if it can run."""
    device = frame.device.type
    name = name or os.environ.get("MIDFRAME_SEPCONV", "")
    if not name:
        name, reason = _by_device(device)
        if reason:
            _warn_slow(reason)
    if name not in IMPLEMENTATIONS:
        raise ValueError(f"no implementation {name!r}: choose from {', '.join(IMPLEMENTATIONS)}")
    if name != "reference" and name != device:
        raise ValueError(f"implementation {name!r} needs {name} tensors, got {frame.device}")
    if frame.dtype not in _DTYPES[name]:
        allowed = ", ".join(str(dtype).removeprefix("torch.") for dtype in _DTYPES[name])
        raise TypeError(f"implementation {name!r} computes in {allowed}, got {frame.dtype}")
    return importlib.import_module(f"{__name__}.{name}")


@cache
def _by_device(device: str) -> tuple[str, str]:
    """The fastest implementation for a type of device, and why there is none of its own."""
    if device == "cuda":
        return "cuda", ""
    if device != "cpu":
        return "reference", f"{device} has no kernels of its own"
    try:
        import numba  # noqa: F401
    except ModuleNotFoundError:
        return "reference", "numba, which compiles the CPU's kernels, is not installed"
    return "cpu", ""


@cache
def _warn_slow(reason: str) -> None:
    """Warn once a process."""
    warnings.warn(
        f"separable_convolution runs as PyTorch operations, correct and slow: {reason}",
        RuntimeWarning,
        stacklevel=2,
    )


@torch.library.custom_op("midframe::separable_convolution", mutates_args=())
def _convolve(frame: Tensor, vertical: Tensor, horizontal: Tensor, implementation: str) -> Tensor:
    _check(frame, vertical, horizontal)
    module = _implementation(implementation, frame)
    if _is_mixed(frame, vertical, horizontal) and module.__name__ != f"{__name__}.cpu":
        vertical, horizontal = vertical.float(), horizontal.float()
    result: Tensor = module.forward(frame, vertical, horizontal)
    return result


@_convolve.register_fake
def _(frame: Tensor, vertical: Tensor, horizontal: Tensor, implementation: str) -> Tensor:
    _check(frame, vertical, horizontal)
    return frame.new_empty(frame.shape[0], frame.shape[1], vertical.shape[2], vertical.shape[3])


@torch.library.custom_op("midframe::separable_convolution_gradients", mutates_args=())
def _differentiate(
    gradient: Tensor,
    frame: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    wanted: list[bool],
    implementation: str,
) -> tuple[Tensor, Tensor, Tensor]:
    _check(frame, vertical, horizontal)
    results = _implementation(implementation, frame).gradients(
        gradient, frame, vertical, horizontal, tuple(wanted)
    )
    empty = [frame.new_empty(0) for _ in wanted]
    of_frame, of_vertical, of_horizontal = (
        result if want else nothing
        for result, want, nothing in zip(results, wanted, empty, strict=True)
    )
    return of_frame, of_vertical, of_horizontal


@_differentiate.register_fake
def _(
    gradient: Tensor,
    frame: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    wanted: list[bool],
    implementation: str,
) -> tuple[Tensor, Tensor, Tensor]:
    of_frame, of_vertical, of_horizontal = (
        torch.empty_like(tensor) if want else frame.new_empty(0)
        for tensor, want in zip((frame, vertical, horizontal), wanted, strict=True)
    )
    return of_frame, of_vertical, of_horizontal


def _remember(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.implementation = inputs[3]


def _backward(ctx, gradient: Tensor):
    wanted = list(ctx.needs_input_grad[:3])
    results = _differentiate(gradient, *ctx.saved_tensors, wanted, ctx.implementation)
    return *(r if want else None for r, want in zip(results, wanted, strict=True)), None


def _refuse(ctx, *gradients: Tensor):
    raise NotImplementedError("separable_convolution has no second-order gradients")


_convolve.register_autograd(_backward, setup_context=_remember)
_differentiate.register_autograd(_refuse)
for _device in ("cpu", "cuda"):
    torch.library.register_autocast("midframe::separable_convolution", _device, torch.float32)
