"""Predictions that are kept, and measured later."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.evaluation.evaluate import evaluate, open_evaluation
from model.evaluation.kept import FORMAT_VERSION, keep_predictions
from model.evaluation.predictions import source_of
from model.settings import EvaluationSettings
from pipeline.errors import MidframeError
from pipeline.provenance import read_manifest
from tests.model.evaluation.test_predictions import MEAN, program


def settings(**values: Any) -> EvaluationSettings:
    return EvaluationSettings.model_validate({"sequences": ["ride"], "keep": "float", **values})


def keep(
    frames: Path, chosen: EvaluationSettings, out: Path, command: str | None = None
) -> dict[str, Any]:
    model = None if command else "linear"
    source, label, inputs = source_of(model, command, "cpu", 60)
    keep_predictions(frames, source, chosen, out, label, inputs)
    return read_manifest(out, "predictions", FORMAT_VERSION)


def test_what_is_kept_as_float_scores_as_if_it_were_predicted_again(
    small_frames: Path, tmp_path: Path
) -> None:
    keep(small_frames, settings(), tmp_path / "kept")
    evaluate(small_frames, None, settings(), tmp_path / "later", predictions=tmp_path / "kept")
    evaluate(small_frames, "linear", settings(), tmp_path / "now")
    later, now = open_evaluation(tmp_path / "later"), open_evaluation(tmp_path / "now")
    assert later.scores.equals(now.scores)
    assert later.label == "linear"
    assert not later.scored  # a model's, not another program's


def test_16_bits_keep_a_prediction_within_half_a_step(small_frames: Path, tmp_path: Path) -> None:
    for form in ("png16", "float"):
        keep(small_frames, settings(keep=form), tmp_path / form)
        evaluate(
            small_frames,
            None,
            settings(keep=form),
            tmp_path / f"of-{form}",
            predictions=tmp_path / form,
        )
    scores = [open_evaluation(tmp_path / f"of-{form}").scores for form in ("png16", "float")]
    np.testing.assert_allclose(scores[0]["flavr_psnr"], scores[1]["flavr_psnr"], atol=1e-3)


def test_the_size_of_what_is_kept_is_stated(small_frames: Path, tmp_path: Path) -> None:
    manifest = keep(small_frames, settings(), tmp_path / "kept")
    files = list((tmp_path / "kept").rglob("*.npy"))
    assert manifest["predictions"] == len(files) == 2
    assert manifest["bytes"] == sum(file.stat().st_size for file in files)
    assert manifest["bytes"] >= 2 * 12 * 120 * 80


def test_predictions_of_another_crop_are_refused(small_frames: Path, tmp_path: Path) -> None:
    keep(small_frames, settings(), tmp_path / "kept")
    with pytest.raises(MidframeError, match="made with another 'crop'"):
        evaluate(
            small_frames, None, settings(crop=48), tmp_path / "out", predictions=tmp_path / "kept"
        )


def test_settings_of_the_measuring_do_not_matter(small_frames: Path, tmp_path: Path) -> None:
    keep(small_frames, settings(), tmp_path / "kept")
    chosen = settings(pictures=["*"], cut_threshold=0.5, keep="nothing")
    evaluate(small_frames, None, chosen, tmp_path / "out", predictions=tmp_path / "kept")
    assert open_evaluation(tmp_path / "out").settings.pictures == ["*"]


def test_what_a_program_cannot_predict_stays_missing_and_says_why(
    small_frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    once = f"import pathlib, sys\nseen = pathlib.Path({str(tmp_path / 'seen')!r})\n"
    once += "if not seen.exists():\n    seen.touch()\n    sys.exit('no memory')\n"
    command = program(tmp_path, once + MEAN)
    manifest = keep(small_frames, settings(), tmp_path / "kept", command)
    assert list(manifest["missing"]) == ["ride:0"]
    evaluate(small_frames, None, settings(), tmp_path / "out", predictions=tmp_path / "kept")
    found = open_evaluation(tmp_path / "out")
    assert found.missing == 1
    assert found.scored["command"] == command
    assert capsys.readouterr().err.count("ride:0: the command failed with status 1") == 2


def test_a_damaged_kept_prediction_is_named(small_frames: Path, tmp_path: Path) -> None:
    keep(small_frames, settings(keep="png16"), tmp_path / "kept")
    (tmp_path / "kept" / "ride" / "00003.png").write_bytes(b"")
    with pytest.raises(MidframeError, match=r"00003\.png: a kept prediction is damaged"):
        evaluate(
            small_frames,
            None,
            settings(keep="png16"),
            tmp_path / "out",
            predictions=tmp_path / "kept",
        )


def test_settings_that_keep_nothing_are_refused(small_frames: Path, tmp_path: Path) -> None:
    with pytest.raises(MidframeError, match="keep: set it to 'float' or 'png16'"):
        keep(small_frames, settings(keep="nothing"), tmp_path / "kept")
