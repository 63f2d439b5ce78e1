"""What torch and a caller may expect of the public function."""

import doctest

import pytest
import torch

import model.sepconv
from model.sepconv import separable_convolution


def tensors(channels=3, taps=5, height=9, width=21, dtype=torch.float32, batch=2):
    torch.manual_seed(1)
    kernel = (batch, taps, height, width)
    frame = torch.randn(batch, channels, height + taps - 1, width + taps - 1, dtype=dtype)
    return [frame, torch.randn(kernel, dtype=dtype), torch.randn(kernel, dtype=dtype)]


def changed(**replacements):
    names = ("frame", "vertical", "horizontal")
    return {**dict(zip(names, tensors(), strict=True)), **replacements}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (changed(frame=torch.zeros(3, 13, 25)), ValueError, r"^frame must have 4 dimensions"),
        (
            changed(horizontal=torch.zeros(2, 5, 9, 20)),
            ValueError,
            r"^vertical and horizontal must have one shape .*, got \[2, 5, 9, 21\] and",
        ),
        (
            changed(frame=torch.zeros(2, 3, 13, 24)),
            ValueError,
            r"^frame must be .* = \[2, 3, 13, 25\] for kernels .*, got \[2, 3, 13, 24\]$",
        ),
        (changed(frame=torch.zeros(1, 3, 13, 25)), ValueError, r"^frame must be"),
        (
            dict.fromkeys(("vertical", "horizontal"), torch.zeros(1, 0, 4, 4))
            | {"frame": torch.zeros(1, 3, 3, 3)},
            ValueError,
            r"^kernels need at least one tap",
        ),
        (
            changed(vertical=torch.zeros(2, 5, 9, 21, dtype=torch.float64)),
            TypeError,
            r"^all tensors must have one dtype, got frame torch.float32, vertical torch.float64",
        ),
        ({n: t.int() for n, t in changed().items()}, TypeError, r"must be floating point"),
        (
            {n: t.half() for n, t in changed().items()},
            TypeError,
            r"^implementation 'cpu' computes in float32, float64, got torch.float16$",
        ),
        (
            changed(frame=torch.zeros(2, 3, 13, 25, device="meta")),
            ValueError,
            r"^all tensors must be on one device, got frame on meta, vertical on cpu",
        ),
        (changed(implementation="gpu"), ValueError, r"^no implementation 'gpu': choose from"),
        (
            changed(implementation="cuda"),
            ValueError,
            r"^implementation 'cuda' needs cuda tensors, got cpu$",
        ),
        (changed(frame=[1.0]), TypeError, r"^frame must be a tensor, got list$"),
    ],
)
def test_wrong_arguments_give_one_clear_line(arguments, error, message):
    with pytest.raises(error, match=message) as caught:
        separable_convolution(**arguments)
    assert "\n" not in str(caught.value)


def test_environment_variable_chooses_the_implementation(monkeypatch):
    used = []
    choose = model.sepconv._implementation
    monkeypatch.setattr(
        model.sepconv,
        "_implementation",
        lambda *arguments: used.append(choose(*arguments)) or used[-1],
    )
    separable_convolution(*tensors())
    monkeypatch.setenv("MIDFRAME_SEPCONV", "reference")
    separable_convolution(*tensors())
    separable_convolution(*tensors(), implementation="cpu")
    assert [module.__name__.rpartition(".")[2] for module in used] == ["cpu", "reference", "cpu"]


def test_wrong_environment_variable_is_an_error(monkeypatch):
    monkeypatch.setenv("MIDFRAME_SEPCONV", "fast")
    with pytest.raises(ValueError, match="no implementation 'fast'"):
        separable_convolution(*tensors())


