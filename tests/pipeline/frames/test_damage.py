"""What is missing or damaged in a video is noticed, and what only looks so is not."""

import random
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.frames.decoding import BadFrameError
from pipeline.frames.sequences import check_sequence, skipped_frames
from pipeline.frames.video_index import VideoIndex
from pipeline.settings import DatasetSettings
from pipeline.sources.datasets import fetch
from tests.pipeline.frames.made_files import KINDS, ffmpeg, needs_ffmpeg


def copy_packets(source: Path, to: Path, change: Callable[[int, bytes], bytes | None]) -> Path:
    """Copy a video, each packet as ``change`` makes it of its number and content, or not at all."""
    with av.open(source) as container, av.open(to, "w") as copy:
        stream = copy.add_stream_from_template(container.streams.video[0])
        for number, packet in enumerate(container.demux(video=0)):
            content = change(number, bytes(packet)) if packet.size else None
            if content is None:
                continue
            changed = av.Packet(content)
            changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
            changed.is_keyframe, changed.stream = packet.is_keyframe, stream
            copy.mux(changed)
    return to


def pictures(path: Path) -> dict[float, bytes]:
    """The good frames of a video by the time at which they are shown, in seconds from the first."""
    sequence = check_sequence("a", path)
    return {
        round(sequence.seconds[number], 2): next(sequence.read(number, number + 1)).tobytes()
        for first, last in sequence.good_runs()
        for number in range(first, last)
    }


@needs_ffmpeg
def test_a_frame_that_a_decoder_leaves_out_without_a_word_is_bad(
    make: Callable[..., Path], tmp_path: Path
) -> None:
    """Pictures of HEVC whose references are gone are neither shown nor told of."""
    whole = make("hevc-open.mkv", KINDS["hevc-open.mkv"])
    holed = copy_packets(
        whole, tmp_path / "holed.mkv", lambda number, data: None if number % 9 == 5 else data
    )
    sequence = check_sequence("a", holed)
    with av.open(holed) as container:
        assert sequence.frame_count == sum(packet.size > 0 for packet in container.demux(video=0))
    assert sequence.bad
    wanted = pictures(whole)
    for time, picture in pictures(holed).items():
        assert picture == wanted[time]


