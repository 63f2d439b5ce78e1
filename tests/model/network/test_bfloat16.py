import copy

import pytest
import torch
from torch import nn

from model.network import bfloat16
from model.network.architecture import SepConv, place
from model.settings import NetworkSettings


@pytest.fixture
def network() -> SepConv:
    torch.manual_seed(0)
    network = SepConv(NetworkSettings(width=0.25, kernel_length=9)).eval()
    place(network, "cpu")
    return network


def test_joined_layers_compute_what_they_compute_one_by_one(network: SepConv) -> None:
    single, joined = copy.deepcopy(network).bfloat16(), copy.deepcopy(network)
    bfloat16.convert(joined)
    first, third = torch.rand(2, 1, 3, 70, 90)
    with torch.inference_mode():
        assert torch.equal(joined(first, third), single(first, third))


@pytest.mark.skipif(
    not bfloat16.joins_layers(), reason="oneDNN has no convolutions of bfloat16 for this processor"
)
def test_every_relu_is_joined_with_its_convolution(network: SepConv) -> None:
    bfloat16.convert(network)
    assert not [layer for layer in network.modules() if isinstance(layer, nn.ReLU)]
    # What is left is the last layer of each head, which has none.
    assert sum(isinstance(layer, nn.Conv2d) for layer in network.modules()) == 4
    assert {parameter.dtype for parameter in network.parameters()} == {torch.bfloat16}