@pytest.mark.parametrize("needed", [(True, True, True), (False, True, True), (False, False, False)])
def test_torch_finds_the_registration_right(needed):
    inputs = [t.requires_grad_(need) for t, need in zip(tensors(), needed, strict=True)]
    torch.library.opcheck(model.sepconv._convolve, (*inputs, ""))
    inputs = [tensor.detach() for tensor in inputs]
    gradient = torch.randn(2, 3, 9, 21)
    tests = ("test_schema", "test_faketensor")
    torch.library.opcheck(
        model.sepconv._differentiate, (gradient, *inputs, list(needed), ""), test_utils=tests
    )


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_compiles_as_one_graph_with_the_same_output_and_gradients(memory_format):
    inputs = [t.contiguous(memory_format=memory_format).requires_grad_() for t in tensors(taps=20)]

    def doubled(frame, vertical, horizontal):
        return separable_convolution(frame, vertical * 2, horizontal).relu()

    compiled = torch.compile(doubled, fullgraph=True, backend="aot_eager")
    outputs = [function(*inputs) for function in (doubled, compiled)]
    torch.testing.assert_close(*outputs)
    gradients = [torch.autograd.grad(output.sum(), inputs) for output in outputs]
    torch.testing.assert_close(*gradients)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, while it compiles
def test_compiles_with_inductor():
    inputs = [tensor.requires_grad_() for tensor in tensors()]
    compiled = torch.compile(lambda f, v, h: separable_convolution(f, v.sin(), h), fullgraph=True)
    expected = separable_convolution(inputs[0], inputs[1].sin(), inputs[2])
    output = compiled(*inputs)
    torch.testing.assert_close(output, expected)
    output.sum().backward()
    assert all(tensor.grad is not None for tensor in inputs)


def test_compiled_code_takes_other_sizes_too():
    compiled = torch.compile(separable_convolution, dynamic=True, backend="aot_eager")
    for size in (6, 9, 14):
        inputs = tensors(height=size, width=2 * size)
        torch.testing.assert_close(compiled(*inputs), separable_convolution(*inputs))


def test_exports():
    class Operator(torch.nn.Module):
        def forward(self, frame, vertical, horizontal):
            return separable_convolution(frame, vertical, horizontal)

    inputs = tuple(tensors())
    program = torch.export.export(Operator(), inputs)
    called = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert torch.ops.midframe.separable_convolution.default in called
    torch.testing.assert_close(program.module()(*inputs), separable_convolution(*inputs))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_computes_in_float32(dtype):
    frame, vertical, horizontal = tensors()
    vertical, horizontal = vertical.to(dtype).requires_grad_(), horizontal.to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        output = separable_convolution(frame, vertical, horizontal)
    assert output.dtype == torch.float32
    expected = separable_convolution(frame, vertical.float(), horizontal.float())
    assert torch.equal(output, expected)
    output.sum().backward()
    assert vertical.grad.dtype == dtype


@pytest.mark.parametrize("implementation", ["cpu", "reference"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("taps", [5, 19, 51])
def test_kernels_of_bfloat16_count_as_the_float32_that_they_stand_for(
    taps, memory_format, implementation
):
    frame, vertical, horizontal = tensors(taps=taps, height=21, width=83)
    narrow = [k.bfloat16().to(memory_format=memory_format) for k in (vertical, horizontal)]
    wide = [kernel.float() for kernel in narrow]
    output = separable_convolution(frame, *narrow, implementation)
    assert output.dtype == torch.float32
    assert torch.equal(output, separable_convolution(frame, *wide, implementation))


def test_kernels_of_bfloat16_get_their_gradients():
    frame, vertical, horizontal = tensors()
    narrow = [kernel.bfloat16().requires_grad_() for kernel in (vertical, horizontal)]
    wide = [kernel.detach().float().requires_grad_() for kernel in narrow]
    for kernels in (narrow, wide):
        separable_convolution(frame, *kernels).square().sum().backward()
    for ours, expected in zip(narrow, wide, strict=True):
        assert torch.equal(ours.grad, expected.grad.bfloat16())


def test_half_precision_on_the_cpu_goes_through_the_reference_if_asked():
    inputs = [tensor.bfloat16() for tensor in tensors()]
    output = separable_convolution(*inputs, implementation="reference")
    assert output.dtype == torch.bfloat16


def test_example_of_the_docstring_holds():
    assert doctest.testmod(model.sepconv).failed == 0
