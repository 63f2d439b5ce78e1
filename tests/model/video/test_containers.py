"""The table of docs/video.md: what of each kind of file is kept, each row on a file made here."""

import shutil
import subprocess
from collections.abc import Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from model.settings import VideoSettings
from model.video.codecs import CODECS, choose_format
from model.video.files import VideoSource, to_rgb
from model.video.interpolation import linear
from model.video.planes import Layout, layout_of, planes_of
from model.video.properties import mastering_of
from model.video.smoothing import interpolate_video
from pipeline.errors import MidframeError
from tests.model.videos import Frame, decode, encode, encode_planes, moving, planes

FFMPEG = shutil.which("ffmpeg")
X265 = "log-level=error:pools=none:frame-threads=1"
DISPLAY = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
HDR10 = {"x265-params": f"{X265}:master-display={DISPLAY}:max-cll=1000,400"}
PQ = {"colorspace": 9, "color_range": 1, "color_primaries": 9, "color_trc": 16}
HLG = {**PQ, "color_trc": 18}


def settings(codec: str, **others: Any) -> VideoSettings:
    return VideoSettings.model_validate(
        {"codec": codec, "preset": "ultrafast", "crf": 8, "cut_method": None, **others}
    )


def colours(frame: av.VideoFrame) -> dict[str, int]:
    return {name: int(getattr(frame, name)) for name in PQ}


def near(found: Sequence[Any], wanted: Sequence[Any], levels: float) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert np.abs(one.astype(float) - other).mean() < levels


