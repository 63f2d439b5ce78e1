"""Predictions that other programs made: read from files, or made by a command for each triplet.

What cannot be used for one triplet is a `MidframeError` of one line; the caller continues with the
next.
"""

import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.evaluation.benchmarks import ImageTriplet
from model.evaluation.triplets import Triplet
from model.settings import WITHOUT_WEIGHTS
from model.video.interpolation import Predictor, load_predictor, read_image
from pipeline.errors import MidframeError
from pipeline.frames.decoding import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from pipeline.frames.sequences import Frame, FrameSequence, open_frames
from pipeline.provenance import digest, file_digest
from pipeline.reading import reading

AnyFrame = NDArray[np.uint8] | NDArray[np.floating]

TIMEOUT = 600.0  # seconds a command may take for one triplet
PLACEHOLDERS = ("{first}", "{third}", "{out}")
SUFFIXES = (".npy", *sorted(IMAGE_SUFFIXES))


class Predictions(Protocol):
    """Where the middle frames come from; ``scored`` says what they are, as JSON values."""

    scored: dict[str, Any]

    def predict(self, triplet: Triplet, first: Frame, third: Frame) -> tuple[AnyFrame, str | None]:
        """The middle frame, uint8 or float in 0..1 ``[H, W, 3]``, and its SHA-256 if known."""
        ...


