"""XPSNR and VMAF of a pair of frames, as FFmpeg's filters compute them.

Each pair is measured by itself, as a video of one frame, so the parts of both measures that look at
motion see none: the numbers compare methods, but are not those of a whole video.
"""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from model.pixels import Image, quantise
from pipeline.errors import MidframeError

FILTERS = {"xpsnr": "xpsnr", "vmaf": "libvmaf"}
PATTERNS = {
    "xpsnr": re.compile(r"XPSNR\s+y:\s*([\d.]+|inf)"),
    "vmaf": re.compile(r"VMAF score:\s*([\d.]+)"),
}
TIMEOUT = 120.0  # seconds a pair may take


def absence(measure: str) -> str | None:
    """Why FFmpeg cannot measure ``"xpsnr"`` or ``"vmaf"`` here; ``None`` if it can."""
    program = shutil.which("ffmpeg")
    if program is None:
        return "no program ffmpeg is found"
    wanted = FILTERS[measure]
    listed = subprocess.run(
        [program, "-hide_banner", "-filters"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        stdin=subprocess.DEVNULL,
    ).stdout
    if wanted not in (line.split()[1] for line in listed.splitlines() if len(line.split()) > 2):
        return f"{program} has no filter {wanted}"
    return None


def score(measure: str, prediction: Image, target: Image) -> float:
    """XPSNR of luma in dB, or VMAF (0..100), of two images ``[H, W, 3]`` rounded to 8 bits.

    Raises
    ------
    MidframeError
        if FFmpeg fails, takes too long or prints no number.
    """
    height, width = target.shape[:2]
    with tempfile.TemporaryDirectory(prefix="midframe-") as folder:
        command = ["ffmpeg", "-hide_banner", "-nostdin"]
        for name, image in (("prediction", prediction), ("target", target)):
            file = Path(folder) / f"{name}.rgb"
            file.write_bytes(quantise(image, "round").tobytes())
            command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
            command += ["-i", str(file)]
        planes = "[0:v]format=yuv444p[a];[1:v]format=yuv444p[b];"
        command += ["-lavfi", f"{planes}[a][b]{FILTERS[measure]}", "-f", "null", "-"]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=TIMEOUT, errors="replace"
            )
        except subprocess.TimeoutExpired:
            raise MidframeError(f"{measure}: FFmpeg took more than {TIMEOUT:g} s") from None
    found = PATTERNS[measure].search(done.stderr)
    if done.returncode or found is None:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1][:200]
        raise MidframeError(f"{measure}: FFmpeg gave no number: {last}")
    return float(found[1])
