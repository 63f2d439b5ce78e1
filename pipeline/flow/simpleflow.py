"""SimpleFlow: dense optical flow by weighted block matching and bilateral smoothing.

Tao, Bai, Kohli, Paris: "SimpleFlow: A Non-iterative, Sublinear Optical Flow Algorithm", Computer
Graphics Forum 31(2), Eurographics 2012. This is the variant that OpenCV's
``cv2.optflow.calcOpticalFlowSF`` computes, with the same parameters, defaults and results.

From the coarsest level of an image pyramid to the finest, in both directions between the images:

1. *Where to search* (section 4 of the paper). A pixel of the coarser level whose flow differs
   little from that of its neighbours is regular. In a square of regular pixels, only the corners
   are searched at this level (`_select`). Squares grow by a factor of two a level.
2. *Upscaling*. The coarser flow is smoothed along the colours of its image
   (`pipeline.flow.bilateral_filter`); every value is doubled and is the start of the search in
   2 x 2 pixels.
3. *Search* (section 3.1). The shift that matches best around each pixel
   (`pipeline.flow.block_matching`, `pipeline.flow.window_costs`).
4. *Interpolation* inside the regular squares, from their corners (`_interpolate`).
5. *Occlusions* (section 3.2). A pixel whose flow and whose flow in the other direction, read at the
   same place, do not cancel gets confidence 0, the others 1 (`_agree`).

At the end the flow is smoothed once more along the colours of the first image, and by a 3 x 3
Gaussian. Where no pixel of confidence 1 lies within the last filter's window the result is NaN, as
in OpenCV; so are its neighbours, by the Gaussian.

Differences from OpenCV: none in the search, bit for bit; the starts of the search round alike; so
what is left is the float32 of the last filter, 5e-5 of the range of the flow at most and far less
as a rule. Images too small for the number of layers, which OpenCV refuses, get as many layers as
their size allows.

Everything here is one thread and releases the interpreter lock: run pairs in parallel, not pixels.
"""

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.flow.bilateral_filter import smooth_along_colours
from pipeline.flow.block_matching import match
from pipeline.flow.window_costs import comb

_FINAL_BLUR = 5.0
# Share of pixels searched under which most of them are corners of squares.
_MOSTLY_CORNERS = 0.5


def simpleflow(
    first: NDArray[np.uint8],
    third: NDArray[np.uint8],
    layers: int = 3,
    averaging_block_size: int = 2,
    max_flow: int = 4,
    sigma_dist: float = 4.1,
    sigma_color: float = 25.5,
    postprocess_window: int = 18,
    sigma_dist_fix: float = 55.0,
    sigma_color_fix: float = 25.5,
    occ_thr: float = 0.35,
    upscale_averaging_radius: int = 18,
    upscale_sigma_dist: float = 55.0,
    upscale_sigma_color: float = 25.5,
    speed_up_thr: float = 10.0,
) -> NDArray[np.float32]:
    """Dense optical flow from one frame to another, as ``cv2.optflow.calcOpticalFlowSF``.

    Parameters
    ----------
    first, third : uint8 [H, W, 3]
        Frames of one size; the order of the channels does not matter.
    layers : int
        Levels of the pyramid, 1 or more; fewer are used where a side would shrink below one pixel.
    averaging_block_size : int
        Half the side of the window that is matched, in pixels, 0 or more.
    max_flow : int
        How far to search from the start at each level, in pixels, 0 or more.
    sigma_dist, sigma_color : float
        Of the window's weights, in pixels and in grey levels.
    postprocess_window : int
        Half the side of the last filter's window, in pixels; below 1: 1.5 * `sigma_dist_fix`.
    sigma_dist_fix, sigma_color_fix : float
        Of the last filter's weights, in pixels and in grey levels; 0 or less stands for 1.
    occ_thr : float
        Squared distance, in square pixels, that flows of both directions may miss each other by.
    upscale_averaging_radius, upscale_sigma_dist, upscale_sigma_color
        As the three above, for the filter before upscaling.
    speed_up_thr : float
        Squared difference to a neighbour's flow, in square pixels, from which on a pixel is not
        regular.

    Returns
    -------
    float32 [H, W, 2]
        (dx, dy) in pixels: what is at (x, y) in `first` is at (x + dx, y + dy) in `third`. NaN
        where no pixel around is visible in both.

    Raises
    ------
    ValueError
        If the frames are not uint8 [H, W, 3] of one size, or a parameter is out of its range.
    """
    check_frames(first, third)
    _check_parameters(layers, averaging_block_size, max_flow, sigma_dist, sigma_color)
    pyramids = _pyramid(first, layers), _pyramid(third, layers)
    radius = averaging_block_size

    images = pyramids[0][-1], pyramids[1][-1]
    rows, cols = images[0].shape[:2]
    flows = [np.zeros((2, rows, cols), np.float32) for _ in range(2)]
    squares = [np.zeros((rows, cols), np.uint8) for _ in range(2)]
    masks = [np.ones((rows, cols), np.uint8) for _ in range(2)]
    confidence = masks[0]
    for level in range(len(pyramids[0]) - 1, -1, -1):
        if level < len(pyramids[0]) - 1:
            coarse, images = images, (pyramids[0][level], pyramids[1][level])
            rows, cols = images[0].shape[:2]
            for i in range(2):
                regular = _regular(flows[i], radius, np.float32(speed_up_thr))
                squares[i], masks[i] = _select(regular, squares[i], rows, cols)
                smooth = smooth_along_colours(
                    flows[i],
                    coarse[i],
                    confidence,
                    upscale_averaging_radius,
                    float(np.float32(upscale_sigma_color)),
                    float(np.float32(upscale_sigma_dist)),
                    upscaling=True,
                )
                flows[i] = _double(smooth, rows, cols)
        searched = np.count_nonzero(masks[0]) + np.count_nonzero(masks[1])
        phases = 4 if searched < _MOSTLY_CORNERS * 2 * rows * cols else 1
        combs = [comb(image, radius, phases) for image in images]
        for i in range(2):
            match(
                combs[i],
                combs[1 - i],
                flows[i],
                masks[i],
                radius,
                max_flow,
                float(np.float32(sigma_dist)),
                sigma_color,
            )
            _interpolate(flows[i], squares[i])
        confidence = _agree(flows[0], flows[1], np.float32(occ_thr))

    smooth = smooth_along_colours(
        flows[0],
        images[0],
        confidence,
        postprocess_window,
        float(np.float32(sigma_color_fix)),
        float(np.float32(sigma_dist_fix)),
        upscaling=False,
    )
    result = cv2.GaussianBlur(cv2.merge(list(smooth)), (3, 3), _FINAL_BLUR)
    return np.asarray(result, np.float32).reshape(*first.shape[:2], 2)


