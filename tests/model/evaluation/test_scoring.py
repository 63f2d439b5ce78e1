"""All protocols at once, and measures that another program takes."""

import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.evaluation import ffmpeg, metrics
from model.evaluation.evaluate import evaluate, open_evaluation
from model.evaluation.scoring import ALWAYS, Scoring, describe, measures_of
from model.reporting.tables import make_table
from model.settings import EvaluationSettings, TableSettings
from pipeline.errors import MidframeError

Frame = NDArray[np.uint8]


@pytest.fixture(scope="module")
def pair(bikes: Frame) -> tuple[NDArray[np.float32], Frame]:
    first, target, third = bikes[0:3, 60:120, 200:280]
    return (first.astype(np.float32) + third.astype(np.float32)) / np.float32(510), target


def program(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for FFmpeg, the only one on the path."""
    folder.mkdir()
    file = folder / "ffmpeg"
    file.write_text(f"#!{sys.executable}\nimport sys\n{text}")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder))


LISTING = """
if "-filters" in sys.argv:
    print(" ... libvmaf VV->V Calculate the VMAF.\\n ... xpsnr VV->V XPSNR.")
    sys.exit()
"""


def test_protocols_measured_together_are_those_measured_alone(
    pair: tuple[NDArray[np.float32], Frame],
) -> None:
    scoring = Scoring(EvaluationSettings())
    alone = [value for protocol in ALWAYS.values() for value in protocol.score(*pair)]
    assert scoring.score(*pair) == alone
    assert len(scoring.columns) == len(alone)


def test_an_ssim_that_protocols_share_is_computed_once(
    pair: tuple[NDArray[np.float32], Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    once = metrics.ssim

    def counted(*arguments: Any) -> float:
        calls.append(1)
        return once(*arguments)

    monkeypatch.setattr(metrics, "ssim", counted)
    Scoring(EvaluationSettings()).score(*pair)
    # rife and flavr, and ema_vfi and cain, have one in common each.
    assert len(calls) == len(metrics.PROTOCOLS) - 2


def test_every_protocol_has_measures_and_a_sentence() -> None:
    for name in (*ALWAYS, "lpips", "xpsnr", "vmaf"):
        assert describe(name).startswith(f"{name}: ")
        assert measures_of(name)


def test_a_measure_whose_filter_is_missing_is_left_out_with_the_reason(
    small_frames: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    program(tmp_path / "bin", "print(' ... scale V->V Scale.')", monkeypatch)
    settings = EvaluationSettings(triplets=["ride:0"], perceptual=["vmaf"])
    evaluate(small_frames, "linear", settings, tmp_path / "out")
    assert "vmaf is not measured: " in capsys.readouterr().err
    found = open_evaluation(tmp_path / "out")
    assert "has no filter libvmaf" in found.not_measured["vmaf"]
    assert "vmaf" not in found.protocols
    table = TableSettings(protocols=["standard", "vmaf"])
    make_table([tmp_path / "out"], table, tmp_path / "table")
    assert "Not measured: vmaf: " in (tmp_path / "table" / "table.md").read_text()


def test_a_table_of_a_measure_that_was_not_asked_for_is_refused(
    small_frames: Path, tmp_path: Path
) -> None:
    evaluate(small_frames, "linear", EvaluationSettings(triplets=["ride:0"]), tmp_path / "out")
    with pytest.raises(MidframeError, match="'lpips' was not measured; add it to 'perceptual'"):
        make_table([tmp_path / "out"], TableSettings(protocols=["lpips"]), tmp_path / "table")


@pytest.mark.parametrize(
    ("measure", "printed", "value"),
    [
        ("xpsnr", "[Parsed_xpsnr_2 @ 0x1] XPSNR  y: 34.1234  u: 40.1  v: 41.2", 34.1234),
        ("vmaf", "[Parsed_libvmaf_2 @ 0x1] VMAF score: 91.250000", 91.25),
    ],
)
def test_the_number_that_ffmpeg_prints_is_taken(
    measure: str,
    printed: str,
    value: float,
    pair: tuple[NDArray[np.float32], Frame],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program(tmp_path / "bin", f"{LISTING}print({printed!r}, file=sys.stderr)", monkeypatch)
    assert ffmpeg.absence(measure) is None
    assert ffmpeg.score(measure, *pair) == value


def test_an_ffmpeg_that_fails_is_a_clear_line(
    pair: tuple[NDArray[np.float32], Frame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "bin", "sys.exit('no model file')", monkeypatch)
    with pytest.raises(MidframeError, match="vmaf: FFmpeg gave no number: no model file"):
        ffmpeg.score("vmaf", *pair)


@pytest.mark.parametrize("measure", ["xpsnr", "vmaf"])
def test_the_real_filter_ranks_a_blurred_prediction_below_the_frame_itself(
    measure: str, pair: tuple[NDArray[np.float32], Frame]
) -> None:
    if why := ffmpeg.absence(measure):
        pytest.skip(why)
    large = [np.repeat(np.repeat(image, 4, axis=0), 4, axis=1) for image in pair]
    assert ffmpeg.score(measure, large[1], large[1]) > ffmpeg.score(measure, *large)
