"""What every implementation of the separable convolution must do."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.sepconv import separable_convolution

TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-6}  # of the largest value possible
LAYOUTS = ("contiguous", "channels_last", "transposed", "inside", "expanded")


def tensors(
    batch: int, channels: int, taps: int, height: int, width: int, dtype=torch.float64, seed=0
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    kernel = (batch, taps, height, width)
    shapes = ((batch, channels, height + taps - 1, width + taps - 1), kernel, kernel)
    return [torch.rand(shape, generator=generator, dtype=dtype) * 2 - 1 for shape in shapes]


def laid_out(tensor: Tensor, layout: str) -> Tensor:
    """The same values (but for `expanded`) with other strides."""
    if layout == "channels_last":
        return tensor.contiguous(memory_format=torch.channels_last)
    if layout == "transposed":
        return tensor.transpose(2, 3).contiguous().transpose(2, 3)
    if layout == "inside":  # of a larger tensor of NaN, every second sample a column
        batch, depth, height, width = tensor.shape
        shape = (batch + 1, depth + 2, height + 2, 2 * width + 3)
        larger = torch.full(shape, torch.nan, dtype=tensor.dtype)
        view = larger[1:, 1:-1, 1:-1, 2 : 2 + 2 * width : 2]
        return view.copy_(tensor)
    if layout == "expanded":
        return tensor[:, :, :1].expand(tensor.shape)
    return tensor


def formula(frame: Tensor, vertical: Tensor, horizontal: Tensor) -> Tensor:
    """Equations 1 and 2 in NumPy: each pixel's patch under the outer product of its kernels."""
    f, v, h = (tensor.double().numpy() for tensor in (frame, vertical, horizontal))
    batch, taps, height, width = v.shape
    output = np.zeros((batch, f.shape[1], height, width))
    for b, y, x in itertools.product(range(batch), range(height), range(width)):
        kernel = np.outer(v[b, :, y, x], h[b, :, y, x])
        output[b, :, y, x] = (f[b, :, y : y + taps, x : x + taps] * kernel).sum(axis=(1, 2))
    return torch.from_numpy(output)


def outcome(operator, inputs: list[Tensor], slope: Tensor | None = None) -> list[Tensor]:
    """The output and the three gradients."""
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    output = operator(*leaves)
    slope = torch.ones_like(output) if slope is None else slope
    return [output.detach(), *torch.autograd.grad(output, leaves, slope)]


@pytest.mark.parametrize("taps", [1, 2, 3, 8])
def test_output_is_the_formula(operator, taps):
    inputs = tensors(2, 3, taps, 5, 7)
    torch.testing.assert_close(operator(*inputs), formula(*inputs), rtol=0, atol=1e-13)


@pytest.mark.parametrize("taps", [1, 2, 5])
@pytest.mark.parametrize("channels", [1, 4])
def test_gradients_are_those_of_the_output(operator, channels, taps):
    inputs = [tensor.requires_grad_() for tensor in tensors(2, channels, taps, 3, 2)]
    assert torch.autograd.gradcheck(operator, inputs)


@settings(max_examples=40, deadline=None)
@given(
    batch=st.sampled_from([0, 1, 1, 2]),
    channels=st.integers(0, 7),
    taps=st.sampled_from([1, 2, 13, 25, 51]),
    height=st.integers(1, 9),
    width=st.sampled_from([1, 2, 7, 8, 15, 16, 17, 33, 64, 65, 70]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    layouts=st.tuples(*[st.sampled_from(LAYOUTS)] * 4),
    seed=st.integers(0, 99),
)
def test_any_shape_and_strides_agree_with_the_reference(
    operator, batch, channels, taps, height, width, dtype, layouts, seed
):
    inputs = tensors(batch, channels, taps, height, width, dtype, seed)
    inputs = [laid_out(tensor, layout) for tensor, layout in zip(inputs, layouts, strict=False)]
    slope = torch.rand(batch, channels, height, width, dtype=dtype)
    slope = laid_out(slope, layouts[3])
    results = outcome(operator, inputs, slope)
    exact = [tensor.double() for tensor in inputs]
    expected = outcome(
        lambda *t: separable_convolution(*t, implementation="reference"), exact, slope.double()
    )
    bounds = (taps * taps, taps * taps, taps * channels, taps * channels)
    for result, wanted, bound in zip(results, expected, bounds, strict=True):
        assert result.dtype == dtype
        torch.testing.assert_close(
            result.double(), wanted, rtol=0, atol=TOLERANCE[dtype] * max(1, bound)
        )


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (40, 1), (0, 5), (5, 0), (33, 130)])
@pytest.mark.parametrize("channels", [1, 3])
def test_edges_of_tiles(operator, channels, height, width):
    inputs = tensors(1, channels, 4, height, width)
    reference = outcome(lambda *t: separable_convolution(*t, implementation="reference"), inputs)
    for result, wanted in zip(outcome(operator, inputs), reference, strict=True):
        torch.testing.assert_close(result, wanted, rtol=0, atol=1e-12)


def test_what_is_not_finite_stays_in_the_windows_that_hold_it(operator):
    frame, vertical, horizontal = tensors(1, 3, 5, 24, 40)
    clean = operator(frame, vertical, horizontal)
    frame[0, 1, 13, 21] = torch.nan
    output = operator(frame, vertical, horizontal)
    touched = torch.zeros_like(output, dtype=torch.bool)
    touched[0, 1, 9:14, 17:22] = True
    assert torch.equal(output.isnan(), touched)
    assert torch.equal(output[~touched], clean[~touched])


def test_a_spoilt_sample_spoils_the_kernel_gradients_of_its_windows_only(operator):
    frame, vertical, horizontal = tensors(1, 3, 5, 24, 40)
    frame[0, 1, 13, 21] = torch.nan
    _, _, of_vertical, of_horizontal = outcome(operator, [frame, vertical, horizontal])
    for y, x in itertools.product(range(24), range(40)):
        i, j = 13 - y, 21 - x
        inside = 0 <= i < 5 and 0 <= j < 5
        expected = [k == i and inside for k in range(5)], [k == j and inside for k in range(5)]
        assert of_vertical[0, :, y, x].isnan().tolist() == expected[0]
        assert of_horizontal[0, :, y, x].isnan().tolist() == expected[1]


@pytest.mark.parametrize("wanted", list(itertools.product([False, True], repeat=3))[1:])
def test_gradients_are_made_for_what_needs_them(operator, wanted):
    inputs = tensors(1, 3, 5, 6, 20)
    expected = outcome(operator, inputs)[1:]
    leaves = [t.requires_grad_(need) for t, need in zip(inputs, wanted, strict=True)]
    operator(*leaves).sum().backward()
    for leaf, gradient, need in zip(leaves, expected, wanted, strict=True):
        assert (leaf.grad is not None) == need
        if need:
            torch.testing.assert_close(leaf.grad, gradient)


def test_gradients_lie_in_memory_as_their_tensors(operator):
    inputs = [laid_out(tensor, "channels_last") for tensor in tensors(2, 3, 20, 9, 40)]
    _, *gradients = outcome(operator, inputs)
    for gradient in gradients:
        assert gradient.is_contiguous(memory_format=torch.channels_last)


def test_second_order_gradients_are_refused(operator):
    inputs = [tensor.requires_grad_() for tensor in tensors(1, 1, 2, 3, 3)]
    (gradient,) = torch.autograd.grad(operator(*inputs).sum(), inputs[:1], create_graph=True)
    with pytest.raises(NotImplementedError, match="no second-order gradients"):
        gradient.sum().backward()
