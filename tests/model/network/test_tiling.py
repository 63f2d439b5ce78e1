"""Tiles against the whole frame."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.network import tiling
from model.network.architecture import SepConv
from model.settings import NetworkSettings


@pytest.fixture(scope="module")
def network() -> SepConv:
    torch.manual_seed(0)
    return SepConv(NetworkSettings(width=1 / 16, kernel_length=5)).eval()


@pytest.fixture(scope="module")
def frames() -> tuple[Tensor, Tensor]:
    """Noise of 70 x 1500 pixels, neither a multiple of 32: wider than a tile with its margins."""
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.rand(1, 3, 70, 1500, generator=generator) for _ in range(2))  # type: ignore[return-value]


def test_tiles_give_the_result_of_the_whole_frame(
    network: SepConv, frames: tuple[Tensor, Tensor]
) -> None:
    with torch.inference_mode():
        whole = network(*frames)
        tiled = tiling.predict_tiled(network, *frames, tile_pixels=96 * 1280)
    assert whole.std() > 0.01
    torch.testing.assert_close(tiled, whole, atol=1e-4, rtol=0)


def test_a_margin_short_of_the_receptive_field_shows(
    network: SepConv, frames: tuple[Tensor, Tensor]
) -> None:
    with torch.inference_mode():
        whole = network(*frames)
        tiled = tiling.predict_tiled(network, *frames, tile_pixels=96 * 320, margin=32)
    assert (tiled - whole).abs().max() > 1e-3


def test_the_network_is_as_before_after_tiling(
    network: SepConv, frames: tuple[Tensor, Tensor]
) -> None:
    with torch.inference_mode():
        before = network(*frames)
        tiling.predict_tiled(network, *frames, tile_pixels=96 * 1280)
        torch.testing.assert_close(network(*frames), before, atol=0, rtol=0)


def test_no_pixel_of_the_output_sees_further_than_the_receptive_radius() -> None:
    torch.manual_seed(0)
    network = SepConv(NetworkSettings(width=1 / 16, kernel_length=1)).double()
    frame = torch.rand(1, 3, 1024, 32, dtype=torch.double, requires_grad=True)
    middle = network(frame, frame)[0, :, 512, 16].sum()
    (gradient,) = torch.autograd.grad(middle, frame)
    rows = gradient.abs().sum((0, 1, 3)).nonzero()
    assert rows.min() >= 512 - tiling.RECEPTIVE_RADIUS
    assert rows.max() <= 512 + tiling.RECEPTIVE_RADIUS


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(32 * 32, 2048 * 2048))
def test_tiles_keep_every_pixel_once_and_fit_the_bound_if_any_can(
    rows: int, columns: int, tile_pixels: int
) -> None:
    height, width = 32 * rows, 32 * columns
    spans = tiling.choose_spans(height, width, tile_pixels)
    for length, along in zip((height, width), spans, strict=True):
        kept = [pixel for span in along for pixel in range(span.keep_start, span.keep_stop)]
        assert kept == list(range(length))
        for span in along:
            assert span.start % 32 == span.stop % 32 == 0
            assert span.start == 0 or span.keep_start - span.start == tiling.MARGIN
            assert span.stop == length or span.stop - span.keep_stop == tiling.MARGIN
    largest = max(s.stop - s.start for s in spans[0]) * max(s.stop - s.start for s in spans[1])
    smallest = min(height, 32 + 2 * tiling.MARGIN) * min(width, 32 + 2 * tiling.MARGIN)
    assert largest <= max(tile_pixels, smallest)
