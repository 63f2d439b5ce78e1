import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.network.architecture import SepConv
from model.settings import NetworkSettings


def small(**changes: object) -> SepConv:
    torch.manual_seed(0)
    values = {"width": 1 / 16, "kernel_length": 5} | changes
    return SepConv(NetworkSettings.model_validate(values)).eval()


@pytest.mark.parametrize(("order", "count"), [("niklaus", 21_675_452), ("kartasev", 21_602_256)])
def test_full_network_has_the_published_number_of_parameters(order: str, count: int) -> None:
    with torch.device("meta"):
        network = SepConv(NetworkSettings.model_validate({"module_order": order}))
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_width_scales_the_channels_of_every_hidden_layer() -> None:
    with torch.device("meta"):
        network = SepConv(NetworkSettings(width=0.5, kernel_length=51))
    assert network.encoder[4][0].weight.shape == (256, 128, 3, 3)
    assert network.heads["vertical_first"][7].weight.shape == (51, 51, 3, 3)


@settings(max_examples=12, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70), batch=st.integers(1, 2))
def test_middle_frame_has_the_size_of_the_frames(height: int, width: int, batch: int) -> None:
    frames = torch.rand(2, batch, 3, height, width)
    with torch.inference_mode():
        assert small()(frames[0], frames[1]).shape == (batch, 3, height, width)


@pytest.mark.parametrize("normalise", [False, True])
def test_linear_initialisation_gives_the_mean_of_the_frames(normalise: bool) -> None:
    first, third = torch.rand(2, 1, 3, 40, 33)
    middle = small(initialisation="linear", normalise=normalise)(first, third)
    torch.testing.assert_close(middle, (first + third) / 2)


def test_normalised_network_keeps_a_flat_colour() -> None:
    grey = torch.full((1, 3, 32, 32), 0.3)
    torch.testing.assert_close(small(normalise=True)(grey, grey), grey)


def test_every_parameter_gets_a_gradient() -> None:
    network = small()
    network(*torch.rand(2, 1, 3, 32, 32)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_orthogonal_initialisation_has_the_gain_of_relu() -> None:
    weight = small().encoder[3][2].weight.flatten(1)
    torch.testing.assert_close(weight @ weight.T, 2 * torch.eye(len(weight)))


def test_same_seed_gives_the_same_network() -> None:
    one, two = small(), small()
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "shapes", [((1, 3, 8, 8), (1, 3, 8, 9)), ((3, 8, 8), (3, 8, 8)), ((1, 1, 8, 8), (1, 1, 8, 8))]
)
def test_frames_of_other_shapes_are_refused(shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match=r"must both be \[B, 3, H, W\]"):
        small()(*(torch.rand(shape) for shape in shapes))


# The first back end only traces the network, the second also compiles it, which takes a minute.
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_network_gives_the_same_output(backend: str) -> None:
    network = small()
    frames = torch.rand(2, 1, 3, 40, 48)
    with torch.no_grad():
        expected = network(*frames)
        compiled = torch.compile(network, fullgraph=True, backend=backend)
        torch.testing.assert_close(compiled(*frames), expected)
