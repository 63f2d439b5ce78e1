"""Frames come in order, exactly, from folders of images and from videos; bad ones are named."""

import os
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.errors import MidframeError
from pipeline.frames.decoding import BadFrameError
from pipeline.frames.discovery import find_sequences
from pipeline.frames.losses import read_remaining
from pipeline.frames.sequences import (
    BadFrames,
    FrameSequence,
    check_sequence,
    open_frames,
    select,
    sequence_digest,
    triplet_starts,
)
from tests.conftest import write_images


def test_a_clip_is_described_by_its_size_length_and_rate(bikes_clip: FrameSequence) -> None:
    assert (bikes_clip.width, bikes_clip.height, bikes_clip.frame_count) == (640, 272, 250)
    assert bikes_clip.fps == 25


@pytest.mark.parametrize("start", [1, 11, 12, 13, 75, 248])
def test_reading_from_the_middle_gives_the_frames_of_reading_from_the_start(
    bikes_clip: FrameSequence, start: int
) -> None:
    wanted = list(bikes_clip.read(0, start + 2))[start:]
    np.testing.assert_array_equal(list(bikes_clip.read(start, start + 2)), wanted)


def test_a_range_past_the_end_stops_at_the_end(bikes_clip: FrameSequence) -> None:
    assert len(list(bikes_clip.read(245, 999))) == 5
    assert list(bikes_clip.read(250)) == []


def test_images_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    frames = [np.full((8, 8, 3), value, np.uint8) for value in (10, 20, 30, 40)]
    write_images(tmp_path / "a", frames)
    (sequence,) = open_frames(tmp_path)
    assert [int(frame[0, 0, 0]) for frame in sequence.read(1, 3)] == [20, 30]
    assert sequence.fps is None


def test_sequences_are_found_in_nested_folders_and_beside_videos(
    tmp_path: Path, clips: Path
) -> None:
    (tmp_path / "video.mp4").symlink_to(clips / "bikes.mp4")
    frames = [np.zeros((8, 8, 3), np.uint8)] * 3
    write_images(tmp_path / "x" / "one", frames)
    write_images(tmp_path / "x" / ".hidden", frames)
    (tmp_path / "notes.txt").write_text("not a sequence")
    assert [name for name, _ in find_sequences(tmp_path)] == ["video", "x/one"]


def test_sequences_of_one_name_are_told_apart_by_their_suffix(tmp_path: Path) -> None:
    write_images(tmp_path / "a", [np.zeros((8, 8, 3), np.uint8)] * 3)
    for name in ("a.mp4", "b.mp4", "c.mp4", "c.avi"):
        (tmp_path / name).touch()
    names = [name for name, _ in find_sequences(tmp_path)]
    assert names == ["a", "a.mp4", "b", "c.avi", "c.mp4"]