@pytest.fixture(scope="module")
def hdr10(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hdr10") / "in.mkv"
    return encode_planes(
        path, moving("yuv420p10le", 4), "yuv420p10le", "libx265", {**HDR10, "crf": "4"}, **PQ
    )


@pytest.mark.parametrize(
    ("codec", "suffix"), [("hevc", "mkv"), ("hevc", "mp4"), ("av1", "webm"), ("h264", "mkv")]
)
def test_hdr10_keeps_its_bits_tags_and_mastering_display(
    codec: str, suffix: str, hdr10: Path, tmp_path: Path
) -> None:
    target = tmp_path / f"out.{suffix}"
    interpolate_video(hdr10, target, linear, 2, settings(codec))
    before, found = decode(hdr10), decode(target)
    assert len(found) == 7
    assert {frame.format.name for frame in found} == {"yuv420p10le"}
    assert colours(found[0]) == PQ
    wanted, kept = mastering_of(before[0]), mastering_of(found[0])
    assert kept.light == wanted.light == (1000, 400)
    assert kept.primaries is not None
    assert wanted.primaries is not None
    for point, other in zip(kept.primaries, wanted.primaries, strict=True):
        assert [float(v) for v in point] == pytest.approx([float(v) for v in other], abs=1e-4)
    assert kept.luminance is not None
    assert [float(value) for value in kept.luminance] == pytest.approx([0.005, 1000], rel=0.05)
    near(planes(found[0]), planes(before[0]), 12)


def test_what_cannot_carry_mastering_metadata_says_so(
    hdr10: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    interpolate_video(hdr10, tmp_path / "out.webm", linear, 2, settings("vp9"))
    said = capsys.readouterr().err
    assert "out.webm: 10 bits become 8" in said
    assert "not kept: the mastering display's metadata" in said
    assert colours(decode(tmp_path / "out.webm")[0]) == PQ


def test_hlg_prores_422_stays_so_in_mov(tmp_path: Path) -> None:
    source = encode_planes(
        tmp_path / "in.mov", moving("yuv422p10le", 4), "yuv422p10le", "prores_ks", **HLG
    )
    interpolate_video(source, tmp_path / "out.mov", linear, 2, settings("prores"))
    found = decode(tmp_path / "out.mov")
    assert {frame.format.name for frame in found} == {"yuv422p10le"}
    assert colours(found[1]) == HLG
    near(planes(found[2]), planes(decode(source)[1]), 4)
    with av.open(tmp_path / "out.mov") as container:
        assert container.streams.video[0].codec_context.name == "prores"


def test_twelve_bits_stay_twelve_in_hevc_and_become_ten_in_h264(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = encode_planes(
        tmp_path / "in.mkv",
        moving("yuv422p12le", 3),
        "yuv422p12le",
        "libx265",
        {"x265-params": X265},
    )
    interpolate_video(source, tmp_path / "out.mp4", linear, 2, settings("hevc"))
    assert decode(tmp_path / "out.mp4")[1].format.name == "yuv422p12le"
    assert "bits become" not in capsys.readouterr().err
    interpolate_video(source, tmp_path / "out.mkv", linear, 2, settings("h264"))
    assert decode(tmp_path / "out.mkv")[1].format.name == "yuv422p10le"
    assert "12 bits become 10" in capsys.readouterr().err


def assert_own_frames_are_kept(pictures: list[Any], found: list[av.VideoFrame]) -> None:
    """Every other frame has the very levels of the source's."""
    for picture, frame in zip(pictures, found[::2], strict=True):
        for plane, kept in zip(picture, planes(frame), strict=True):
            np.testing.assert_array_equal(plane, kept)


def test_twelve_bits_stay_exactly_as_they_are_in_ffv1(tmp_path: Path) -> None:
    pictures = moving("yuv422p12le", 3)
    source = encode_planes(tmp_path / "in.mkv", pictures, "yuv422p12le")
    interpolate_video(source, tmp_path / "out.mkv", linear, 2, settings("ffv1"))
    found = decode(tmp_path / "out.mkv")
    assert {frame.format.name for frame in found} == {"yuv422p12le"}
    assert_own_frames_are_kept(pictures, found)
    near(planes(found[1])[:1], [(pictures[0][0].astype(float) + pictures[1][0]) / 2], 0.6)


@pytest.mark.skipif(FFMPEG is None, reason="no program ffmpeg: PyAV's VP9 encoder has 8 bits only")
def test_ten_bit_vp9_is_read_with_ten_and_written_by_codecs_that_have_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = moving("yuv420p10le", 3)
    made = encode_planes(tmp_path / "made.mkv", pictures, "yuv420p10le")
    source = tmp_path / "in.webm"
    words = ["-c:v", "libvpx-vp9", "-profile:v", "2", "-lossless", "1", str(source)]
    subprocess.run([str(FFMPEG), "-v", "error", "-i", str(made), *words], check=True, timeout=60)
    assert decode(source)[0].format.name == "yuv420p10le"
    interpolate_video(source, tmp_path / "out.mkv", linear, 2, settings("ffv1"))
    found = decode(tmp_path / "out.mkv")
    assert {frame.format.name for frame in found} == {"yuv420p10le"}
    assert_own_frames_are_kept(pictures, found)
    capsys.readouterr()
    interpolate_video(source, tmp_path / "out.mp4", linear, 2, settings("hevc"))
    assert decode(tmp_path / "out.mp4")[1].format.name == "yuv420p10le"
    assert "bits become" not in capsys.readouterr().err
    interpolate_video(source, tmp_path / "out.webm", linear, 2, settings("vp9"))
    assert "out.webm: 10 bits become 8" in capsys.readouterr().err


def test_ten_bit_av1_is_read_and_written_with_ten(tmp_path: Path) -> None:
    source = encode_planes(
        tmp_path / "in.mp4", moving("yuv420p10le", 3), "yuv420p10le", "libsvtav1", {"preset": "12"}
    )
    interpolate_video(source, tmp_path / "out.mkv", linear, 2, settings("ffv1"))
    found = decode(tmp_path / "out.mkv")
    assert found[1].format.name == "yuv420p10le"
    for plane, kept in zip(planes(decode(source)[1]), planes(found[2]), strict=True):
        np.testing.assert_array_equal(plane, kept)


def test_vp9_keeps_its_opacity_and_h264_names_its_loss(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = moving("yuva420p", 4)
    options = {"auto-alt-ref": "0", "crf": "4", "b": "0", "cpu-used": "5"}
    source = encode_planes(tmp_path / "in.webm", pictures, "yuva420p", "libvpx-vp9", options)
    interpolate_video(source, tmp_path / "out.webm", linear, 2, settings("vp9"))
    assert "opacity" not in capsys.readouterr().err
    with closing(VideoSource(tmp_path / "out.webm")) as video:
        assert video.properties.layout.alpha
        found = [planes(frame)[3] for frame in video.read()]
    assert len(found) == 7
    near(found[::2], [picture[3] for picture in pictures], 3)
    near(
        found[1::2],
        [(a.astype(float) + b[3]) / 2 for a, b in zip(found[::2], pictures[1:], strict=False)],
        3,
    )
    for codec in ("h264", "vp9"):
        interpolate_video(source, tmp_path / "out.mp4", linear, 2, settings(codec))
        assert "out.mp4: opacity is dropped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("codec", "chroma"), [("vp9", "4:2:0"), ("prores", "4:4:4"), ("ffv1", "4:4:4")]
)
def test_opacity_is_kept_in_matroska_too(codec: str, chroma: str, tmp_path: Path) -> None:
    pictures = moving("yuva444p", 2)
    source = encode_planes(tmp_path / "in.mkv", pictures, "yuva444p")
    interpolate_video(source, tmp_path / "out.mkv", linear, 2, settings(codec))
    with closing(VideoSource(tmp_path / "out.mkv")) as video:
        layout, frames = video.properties.layout, list(video.read())
    assert layout.alpha
    assert layout.chroma == chroma
    share = planes_of(frames[2], layout)[3].astype(float) / layout.peak
    near([share], [pictures[1][3] / 255], 0.02)


def test_prores_4444_keeps_opacity(tmp_path: Path) -> None:
    pictures = moving("yuva444p10le", 3)
    source = encode_planes(
        tmp_path / "in.mov", pictures, "yuva444p10le", "prores_ks", {"profile": "4"}
    )
    interpolate_video(source, tmp_path / "out.mov", linear, 2, settings("prores"))
    found = decode(tmp_path / "out.mov")
    assert layout_of(found[1].format).alpha
    near([planes(found[1])[3] / 4095], [(pictures[0][3] / 1023 + pictures[1][3] / 1023) / 2], 0.01)


def test_full_range_bt601_stays_full(tmp_path: Path) -> None:
    tags = {"colorspace": 5, "color_range": 2, "color_primaries": 5, "color_trc": 6}
    pictures = moving("yuv420p", 3, full=True)
    source = encode_planes(
        tmp_path / "in.mp4", pictures, "yuv420p", "libx264", {"crf": "4", "threads": "1"}, **tags
    )
    interpolate_video(source, tmp_path / "out.mp4", linear, 2, settings("h264"))
    found = decode(tmp_path / "out.mp4")
    assert colours(found[1]) == tags
    near(planes(found[2]), planes(decode(source)[1]), 1.5)


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_an_odd_size_stays_odd_in_444(codec: str, tmp_path: Path) -> None:
    source = encode_planes(tmp_path / "in.mkv", moving("yuv444p", 3, (47, 63)), "yuv444p")
    interpolate_video(source, tmp_path / "out.mkv", linear, 2, settings(codec))
    found = decode(tmp_path / "out.mkv")
    assert {(f.format.name, f.width, f.height) for f in found} == {("yuv444p", 63, 47)}


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
def test_a_rotation_is_kept_and_said(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = encode_planes(
        tmp_path / "in.mp4", moving("yuv420p", 3), "yuv420p", "libx264", rotation=90
    )
    target = tmp_path / f"out.{suffix}"
    interpolate_video(source, target, linear, 2, settings("h264"))
    assert decode(target)[0].rotation == 90
    assert "turned by its player" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("codec", "suffix", "kept"),
    [("h264", "mp4", True), ("h264", "mkv", True), ("hevc", "mov", True), ("prores", "mov", True),
     ("av1", "mp4", True), ("av1", "mkv", False), ("vp9", "webm", False), ("ffv1", "mkv", False)],
)  # fmt: skip
def test_anamorphic_pixels_keep_their_shape_or_it_is_named(
    codec: str, suffix: str, kept: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = Fraction(64, 45)
    source = encode_planes(
        tmp_path / "in.mp4", moving("yuv420p", 2), "yuv420p", "libx264", sample_aspect_ratio=shape
    )
    target = tmp_path / f"out.{suffix}"
    interpolate_video(source, target, linear, 2, settings(codec))
    with av.open(target) as container:
        assert (container.streams.video[0].sample_aspect_ratio == shape) == kept
    assert ("not kept: the shape of its pixels, 64:45" in capsys.readouterr().err) != kept


def test_a_gif_becomes_a_video_that_all_players_show(bikes: Frame, tmp_path: Path) -> None:
    with av.open(tmp_path / "in.gif", "w") as container:
        stream: Any = container.add_stream("gif", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb8"
        for rgb in bikes[:4, :48, :64]:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="rgb8")))
        container.mux(stream.encode(None))
    interpolate_video(tmp_path / "in.gif", tmp_path / "out.mp4", linear, 2, settings("h264"))
    found = decode(tmp_path / "out.mp4")
    assert [frame.time for frame in found] == pytest.approx([0.05 * k for k in range(7)])
    assert {frame.format.name for frame in found} == {"yuv420p"}
    near([to_rgb(found[2])], [to_rgb(decode(tmp_path / "in.gif")[1])], 12)


def test_a_gif_keeps_its_transparency_where_the_codec_can(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A red square that moves over nothing, four pixels a frame."""
    pictures = []
    for number in range(3):
        rgba = np.zeros((48, 64, 4), np.uint8)
        rgba[16:32, 8 + 4 * number : 24 + 4 * number] = 255, 0, 0, 255
        pictures.append(Image.fromarray(rgba))
    pictures[0].save(
        tmp_path / "in.gif", save_all=True, append_images=pictures[1:], duration=100, disposal=2
    )
    for codec, suffix in (("ffv1", "mkv"), ("vp9", "webm")):
        interpolate_video(
            tmp_path / "in.gif", tmp_path / f"out.{suffix}", linear, 2, settings(codec)
        )
        with closing(VideoSource(tmp_path / f"out.{suffix}")) as video:
            layout, found = video.properties.layout, list(video.read())
        assert layout.alpha
        opacity = [planes_of(frame, layout)[3].astype(float) / layout.peak for frame in found]
        assert len(opacity) == 5
        for number in range(3):
            near([opacity[2 * number]], [np.asarray(pictures[number])[:, :, 3] / 255], 0.02)
    assert "opacity" not in capsys.readouterr().err
    interpolate_video(tmp_path / "in.gif", tmp_path / "out.mp4", linear, 2, settings("h264"))
    assert "out.mp4: opacity is dropped" in capsys.readouterr().err


def test_two_frames_become_three_and_one_is_refused(tmp_path: Path) -> None:
    for count in (1, 2):
        source = encode_planes(tmp_path / f"{count}.mkv", moving("yuv420p", count), "yuv420p")
        if count == 1:
            with pytest.raises(MidframeError, match="has one frame, but two are needed"):
                interpolate_video(source, tmp_path / "one.mp4", linear)
        else:
            said = interpolate_video(source, tmp_path / "two.mp4", linear)
            assert said.endswith("two.mp4: 3 frames from the 2 of " + str(source))
    assert len(decode(tmp_path / "two.mp4")) == 3


def test_frames_that_change_their_size_are_one_clear_line(bikes: Frame, tmp_path: Path) -> None:
    parts = [
        encode(tmp_path / f"{rows}.mkv", list(bikes[:3, :rows, :96]), codec="mpeg2video")
        for rows in (48, 64)
    ]
    with av.open(tmp_path / "in.ts", "w") as target:
        with av.open(parts[0]) as first:
            stream = target.add_stream_from_template(first.streams.video[0], opaque=True)
        shift = 0
        for part in parts:
            with av.open(part) as source:
                for packet in source.demux(video=0):
                    if packet.dts is not None and packet.pts is not None:
                        packet.stream = stream
                        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                        target.mux(packet)
            shift += 200
    with pytest.raises(MidframeError, match="frames change from 96x48 to 96x64; split the video"):
        interpolate_video(tmp_path / "in.ts", tmp_path / "out.mp4", linear)
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize(
    ("codec", "source", "kept"),
    [
        ("h264", Layout("yuv", 10, 0, 0), "yuv444p10le"),
        ("hevc", Layout("yuv", 16, 0, 0), "yuv444p12le"),
        ("av1", Layout("yuv", 12, 1, 0), "yuv420p10le"),
        ("vp9", Layout("yuv", 8, 0, 0, alpha=True), "yuva420p"),
        ("prores", Layout("yuv", 8, 1, 1), "yuv422p10le"),
        ("prores", Layout("rgb", 16, full=True), "yuv444p10le"),
        ("ffv1", Layout("rgb", 16, full=True, alpha=True), "gbrap16le"),
        ("ffv1", Layout("gray", 16, full=True), "gray16le"),
        ("h264", Layout("gray", 8, full=True), "yuv420p"),
    ],
)
def test_each_codec_keeps_what_its_encoder_can(codec: str, source: Layout, kept: str) -> None:
    made = choose_format(settings(codec), CODECS[codec].suffixes[0], source, 64, 48)
    assert made.layout.name == kept
    assert bool(made.changes) == (
        made.layout.bits < source.bits
        or made.layout.alpha < source.alpha
        or (source.family != "gray" and made.layout.chroma != source.chroma)
    )


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [(codec, suffix) for codec, known in CODECS.items() for suffix in known.suffixes],
)
def test_each_codec_is_written_into_each_container_that_it_names(
    codec: str, suffix: str, tmp_path: Path
) -> None:
    source = encode_planes(
        tmp_path / "in.mkv", moving("yuv420p", 2), "yuv420p", colorspace=1, color_range=1
    )
    target = tmp_path / f"out{suffix}"
    interpolate_video(source, target, linear, 2, settings(codec))
    with av.open(target) as container:
        assert container.streams.video[0].codec_context.codec.canonical_name == codec
        assert container.duration == pytest.approx(80_000, abs=1000)
        times = [frame.time for frame in container.decode(video=0)]
    assert times == pytest.approx([0, 0.02, 0.04], abs=0.001)


def test_an_encoder_of_missing_hardware_is_one_clear_line(tmp_path: Path) -> None:
    source = encode_planes(tmp_path / "in.mkv", moving("yuv420p", 2), "yuv420p")
    # This one is in no build of FFmpeg but those for Apple's machines.
    with pytest.raises(MidframeError, match="hevc_videotoolbox: this FFmpeg has no encoder"):
        interpolate_video(source, tmp_path / "out.mp4", linear, 2, settings("hevc_videotoolbox"))
    assert list(tmp_path.iterdir()) == [source]
