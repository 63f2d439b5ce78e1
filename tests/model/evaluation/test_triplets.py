"""Which triplets are measured, how they are read and how they are prepared."""

from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from model.evaluation.triplets import choose_triplets, describe_sources, prepare, read_triplets
from model.settings import EvaluationSettings
from pipeline.errors import MidframeError
from pipeline.frames.sequences import open_frames
from pipeline.selection.sampling import draw_triplets
from pipeline.settings import DatasetSettings
from pipeline.sources.datasets import fetch

Frame = NDArray[np.uint8]


def settings(**values: Any) -> EvaluationSettings:
    return EvaluationSettings.model_validate(values)


def test_a_subset_is_that_which_patches_would_be_taken_from(small_frames: Path) -> None:
    listing = [str(triplet) for triplet in choose_triplets(small_frames, settings(stride=1))]
    assert listing == [f"cut:{i}" for i in range(10)] + [f"ride:{i}" for i in range(4)]
    drawn = choose_triplets(small_frames, settings(stride=1, count=5, seed=42))
    keys = [("cut", i) for i in range(10)] + [("ride", i) for i in range(4)]
    expected = draw_triplets(keys, 5, seed=42)
    assert [(triplet.sequence, triplet.first_frame) for triplet in drawn] == expected


def test_a_part_of_each_sequence_shares_no_frame_with_the_rest(small_frames: Path) -> None:
    early = choose_triplets(small_frames, settings(stride=1, part=(0, 0.5)))
    late = choose_triplets(small_frames, settings(stride=1, part=(0.5, 1)))
    used = [
        {(t.sequence, t.first_frame + k) for t in part for k in range(3)} for part in (early, late)
    ]
    assert used[0].isdisjoint(used[1])
    assert used[0]
    assert used[1]


def test_named_triplets_are_taken_as_they_are(small_frames: Path) -> None:
    chosen = choose_triplets(small_frames, settings(triplets=["ride:3", "cut:7"]))
    assert [str(triplet) for triplet in chosen] == ["cut:7", "ride:3"]


def test_triplets_that_hold_a_bad_frame_are_not_measured(clips: Path, tmp_path: Path) -> None:
    with av.open(clips / "bikes.mp4") as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        place, size = packets[100].pos or 0, packets[100].size  # key frames: 76, 137
    data = bytearray((clips / "bikes.mp4").read_bytes())
    data[place : place + size] = bytes(size)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "bikes.mp4").write_bytes(data)
    dataset = DatasetSettings(source="folder", path=f"{tmp_path}/videos", on_bad_frame="skip")
    fetch(dataset, tmp_path / "frames", workers=0)

    chosen = choose_triplets(tmp_path / "frames", settings(part=(0.36, 0.6)))
    firsts = [triplet.first_frame for triplet in chosen]
    assert firsts == [90, 93, 96, 138, 141, 144, 147]
    (whole,) = open_frames(clips / "bikes.mp4")
    for triplet, frames in read_triplets(chosen):
        first = triplet.first_frame
        np.testing.assert_array_equal(frames, list(whole.read(first, first + 3)))
    with pytest.raises(MidframeError, match="'bikes:110' holds a bad frame"):
        choose_triplets(tmp_path / "frames", settings(triplets=["bikes:110"]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sequences": ["flower*"]}, "no sequence matches 'flower\\*'; there are: cut, ride"),
        ({"count": 100}, "100 triplets are asked for, but there are 6"),
        ({"part": (0.0, 0.1)}, "holds no triplet of 2 sequences"),
        ({"triplets": ["boat:0"]}, "no sequence 'boat'; there are: cut, ride"),
        ({"triplets": ["ride:4"]}, "'ride:4' does not fit in 6 frames"),
        ({"crop": 96}, r"ride: frames are 120x80, smaller than the 96x96"),
    ],
)
def test_what_cannot_be_evaluated_is_one_clear_line(
    values: dict[str, Any], message: str, small_frames: Path
) -> None:
    with pytest.raises(MidframeError, match=message):
        choose_triplets(small_frames, settings(**values))


