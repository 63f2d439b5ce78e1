"""A network in exchange formats: ONNX, and a program of ``torch.export``.

Both hold the separable convolution as standard operators, so that neither needs this package.
"""

import io
import warnings
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from model.network.architecture import SIZE_MULTIPLE, SepConv
from model.network.checkpoints import load_network, write_atomically
from pipeline.errors import MidframeError

OPSET = 18
INPUTS = ("first", "third")
OUTPUT = "middle"
EXAMPLE = (2 * SIZE_MULTIPLE, 3 * SIZE_MULTIPLE)  # height and width that tracing looks at


def convolve_in_standard_operators(
    frame: Tensor, vertical: Tensor, horizontal: Tensor, implementation: str | None = None
) -> Tensor:
    """`model.sepconv.separable_convolution` by operators that every exchange format has.

    A convolution with unit vectors shifts the frame by 0 to K - 1 columns; then, for each of K
    rows, the shifted columns are weighed and summed. It needs K times the memory of the frame, and
    a batch of one.
    """
    taps, height = vertical.shape[1], vertical.shape[2]
    shifts = torch.eye(taps, dtype=frame.dtype, device=frame.device).reshape(taps, 1, 1, taps)
    shifted = functional.conv2d(frame.transpose(0, 1), shifts)
    rows = [
        (shifted[:, :, i : i + height] * horizontal).sum(dim=1, keepdim=True) * weight
        for i, weight in enumerate(vertical.split(1, dim=1))
    ]
    total = rows[0]
    for row in rows[1:]:
        total = total + row
    return total.transpose(0, 1)


class PortableSepConv(SepConv):
    """The network with `convolve_in_standard_operators`, the same numbers up to rounding."""

    convolve = staticmethod(convolve_in_standard_operators)


def portable(network: SepConv) -> PortableSepConv:
    """The same network, on the same parameters, of standard operators only."""
    with torch.device("meta"):
        copy = PortableSepConv(network.settings)
    copy.load_state_dict(network.state_dict(), assign=True)
    return copy.eval()


def export(weights: Path, out: Path) -> None:
    """Write the network of a weights file as ``.onnx`` or, with ``torch.export``, as ``.pt2``.

    Inputs ``first`` and ``third`` and output ``middle`` are float32 ``[1, 3, H, W]``, RGB in 0..1;
    H and W are multiples of 32, to be reached by repeating the last row and column.

    Raises
    ------
    MidframeError
        if the name ends otherwise, the weights cannot be read, the file cannot be written, or the
        packages that ONNX needs are not installed.
    """
    if out.suffix not in (".onnx", ".pt2"):
        raise MidframeError(f"{out}: give a name that ends in .onnx or .pt2 (torch.export)")
    program = _program(portable(load_network(weights)))
    if out.suffix == ".pt2":
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
        write_atomically(out, buffer.getvalue())
    else:
        write_atomically(out, _onnx(program))


def _program(network: PortableSepConv) -> torch.export.ExportedProgram:
    height = torch.export.Dim("rows", min=1, max=512) * SIZE_MULTIPLE
    width = torch.export.Dim("columns", min=1, max=512) * SIZE_MULTIPLE
    sizes = {name: {2: height, 3: width} for name in INPUTS}
    frames = (torch.zeros(1, 3, *EXAMPLE), torch.zeros(1, 3, *EXAMPLE))
    with torch.no_grad():
        return torch.export.export(network, frames, dynamic_shapes=sizes)


def _onnx(program: torch.export.ExportedProgram) -> bytes:
    try:
        import onnxscript  # noqa: F401
    except ModuleNotFoundError:
        raise MidframeError("ONNX needs two packages: pip install 'midframe[onnx]'") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own dependencies
        made = torch.onnx.export(
            program,
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
            optimize=False,
        )
    assert made is not None
    content: bytes = made.model_proto.SerializeToString()
    return content
