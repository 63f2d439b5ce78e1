"""Exchange formats: the same frames as the network itself, at sizes that tracing never saw."""

import io
from pathlib import Path

import pytest
import torch

from model.network.architecture import SepConv
from model.network.checkpoints import load_network, save_network
from model.sepconv import separable_convolution
from model.settings import NetworkSettings
from model.sharing.export import convolve_in_standard_operators, export, portable
from pipeline.errors import MidframeError


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_network(SepConv(NetworkSettings(kernel_length=3, width=0.03)), path, {})
    return path


def frames(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    first, third = torch.rand((2, 1, 3, height, width), generator=generator)
    return first, third


@pytest.mark.parametrize("taps", [1, 4, 51])
def test_standard_operators_give_what_the_operator_gives(taps: int) -> None:
    generator = torch.Generator().manual_seed(taps)
    shape = (1, taps, 9, 7)
    frame = torch.rand((1, 3, 9 + taps - 1, 7 + taps - 1), generator=generator)
    vertical, horizontal = (torch.randn(shape, generator=generator) for _ in range(2))
    expected = separable_convolution(frame, vertical, horizontal)
    found = convolve_in_standard_operators(frame, vertical, horizontal)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_portable_network_is_the_network(weights: Path) -> None:
    network = load_network(weights)
    pair = frames(32, 64)
    torch.testing.assert_close(portable(network)(*pair), network(*pair))


@pytest.mark.slow
@torch.no_grad()
def test_onnxruntime_predicts_the_frames_of_the_network(weights: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    export(weights, tmp_path / "small.onnx")
    model = onnx.load(tmp_path / "small.onnx")
    onnx.checker.check_model(model)
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    session = runtime.InferenceSession(
        str(tmp_path / "small.onnx"), providers=["CPUExecutionProvider"]
    )
    first, third = frames(96, 32)
    (middle,) = session.run(["middle"], {"first": first.numpy(), "third": third.numpy()})
    expected = load_network(weights)(first, third)
    torch.testing.assert_close(torch.from_numpy(middle), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@torch.no_grad()
def test_a_program_of_torch_export_predicts_the_frames_of_the_network(
    weights: Path, tmp_path: Path
) -> None:
    export(weights, tmp_path / "small.pt2")
    program = torch.export.load(io.BytesIO((tmp_path / "small.pt2").read_bytes()))
    names = {str(node.target) for node in program.graph.nodes}
    assert not any("midframe" in name for name in names)
    pair = frames(64, 96)
    torch.testing.assert_close(program.module()(*pair), load_network(weights)(*pair))


def test_another_ending_is_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(MidframeError, match=r"ends in \.onnx or \.pt2"):
        export(weights, tmp_path / "small.bin")