def test_frames_are_scaled_by_the_named_scaler_and_then_cropped(bikes: Frame) -> None:
    chosen = settings(size=(320, 136), scaler="area", crop=64)
    scaled = cv2.resize(bikes[0], (320, 136), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(prepare(bikes[0], chosen), scaled[36:100, 128:192])


def test_an_odd_margin_is_cropped_as_torchvision_does(bikes: Frame) -> None:
    # CenterCrop(128) of 480x853: rows 176 to 304, columns round(362.5) = 362 to 490.
    frame = np.resize(bikes[0], (480, 853, 3))
    np.testing.assert_array_equal(prepare(frame, settings(crop=128)), frame[176:304, 362:490])


def test_a_video_is_read_like_its_frames(clips: Path) -> None:
    path = clips / "carphone_pristine.mp4"
    triplets = choose_triplets(path, settings(stride=7, part=(0.3, 0.6)))
    (sequence,) = open_frames(path)
    frames = list(sequence.read())
    assert len(triplets) > 3
    for triplet, found in read_triplets(triplets):
        expected = frames[triplet.first_frame : triplet.first_frame + 3]
        np.testing.assert_array_equal(found, expected)


@pytest.fixture
def benchmark(bikes: Frame, tmp_path: Path) -> Path:
    """Two triplets of real frames as folders of three images, of different sizes."""
    for name, frames in (("b/one", bikes[:3, :48, :64]), ("a", bikes[3:6, :32, :40])):
        (tmp_path / name).mkdir(parents=True)
        for index, frame in enumerate(frames):
            Image.fromarray(frame).save(tmp_path / name / f"im{index}.png")
    return tmp_path


def test_a_folder_of_triplets_is_read_in_the_order_of_the_names(
    benchmark: Path, bikes: Frame
) -> None:
    chosen = choose_triplets(benchmark, settings(layout="triplets"))
    assert [str(triplet) for triplet in chosen] == ["a:0", "b/one:0"]
    assert [(triplet.width, triplet.height) for triplet in chosen] == [(40, 32), (64, 48)]
    (_, small), (_, large) = read_triplets(chosen)
    np.testing.assert_array_equal(small, bikes[3:6, :32, :40])
    np.testing.assert_array_equal(large, bikes[:3, :48, :64])


DRAWN = draw_triplets([("a", 0), ("b/one", 0)], 1, seed=0)


def test_a_benchmark_can_be_thinned_by_pattern_name_and_count(benchmark: Path) -> None:
    for values, expected in (
        ({"sequences": ["b/*"]}, ["b/one:0"]),
        ({"triplets": ["a:0"]}, ["a:0"]),
        ({"count": 1, "seed": 0}, [f"{name}:0" for name, _ in DRAWN]),
    ):
        chosen = choose_triplets(benchmark, settings(layout="triplets", **values))
        assert [str(triplet) for triplet in chosen] == expected


def test_a_triplet_of_unequal_sizes_is_one_clear_line(benchmark: Path, bikes: Frame) -> None:
    Image.fromarray(bikes[0, :32, :41]).save(benchmark / "a" / "im2.png")
    with pytest.raises(MidframeError, match=r"im2\.png: is 41x32, but im0\.png is 40x32"):
        choose_triplets(benchmark, settings(layout="triplets"))


def test_a_sixteen_bit_image_is_one_clear_line(benchmark: Path) -> None:
    Image.fromarray(np.zeros((32, 40), np.uint16)).save(benchmark / "a" / "im1.png")
    with pytest.raises(MidframeError, match=r"im1\.png: colour mode I;16"):
        choose_triplets(benchmark, settings(layout="triplets"))


def test_a_file_that_is_no_image_is_one_clear_line(benchmark: Path) -> None:
    (benchmark / "a" / "im0.png").write_text("frame")
    with pytest.raises(MidframeError, match=r"im0\.png: not an image that can be read"):
        choose_triplets(benchmark, settings(layout="triplets"))


def test_grey_images_are_read_as_rgb(benchmark: Path, bikes: Frame) -> None:
    grey = bikes[4, :32, :40, 1]
    Image.fromarray(grey).save(benchmark / "a" / "im1.png")
    (_, frames), _ = read_triplets(choose_triplets(benchmark, settings(layout="triplets")))
    np.testing.assert_array_equal(frames[1], grey[:, :, None].repeat(3, axis=2))


def test_a_benchmark_smaller_than_what_is_measured_is_one_clear_line(benchmark: Path) -> None:
    with pytest.raises(MidframeError, match="a: frames are 40x32, smaller than the 33x33"):
        choose_triplets(benchmark, settings(layout="triplets", crop=33))


def test_a_changed_image_changes_the_digest_of_its_sequence_only(benchmark: Path) -> None:
    before = describe_sources(choose_triplets(benchmark, settings(layout="triplets")))
    path = benchmark / "a" / "im2.png"
    with Image.open(path) as image:
        image.transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(path)
    after = describe_sources(choose_triplets(benchmark, settings(layout="triplets")))
    assert before["a"] != after["a"]
    assert before["b/one"] == after["b/one"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layout": "snu-film"}, "subset: the layout 'snu-film' needs it"),
        ({"subset": "easy"}, "subset: the layout 'snu-film' needs it, and no other takes it"),
        ({"layout": "ucf101", "stride": 1}, "a benchmark names its triplets"),
        ({"part": (0.5, 0.5)}, "two fractions"),
        ({"size": (640, 8)}, "at least 11"),
        ({"triplets": ["boat"]}, "must be 'sequence:first_frame', not 'boat'"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        settings(**values)