class OfModel:
    """Predictions that a model makes here."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self.scored: dict[str, Any] = {}

    def predict(self, triplet: Triplet, first: Frame, third: Frame) -> tuple[AnyFrame, None]:
        return self._predictor(first, third), None


def source_of(
    model: str | None, command: str | None, device: str, timeout: float
) -> tuple[Predictions, str, dict[str, Path]]:
    """What a model or else a command predicts, its usual label, and its files.

    Raises
    ------
    MidframeError
        if the weights or the program cannot be used.
    """
    if model is None:
        assert command is not None
        return OfCommand(command, timeout), Path(command.split()[0]).stem, {}
    source = OfModel(load_predictor(model, device))
    if model in WITHOUT_WEIGHTS:
        return source, model, {}
    return source, Path(model).stem, {"weights": Path(model)}


class OfFiles:
    """Predictions in a folder, or in a video.

    In a folder, that of a triplet is ``SEQUENCE/FIRST``, with the number of the first frame in
    five digits, or ``SEQUENCE/FIRST-prediction`` as `evaluate` keeps them; of a benchmark also
    the name of its true frame. It is an 8-bit image, or float32 in 0..1 ``[H, W, 3]`` as ``.npy``.
    A video ``SEQUENCE.mp4`` in the folder, or a video in place of the folder where there is one
    sequence, is numbered as the true frames: frame ``FIRST + 1`` is the prediction.

    Raises
    ------
    MidframeError
        if there is no such folder or video, or it holds none of the predictions.
    """

    def __init__(self, place: Path, triplets: list[Triplet], frames: Path) -> None:
        if not place.exists():
            raise MidframeError(f"{place}: no such folder or video of predictions")
        names = dict.fromkeys(triplet.sequence for triplet in triplets)
        if place.is_file() and len(names) > 1:
            raise MidframeError(
                f"{place}: one video cannot hold the predictions of {len(names)} sequences; give "
                "a folder of videos that have the sequences' names"
            )
        self._place, self._frames = place, frames
        self._videos = {name: video for name in names if (video := self._video(name))}
        self._reading: tuple[str, int, Iterator[Frame]] | None = None
        found = [self._find(t) for t in triplets if t.sequence not in self._videos]
        files = [*self._videos.values(), *(path for path in found if path)]
        if not files:
            raise MidframeError(
                f"{place}: holds no prediction of these triplets; that of {triplets[0]} would be "
                f"{self._expected(triplets[0])}"
            )
        self.scored = {
            "predictions": place.name,
            "sha256": digest([file_digest(path) for path in files]),
        }

    def _video(self, sequence: str) -> Path | None:
        if self._place.is_file():
            return self._place
        stem = self._place / sequence
        candidates = [stem, *(stem.parent / f"{stem.name}{end}" for end in sorted(VIDEO_SUFFIXES))]
        return next((path for path in candidates if path.is_file()), None)

    def _expected(self, triplet: Triplet) -> str:
        return f"{triplet.sequence}/{triplet.first_frame:05d}.png"

    def _find(self, triplet: Triplet) -> Path | None:
        number = f"{triplet.first_frame:05d}"
        folder = self._place / triplet.sequence
        stems = [folder / number, folder / f"{number}-prediction"]
        if isinstance(triplet.source, ImageTriplet):
            truth = triplet.source.paths[1]
            stems.append(folder / truth.stem)
            stems.append(self._place / truth.parent.name / truth.stem)
            if truth.is_relative_to(self._frames):
                stems.append((self._place / truth.relative_to(self._frames)).with_suffix(""))
        paths = (stem.with_name(stem.name + suffix) for stem in stems for suffix in SUFFIXES)
        return next((path for path in paths if path.is_file()), None)

    def predict(self, triplet: Triplet, first: Frame, third: Frame) -> tuple[AnyFrame, str]:
        if video := self._videos.get(triplet.sequence):
            frame = self._of_video(triplet, video)
            return _checked(frame, first, video), hashlib.sha256(frame.tobytes()).hexdigest()
        path = self._find(triplet)
        if path is None:
            raise MidframeError(f"no prediction: {self._expected(triplet)} is not in {self._place}")
        return _checked(read_prediction(path), first, path), file_digest(path)

    def _of_video(self, triplet: Triplet, video: Path) -> Frame:
        wanted = triplet.first_frame + 1
        if (
            self._reading is None
            or self._reading[0] != triplet.sequence
            or self._reading[1] > wanted
        ):
            (sequence,) = open_frames(video)
            self._reading = (triplet.sequence, wanted, _read(sequence, wanted))
        _, at, frames = self._reading
        for frame in frames:
            at += 1
            if at > wanted:
                self._reading = (triplet.sequence, at, frames)
                return frame
        self._reading = None
        raise MidframeError(f"no prediction: {video} has no frame {wanted}")


def _read(sequence: FrameSequence, start: int) -> Iterator[Frame]:
    if start < sequence.frame_count:
        yield from sequence.read(start, sequence.frame_count)


class OfCommand:
    """Predictions that another program makes, called once a triplet without a shell.

    Parameters
    ----------
    command : with ``{first}``, ``{third}`` (PNG files of the frames as they are measured) and
        ``{out}`` (the PNG to write) in its arguments.
    timeout : seconds after which a call and all that it started are killed.

    Raises
    ------
    MidframeError
        if the command lacks a placeholder, or its program is not found.
    """

    def __init__(self, command: str, timeout: float = TIMEOUT) -> None:
        try:
            self._arguments = shlex.split(command)
        except ValueError as error:
            raise MidframeError(f"--command: {error}: {command}") from None
        if missing := [name for name in PLACEHOLDERS if name not in command]:
            raise MidframeError(
                f"--command: {missing[0]} is missing; for example "
                "'prog {first} {third} {out}'"
            )
        if shutil.which(self._arguments[0]) is None:
            raise MidframeError(f"--command: no program '{self._arguments[0]}' is found here")
        self._timeout = timeout
        self.scored = {"command": command}

    def predict(self, triplet: Triplet, first: Frame, third: Frame) -> tuple[AnyFrame, str]:
        with tempfile.TemporaryDirectory(prefix="midframe-") as name:
            folder = Path(name)
            paths = {key: folder / f"{key.strip('{}')}.png" for key in PLACEHOLDERS}
            Image.fromarray(first).save(paths["{first}"])
            Image.fromarray(third).save(paths["{third}"])
            arguments = list(self._arguments)
            for key, path in paths.items():
                arguments = [argument.replace(key, str(path)) for argument in arguments]
            self._run(arguments, folder / "messages")
            out = paths["{out}"]
            if not out.is_file() or not out.stat().st_size:
                raise MidframeError("the command ended well but wrote no image to {out}")
            return _checked(read_prediction(out), first, Path("{out}")), file_digest(out)

    def _run(self, arguments: list[str], messages: Path) -> None:
        with messages.open("wb") as file:
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
            try:
                status = process.wait(self._timeout)
            except subprocess.TimeoutExpired:
                raise MidframeError(
                    f"the command took more than {self._timeout:g} s and was stopped"
                ) from None
            finally:
                _end(process)
        if status:
            text = messages.read_text(encoding="utf-8", errors="replace").strip()
            last = text.splitlines()[-1][:200] if text else "it said nothing"
            raise MidframeError(f"the command failed with status {status}: {last}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a command and whatever it left running in its session."""
    with suppress(ProcessLookupError):  # nothing is left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def read_prediction(path: Path) -> AnyFrame:
    """Read a prediction: an 8-bit image, or a float array ``.npy`` in 0..1 ``[H, W, 3]``.

    Raises
    ------
    MidframeError
        if it cannot be read, has more than 8 bits, an alpha channel, or values outside 0..1.
    """
    if path.suffix == ".npy":
        with reading(path, "make it again"):
            array = np.load(path, allow_pickle=False)
        if array.ndim != 3 or array.shape[2] != 3 or array.dtype.kind != "f":
            raise MidframeError(
                f"{path}: float [H, W, 3] is needed, not {array.dtype} {list(array.shape)}"
            )
        if array.size == 0 or not (array.min() >= 0 and array.max() <= 1):
            raise MidframeError(f"{path}: has values outside 0..1, or that are no numbers")
        return np.asarray(array, np.float32)
    if _bits(path) > 8:
        raise MidframeError(f"{path}: {_bits(path)} bits a channel; 8-bit RGB is needed, or .npy")
    return read_image(path)


def _bits(path: Path) -> int:
    """Bits a channel of a PNG, which Pillow would cut to 8 without a word; 8 of other files."""
    with path.open("rb") as file:
        head = file.read(25)
    return head[24] if head.startswith(b"\x89PNG") and len(head) == 25 else 8


def _checked(prediction: AnyFrame, like: Frame, path: Path) -> AnyFrame:
    if prediction.shape != like.shape:
        raise MidframeError(
            f"{path}: is {prediction.shape[1]}x{prediction.shape[0]}, but the frames that are "
            f"measured are {like.shape[1]}x{like.shape[0]}"
        )
    return prediction
