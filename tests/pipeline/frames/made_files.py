"""Files of all kinds, made by FFmpeg from natural video."""

import shutil
import subprocess
from pathlib import Path

import pytest

FFMPEG = shutil.which("ffmpeg")
needs_ffmpeg = pytest.mark.skipif(FFMPEG is None, reason="no ffmpeg; install Debian's package")

# Name, and the options that make the file of 40 small frames of natural video.
X265 = "pools=none:frame-threads=1:log-level=error"
KINDS = {
    "closed.mp4": "-c:v libx264 -g 12",
    "b-pyramid.mkv": "-c:v libx264 -g 24 -x264-params bframes=5:b-pyramid=normal",
    "open-groups.mp4": "-c:v libx264 -x264-params open-gop=1:keyint=12:min-keyint=4:bframes=3",
    "open-groups-444.mp4": "-c:v libx264 -pix_fmt yuv444p"
    " -x264-params open-gop=1:keyint=12:min-keyint=4:bframes=3",
    "hevc-open.mp4": f"-c:v libx265 -x265-params {X265}:open-gop=1:keyint=4:min-keyint=1:bframes=2",
    "hevc-open.mov": f"-c:v libx265 -x265-params {X265}:open-gop=1:keyint=8:min-keyint=1:bframes=2",
    "hevc-open.mkv": f"-c:v libx265 -x265-params {X265}:open-gop=1:keyint=4:min-keyint=1:bframes=2",
    "hevc.ts": f"-c:v libx265 -x265-params {X265}:keyint=8:bframes=2",
    "fragmented.mp4": "-c:v libx264 -bf 2 -g 12 -movflags frag_keyframe+empty_moov",
    "b-frames.flv": "-c:v libx264 -bf 2 -g 12",
    "intra-refresh.mp4": "-c:v libx264 -x264-params intra-refresh=1:keyint=20:bframes=0",
    "intra-refresh.mkv": "-c:v libx264 -x264-params intra-refresh=1:keyint=20:bframes=0",
    "h264.avi": "-c:v libx264 -bf 2 -g 12",
    "mpeg4.avi": "-c:v mpeg4 -bf 2 -g 12",
    "mjpeg.avi": "-c:v mjpeg",
    "mpeg2.mpg": "-c:v mpeg2video -bf 2 -g 12",
    "mpeg2.vob": "-c:v mpeg2video -bf 2 -g 12 -f vob",
    "mpeg2.ts": "-c:v mpeg2video -bf 2 -g 12",
    "h264.m2ts": "-c:v libx264 -bf 2 -g 12",
    "mpeg2.mxf": "-c:v mpeg2video -bf 2 -g 12",
    "bare.h264": "-c:v libx264 -bf 2 -g 12",
    "bare.hevc": f"-c:v libx265 -x265-params {X265}:keyint=8:bframes=2",
    "vp9.webm": "-c:v libvpx-vp9 -g 12 -cpu-used 8 -auto-alt-ref 1 -lag-in-frames 8",
    "av1.mkv": "-c:v libsvtav1 -preset 12 -g 12 -svtav1-params lp=1",
    "prores.mov": "-c:v prores_ks",
    "ffv1.mkv": "-c:v ffv1 -g 5",
    "theora.ogv": "-c:v libtheora -g 12",
    "wmv2.wmv": "-c:v wmv2 -g 12",
    "wmv2.asf": "-c:v wmv2 -g 12",
    "h263.3gp": "-c:v h263 -s 352x288 -g 12",
    "animation.gif": "-pix_fmt rgb8",
    "flv1.flv": "-c:v flv -g 12",
    "ten-bits.mkv": "-c:v ffv1 -pix_fmt yuv420p10le",
    "variable-rate.mkv": "-c:v libx264 -g 12 -bf 2 -vf setpts=N*N/30/TB -fps_mode vfr",
    "raw.y4m": "-pix_fmt yuv420p",
}


def ffmpeg(*arguments: str | Path) -> None:
    assert FFMPEG is not None
    command = [FFMPEG, "-nostdin", "-v", "error", "-y", *map(str, arguments)]
    subprocess.run(command, check=True, timeout=120)
