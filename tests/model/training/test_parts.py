"""A batch in parts gives the gradients of the whole, whatever the threads meet."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from model.network.architecture import SepConv, place
from model.settings import NetworkSettings
from model.training.parts import Parts

SMALL = NetworkSettings(kernel_length=5, width=0.05)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def network() -> SepConv:
    torch.manual_seed(0)
    network = SepConv(SMALL)
    place(network, "cpu")
    return network.train()


@pytest.fixture
def frames() -> Tensor:
    return torch.rand(3, 5, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def gradients(network: SepConv) -> list[Tensor]:
    taken = [parameter.grad for parameter in network.parameters()]
    assert all(gradient is not None for gradient in taken)
    return [gradient.clone() for gradient in taken if gradient is not None]


# The second is no mean over samples, as the published VGG loss is none.
LOSSES: list[Callable[[Tensor], Tensor]] = [lambda d: d.abs().mean(), torch.linalg.vector_norm]


@pytest.mark.parametrize("norm", LOSSES)
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_the_gradients_are_those_of_the_whole_batch(
    network: SepConv, frames: Tensor, norm: Callable[[Tensor], Tensor], count: int
) -> None:
    first, middle, third = frames
    whole = norm(network(first, third) - middle)
    whole.backward()
    expected = gradients(network)
    network.zero_grad()
    with Parts(network, len(first), count) as parts:
        loss = parts.backward(first, third, lambda prediction: norm(prediction - middle))
    assert float(loss) == pytest.approx(float(whole.detach()), rel=1e-5)
    for ours, theirs in zip(gradients(network), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5 * float(theirs.abs().max()))


def test_the_same_number_of_threads_gives_the_same_bytes(network: SepConv, frames: Tensor) -> None:
    first, middle, third = frames
    results = []
    for _ in range(3):
        with Parts(network, len(first), 3) as parts:
            parts.backward(first, third, lambda prediction: (prediction - middle).abs().mean())
        results.append(gradients(network))
    for again in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], again, strict=True))


def test_threads_that_exceed_the_samples_work_inside_operations(network: SepConv) -> None:
    with Parts(network, samples=2, threads=6) as parts:
        assert parts.count == 2
        frames = torch.zeros(2, 3, 32, 32)
        inside = []

        def predict(first: Tensor, third: Tensor) -> Tensor:
            inside.append(torch.get_num_threads())
            return first

        parts.predict(predict, frames, frames)
    assert inside == [3, 3]
    assert torch.get_num_threads() == 6


def test_predictions_keep_the_order_of_the_samples(network: SepConv, frames: Tensor) -> None:
    first, _, third = frames
    with Parts(network, len(first), 3) as parts, torch.no_grad():
        ours = parts.predict(network, first, third)
        torch.testing.assert_close(ours, network(first, third), rtol=1e-4, atol=1e-5)


def test_an_error_in_a_thread_is_raised(network: SepConv) -> None:
    with Parts(network, 2, 2) as parts, pytest.raises(ValueError, match="must both be"):
        parts.backward(torch.zeros(2, 3, 32, 32), torch.zeros(2, 1, 32, 32), torch.sum)
