"""Figures of real evaluations, and of the metrics that a training leaves."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.evaluation.evaluate import evaluate, open_evaluation
from model.reporting.figures import comparison, detail_window, make_figures
from model.settings import EvaluationSettings, FigureSettings
from pipeline.errors import MidframeError


@pytest.fixture(scope="module")
def evaluations(small_frames: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of linear interpolation under two names; both kept two triplets."""
    folder = tmp_path_factory.mktemp("evaluations")
    chosen = EvaluationSettings.model_validate({"pictures": ["cut:0", "ride:*"]})
    for label in ("linear", "twin"):
        evaluate(small_frames, "linear", chosen, folder / label, label)
    return [folder / "linear", folder / "twin"]


def figures(out: Path, **inputs: Any) -> list[str]:
    chosen = FigureSettings.model_validate(inputs.pop("settings", {}))
    parts = [inputs.get(name, []) for name in ("training", "evaluations", "resolutions")]
    make_figures(*parts, chosen, out)
    return sorted(path.name for path in out.iterdir() if path.name != "manifest.json")


def test_each_kept_triplet_becomes_a_png_and_an_svg(
    evaluations: list[Path], tmp_path: Path
) -> None:
    names = figures(tmp_path / "out", evaluations=evaluations, settings={"dpi": 60})
    assert names == [
        f"comparison-{triplet}.{suffix}"
        for triplet in ("cut-00000", "ride-00000", "ride-00003")
        for suffix in ("png", "svg")
    ]
    with Image.open(tmp_path / "out" / names[0]) as picture:
        assert picture.width == 7 * 60
        assert np.asarray(picture.convert("L")).std() > 20


def test_equal_inputs_give_equal_files(evaluations: list[Path], tmp_path: Path) -> None:
    chosen = {"triplets": ["ride:3"], "dpi": 60}
    names = figures(tmp_path / "one", evaluations=evaluations, settings=chosen)
    figures(tmp_path / "two", evaluations=evaluations, settings=chosen)
    assert names == ["comparison-ride-00003.png", "comparison-ride-00003.svg"]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_each_prediction_stands_under_its_name_and_psnr(evaluations: list[Path]) -> None:
    opened = [open_evaluation(path) for path in evaluations]
    figure = comparison(opened, "ride", 3, FigureSettings())
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    scores = opened[0].scores
    row = scores[(scores["sequence"] == "ride") & (scores["first_frame"] == 3)]
    psnr = f"{row['standard_psnr'].iloc[0]:.2f} dB (standard)"
    assert titles == ["truth", f"linear\n{psnr}", f"twin\n{psnr}"]


def test_the_detail_is_where_the_error_is_largest() -> None:
    error = np.zeros((80, 120))
    error[50:60, 90:100] = 5
    top, left, height, width = detail_window(error)
    assert (height, width) == (20, 30)
    assert error[top : top + height, left : left + width].sum() == error.sum()


def test_one_frame_at_two_resolutions_is_a_row_each(small_frames: Path, tmp_path: Path) -> None:
    for name, size in (("small", (60, 40)), ("large", None)):
        chosen = EvaluationSettings.model_validate(
            {"sequences": ["ride"], "size": size, "pictures": ["ride:0"]}
        )
        evaluate(small_frames, "linear", chosen, tmp_path / name)
    names = figures(tmp_path / "out", resolutions=[tmp_path / "small", tmp_path / "large"])
    assert names == ["resolutions-ride-00000.png", "resolutions-ride-00000.svg"]
    text = (tmp_path / "out" / "manifest.json").read_text(encoding="utf-8")
    assert set(json.loads(text)["inputs"]) == {"resolutions-0", "resolutions-1"}


@pytest.mark.parametrize("name", ["cut:6", "boat:0", "ride", "ride:x"])
def test_a_triplet_that_was_not_kept_is_one_clear_line(
    name: str, evaluations: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(MidframeError, match=f"kept no pictures of '{name}'"):
        figures(tmp_path / "out", evaluations=evaluations, settings={"triplets": [name]})
    assert not list(tmp_path.iterdir())


def test_nothing_to_draw_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(MidframeError, match="give --training, --evaluation or --resolutions"):
        figures(tmp_path / "out")


def test_pictures_of_other_frames_are_not_shown_side_by_side(
    evaluations: list[Path], small_frames: Path, tmp_path: Path
) -> None:
    chosen = EvaluationSettings.model_validate({"crop": 48, "pictures": ["ride:0"]})
    evaluate(small_frames, "linear", chosen, tmp_path / "cropped")
    with pytest.raises(MidframeError, match="show different true frames"):
        figures(
            tmp_path / "out",
            evaluations=[evaluations[0], tmp_path / "cropped"],
            settings={"triplets": ["ride:0"]},
        )