@needs_ffmpeg
@pytest.mark.parametrize("seed", [0, 8, 10])
def test_damage_is_noticed_as_on_one_core_on_any_number_of_them(
    make: Callable[..., Path], tmp_path: Path, seed: int
) -> None:
    """On several threads FFmpeg lets more damaged pictures of H.264 pass for whole ones."""
    chance = random.Random(seed)

    def change(number: int, data: bytes) -> bytes:
        damaged = bytearray(data)
        for _ in range(4 if number % 7 == 3 else 0):
            damaged[chance.randrange(len(data) // 3, len(data))] ^= 1 << chance.randrange(8)
        return bytes(damaged)

    whole = make("closed.mp4", KINDS["closed.mp4"])
    damaged = copy_packets(whole, tmp_path / "damaged.mp4", change)
    noticed: set[int] = set()
    with av.open(damaged) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for number, packet in enumerate(container.demux(stream)):
            packet.pts = number
            try:
                noticed |= {frame.pts for frame in packet.decode() if frame.is_corrupt}
            except av.error.InvalidDataError:
                noticed.add(number)
    sequence = check_sequence("a", damaged)
    index = sequence.frame_index()
    assert isinstance(index, VideoIndex)
    good = {index.packet[one] for first, last in sequence.good_runs() for one in range(first, last)}
    assert noticed
    assert not noticed & good


@needs_ffmpeg
def test_what_comes_before_the_first_key_frame_is_no_damage(
    make: Callable[..., Path], tmp_path: Path
) -> None:
    whole = make("h264.m2ts", KINDS["h264.m2ts"])
    late = copy_packets(
        whole, tmp_path / "late.ts", lambda number, data: data if number >= 5 else None
    )
    sequence = check_sequence("a", late)
    assert not sequence.bad
    wanted = list(check_sequence("b", whole).read())[-sequence.frame_count :]
    assert 20 < sequence.frame_count < 35
    for number, frame in enumerate(sequence.read()):
        np.testing.assert_array_equal(frame, wanted[number])


@needs_ffmpeg
def test_avi_with_empty_places_is_whole_and_its_frames_have_their_times(
    make: Callable[..., Path], tmp_path: Path
) -> None:
    slow = "-c:v mpeg4 -g 12 -vf setpts=2*N/25/TB -r 25 -fps_mode passthrough"
    whole = make("places.avi", slow)
    sequence = check_sequence("a", whole)
    assert (sequence.frame_count, sequence.bad) == (40, ())
    np.testing.assert_allclose(sequence.seconds, np.arange(40) * 0.08)
    data = whole.read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: len(data) // 2])
    cut = check_sequence("a", tmp_path / "cut.avi")
    assert "missing: the file is cut short" in cut.bad[-1].reason
    assert cut.bad[-1].first < 40 <= cut.bad[-1].last


@needs_ffmpeg
def test_frames_of_avi_that_are_stored_out_of_order_have_their_times(tmp_path: Path) -> None:
    """Its packets say when they are decoded, not when their pictures are shown."""
    film = "testsrc2=size=64x48:rate=25:duration=1"
    codec = ["-c:v", "libx264", "-bf", "2", "-r", "25", "-fps_mode", "passthrough"]
    ffmpeg("-f", "lavfi", "-i", film, "-vf", "setpts=2*N/25/TB", *codec, tmp_path / "a.avi")
    sequence = check_sequence("a", tmp_path / "a.avi")
    np.testing.assert_allclose(sequence.seconds, np.arange(25) * 0.08)


@needs_ffmpeg
def test_what_a_transport_stream_has_lost_is_noticed_and_joined_files_are_whole(
    make: Callable[..., Path], tmp_path: Path
) -> None:
    whole = make("joined.ts", "-c:v libx264 -bf 0 -g 20 -sc_threshold 0")
    data = whole.read_bytes()
    (tmp_path / "twice.ts").write_bytes(data + data)
    joined = check_sequence("a", tmp_path / "twice.ts")
    assert (joined.frame_count, joined.bad) == (80, ())
    packets = check_sequence("a", whole).frame_index()
    assert isinstance(packets, VideoIndex)
    place = int(packets.position[24]) // 188 * 188
    after = int(packets.position[26]) // 188 * 188
    (tmp_path / "lost.ts").write_bytes(data[:place] + data[after:])
    lost = check_sequence("a", tmp_path / "lost.ts")
    assert lost.bad
    wanted = set(packets.checksum.tolist())
    index = lost.frame_index()
    assert isinstance(index, VideoIndex)
    for first, last in lost.good_runs():
        assert set(index.checksum[first:last].tolist()) <= wanted


@needs_ffmpeg
def test_a_file_that_cannot_be_read_on_is_used_as_far_as_it_goes(
    make: Callable[..., Path], tmp_path: Path
) -> None:
    whole = make("raw.y4m", KINDS["raw.y4m"])
    data, broken = whole.read_bytes(), tmp_path / "broken.y4m"
    broken.write_bytes(data[: len(data) // 2] + b"something else" + data[len(data) // 2 :])
    sequence = check_sequence("a", broken)
    (bad,) = sequence.bad
    said = f"{broken}: frame {bad.first}: missing: the file cannot be read on ("
    assert bad.reason.startswith(said)
    assert 15 < bad.first < 25
    # The picture at the break is itself of a part of another one.
    wanted = list(check_sequence("b", whole).read(0, bad.first - 1))
    for number in range(bad.first - 1):
        (frame,) = sequence.read(number, number + 1)
        np.testing.assert_array_equal(frame, wanted[number])


@needs_ffmpeg
def test_a_video_of_which_nothing_can_be_decoded_says_so(
    make: Callable[..., Path], tmp_path: Path
) -> None:
    whole = make("closed.mp4", KINDS["closed.mp4"])
    noise = copy_packets(whole, tmp_path / "noise.mp4", lambda _, data: bytes(len(data)))
    with pytest.raises(BadFrameError, match=r"noise\.mp4: none of its 40 frames can be decoded"):
        check_sequence("a", noise)


@needs_ffmpeg
def test_a_video_that_is_damaged_in_many_places_is_named_in_one_line(
    make: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = make("mpeg4.avi", KINDS["mpeg4.avi"])
    mine = tmp_path / "mine"
    mine.mkdir()
    copy_packets(
        whole, mine / "spots.mkv", lambda number, data: data[:9] if number % 12 == 6 else data
    )
    settings = DatasetSettings(source="folder", path=str(mine), on_bad_frame="skip")
    fetch(settings, tmp_path / "out", workers=0)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "skipped" in line]
    listed = skipped_frames(tmp_path / "out")
    assert len(listed) > 2
    assert line.startswith(f"skipped spots: {mine}/spots.mkv: frame")
    assert line.endswith(f"; and {len(listed) - 1} more, see the manifest")
