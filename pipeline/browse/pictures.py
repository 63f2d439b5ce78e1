"""Pictures of windows, made on demand: tiles, frames, differences, flow, and the whole frame."""

import threading
from collections import OrderedDict
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.browse.collection import Collection
from pipeline.browse.origins import Origins
from pipeline.errors import MidframeError

Picture = NDArray[np.uint8]

TILE_SIZES = (64, 96, 128, 192, 256, 384)
VIEWS = ("first", "middle", "third", "difference", "flow", "frame")
# Bytes of encoded pictures that are kept, and of triplets of whole frames.
CACHE_BYTES = 64 * 2**20
FRAME_BYTES = 64 * 2**20
QUALITY = 88


class PictureCache:
    """Encoded pictures, the last ones used, in at most `CACHE_BYTES`."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._limit, self._bytes = limit, 0
        self._kept: OrderedDict[tuple[object, ...], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[object, ...], make: Callable[[], bytes]) -> bytes:
        """The picture of ``key``, made if it is not there."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        with self._lock:
            if key not in self._kept:
                self._bytes += len(made)
            self._kept[key] = made
            while self._bytes > self._limit:
                self._bytes -= len(self._kept.popitem(last=False)[1])
        return made

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return self._bytes


def encode(picture: Picture) -> bytes:
    """A picture, RGB ``[H, W, 3]``, as JPEG: a tile takes 0.2 ms, as WebP 7 ms."""
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def encode_exactly(picture: Picture) -> bytes:
    """A picture, RGB ``[H, W, 3]``, as PNG, for views in which a pixel counts."""
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


class Pictures:
    """Pictures of the windows of one patch directory, uint8 RGB ``[H, W, 3]``.

    Every method raises `MidframeError` if a sample is damaged, or what it needs is not found.
    """

    def __init__(self, collection: Collection, origins: Origins) -> None:
        self._collection, self._origins = collection, origins
        self._triplets: OrderedDict[tuple[str, int], list[Picture]] = OrderedDict()
        self._lock = threading.Lock()

    def triplet(self, row: int) -> Picture:
        """The three frames of a window, ``[3, H, W, 3]``: from the store if it was taken, and
        otherwise cut out of the frames."""
        sample = int(self._collection.numbers["sample"][row])
        if sample >= 0:
            return self._collection.store.read([sample])[0]
        window, size = self._collection.window(row), self._collection.store.patch_size
        place = (slice(window.top, window.top + size), slice(window.left, window.left + size))
        frames = self.frames(window.sequence, window.first_frame)
        return np.stack([frame[place] for frame in frames])

    def frames(self, sequence: str, first_frame: int) -> list[Picture]:
        """The three whole frames of a triplet."""
        key = (sequence, first_frame)
        # One at a time: tiles of one triplet are asked for together, and it is decoded once.
        with self._lock:
            if key not in self._triplets:
                frames = self._origins.sequence(sequence).read(first_frame, first_frame + 3)
                self._triplets[key] = list(frames)
            self._triplets.move_to_end(key)
            kept = self._triplets[key]
            most = max(FRAME_BYTES // sum(frame.nbytes for frame in kept), 1)
            while len(self._triplets) > most:
                self._triplets.popitem(last=False)
            return kept

    def tile(self, row: int, size: int) -> Picture:
        """First, middle and third frame side by side, each ``size`` × ``size`` pixels."""
        triplet = self.triplet(row)
        how = cv2.INTER_AREA if size < triplet.shape[1] else cv2.INTER_LINEAR
        frames = [cv2.resize(frame, (size, size), interpolation=how) for frame in triplet]
        return np.ascontiguousarray(np.hstack(frames), np.uint8)

    def view(self, row: int, name: str) -> Picture:
        """One of `VIEWS` of a window."""
        if name in VIEWS[:3]:
            return self.triplet(row)[VIEWS.index(name)]
        if name == "difference":
            first, _, third = self.triplet(row)
            return cv2.absdiff(first, third).astype(np.uint8)
        window, size = self._collection.window(row), self._collection.store.patch_size
        if name == "flow":
            store, place = self._origins.motion(window.sequence, window.first_frame)
            flow = store.flow(window.sequence, place)
            return colour_wheel(
                flow[window.top : window.top + size, window.left : window.left + size]
            )
        if name == "frame":
            frame = self.frames(window.sequence, window.first_frame)[1].copy()
            corners = (window.left, window.top), (window.left + size - 1, window.top + size - 1)
            # Black around white: seen on any picture.
            cv2.rectangle(frame, *corners, (0, 0, 0), 4)
            cv2.rectangle(frame, *corners, (255, 255, 255), 2)
            return frame
        raise MidframeError(f"no view '{name}'; there are: {', '.join(VIEWS)}")


def colour_wheel(flow: NDArray[np.float32]) -> Picture:
    """A flow ``[H, W, 2]`` in pixels as colours: hue is direction, saturation is length.

    The longest vector is saturated; grey is where the flow is unknown.
    """
    known = np.isfinite(flow).all(axis=-1)
    x, y = (np.where(known, flow[..., component], 0).astype(np.float32) for component in (0, 1))
    length, angle = cv2.cartToPolar(x, y, angleInDegrees=True)
    hsv = np.stack([angle, length / max(float(length.max()), 1e-6), np.ones_like(length)], axis=-1)
    rgb = cv2.cvtColor(hsv.astype(np.float32), cv2.COLOR_HSV2RGB)
    picture = np.rint(rgb * 255).astype(np.uint8)
    picture[~known] = 128
    return picture
