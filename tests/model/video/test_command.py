"""The command: several inputs, codecs, rates, and what does not fit together."""

from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from model.__main__ import _parser
from model.video.command import parse_rate
from pipeline.command_line import run as run_command
from tests.model.videos import decode, encode_planes, moving

Command = Callable[..., tuple[int, str]]
QUICK = '{"preset": "ultrafast", "cut_method": null}'


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs ``interpolate``: its exit status, and what it said."""

    def run(*arguments: object, model: str = "linear") -> tuple[int, str]:
        typed = ["interpolate", "--model", model, *map(str, arguments)]
        status = run_command(_parser(), typed)
        return status, capsys.readouterr().err

    return run


@pytest.fixture
def clips_made(tmp_path: Path) -> list[Path]:
    for name in ("a.mkv", "b.mp4", "c.avi"):
        codec = "libx264" if name != "c.avi" else "ffv1"
        encode_planes(tmp_path / name, moving("yuv420p", 4), "yuv420p", codec)
    return [tmp_path / name for name in ("a.mkv", "b.mp4", "c.avi")]


def test_several_inputs_are_done_in_one_call_with_a_line_each(
    clips_made: list[Path], command: Command, tmp_path: Path
) -> None:
    out = tmp_path / "smooth"
    status, said = command(*clips_made, "--out", out, "--settings", QUICK, "--rate", "59.94")
    assert status == 0
    assert sorted(path.name for path in out.iterdir()) == ["a.mkv", "b.mp4", "c.mkv"]
    lines = said.splitlines()[-3:]
    for line, source, name in zip(lines, clips_made, ("a.mkv", "b.mp4", "c.mkv"), strict=True):
        assert line == f"{out / name}: 10 frames from the 4 of {source}"


def test_an_input_that_fails_does_not_stop_the_others(
    clips_made: list[Path], command: Command, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mkv"
    broken.write_text("no video")
    out = tmp_path / "smooth"
    status, said = command(broken, clips_made[0], "--out", out, "--settings", QUICK)
    assert status == 1
    assert [path.name for path in out.iterdir()] == ["a.mkv"]
    lines = said.splitlines()[-3:]
    assert lines[0].startswith(f"not done: {broken}: not a readable video")
    assert lines[1] == f"{out / 'a.mkv'}: 7 frames from the 4 of {clips_made[0]}"
    assert "1 of 2 inputs are not done" in lines[2]


def test_the_codec_is_chosen_by_its_name(
    clips_made: list[Path], command: Command, tmp_path: Path
) -> None:
    target = tmp_path / "out.webm"
    status, said = command(clips_made[0], target, "--codec", "vp9", "--settings", QUICK)
    assert status == 0, said
    with av.open(target) as container:
        assert container.streams.video[0].codec_context.codec.canonical_name == "vp9"
    status, said = command(clips_made[0], target, "--codec", "h266")
    assert status == 1
    assert "--codec h266: there are h264, hevc, av1, vp9, prores, ffv1, h264_nvenc" in said


def test_a_folder_of_images_has_the_rate_that_is_told(command: Command, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(3):
        image = np.full((32, 48, 3), 40 * number, np.uint8)
        assert cv2.imwrite(str(tmp_path / "in" / f"{number}.png"), image)
    status, said = command(tmp_path / "in", tmp_path / "out.mp4", "--image-rate", "12.5")
    assert status == 0, said
    frames = decode(tmp_path / "out.mp4")
    assert [frame.time for frame in frames] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.mkv", "out.mkv", "--times", "3", "--rate", "60"], "--times, --rate: give one of them"),
        (["a.mkv", "out.mkv", "--between", "flow"], "--between: for weights only; linear knows"),
        (["a.mkv", "out.mkv", "--rate", "quick"], "quick: no rate; give 60, 60000/1001 or 59.94"),
        (["a.mkv", "b.mp4", "c.avi", "d.mkv"], "give IN and OUT, or two images and OUT, or any"),
        (["a.mkv", "out.mkv", "--times", "1"], "times: must be 2 or more, not 1"),
        (["a.mkv", "--out", "out.mkv"], "--out out.mkv: is the folder for what is made of each"),
        (["a.mkv", "x/a.mkv", "--out", "o"], "two inputs would be written there"),
        (["none.mkv", "out.mkv"], "none.mkv: no such video file"),
        (
            ["a.mkv", "out.mov", "--codec", "ffv1"],
            "a .mov file cannot hold ffv1; choose --codec",
        ),
    ],
)
def test_what_does_not_fit_together_is_one_clear_line(
    arguments: list[str],
    message: str,
    clips_made: list[Path],
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    status, said = command(*arguments)
    assert status == 1
    assert message in said
    assert "Traceback" not in said
    assert not list(tmp_path.glob("out*"))


def test_names_of_rates_are_those_of_broadcasting() -> None:
    assert parse_rate("23.976") * 1001 == 24000
    assert parse_rate("29.97") * 1001 == 30000
