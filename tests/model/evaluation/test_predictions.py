"""Predictions by other programs, good ones and bad ones."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.evaluation.benchmarks import ImageTriplet
from model.evaluation.evaluate import Evaluation, evaluate, open_evaluation
from model.evaluation.predictions import OfCommand
from model.evaluation.triplets import Triplet
from model.reporting.tables import make_table
from model.settings import EvaluationSettings, TableSettings
from model.video.interpolation import linear
from pipeline.errors import MidframeError
from pipeline.frames.sequences import open_frames

SETTINGS = EvaluationSettings.model_validate(
    {"sequences": ["ride"], "stride": 1, "pictures": ["*"]}
)
HANG = "import time; time.sleep(600)"
MEAN = """
import sys
import numpy as np
from PIL import Image
first, third, out = sys.argv[1:]
a, c = (np.asarray(Image.open(path)).astype(int) for path in (first, third))
Image.fromarray(((a + c + 1) // 2).astype(np.uint8)).save(out)
"""


@pytest.fixture(scope="module")
def of_linear(small_frames: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    out = tmp_path_factory.mktemp("linear") / "linear"
    evaluate(small_frames, "linear", SETTINGS, out)
    return open_evaluation(out)


def score(frames: Path, predictions: Path, out: Path) -> Evaluation:
    evaluate(frames, None, SETTINGS, out, predictions=predictions)
    return open_evaluation(out)


def program(folder: Path, text: str) -> str:
    (folder / "program.py").write_text(text)
    script = shlex.quote(str(folder / "program.py"))
    return f"{shlex.quote(sys.executable)} {script} {{first}} {{third}} {{out}}"


def test_kept_predictions_score_what_the_model_scored(
    of_linear: Evaluation, small_frames: Path, tmp_path: Path
) -> None:
    found = score(small_frames, of_linear.pictures, tmp_path / "out")
    for name in ("standard_psnr", "standard_ssim"):
        np.testing.assert_allclose(found.scores[name], of_linear.scores[name], rtol=1e-12)
    assert (found.label, found.missing) == ("predictions", 0)
    assert len(found.scored["sha256"]) == 64


def test_float_predictions_score_exactly_what_the_model_scored(
    of_linear: Evaluation, small_frames: Path, tmp_path: Path
) -> None:
    (sequence,) = (one for one in open_frames(small_frames) if one.name == "ride")
    frames = list(sequence.read())
    (tmp_path / "mine" / "ride").mkdir(parents=True)
    for first in range(4):
        middle = linear(frames[first], frames[first + 2])
        np.save(tmp_path / "mine" / "ride" / f"{first:05d}.npy", middle)
    assert score(small_frames, tmp_path / "mine", tmp_path / "out").scores.equals(of_linear.scores)


def test_a_video_is_numbered_as_the_true_frames(clips: Path, tmp_path: Path) -> None:
    shutil.copy(clips / "carphone_pristine.mp4", tmp_path / "mine.mp4")
    settings = EvaluationSettings.model_validate({"stride": 30})
    evaluate(
        clips / "carphone_pristine.mp4",
        None,
        settings,
        tmp_path / "out",
        predictions=tmp_path / "mine.mp4",
    )
    found = open_evaluation(tmp_path / "out")
    assert np.isinf(found.scores["standard_psnr"]).all()


def test_a_benchmark_may_use_its_own_names(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for folder, names in (
        ("bench/other-data/Venus", ("frame10", "frame11")),
        ("bench/other-gt-interp/Venus", ("frame10i11",)),
        ("mine/Venus", ("frame10i11",)),
    ):
        (tmp_path / folder).mkdir(parents=True)
        for name in names:
            image = generator.integers(256, size=(16, 16, 3), dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / folder / f"{name}.png")
    settings = EvaluationSettings(layout="middlebury")
    evaluate(tmp_path / "bench", None, settings, tmp_path / "out", predictions=tmp_path / "mine")
    assert open_evaluation(tmp_path / "out").missing == 0


def test_what_cannot_be_used_is_a_line_each_and_the_rest_is_scored(
    of_linear: Evaluation, small_frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine" / "ride"
    mine.mkdir(parents=True)
    Image.fromarray(np.zeros((80, 120, 4), np.uint8)).save(mine / "00000.png")
    Image.fromarray(np.zeros((80, 100, 3), np.uint8)).save(mine / "00001.png")
    Image.fromarray(np.zeros((80, 120), np.uint16)).save(mine / "00002.png")
    shutil.copy(of_linear.pictures / "ride" / "00003-prediction.png", mine / "00003.png")
    found = score(small_frames, tmp_path / "mine", tmp_path / "out")
    assert found.missing == 3
    assert found.scores["standard_psnr"].isna().tolist() == [True, True, True, False]
    told = capsys.readouterr().err
    assert "ride:0: " in told
    assert "colour mode RGBA" in told
    assert "is 100x80, but the frames that are measured are 120x80" in told
    assert "16 bits a channel" in told

    rows = [{"label": "linear"}, {"label": "mine"}]
    settings = TableSettings.model_validate({"rows": rows})
    make_table([of_linear.directory, found.directory], settings, tmp_path / "table")
    text = (tmp_path / "table" / "table.md").read_text()
    assert f"SHA-256 `{found.scored['sha256']}`" in text
    assert "3 of 4 could not be scored" in text


def test_other_predictions_have_another_digest(
    of_linear: Evaluation, small_frames: Path, tmp_path: Path
) -> None:
    shutil.copytree(of_linear.pictures, tmp_path / "mine")
    one = score(small_frames, tmp_path / "mine", tmp_path / "one")
    shutil.copy(
        tmp_path / "mine" / "ride" / "00001-prediction.png",
        tmp_path / "mine" / "ride" / "00000-prediction.png",
    )
    two = score(small_frames, tmp_path / "mine", tmp_path / "two")
    assert one.scored["sha256"] != two.scored["sha256"]


def test_a_command_scores_what_it_writes(
    of_linear: Evaluation, small_frames: Path, tmp_path: Path
) -> None:
    command = program(tmp_path, MEAN)
    evaluate(small_frames, None, SETTINGS, tmp_path / "out", label="mean", command=command)
    found = open_evaluation(tmp_path / "out")
    np.testing.assert_allclose(found.scores["standard_psnr"], of_linear.scores["standard_psnr"])
    assert found.scored["command"] == command
    assert len(found.scored["sha256"]) == 64


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("raise SystemExit('no memory')", "the command failed with status 1: no memory"),
        ("", "the command ended well but wrote no image to {out}"),
    ],
)
def test_a_command_that_goes_wrong_is_a_line_for_that_triplet(
    text: str,
    line: str,
    small_frames: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # It goes wrong on the first call only.
    once = f"import pathlib, sys\nif not pathlib.Path({str(tmp_path / 'seen')!r}).exists():\n"
    once += f"    pathlib.Path({str(tmp_path / 'seen')!r}).touch()\n    {text or 'pass'}\n"
    once += "    sys.exit(0)\n"
    settings = EvaluationSettings.model_validate({"triplets": ["ride:0", "ride:3"]})
    evaluate(
        small_frames,
        None,
        settings,
        tmp_path / "out",
        command=program(tmp_path, once + MEAN),
    )
    assert f"ride:0: {line}" in capsys.readouterr().err
    assert open_evaluation(tmp_path / "out").missing == 1


def test_a_command_that_hangs_is_stopped_with_all_that_it_started(tmp_path: Path) -> None:
    child = f"import subprocess, sys; subprocess.run([{sys.executable!r}, '-c', {HANG!r}])"
    hanging = OfCommand(program(tmp_path, child), timeout=0.5)
    frame = np.zeros((16, 16, 3), np.uint8)
    triplet = Triplet("ride", 0, 16, 16, ImageTriplet("ride", 0, (tmp_path,) * 3))
    with pytest.raises(MidframeError, match=r"took more than 0\.5 s and was stopped"):
        hanging.predict(triplet, frame, frame)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("prog {first} {out}", "{third} is missing"),
        ("no-such-prog {first} {third} {out}", "no program 'no-such-prog' is found"),
        ("prog '{first} {third} {out}", "No closing quotation"),
    ],
)
def test_a_command_that_cannot_be_called_is_refused_at_once(
    command: str, message: str, small_frames: Path, tmp_path: Path
) -> None:
    with pytest.raises(MidframeError, match=message):
        evaluate(small_frames, None, SETTINGS, tmp_path / "out", command=command)
    assert not list(tmp_path.iterdir())


def test_a_place_without_any_prediction_is_refused_at_once(
    small_frames: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(MidframeError, match=r"that of ride:0 would be ride/00000\.png"):
        score(small_frames, tmp_path / "empty", tmp_path / "out")
    with pytest.raises(MidframeError, match="no such folder or video"):
        score(small_frames, tmp_path / "none", tmp_path / "out")


def test_the_command_line_takes_one_source_only(small_frames: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", str(small_frames), "--out", str(tmp_path / "out")]
    run = subprocess.run(
        [sys.executable, "-m", "model", *arguments, "--model", "linear", "--predictions", "x"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode != 0
    assert "not allowed with argument" in run.stderr
