"""HDR10+ metadata belongs to single frames; no encoder here writes it, and a line says so."""

from pathlib import Path
from typing import Any

import av
import pytest

from model.settings import VideoSettings
from model.video.interpolation import linear
from model.video.smoothing import interpolate_video
from tests.model.videos import decode, encode_planes, moving

X265 = {"x265-params": "log-level=error:pools=none:frame-threads=1"}
PREFIX_MESSAGE = bytes([39 << 1, 1])  # the header of HEVC's unit of supplemental information
REGISTERED = 4  # the type of message that a country has registered (ITU-T T.35)


def hdr10_plus() -> bytes:
    """A message of SMPTE ST 2094-40 with one window and no curve, as a unit of an HEVC stream."""
    fields = [
        (0xB5, 8), (0x003C, 16), (1, 16), (4, 8), (1, 8),  # United States, Samsung, its version
        (1, 2), (10_000, 27), (0, 1),  # windows; peak of the display in 0.0001 cd/m²; no grid
        (50_000, 17), (40_000, 17), (30_000, 17), (20_000, 17),  # peaks of R, G, B; mean
        (1, 4), (50, 7), (1_000, 17), (10, 10),  # one percentile; bright pixels
        (0, 1), (0, 1), (0, 1),  # no grid of the mastering display, no curve, no saturation
    ]  # fmt: skip
    bits = "".join(f"{value:0{width}b}" for value, width in fields)
    bits += "0" * (-len(bits) % 8)
    payload = int(bits, 2).to_bytes(len(bits) // 8, "big")
    message = bytes([REGISTERED, len(payload)]) + payload + b"\x80"
    # Three bytes that look like a start code get one more between.
    escaped, zeros = bytearray(), 0
    for byte in message:
        if zeros >= 2 and byte <= 3:
            escaped.append(3)
            zeros = 0
        escaped.append(byte)
        zeros = 0 if byte else zeros + 1
    return PREFIX_MESSAGE + bytes(escaped)


def with_message(source: Path, target: Path, unit: bytes) -> Path:
    """Copy HEVC in Matroska, with a unit before each picture."""
    with av.open(source) as read, av.open(target, "w") as write:
        stream: Any = write.add_stream_from_template(read.streams.video[0])
        for number, packet in enumerate(read.demux(video=0)):
            if not packet.size:
                continue
            content = len(unit).to_bytes(4, "big") + unit + bytes(packet)
            copy = av.Packet(content)
            # Matroska keeps no times of decoding; any that rise will do.
            copy.pts, copy.dts, copy.time_base = packet.pts, number - 1000, packet.time_base
            copy.is_keyframe, copy.stream = packet.is_keyframe, stream
            write.mux(copy)
    return target


@pytest.mark.parametrize(("codec", "suffix"), [("hevc", "mkv"), ("av1", "webm")])
def test_hdr10_plus_is_named_as_lost_and_the_rest_is_kept(
    codec: str, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = encode_planes(
        tmp_path / "plain.mkv", moving("yuv420p10le", 3), "yuv420p10le", "libx265", X265
    )
    source = with_message(plain, tmp_path / "in.mkv", hdr10_plus())
    assert "DYNAMIC_HDR_PLUS" in {one.type.name for one in decode(source)[0].side_data}
    chosen = VideoSettings.model_validate({"codec": codec, "cut_method": None})
    for name, lost in ((plain, False), (source, True)):
        target = tmp_path / f"out.{suffix}"
        interpolate_video(name, target, linear, 2, chosen)
        assert ("not kept: HDR10+ metadata" in capsys.readouterr().err) == lost
        assert {frame.format.name for frame in decode(target)} == {"yuv420p10le"}
