"""The search alone, against motion that is known at every pixel."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from model.video.inverse_search import SIDE, find_flow, pyramid

Array = NDArray[np.float32]
ROWS, COLS = 150, 210
MARGIN = 40


def textured(seed: int) -> Array:
    """Detail of every size, everywhere, with room around the picture."""
    noise = np.random.default_rng(seed).normal(size=(ROWS + 2 * MARGIN, COLS + 2 * MARGIN))
    octaves = [cv2.GaussianBlur(noise, (0, 0), s) * s for s in (1.5, 3, 6, 12, 24)]
    return np.asarray(128 + 60 * sum(octaves), np.float32)


def seen(texture: Array, motion: Array) -> Array:
    """The picture after each of its pixels' content has been fetched from where it was."""
    y, x = np.mgrid[:ROWS, :COLS].astype(np.float32) + MARGIN
    return np.asarray(
        cv2.remap(texture, x - motion[..., 0], y - motion[..., 1], cv2.INTER_LANCZOS4), np.float32
    )


def errors(found: Array, motion: Array) -> Array:
    """Pixels between the found motion and the true one, where a patch still sees its target."""
    y, x = np.mgrid[:ROWS, :COLS]
    to_x, to_y = x + motion[..., 0], y + motion[..., 1]
    inside = (to_x >= SIDE) & (to_x < COLS - SIDE) & (to_y >= SIDE) & (to_y < ROWS - SIDE)
    assert inside.mean() > 0.6
    return np.linalg.norm(found - motion, axis=2)[inside]


@pytest.mark.parametrize("stride", [3, 4])
@pytest.mark.parametrize(
    "shift", [(0.0, 0.0), (0.5, -0.25), (3.3, 2.6), (-14.0, 9.5), (25.7, -18.2)]
)
def test_a_shift_is_found_at_every_pixel(shift: tuple[float, float], stride: int) -> None:
    texture = textured(1)
    motion = np.full((ROWS, COLS, 2), shift, np.float32)
    first, third = seen(texture, 0 * motion), seen(texture, motion)
    found = errors(find_flow(pyramid(first, 0), pyramid(third, 0), stride, 4), motion)
    assert found.max() < 0.2
    assert found.mean() < 0.05


@pytest.mark.parametrize("zoom", [1.08, 0.93])
def test_a_zoom_is_found_at_every_pixel(zoom: float) -> None:
    texture = textured(2)
    y, x = np.mgrid[:ROWS, :COLS].astype(np.float32)
    offset = np.stack([x - COLS / 2, y - ROWS / 2], axis=2)
    # What arrives at a pixel comes from 1 / zoom of its distance from the middle.
    first = seen(texture, 0 * offset)
    third = seen(texture, np.asarray(offset * (1 - 1 / zoom), np.float32))
    flow = find_flow(pyramid(first, 0), pyramid(third, 0), 3, 4)
    found = errors(flow, np.asarray(offset * (zoom - 1), np.float32))
    # Within a patch, which moves as one, a zoom is up to 0.45 pixels.
    assert found.max() < 0.7
    assert found.mean() < 0.15
