"""Evaluation of real clips: which triplets, how they are prepared, and what is written."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from model.evaluation import predictions
from model.evaluation.evaluate import evaluate, open_evaluation
from model.evaluation.metrics import PROTOCOLS
from model.settings import EvaluationSettings
from model.video.interpolation import linear
from pipeline.errors import MidframeError
from pipeline.frames.sequences import open_frames
from pipeline.provenance import read_manifest
from pipeline.store.evaluation_files import FORMAT_VERSION
from tests.conftest import directory_bytes


def settings(**values: Any) -> EvaluationSettings:
    return EvaluationSettings.model_validate(values)


def rows(directory: Path) -> list[dict[str, str]]:
    with (directory / "scores.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("clip", "stride", "count"), [("carphone_pristine", 30, 4), ("bikes", 75, 4)]
)
def test_linear_interpolation_scores_what_ten_lines_of_numpy_and_scikit_image_give(
    clip: str, stride: int, count: int, clips: Path, tmp_path: Path
) -> None:
    evaluate(clips / f"{clip}.mp4", "linear", settings(stride=stride), tmp_path / "out")
    (sequence,) = open_frames(clips / f"{clip}.mp4")
    frames = [frame.astype(int) for frame in sequence.read()]
    found = rows(tmp_path / "out")
    assert [int(row["first_frame"]) for row in found] == [stride * i for i in range(count)]
    for row in found:
        a, b, c = frames[int(row["first_frame"]) :][:3]
        for name, total in (("standard", a + c + 1), ("niklaus", a + c)):
            middle, truth = (total // 2).astype(np.uint8), b.astype(np.uint8)
            psnr = peak_signal_noise_ratio(truth, middle, data_range=255)
            gaussian = name == "standard"
            choice = {"gaussian_weights": True, "use_sample_covariance": False} if gaussian else {}
            ssim = structural_similarity(truth, middle, data_range=255, channel_axis=2, **choice)
            assert float(row[f"{name}_psnr"]) == pytest.approx(psnr, abs=1e-6)
            assert float(row[f"{name}_ssim"]) == pytest.approx(ssim, abs=1e-6)


def test_the_same_evaluation_gives_the_same_bytes(small_frames: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        evaluate(small_frames, "linear", settings(pictures=["ride:0"]), tmp_path / name)
    one, two = (directory_bytes(tmp_path / name) for name in ("one", "two"))
    assert one == two


def test_a_triplet_across_a_jump_cut_is_flagged_and_scored(
    small_frames: Path, tmp_path: Path
) -> None:
    # The cut lies between frames 4 and 5 of this sequence.
    evaluate(small_frames, "linear", settings(sequences=["cut"], stride=1), tmp_path / "out")
    found = rows(tmp_path / "out")
    assert [int(row["first_frame"]) for row in found if row["cut"] == "1"] == [3, 4]
    manifest = read_manifest(tmp_path / "out", "evaluation", FORMAT_VERSION)
    assert (manifest["images"], manifest["images_with_cut"]) == (10, 2)
    means = manifest["means"]
    assert means["with_cuts"]["standard"]["psnr"]["count"] == 10
    assert means["without_cuts"]["standard"]["psnr"]["count"] == 8
    assert (
        means["without_cuts"]["standard"]["psnr"]["mean"]
        > means["with_cuts"]["standard"]["psnr"]["mean"]
    )


def test_a_jump_inside_a_shot_is_flagged_by_flow_alone(clips: Path, tmp_path: Path) -> None:
    """Twenty frames of one shot of bikes left out; colours stay as they were."""
    (bikes,) = open_frames(clips / "bikes.mp4")
    folder = tmp_path / "frames" / "jump"
    folder.mkdir(parents=True)
    for index, frame in enumerate([*bikes.read(137, 147), *bikes.read(167, 179)]):
        Image.fromarray(frame[::2, ::2]).save(folder / f"{index:05d}.png")
    cuts = {}
    for method in ("histogram", "flow"):
        out = tmp_path / method
        evaluate(folder.parent, "linear", settings(stride=1, cut_method=method), out)
        cuts[method] = [int(row["first_frame"]) for row in rows(out) if row["cut"] == "1"]
    assert cuts == {"histogram": [], "flow": [8, 9]}


def test_means_are_those_of_the_rows(small_frames: Path, tmp_path: Path) -> None:
    evaluate(small_frames, "linear", settings(), tmp_path / "out")
    means = read_manifest(tmp_path / "out", "evaluation", FORMAT_VERSION)["means"]["with_cuts"]
    for name in PROTOCOLS:
        for metric in ("psnr", "ssim"):
            values = [float(row[f"{name}_{metric}"]) for row in rows(tmp_path / "out")]
            estimate = means[name][metric]
            assert estimate["mean"] == pytest.approx(np.mean(values))
            assert estimate["low"] <= estimate["mean"] <= estimate["high"]


def test_pictures_of_the_named_triplets_are_kept(small_frames: Path, tmp_path: Path) -> None:
    evaluate(small_frames, "linear", settings(pictures=["ride:*"]), tmp_path / "out")
    kept = sorted(p.relative_to(tmp_path / "out/predictions") for p in tmp_path.rglob("*.png"))
    assert [str(path) for path in kept] == [
        "ride/00000-prediction.png",
        "ride/00000-truth.png",
        "ride/00003-prediction.png",
        "ride/00003-truth.png",
    ]
    frames = [np.asarray(Image.open(p)) for p in sorted((small_frames / "ride").iterdir())[:3]]
    first, truth, third = (frame.astype(int) for frame in frames)
    folder = tmp_path / "out/predictions/ride"
    with Image.open(folder / "00000-truth.png") as picture:
        np.testing.assert_array_equal(picture, truth)
    with Image.open(folder / "00000-prediction.png") as picture:
        np.testing.assert_array_equal(picture, (first + third + 1) // 2)


def test_a_dataset_directory_is_named_in_the_manifest_by_its_own(
    dataset: Path, small_frames: Path, tmp_path: Path
) -> None:
    evaluate(dataset, "linear", settings(), tmp_path / "dataset")
    evaluate(small_frames, "linear", settings(), tmp_path / "folder")
    assert "frames" in read_manifest(tmp_path / "dataset", "evaluation", FORMAT_VERSION)["inputs"]
    folder = read_manifest(tmp_path / "folder", "evaluation", FORMAT_VERSION)
    assert set(folder["sequences"]) == {"cut", "ride"}
    assert {
        key: folder["sequences"]["ride"][key] for key in ("width", "height", "frame_count")
    } == {
        "width": 120,
        "height": 80,
        "frame_count": 6,
    }
    assert rows(tmp_path / "dataset") == rows(tmp_path / "folder")


def test_an_evaluation_opens_with_its_label_settings_and_scores(
    small_frames: Path, tmp_path: Path
) -> None:
    evaluate(small_frames, "linear", settings(crop=48), tmp_path / "out", label="mean of two")
    opened = open_evaluation(tmp_path / "out")
    assert opened.label == "mean of two"
    assert opened.settings.crop == 48
    assert list(opened.scores["height"]) == [48] * 6
    assert opened.protocols["standard"] == str(PROTOCOLS["standard"])


def test_a_failed_evaluation_leaves_nothing(small_frames: Path, tmp_path: Path) -> None:
    with pytest.raises(MidframeError, match="no such weights"):
        evaluate(small_frames, "missing.safetensors", settings(), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_interrupted_evaluation_goes_on_and_ends_with_the_same_bytes(
    small_frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(stride=1, pictures=["ride:*"])
    evaluate(small_frames, "linear", chosen, tmp_path / "whole" / "out")
    asked: list[int] = []

    def killed(*frames: Any) -> Any:
        asked.append(1)
        if len(asked) == 12:
            raise KeyboardInterrupt
        return linear(*frames)

    monkeypatch.setattr(predictions, "load_predictor", lambda model, device: killed)
    with pytest.raises(KeyboardInterrupt):
        evaluate(small_frames, "linear", chosen, tmp_path / "resumed" / "out")
    (unfinished,) = (tmp_path / "resumed").iterdir()
    assert unfinished.name.startswith(".out.progress-")
    with (unfinished / "scores.csv").open("a") as file:
        file.write("ride,1,80,12")  # a row that the kill has cut short
    evaluate(small_frames, "linear", chosen, tmp_path / "resumed" / "out")
    assert len(asked) == 12 + 3
    assert directory_bytes(tmp_path / "resumed") == directory_bytes(tmp_path / "whole")


def test_another_evaluation_does_not_go_on_from_an_interrupted_one(
    small_frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*frames: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(predictions, "load_predictor", lambda model, device: killed)
        with pytest.raises(KeyboardInterrupt):
            evaluate(small_frames, "linear", settings(), tmp_path / "out")
    evaluate(small_frames, "linear", settings(crop=48), tmp_path / "out")
    assert {row["height"] for row in rows(tmp_path / "out")} == {"48"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_output_that_is_not_ours_is_refused_before_anything_is_scored(
    small_frames: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(MidframeError, match="holds files that this program did not write"):
        evaluate(small_frames, "linear", settings(), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(MidframeError, match="cannot write here"):
        evaluate(small_frames, "linear", settings(), tmp_path / "file" / "out")
