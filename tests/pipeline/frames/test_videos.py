"""Every frame of every kind of file is read as in order, wherever reading starts."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.errors import MidframeError
from pipeline.frames import video
from pipeline.frames.decoding import COLOUR_CONVERSION, BadFrameError, Frame
from pipeline.frames.sequences import check_sequence, open_frames
from pipeline.frames.video_index import VideoIndex
from pipeline.provenance import read_manifest
from pipeline.settings import DatasetSettings
from pipeline.sources.datasets import fetch
from tests.pipeline.frames.made_files import KINDS, ffmpeg, needs_ffmpeg


def decode(path: Path) -> list[Frame]:
    """All pictures of a file as PyAV decodes them one after the other."""
    with av.open(path) as container:
        return [
            frame.to_ndarray(format="rgb24", interpolation=COLOUR_CONVERSION)
            for frame in container.decode(video=0)
        ]


@needs_ffmpeg
@pytest.mark.parametrize(("name", "options"), KINDS.items(), ids=list(KINDS))
def test_a_frame_read_alone_is_the_frame_read_in_order(
    make: Callable[..., Path], name: str, options: str
) -> None:
    path = make(name, options)
    whole = [picture.tobytes() for picture in decode(path)]
    sequence = check_sequence("a", path)
    assert sequence.frame_count == len(whole) >= 38
    assert not sequence.bad
    assert [frame.tobytes() for frame in sequence.read()] == whole
    for start in range(sequence.frame_count):
        (frame,) = sequence.read(start, start + 1)
        assert frame.tobytes() == whole[start], f"frame {start}"
    assert [frame.tobytes() for frame in sequence.read(17, 31)] == whole[17:31]


# Containers without an index of their own are read from the beginning.
SEEKABLE = [name for name in KINDS if not name.startswith(("bare", "intra", "animation"))]


@needs_ffmpeg
@pytest.mark.parametrize("name", SEEKABLE)
def test_reading_at_random_decodes_at_most_one_group_more(
    make: Callable[..., Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(name, KINDS[name])
    sequence = check_sequence("a", path)
    keys = np.flatnonzero(sequence.frame_index().key)
    longest = int(np.diff([*keys, len(sequence.frame_index().key)]).max())
    packets = 0

    def counted(packet: "av.Packet[av.VideoStream]") -> list[av.VideoFrame] | None:
        nonlocal packets
        packets += 1
        return decode_packet(packet)

    decode_packet = video.decode
    monkeypatch.setattr(video, "decode", counted)
    for start in range(sequence.frame_count):
        packets = 0
        list(sequence.read(start, start + 1))
        # Pictures come out some packets late, and B-frames of the next group are shown before it.
        assert packets <= 2 * longest + 8


@needs_ffmpeg
def test_frames_of_periodic_intra_refresh_are_read_well_and_that_is_said_once(
    make: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = make("intra-refresh.mp4", KINDS["intra-refresh.mp4"])
    moved = Path(shutil.copy(path, path.with_name("said-once.mp4")))
    sequence = check_sequence("a", moved)
    for start in (25, 30, 35):
        list(sequence.read(start, start + 2))
    assert capsys.readouterr().err.count("reading from its key frames is inexact") == 1


@needs_ffmpeg
def test_ffmpegs_best_stream_is_read_and_another_one_by_its_number(
    make: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = make("closed.mp4", KINDS["closed.mp4"])
    double = tmp_path / "two.mkv"
    ffmpeg(
        *("-i", clip, "-filter_complex", "[0:v]split[a][b];[a]scale=96:64[s];[b]scale=192:128[l]"),
        *("-map", "[s]", "-map", "[l]", "-c:v", "ffv1", double),
    )
    with av.open(double) as container:
        best = container.streams.best("video")
        assert best is not None
        assert check_sequence("a", double).width == best.width
    assert check_sequence("a", double, stream=0).width == 96
    assert check_sequence("a", double, stream=1).width == 192
    with pytest.raises(BadFrameError, match="stream 7 is not a video; video streams: 0, 1"):
        check_sequence("a", double, stream=7)
    settings = DatasetSettings(source="folder", path=str(tmp_path), stream=0)
    fetch(settings, tmp_path / "out", workers=0)
    assert "two: stream 0 of 2 video streams" in capsys.readouterr().err


@needs_ffmpeg
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.avi"])
def test_tags_in_any_encoding_stop_nothing(
    make: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    clip, tagged = make("closed.mp4", KINDS["closed.mp4"]), tmp_path / name
    title = os.fsdecode(b"title=caf\xe9")  # ISO 8859-1
    ffmpeg("-i", clip, "-c", "copy", "-metadata", title, "-metadata:s:v", title, tagged)
    assert b"caf\xe9" in tagged.read_bytes()
    sequence = check_sequence("a", tagged)
    np.testing.assert_array_equal(list(sequence.read(20, 21)), decode(clip)[20:21])


@needs_ffmpeg
def test_a_picture_that_is_repeated_by_an_empty_packet_is_read_once(
    make: Callable[..., Path], tmp_path: Path
) -> None:
    film = make("repeats.ogv", "-c:v libtheora -g 12 -vf fps=100")
    with av.open(film) as container:
        sizes = [packet.size for packet in container.demux(video=0) if packet.pts is not None]
    shown = tmp_path / "shown.y4m"
    ffmpeg("-i", film, "-fps_mode", "passthrough", shown)
    sequence = check_sequence("a", film)
    assert 0 < sequence.frame_count == len(sizes) - sizes.count(0) < len(sizes)
    wanted = check_sequence("b", shown)
    assert isinstance(sequence.index, VideoIndex)
    assert isinstance(wanted.index, VideoIndex)
    np.testing.assert_array_equal(sequence.index.checksum, wanted.index.checksum)
    whole = list(sequence.read())
    for start in range(sequence.frame_count):
        np.testing.assert_array_equal(
            list(sequence.read(start, start + 3)), whole[start : start + 3]
        )


@needs_ffmpeg
def test_a_cover_picture_is_never_read(make: Callable[..., Path], tmp_path: Path) -> None:
    clip = make("closed.mp4", KINDS["closed.mp4"])
    ffmpeg("-i", clip, "-frames:v", "1", "-s", "640x480", tmp_path / "cover.png")
    both = tmp_path / "both.mp4"
    ffmpeg(
        *("-i", tmp_path / "cover.png", "-i", clip, "-map", "0", "-map", "1", "-c", "copy"),
        *("-disposition:v:0", "attached_pic", both),
    )
    sequence = check_sequence("a", both)
    assert (sequence.width, sequence.frame_count) == (160, 40)
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        "sine=d=1",
        "-i",
        tmp_path / "cover.png",
        "-map",
        "0",
        "-map",
        "1",
        *("-c:v", "copy", "-disposition:v:0", "attached_pic"),
        tmp_path / "song.m4a",
    )
    with pytest.raises(BadFrameError, match="has no video stream"):
        check_sequence("a", tmp_path / "song.m4a")


@needs_ffmpeg
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_rotated_video_is_read_upright(
    make: Callable[..., Path], tmp_path: Path, degrees: int
) -> None:
    clip = make("closed.mp4", KINDS["closed.mp4"])
    turned, shown = tmp_path / "turned.mp4", tmp_path / "shown.mkv"
    ffmpeg("-i", clip, "-c", "copy", "-metadata:s:v", f"rotate={degrees}", turned)
    ffmpeg("-i", turned, "-c:v", "ffv1", "-pix_fmt", "gbrp", shown)  # FFmpeg turns pictures itself
    sequence, wanted = check_sequence("a", turned), check_sequence("a", shown)
    assert (sequence.height, sequence.width) == (wanted.height, wanted.width)
    for ours, theirs in zip(sequence.read(5, 8), wanted.read(5, 8), strict=True):
        assert np.abs(ours.astype(int) - theirs).mean() < 4
        assert np.abs(ours[::-1].astype(int) - theirs).mean() > 8


@pytest.fixture
def woven(make: Callable[..., Path], tmp_path: Path) -> Path:
    """20 interlaced frames: the fields of two neighbouring frames of a clip in each."""
    clip = make("closed.mp4", KINDS["closed.mp4"])
    file = tmp_path / "mine" / "woven.mpg"
    file.parent.mkdir()
    codec = ["-flags", "+ilme+ildct", "-c:v", "mpeg2video", "-q:v", "2", "-bf", "2", "-g", "6"]
    ffmpeg("-i", clip, "-vf", "tinterlace=4", *codec, file)
    return file


@needs_ffmpeg
def test_interlaced_video_is_named_and_what_to_do_about_it(woven: Path) -> None:
    with pytest.raises(BadFrameError, match=r"woven\.mpg: is interlaced, .*bwdif"):
        check_sequence("a", woven)


@needs_ffmpeg
def test_deinterlaced_frames_are_whole_and_the_same_wherever_reading_starts(
    make: Callable[..., Path], woven: Path
) -> None:
    sequence = check_sequence("a", woven, interlaced="deinterlace")
    assert sequence.notes == ("interlaced; deinterlaced by bwdif",)
    frames = list(sequence.read())
    assert len(frames) == sequence.frame_count == 20
    for start in range(20):
        np.testing.assert_array_equal(
            list(sequence.read(start, start + 1)), frames[start : start + 1]
        )
    np.testing.assert_array_equal(list(sequence.part("b", 4, 9).read(1, 5)), frames[5:9])

    def combs(frame: Frame) -> float:
        lines = frame.astype(int)
        return float(np.abs(2 * lines[1:-1] - lines[:-2] - lines[2:]).mean())

    mixed = np.mean([combs(frame) for frame in decode(woven)])
    whole = np.mean([combs(frame) for frame in decode(make("closed.mp4", KINDS["closed.mp4"]))])
    assert np.mean([combs(frame) for frame in frames]) < 1.1 * whole < 0.8 * mixed


@needs_ffmpeg
def test_a_dataset_deinterlaces_or_leaves_out_interlaced_video(
    make: Callable[..., Path], woven: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = woven.parent
    shutil.copy(make("closed.mp4", KINDS["closed.mp4"]), folder / "closed.mp4")

    def names(interlaced: str) -> list[str]:
        settings = {"source": "folder", "path": str(folder), "interlaced": interlaced}
        fetch(DatasetSettings.model_validate(settings), tmp_path / interlaced, workers=0)
        return [one.name for one in open_frames(tmp_path / interlaced)]

    with pytest.raises(MidframeError, match="is interlaced, .*; set interlaced: deinterlace"):
        names("refuse")
    assert names("leave_out") == ["closed"]
    assert f"skipped woven: {folder}/woven.mpg: is interlaced" in capsys.readouterr().err
    (entry,) = read_manifest(tmp_path / "leave_out", "frames", 3)["skipped"]
    assert (entry["sequence"], entry["frames"]) == ("woven", None)
    assert names("deinterlace") == ["closed", "woven"]
    kept = check_sequence("a", woven, interlaced="deinterlace")
    (_, stored) = open_frames(tmp_path / "deinterlace")
    np.testing.assert_array_equal(list(stored.read(7, 10)), list(kept.read())[7:10])


@needs_ffmpeg
def test_ten_bits_are_rounded_to_eight(tmp_path: Path) -> None:
    """Grey of 10 bits, limited range: 64 to 940 stand for 0 to 255."""
    levels = np.arange(64, 944, 4, dtype="<u2")
    raw = np.concatenate([np.tile(levels, (4, 1)).ravel(), np.full(levels.size // 2 * 2 * 2, 512)])
    (tmp_path / "grey.yuv").write_bytes(np.tile(raw.astype("<u2"), 3).tobytes())
    video_file = tmp_path / "grey.mkv"
    ffmpeg(
        *("-f", "rawvideo", "-pix_fmt", "yuv420p10le", "-s", f"{levels.size}x4"),
        *("-i", tmp_path / "grey.yuv", "-c:v", "ffv1", video_file),
    )
    sequence = check_sequence("a", video_file)
    assert sequence.notes == ("10 bits a value, rounded to 8",)
    (frame,) = sequence.read(0, 1)
    exact = (levels - 64.0) / 876 * 255
    assert np.abs(frame[0, :, 1] - exact).max() <= 0.75
    assert abs((frame[0, :, 1] - exact).mean()) < 0.1


@needs_ffmpeg
def test_one_dataset_holds_all_kinds_and_a_message_names_the_users_own_path(
    make: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("closed.mp4", "h264.avi", "mpeg2.ts"):
        shutil.copy(make(name, KINDS[name]), folder / f"clip{Path(name).suffix}")
    (folder / "broken.mp4").write_bytes(b"nothing" * 100)
    (folder / "notes.txt").write_text("not a video")
    fetch(
        DatasetSettings(source="folder", path=str(folder), on_bad_frame="skip"),
        tmp_path / "out",
        workers=0,
    )
    names = [sequence.name for sequence in open_frames(tmp_path / "out")]
    assert names == ["clip.avi", "clip.mp4", "clip.ts"]
    said = capsys.readouterr().err
    assert f"{folder}: skipped 1 files that are neither video nor image: 1 .txt" in said
    assert f"skipped broken: {folder}/broken.mp4: not a readable video" in said
    assert "partial" not in said
