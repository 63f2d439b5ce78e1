"""Large frames in overlapping tiles, with the result of the whole frame.

Two things make a tile's result differ from that of the whole frame. Near an inner edge the
network sees the edge instead of the picture behind it: the tiles overlap by more than the
receptive field reaches, and that margin is thrown away. And bilinear upsampling with
``align_corners=True`` samples at places that depend on the size of what is upsampled: in a tile
it is made to sample where it would in the whole frame.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.network.architecture import SIZE_MULTIPLE, SepConv

# Pixels that a pixel of the output can see in any direction. A convolution of radius 1 counts
# once times the scale it works at, an upsampling reaches one pixel of its input further:
# encoder 3 (1 + 2 + 4 + 8 + 16 + 32) = 189 and poolings 1 + 2 + 4 + 8 + 16 = 31; upsampling and
# its convolution 32 + 16, 16 + 8, 8 + 4, 4 + 2; decoder 3 (16 + 8 + 4) = 84 (at 1/16, 1/8, 1/4);
# heads 3 x 2, upsampling 2, convolution 1. The taps of the kernels reach into the frames only.
RECEPTIVE_RADIUS = 189 + 31 + 48 + 24 + 12 + 6 + 84 + 9
MARGIN = -(-RECEPTIVE_RADIUS // SIZE_MULTIPLE) * SIZE_MULTIPLE


@dataclass(frozen=True)
class Span:
    """Along one axis, in pixels of the frame: what a tile covers and what of it is kept."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int


@dataclass(frozen=True)
class _Place:
    """Where a tile lies along one axis."""

    start: int
    length: int
    frame_length: int


def predict_tiled(
    network: SepConv, first: Tensor, third: Tensor, tile_pixels: int, margin: int = MARGIN
) -> Tensor:
    """Predict the middle frame tile by tile.

    Parameters
    ----------
    first, third : float ``[1, 3, H, W]``, 0..1.
    tile_pixels : the most pixels of a tile, its margin included; where the margins leave nothing
        of it, the tile is as small as they allow.
    margin : pixels by which a tile is larger than what is kept of it, on each side that is not
        the frame's; a multiple of 32. With less than `MARGIN` the result is no longer exact.

    Returns
    -------
    float ``[1, 3, H, W]``, on the device of ``first``: what ``network(first, third)`` gives, but
    for rounding in float32 (some 1e-5, where one level of 8 bits is 4e-3).
    """
    height, width = first.shape[2:]
    padding = (0, -width % SIZE_MULTIPLE, 0, -height % SIZE_MULTIPLE)
    first, third = (functional.pad(frame, padding, mode="replicate") for frame in (first, third))
    rows, columns = choose_spans(first.shape[2], first.shape[3], tile_pixels, margin)
    middle = torch.empty_like(first)
    for row in rows:
        for column in columns:
            tile = (..., slice(row.start, row.stop), slice(column.start, column.stop))
            places = (
                _Place(row.start, row.stop - row.start, first.shape[2]),
                _Place(column.start, column.stop - column.start, first.shape[3]),
            )
            with _upsampling_as_in_whole_frame(network, places):
                result = network(first[tile], third[tile])
            kept_rows = slice(row.keep_start, row.keep_stop)
            kept_columns = slice(column.keep_start, column.keep_stop)
            middle[..., kept_rows, kept_columns] = result[
                ...,
                row.keep_start - row.start : row.keep_stop - row.start,
                column.keep_start - column.start : column.keep_stop - column.start,
            ]
    return middle[..., :height, :width]


Spans = tuple[Span, ...]


@lru_cache  # every frame of a video is cut alike
def choose_spans(
    height: int, width: int, tile_pixels: int, margin: int = MARGIN
) -> tuple[Spans, Spans]:
    """Cut a frame into the fewest tiles of at most ``tile_pixels`` pixels: rows and columns.

    ``height`` and ``width`` are multiples of 32, and so is every edge of a tile.
    """
    best: tuple[Spans, Spans] | None = None
    cost = 0
    for row_count in range(1, height // SIZE_MULTIPLE + 1):
        rows = _spans(height, row_count, margin)
        for column_count in range(1, width // SIZE_MULTIPLE + 1):
            columns = _spans(width, column_count, margin)
            if (
                max(s.stop - s.start for s in rows) * max(s.stop - s.start for s in columns)
                > tile_pixels
            ):
                continue
            work = sum(s.stop - s.start for s in rows) * sum(s.stop - s.start for s in columns)
            if best is None or work < cost:
                best, cost = (rows, columns), work
            break  # more columns only mean more margins
    if best is None:
        return (
            _spans(height, height // SIZE_MULTIPLE, margin),
            _spans(width, width // SIZE_MULTIPLE, margin),
        )
    return best


def _spans(length: int, count: int, margin: int) -> Spans:
    units = length // SIZE_MULTIPLE
    edges = [units * i // count * SIZE_MULTIPLE for i in range(count + 1)]
    return tuple(
        Span(max(start - margin, 0), min(stop + margin, length), start, stop)
        for start, stop in pairwise(edges)
    )


@contextmanager
def _upsampling_as_in_whole_frame(
    network: nn.Module, places: tuple[_Place, _Place]
) -> Iterator[None]:
    """Inside the block, the network's upsampling samples as if it saw the whole frame."""

    def upsample(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        features = inputs[0]
        for axis, place in zip((2, 3), places, strict=True):
            features = _double(features, axis, place)
        return features

    handles = [
        layer.register_forward_hook(upsample)
        for layer in network.modules()
        if isinstance(layer, nn.Upsample)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _double(features: Tensor, axis: int, place: _Place) -> Tensor:
    """Double the length of one axis, bilinearly, with the corners of the whole frame aligned."""
    length = features.shape[axis]
    scale = place.length // length  # of these features against the frame
    offset, whole = place.start // scale, place.frame_length // scale
    target = torch.arange(2 * offset, 2 * (offset + length), device=features.device)
    source = target.double() * ((whole - 1) / (2 * whole - 1)) - offset
    # At the tile's edges a neighbour may lie outside; what comes of that is in the margin.
    lower = source.floor().long().clamp_(0, length - 1)
    upper = (lower + 1).clamp_(max=length - 1)
    # The weights have more digits than bfloat16 keeps.
    exact = torch.promote_types(features.dtype, torch.float32)
    weight = (source - lower).clamp_(0, 1).to(exact)
    shape = [1] * features.dim()
    shape[axis] = 2 * length
    below, above = (features.index_select(axis, index).to(exact) for index in (lower, upper))
    return torch.lerp(below, above, weight.view(shape)).to(features.dtype)
