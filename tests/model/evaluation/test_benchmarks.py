"""Each benchmark in the layout in which it is published, with small images."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.evaluation.benchmarks import LAYOUTS, absence, find_triplets
from model.evaluation.evaluate import evaluate, open_evaluation
from model.settings import EvaluationSettings
from pipeline.errors import MidframeError

Frame = NDArray[np.uint8]


def save(frames: Frame, *paths: Path) -> None:
    for frame, path in zip(frames, paths, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame[:24, :32]).save(path)


@pytest.fixture
def middlebury(bikes: Frame, tmp_path: Path) -> Path:
    for index, name in enumerate(("Beanbags", "Walking")):
        data = tmp_path / "other-data" / name
        truth = tmp_path / "other-gt-interp" / name / "frame10i11.png"
        save(bikes[index : index + 3], data / "frame10.png", truth, data / "frame11.png")
    return tmp_path


def test_middlebury_puts_its_truth_in_a_folder_of_its_own(middlebury: Path) -> None:
    first, second = find_triplets(middlebury, "middlebury")
    assert (first.sequence, second.sequence, first.first_frame) == ("Beanbags", "Walking", 10)
    assert [path.relative_to(middlebury).as_posix() for path in second.paths] == [
        "other-data/Walking/frame10.png",
        "other-gt-interp/Walking/frame10i11.png",
        "other-data/Walking/frame11.png",
    ]


def test_middlebury_as_sepconv_slomo_has_it(bikes: Frame, tmp_path: Path) -> None:
    names = ("frame10.png", "frame10i11.png", "frame11.png")
    save(bikes[:3], *(tmp_path / "Urban2" / name for name in names))
    (triplet,) = find_triplets(tmp_path, "middlebury")
    assert [path.name for path in triplet.paths] == list(names)


def test_vimeo_takes_the_triplets_of_its_test_list(bikes: Frame, tmp_path: Path) -> None:
    for name in ("00001/0389", "00001/0402", "00002/0001"):
        save(bikes[:3], *(tmp_path / "sequences" / name / f"im{i}.png" for i in (1, 2, 3)))
    (tmp_path / "tri_testlist.txt").write_text("00001/0402\n00002/0001\n\n")
    triplets = find_triplets(tmp_path, "vimeo-90k")
    assert [triplet.sequence for triplet in triplets] == ["00001/0402", "00002/0001"]
    assert [path.name for path in triplets[0].paths] == ["im1.png", "im2.png", "im3.png"]


def test_ucf101_is_numbered_folders(bikes: Frame, tmp_path: Path) -> None:
    for number in ("1", "11", "2"):
        folder = tmp_path / "ucf101_interp_ours" / number
        names = ("frame_00.png", "frame_01_gt.png", "frame_02.png")
        save(bikes[:3], *(folder / name for name in names))
        save(bikes[:1], folder / "frame_01_ours.png")
    triplets = find_triplets(tmp_path, "ucf101")
    assert [triplet.sequence for triplet in triplets] == ["1", "2", "11"]
    assert triplets[0].paths[1].name == "frame_01_gt.png"


@pytest.mark.parametrize("lists", [".", "eval_modes"])
def test_snu_film_takes_the_list_of_its_subset(lists: str, bikes: Frame, tmp_path: Path) -> None:
    inside = "test/GOPRO_test/GOPR0384_11_00"
    save(bikes[:5], *(tmp_path / inside / f"00000{i}.png" for i in range(1, 6)))
    (tmp_path / lists).mkdir(exist_ok=True)
    for subset, numbers in (("easy", (1, 2, 3)), ("medium", (1, 3, 5))):
        line = " ".join(f"data/SNU-FILM/{inside}/00000{i}.png" for i in numbers)
        (tmp_path / lists / f"test-{subset}.txt").write_text(line + "\n")
    (triplet,) = find_triplets(tmp_path, "snu-film", "medium")
    assert (triplet.sequence, triplet.first_frame) == ("GOPRO_test/GOPR0384_11_00", 1)
    assert [path.name for path in triplet.paths] == ["000001.png", "000003.png", "000005.png"]
    assert all(path.is_file() for path in triplet.paths)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_benchmark_that_is_not_there_says_what_is_needed(layout: str, tmp_path: Path) -> None:
    subset = "easy" if layout == "snu-film" else None
    with pytest.raises(MidframeError, match=r"no such folder; .*(https?://|needed)"):
        find_triplets(tmp_path / "none", layout, subset)
    with pytest.raises(MidframeError, match=r"is empty; .*(https?://|needed)"):
        find_triplets(tmp_path, layout, subset)
    (tmp_path / "readme.txt").write_text("")
    with pytest.raises(MidframeError, match=r"holds no triplet|list of triplets cannot be read"):
        find_triplets(tmp_path, layout, subset)


def test_any_frames_that_are_not_there_are_absent_and_a_video_is_there(
    clips: Path, tmp_path: Path
) -> None:
    assert absence(clips / "bikes.mp4", "sequences") is None
    assert absence(clips, "sequences") is None
    missing = absence(tmp_path / "none", "sequences")
    assert missing is not None
    assert missing.endswith(
        "none: no such folder; a folder of videos or of image folders is needed, or one video"
    )
    assert "is a file, not a folder" in str(absence(clips / "bikes.mp4", "ucf101"))


def test_a_missing_image_of_a_triplet_is_one_clear_line(middlebury: Path) -> None:
    (middlebury / "other-data/Walking/frame11.png").unlink()
    walking = find_triplets(middlebury, "middlebury")[1]
    with pytest.raises(MidframeError, match=r"frame11\.png: is missing, so Walking is no whole"):
        walking.size()


def test_a_folder_with_two_images_is_no_triplet(bikes: Frame, tmp_path: Path) -> None:
    save(bikes[:2], tmp_path / "pair" / "a.png", tmp_path / "pair" / "b.png")
    with pytest.raises(MidframeError, match="pair: holds 2 images, but a triplet is three"):
        find_triplets(tmp_path, "triplets")


def written(layout: str, folder: Path, frames: Frame) -> Path:
    """A benchmark of one triplet, of an odd size, in the layout in which it is published."""
    names = {
        "middlebury": ["W/frame10.png", "W/frame10i11.png", "W/frame11.png"],
        "vimeo-90k": [f"sequences/00001/0001/im{i}.png" for i in (1, 2, 3)],
        "ucf101": ["7/frame_00.png", "7/frame_01_gt.png", "7/frame_02.png"],
        "snu-film": [f"test/GOPRO_test/G/00000{i}.png" for i in (1, 2, 3)],
        "triplets": ["any/a.png", "any/b.png", "any/c.png"],
    }[layout]
    for frame, name in zip(frames, names, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame[:43, :61]).save(folder / name)
    if layout == "vimeo-90k":
        (folder / "tri_testlist.txt").write_text("00001/0001\n")
    if layout == "snu-film":
        (folder / "test-easy.txt").write_text(" ".join(names) + "\n")
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_benchmark_is_evaluated_like_any_frames(
    layout: str, bikes: Frame, tmp_path: Path
) -> None:
    folder = written(layout, tmp_path / "benchmark", bikes[3:6])
    chosen = {"layout": layout, "pictures": ["*"]}
    if layout == "snu-film":
        chosen["subset"] = "easy"
    evaluate(folder, "linear", EvaluationSettings.model_validate(chosen), tmp_path / "out")
    (row,) = open_evaluation(tmp_path / "out").scores.to_dict("records")
    assert (row["height"], row["width"], row["cut"]) == (43, 61, 0)
    first, truth, third = (frame[:43, :61].astype(int) for frame in bikes[3:6])
    error = (first + third + 1) // 2 - truth
    assert row["standard_psnr"] == pytest.approx(
        20 * np.log10(255) - 10 * np.log10((error**2).mean())
    )
    (picture,) = (tmp_path / "out/predictions").rglob("*-truth.png")
    with Image.open(picture) as image:
        np.testing.assert_array_equal(image, truth)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_benchmark_that_lacks_an_image_is_one_clear_line_before_anything_is_scored(
    layout: str, bikes: Frame, tmp_path: Path
) -> None:
    folder = written(layout, tmp_path / "benchmark", bikes[3:6])
    sorted(folder.rglob("*.png"))[2].unlink()
    chosen = {"layout": layout} | ({"subset": "easy"} if layout == "snu-film" else {})
    with pytest.raises(
        MidframeError, match="is missing, so|holds 2 images, but a triplet is three"
    ):
        evaluate(folder, "linear", EvaluationSettings.model_validate(chosen), tmp_path / "out")
    assert not (tmp_path / "out").exists()