def check_frames(first: NDArray[np.uint8], third: NDArray[np.uint8]) -> None:
    """Raise a ValueError unless these are two frames, uint8 [H, W, 3], of one size."""
    for name, frame in (("first", first), ("third", third)):
        if not isinstance(frame, np.ndarray):
            raise ValueError(f"{name} frame is a {type(frame).__name__}, it must be a numpy array")
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
            raise ValueError(
                f"{name} frame is {frame.dtype} {list(frame.shape)}, it must be uint8 [H, W, 3]"
            )
    if first.shape != third.shape:
        raise ValueError(
            f"frames differ in size: first {list(first.shape)}, third {list(third.shape)}"
        )


def _check_parameters(
    layers: int, averaging_block_size: int, max_flow: int, sigma_dist: float, sigma_color: float
) -> None:
    for name, value, least in (
        ("layers", layers, 1),
        ("averaging_block_size", averaging_block_size, 0),
        ("max_flow", max_flow, 0),
    ):
        if value < least:
            raise ValueError(f"{name} is {value}, it must be at least {least}")
    for name, sigma in (("sigma_dist", sigma_dist), ("sigma_color", sigma_color)):
        if not sigma > 0:
            raise ValueError(f"{name} is {sigma}, it must be above 0")


def _pyramid(image: NDArray[np.uint8], layers: int) -> list[NDArray[np.uint8]]:
    """The image and its halves, finest first; stops at a side of one pixel."""
    # Writable, so that one compiled version of the kernels serves all frames.
    levels = [np.require(image, requirements=["C", "W"])]
    while len(levels) < layers:
        rows, cols = levels[-1].shape[:2]
        if rows <= 1 or cols <= 1:
            break
        size = ((cols + 1) // 2, (rows + 1) // 2)
        half = np.asarray(cv2.resize(levels[-1], size, interpolation=cv2.INTER_CUBIC), np.uint8)
        levels.append(half)
    return levels


@njit(cache=True, nogil=True, error_model="numpy")
def _agree(flow, other, threshold):
    """Confidence, uint8 [H, W]: 1 where a flow and that of the other direction cancel, else 0."""
    _, rows, cols = flow.shape
    confidence = np.empty((rows, cols), np.uint8)
    for y in range(rows):
        for x in range(cols):
            along_x = flow[0, y, x] + other[0, y, x]
            along_y = flow[1, y, x] + other[1, y, x]
            distance = along_y * along_y + along_x * along_x
            confidence[y, x] = 0 if distance > threshold else 1
    return confidence


@njit(cache=True, nogil=True, error_model="numpy")
def _regular(flow, radius, threshold):
    """1 where no flow within `radius` is a squared distance of `threshold` away; uint8 [H, W]."""
    _, rows, cols = flow.shape
    regular = np.empty((rows, cols), np.uint8)
    largest = np.empty(cols, np.float32)
    for y in range(rows):
        largest[:] = 0
        for r in range(max(0, y - radius), min(rows, y + radius + 1)):
            for shift in range(-min(radius, cols - 1), min(radius, cols - 1) + 1):
                begin = max(0, -shift)
                end = min(cols, cols - shift)
                here_x = flow[0, y, begin:end]
                here_y = flow[1, y, begin:end]
                there_x = flow[0, r, begin + shift : end + shift]
                there_y = flow[1, r, begin + shift : end + shift]
                most = largest[begin:end]
                for x in range(end - begin):
                    along_x = here_x[x] - there_x[x]
                    along_y = here_y[x] - there_y[x]
                    distance = along_y * along_y + along_x * along_x
                    most[x] = distance if distance > most[x] else most[x]
        for x in range(cols):
            regular[y, x] = largest[x] < threshold
    return regular


@njit(cache=True, nogil=True, error_model="numpy")
def _select(regular, squares, rows, cols):
    """Choose the pixels to search at the finer level.

    Parameters
    ----------
    regular : uint8 [h, w]
        Of the coarser level.
    squares : uint8 [h, w]
        n where a pixel lies in a square of 2^n x 2^n pixels that has its flow from its corners; the
        square is the one that a scan by rows meets first.
    rows, cols : int
        Size of the finer level.

    Returns
    -------
    squares, mask : uint8 [rows, cols]
        The same for the finer level; not 0 where to search.
    """
    coarse_rows, coarse_cols = regular.shape
    done = np.zeros((coarse_rows, coarse_cols), np.uint8)
    finer = np.zeros((rows, cols), np.uint8)
    mask = np.zeros((rows, cols), np.uint8)
    for y in range(coarse_rows):
        for x in range(coarse_cols):
            if done[y, x]:
                continue
            if not (regular[y, x] and 2 * y + 1 < rows and 2 * x + 1 < cols):
                done[y, x] = 1
                mask[2 * y : min(2 * y + 2, rows), 2 * x : min(2 * x + 2, cols)] = 1
                continue
            step = (1 << squares[y, x]) - 1
            last_y = min(y + step, coarse_rows - 1)
            last_x = min(x + step, coarse_cols - 1)
            all_regular = True
            for r in range(y, last_y + 1):
                for c in range(x, last_x + 1):
                    done[r, c] = 1
                    if not regular[r, c]:
                        all_regular = False
            top, left = 2 * y, 2 * x
            bottom = min(2 * (y + step) + 1, rows - 1)
            right = min(2 * (x + step) + 1, cols - 1)
            if all_regular and top != bottom and left != right:
                mask[top, left] = mask[top, right] = 1
                mask[bottom, left] = mask[bottom, right] = 1
                finer[top : bottom + 1, left : right + 1] = squares[y, x] + 1
            else:
                mask[top : bottom + 1, left : right + 1] = 1
    return finer, mask


@njit(cache=True, nogil=True, error_model="numpy")
def _double(flow, rows, cols):
    """Twice the flow, each value for 2 x 2 pixels of the finer level; float32 [2, rows, cols]."""
    doubled = np.empty((2, rows, cols), np.float32)
    for k in range(2):
        for y in range(rows):
            for x in range(cols):
                doubled[k, y, x] = flow[k, y >> 1, x >> 1] * np.float32(2.0)
    return doubled


@njit(cache=True, nogil=True, error_model="numpy")
def _interpolate(flow, squares):
    """Fill the squares of more than 2 x 2 pixels bilinearly from their corners, in place."""
    _, rows, cols = flow.shape
    done = np.zeros((rows, cols), np.uint8)
    one = np.float32(1.0)
    for top in range(rows):
        for left in range(cols):
            if done[top, left] or squares[top, left] <= 1:
                continue
            step = (1 << squares[top, left]) - 1
            bottom = min(top + step, rows - 1)
            right = min(left + step, cols - 1)
            height = bottom - top
            width = right - left
            done[top : bottom + 1, left : right + 1] = 1
            for k in range(2):
                f00 = flow[k, top, left]
                f01 = flow[k, top, right]
                f10 = flow[k, bottom, left]
                f11 = flow[k, bottom, right]
                for y in range(height + 1):
                    qy = np.float32(y) / np.float32(height) if height else np.float32(0.0)
                    py = one - qy
                    for x in range(width + 1):
                        # The corners keep their values to the last bit.
                        if (y == 0 or y == height) and (x == 0 or x == width):
                            continue
                        qx = np.float32(x) / np.float32(width) if width else np.float32(0.0)
                        px = one - qx
                        flow[k, top + y, left + x] = (
                            f00 * py * px + f01 * py * qx + f10 * qy * px + f11 * qx * qy
                        )
    return flow
