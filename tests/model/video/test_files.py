"""What a video to be doubled may be, and what is said of one that cannot be read."""

from pathlib import Path
from typing import Any

import av
import pytest

from model.video.files import to_rgb
from model.video.interpolation import linear
from model.video.smoothing import interpolate_video
from pipeline.errors import MidframeError
from tests.model.videos import FAST, Frame, decode, encode, psnr


@pytest.mark.parametrize(
    ("pix_fmt", "kept"),
    [
        ("yuv420p", "yuv420p"),
        ("yuv444p", "yuv444p"),
        ("yuv422p10le", "yuv422p10le"),
        ("yuv420p12le", "yuv420p10le"),
        ("gray", "yuvj420p"),
        ("bgr0", "yuv444p"),
    ],
)
def test_h264_keeps_of_a_pixel_format_what_it_can(
    pix_fmt: str, kept: str, bikes: Frame, tmp_path: Path
) -> None:
    source = encode(tmp_path / "in.mkv", list(bikes[:3, :64, :96]), codec="ffv1", pix_fmt=pix_fmt)
    interpolate_video(source, tmp_path / "out.mp4", linear, 2, FAST)
    found = decode(tmp_path / "out.mp4")
    assert {frame.format.name for frame in found} == {kept}
    assert psnr(to_rgb(found[0]), to_rgb(decode(source)[0])) > 30


def test_a_text_file_named_mp4_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "in.mp4").write_text("hello")
    with pytest.raises(MidframeError, match=r"in\.mp4: not a readable video \(Invalid data"):
        interpolate_video(tmp_path / "in.mp4", tmp_path / "out.mp4", linear)
    assert {path.name for path in tmp_path.iterdir()} == {"in.mp4"}


def test_a_video_of_one_frame_is_one_clear_line(bikes: Frame, tmp_path: Path) -> None:
    source = encode(tmp_path / "in.mp4", [bikes[0, :64, :96]])
    with pytest.raises(MidframeError, match="has one frame, but two are needed"):
        interpolate_video(source, tmp_path / "out.mp4", linear)
    assert list(tmp_path.iterdir()) == [source]


def test_a_sound_file_is_no_video(start_of_bunny: Path, tmp_path: Path) -> None:
    source = tmp_path / "sound.mp4"
    with av.open(start_of_bunny) as container, av.open(source, "w") as target:
        copy = target.add_stream_from_template(container.streams.audio[0])
        for packet in container.demux(audio=0):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    with pytest.raises(MidframeError, match=r"sound\.mp4: has no video stream"):
        interpolate_video(source, tmp_path / "out.mp4", linear)


def test_sound_that_the_container_cannot_hold_is_one_clear_line(
    start_of_bunny: Path, tmp_path: Path
) -> None:
    source = tmp_path / "in.mkv"
    with av.open(start_of_bunny) as container, av.open(source, "w") as target:
        picture = target.add_stream_from_template(container.streams.video[0], opaque=True)
        sound: Any = target.add_stream("pcm_s16le", rate=48000, layout="5.1")
        resampler = av.AudioResampler("s16", "5.1", 48000)
        for packet in container.demux():
            if packet.stream.type == "audio":
                for frame in packet.decode():
                    for converted in resampler.resample(frame):
                        target.mux(sound.encode(converted))
            elif packet.dts is not None:
                packet.stream = picture
                target.mux(packet)
    with pytest.raises(MidframeError, match=r"\.mp4 file cannot hold this sound \(pcm_s16le\)"):
        interpolate_video(source, tmp_path / "out.mp4", linear, settings=FAST)
    assert list(tmp_path.iterdir()) == [source]
    interpolate_video(source, tmp_path / "out.mkv", linear, settings=FAST)
    with av.open(tmp_path / "out.mkv") as container:
        assert container.streams.audio[0].codec_context.name == "pcm_s16le"


def test_a_missing_video_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(MidframeError, match=r"none\.mp4: no such video file"):
        interpolate_video(tmp_path / "none.mp4", tmp_path / "out.mp4", linear)
