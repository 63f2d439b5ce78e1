"""Flow by any method, through one function."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from pipeline.flow.optical_flow import METHODS, compute_flow


@pytest.fixture
def frames() -> tuple[np.ndarray, np.ndarray]:
    """Two frames of a smooth pattern that moves by two pixels to the right."""
    rng = np.random.default_rng(3)
    first = cv2.GaussianBlur(rng.integers(0, 256, (80, 90, 3), dtype=np.uint8), (0, 0), 2)
    first = cv2.normalize(first, None, 0, 255, cv2.NORM_MINMAX)  # type: ignore
    return first, np.roll(first, 2, axis=1)


@pytest.mark.parametrize("method", METHODS)
def test_each_method_finds_the_motion(method: str, frames: tuple[np.ndarray, np.ndarray]) -> None:
    flow = compute_flow(*frames, method=method)
    assert flow.dtype == np.float32
    assert flow.shape == (80, 90, 2)
    centre = flow[20:-20, 20:-20]
    assert np.nanmedian(centre[..., 0]) == pytest.approx(2, abs=0.3)
    assert np.nanmedian(centre[..., 1]) == pytest.approx(0, abs=0.3)


def test_simpleflow_is_the_default(frames: tuple[np.ndarray, np.ndarray]) -> None:
    np.testing.assert_array_equal(compute_flow(*frames), compute_flow(*frames, "simpleflow"))


def test_parameters_reach_the_method(frames: tuple[np.ndarray, np.ndarray]) -> None:
    assert not np.nan_to_num(compute_flow(*frames, layers=1, max_flow=0)).any()


@pytest.mark.parametrize("method", ["simpleflow", "dis", "farneback"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (7, 2)])
def test_tiny_frames_have_a_flow(method: str, shape: tuple[int, int]) -> None:
    frame = np.full((*shape, 3), 9, np.uint8)
    assert compute_flow(frame, frame, method).shape == (*shape, 2)


FRAME = np.zeros((20, 30, 3), np.uint8)


@pytest.mark.parametrize(
    ("first", "third", "changes", "message"),
    [
        (FRAME, FRAME, {"method": "horn-schunck"}, "no flow method 'horn-schunck', there are: sim"),
        (FRAME, FRAME, {"window": 3}, "simpleflow has no parameter 'window', it has: layers"),
        (FRAME, FRAME, {"method": "dis", "preset": "best"}, "no DIS preset 'best', there are: ul"),
        (FRAME.astype(float), FRAME, {}, "first frame is float64 .*, it must be uint8"),
        (FRAME, FRAME[..., 0], {}, r"third frame is uint8 \[20, 30\], it must be uint8 \[H, W, 3"),
        (FRAME, FRAME[:0], {}, r"third frame is uint8 \[0, 30, 3\]"),
        (FRAME, FRAME[:9], {}, r"differ in size: first \[20, 30, 3\], third \[9, 30, 3\]"),
        (FRAME, None, {}, "third frame is a NoneType"),
        (FRAME[:1], FRAME[:1], {"method": "simpleflow-opencv"}, "OpenCV's SimpleFlow refuses"),
    ],
)
def test_refuses_with_one_clear_line(first, third, changes, message: str) -> None:  # type: ignore
    with pytest.raises(ValueError, match=message):
        compute_flow(first, third, **changes)


def test_sets_the_number_of_opencv_threads_back(frames: tuple[np.ndarray, np.ndarray]) -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        with ThreadPoolExecutor(4) as pool:
            flows = list(pool.map(lambda _: compute_flow(*frames), range(8)))
        assert cv2.getNumThreads() == 2
        for flow in flows[1:]:
            np.testing.assert_array_equal(flow, flows[0])
    finally:
        cv2.setNumThreads(before)