def test_numbers_in_names_of_images_count_by_value(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    for number in range(1, 13):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")
    assert [int(frame[0, 0, 0]) for frame in check_sequence("a", folder).read()] == [*range(1, 13)]


def test_no_triplet_lies_across_a_gap_in_the_numbers(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "a", [flat()] * 10)
    (folder / "00005.png").unlink()
    sequence = check_sequence("a", folder)
    assert [(run.first, run.last) for run in sequence.bad] == [(5, 5)]
    assert "no image between 00004.png and 00006.png" in sequence.bad[0].reason
    assert triplet_starts(sequence, 1) == [0, 1, 2, 6, 7]
    assert len(list(sequence.read(6, 10))) == 4


def test_images_of_every_tenth_frame_are_neighbours(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    for number in range(0, 60, 10):
        Image.new("RGB", (8, 8)).save(folder / f"frame{number}.png")
    assert not check_sequence("a", folder).bad


def test_linked_folders_and_files_are_followed_but_not_in_circles(
    tmp_path: Path, clips: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    write_images(elsewhere / "images", [flat()] * 3)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "linked").symlink_to(elsewhere)
    (mine / "bikes.mp4").symlink_to(clips / "bikes.mp4")
    (mine / "again").symlink_to(elsewhere)
    (mine / "circle").symlink_to(mine)
    names = [name for name, _ in find_sequences(mine)]
    assert names == ["again/images", "bikes", "linked/images"]


def test_a_name_that_is_not_utf8_is_written_as_text(tmp_path: Path, clips: Path) -> None:
    shutil.copy(clips / "carphone_pristine.mp4", os.fsencode(tmp_path) + b"/caf\xe9.mp4")
    (sequence,) = open_frames(tmp_path)
    assert sequence.name == "caf%E9"
    assert len(list(sequence.read(3, 5))) == 2


def test_a_missing_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(MidframeError, match=r"nowhere: no such folder"):
        open_frames(tmp_path / "nowhere")
    with pytest.raises(MidframeError, match="holds neither videos .* nor folders of images"):
        open_frames(tmp_path)


def test_a_text_file_named_mp4_is_not_a_readable_video(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("not a video\n" * 100)
    with pytest.raises(BadFrameError, match=r"a\.mp4: not a readable video \("):
        open_frames(tmp_path)


def test_a_video_without_pictures_is_refused(tmp_path: Path) -> None:
    with av.open(tmp_path / "sound.mp4", "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(BadFrameError, match="has no video stream"):
        check_sequence("sound", tmp_path / "sound.mp4")


def test_two_frames_are_too_few(tmp_path: Path) -> None:
    write_images(tmp_path / "a", [np.zeros((8, 8, 3), np.uint8)] * 2)
    with pytest.raises(BadFrameError, match="has 2 frames, but a triplet needs 3"):
        open_frames(tmp_path)


def test_a_truncated_image_is_named(tmp_path: Path, bikes_clip: FrameSequence) -> None:
    folder = write_images(tmp_path / "a", list(bikes_clip.read(0, 3)))
    Image.fromarray(next(bikes_clip.read())).save(folder / "00001.jpg")
    file = folder / "00001.jpg"
    file.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(BadFrameError, match=r"00001\.jpg: not a readable image \(.*truncated"):
        open_frames(tmp_path)


def test_frames_of_another_size_than_most_are_named(tmp_path: Path) -> None:
    frames = [np.zeros((8, 9, 3), np.uint8)] + [np.zeros((8, 8, 3), np.uint8)] * 3
    write_images(tmp_path / "a", frames)
    with pytest.raises(BadFrameError, match=r"00000\.png: is 9x8, but most .* is 8x8; fix it"):
        open_frames(tmp_path)


@pytest.mark.parametrize(("mode", "said"), [("RGBA", "colour mode RGBA"), ("I;16", "I;16")])
def test_a_colour_mode_that_needs_a_choice_is_refused(tmp_path: Path, mode: str, said: str) -> None:
    (tmp_path / "a").mkdir()
    for index in range(3):
        Image.new(mode, (8, 8)).save(tmp_path / "a" / f"{index}.png")
    with pytest.raises(BadFrameError, match=said):
        open_frames(tmp_path)


def test_a_change_of_colour_mode_is_named(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "a", [np.zeros((8, 8, 3), np.uint8)] * 3)
    Image.new("L", (8, 8)).save(folder / "00003.png")
    with pytest.raises(BadFrameError, match=r"00003\.png: colour mode L, but most .* is RGB"):
        open_frames(tmp_path)


def test_a_video_that_was_cut_short_since_it_was_described_is_noticed(
    bikes_clip: FrameSequence,
) -> None:
    longer = FrameSequence("bikes", bikes_clip.path, 260, 272, 640)
    with pytest.raises(BadFrameError, match="has the file changed"):
        list(longer.read(240))


def flat(size: int = 8) -> np.ndarray:
    return np.zeros((size, size, 3), np.uint8)


def test_bad_frames_are_found_wherever_they_lie_and_no_triplet_holds_one(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "a", [flat()] * 5 + [flat(9)] * 2 + [flat()] * 7)
    (folder / "00003.png").write_text("not an image")
    sequence = check_sequence("a", folder)
    assert [(run.first, run.last) for run in sequence.bad] == [(3, 3), (5, 6)]
    assert (
        "00005.png to 00006.png: is 9x9, but most of the sequence is 8x8" in sequence.bad[1].reason
    )
    assert triplet_starts(sequence, 1) == [0, 7, 8, 9, 10, 11]
    assert triplet_starts(sequence, 3) == [0, 9]
    assert [index for index, _ in read_remaining(sequence, 2, 9, [])] == [2, 4, 7, 8]


@pytest.fixture
def packets_of_bikes(bikes_clip: FrameSequence) -> list[tuple[int, int]]:
    """Place and size in the file of each packet, in the order of decoding."""
    with av.open(bikes_clip.path) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        return [(packet.pos or 0, packet.size) for packet in packets]


def test_frames_after_an_undecodable_packet_are_bad_up_to_the_next_key_frame(
    bikes_clip: FrameSequence, packets_of_bikes: list[tuple[int, int]], tmp_path: Path
) -> None:
    data = bytearray(bikes_clip.path.read_bytes())
    place, size = packets_of_bikes[100]  # key frames: 76, 137
    data[place : place + size] = bytes(size)
    (tmp_path / "bikes.mp4").write_bytes(data)
    with pytest.raises(BadFrameError, match=r"bikes\.mp4: frames? \d+.*: .*decoded; fix it"):
        open_frames(tmp_path)
    sequence = check_sequence("bikes", tmp_path / "bikes.mp4")
    bad = {index for run in sequence.bad for index in range(run.first, run.last + 1)}
    assert sequence.frame_count == 250
    assert min(bad) in range(98, 102)
    assert bad <= set(range(98, 137))
    assert set(range(105, 137)) <= bad
    for index, frame in read_remaining(sequence, 90, 145, []):
        (wanted,) = bikes_clip.read(index, index + 1)
        np.testing.assert_array_equal(frame, wanted)


def copy_video(source: Path, to: Path, **options: str) -> None:
    with av.open(source) as container, av.open(str(to), "w", options=options) as copy:
        stream = copy.add_stream_from_template(container.streams.video[0])
        for packet in container.demux(video=0):
            if packet.size:
                packet.stream = stream
                copy.mux(packet)


@pytest.mark.parametrize(("suffix", "announced"), [(".mp4", 250), (".mkv", None)])
def test_a_video_that_is_cut_short_is_used_as_far_as_it_goes(
    bikes_clip: FrameSequence, tmp_path: Path, suffix: str, announced: int | None
) -> None:
    whole, cut = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    copy_video(bikes_clip.path, whole, **({"movflags": "faststart"} if announced else {}))
    assert not check_sequence("whole", whole).bad
    data = whole.read_bytes()
    cut.write_bytes(data[: len(data) * 6 // 10])
    whole.unlink()
    with pytest.raises(BadFrameError, match=rf"cut\{suffix}: frame"):
        open_frames(tmp_path)
    sequence = check_sequence("cut", cut)
    # Matroska does not say how many frames a video has.
    assert sequence.bad[-1].last == (announced or sequence.frame_count + 1) - 1
    assert "cut short" in sequence.bad[-1].reason
    last = triplet_starts(sequence)[-1]
    assert 130 < last < 145
    np.testing.assert_array_equal(
        list(sequence.read(last, last + 3)), list(bikes_clip.read(last, last + 3))
    )


@given(
    count=st.integers(3, 60),
    bad=st.sets(st.integers(0, 59)),
    span=st.tuples(st.integers(0, 60), st.integers(0, 60)),
    stride=st.integers(1, 4),
)
def test_good_runs_and_triplets_hold_every_good_frame_and_no_bad_one(
    count: int, bad: set[int], span: tuple[int, int], stride: int
) -> None:
    runs = tuple(BadFrames(frame, frame, "") for frame in sorted(bad) if frame < count)
    sequence = FrameSequence("a", Path("a"), count, 8, 8, None, runs)
    good = [i for first, last in sequence.good_runs(*span) for i in range(first, last)]
    assert good == [i for i in range(span[0], min(span[1], count)) if i not in bad]
    assert triplet_starts(sequence, stride) == [
        start for start in range(0, count - 2, stride) if not bad & {start, start + 1, start + 2}
    ]


def test_the_digest_changes_with_any_image(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "a", [np.zeros((8, 8, 3), np.uint8)] * 3)
    before = sequence_digest(folder)
    Image.new("RGB", (8, 8), "red").save(folder / "00002.png")
    assert sequence_digest(folder) != before


def test_a_pattern_that_matches_nothing_lists_the_names(dataset: Path) -> None:
    with pytest.raises(MidframeError, match="no sequence matches 'rides'; there are: cut, ride"):
        select([one.name for one in open_frames(dataset)], ["rides"])


@given(
    frames=st.integers(3, 400),
    stride=st.integers(1, 7),
    edges=st.lists(st.floats(0, 1), min_size=3, max_size=3),
)
def test_parts_that_do_not_overlap_share_no_frame(
    frames: int, stride: int, edges: list[float]
) -> None:
    sequence = FrameSequence("a", Path("a"), frames, 8, 8)
    low, middle, high = sorted(edges)
    one = triplet_starts(sequence, stride, (low, middle))
    other = triplet_starts(sequence, stride, (middle, high))
    assert not {f + i for f in one for i in range(3)} & {f + i for f in other for i in range(3)}
    assert set(one) | set(other) <= set(triplet_starts(sequence, stride))
    assert all(0 <= first <= frames - 3 for first in [*one, *other])


def test_triplets_of_stride_3_share_no_frame() -> None:
    assert triplet_starts(FrameSequence("a", Path("a"), 11, 8, 8)) == [0, 3, 6]


def test_a_live_video_that_does_not_tell_its_length_is_whole(
    bikes_clip: FrameSequence, tmp_path: Path
) -> None:
    copy_video(bikes_clip.path, tmp_path / "live.mkv", live="1")
    sequence = check_sequence("live", tmp_path / "live.mkv")
    assert sequence.frame_count == 250
    assert not sequence.bad
