"""From a video to a video of twice the rate: decoding, predicting and encoding side by side."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from pathlib import Path
from queue import Queue
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.machine import Machine
from benchmarks.gpu.measures import _network

QUEUED = 4  # frames between two stages
GPU_ENCODER = "h264_nvenc"
GPU_DECODER = "h264_cuvid"
SECONDS = 100


def end_to_end(machine: Machine) -> dict[str, Any]:
    """Frames a second from file to file, and the share of the time that the predictor waits."""
    program = shutil.which("ffmpeg")
    if program is None:
        return {"skipped": "no ffmpeg program to decode and encode with"}
    width, height = machine.pick((1920, 1080), (1280, 720), (64, 48))
    count = machine.pick(60, 16, 3)
    with TemporaryDirectory() as folder:
        source = Path(folder) / "source.mp4"
        make = f"testsrc2=size={width}x{height}:rate=30"
        encode = ["-frames:v", str(count), "-pix_fmt", "yuv420p", str(source)]
        _run([program, "-v", "error", "-f", "lavfi", "-i", make, *encode])
        found = {}
        ways: list[tuple[str, list[str], str]] = [("software", [], "libx264")]
        if _has(program, "-encoders", GPU_ENCODER) and not machine.pretend:
            decoder = ["-c:v", GPU_DECODER] if _has(program, "-decoders", GPU_DECODER) else []
            ways.append(("the GPU's codecs", decoder, GPU_ENCODER))
        for name, decoder, encoder in ways:
            target = Path(folder) / "target.mp4"
            found[name] = _convert(
                machine,
                [program, "-v", "error", *decoder, "-i", str(source)],
                [program, "-v", "error", "-y"],
                ["-c:v", encoder, "-pix_fmt", "yuv420p", str(target)],
                (height, width),
            )
            assert target.stat().st_size > 0, f"{name}: nothing was written"
            assert found[name]["frames"] == 2 * count - 1, f"{name}: {found[name]}"
    return found


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, f"{command[0]}: {done.stderr[-1000:]}"
    return done.stdout


def _has(program: str, option: str, name: str) -> bool:
    return f" {name} " in _run([program, "-hide_banner", option])


@torch.inference_mode()
def _convert(
    machine: Machine,
    decode: list[str],
    encode: list[str],
    target: list[str],
    size: tuple[int, int],
) -> dict[str, Any]:
    height, width = size
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24"]
    network = _network(machine).eval()
    decoder = subprocess.Popen([*decode, *raw, "-"], stdout=subprocess.PIPE)
    shape = ["-s", f"{width}x{height}", "-r", "60", "-i", "-"]
    encoder = subprocess.Popen([*encode, *raw, *shape, *target], stdin=subprocess.PIPE)
    read: Queue[bytes | None] = Queue(QUEUED)
    written: Queue[bytes | None] = Queue(QUEUED)
    broken: list[OSError] = []

    def decoding() -> None:
        while len(frame := decoder.stdout.read(height * width * 3)) == height * width * 3:
            read.put(frame)
        read.put(None)

    def encoding() -> None:
        while (frame := written.get()) is not None:
            if not broken:
                try:
                    encoder.stdin.write(frame)
                except OSError as error:
                    broken.append(error)  # and what comes is taken, or the predictor would wait
        encoder.stdin.close()

    def upload(frame: bytes) -> Tensor:
        pixels = np.frombuffer(frame, np.uint8).reshape(1, height, width, 3).copy()
        there = torch.from_numpy(pixels).to(machine.device).permute(0, 3, 1, 2)
        return there.float().div_(255)

    threads = [threading.Thread(target=work, daemon=True) for work in (decoding, encoding)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    waited, count, last = 0.0, 0, None
    try:
        while True:
            start = time.perf_counter()
            frame = read.get(timeout=SECONDS)
            waited += time.perf_counter() - start
            if frame is None:
                break
            here = upload(frame)
            if last is not None:
                with machine.autocast(torch.bfloat16):
                    middle = network(last, here).float()
                levels = (middle.clamp_(0, 1) * 255 + 0.5).byte()
                made = levels[0].permute(1, 2, 0).contiguous().cpu().numpy().tobytes()
                start = time.perf_counter()
                written.put(made, timeout=SECONDS)
                waited += time.perf_counter() - start
                count += 1
            written.put(frame, timeout=SECONDS)
            count += 1
            last = here
        written.put(None, timeout=SECONDS)
        threads[1].join(SECONDS)
        codes = [process.wait(timeout=SECONDS) for process in (decoder, encoder)]
    finally:
        for process in (decoder, encoder):
            process.kill()
            process.wait()
    assert codes == [0, 0], f"decoder and encoder ended with {codes}"
    assert not broken, f"the encoder took no more frames: {broken[0]}"
    seconds = time.perf_counter() - begin
    return {"frames": count, "frames/s": count / seconds, "share of waiting": waited / seconds}
