"""What a person types to measure and use a model: one clear line and a status on bad input."""

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from model.__main__ import _parser
from model.network.architecture import SepConv
from model.network.checkpoints import save_network
from model.settings import NetworkSettings
from pipeline.command_line import run


def command(*arguments: object) -> int:
    return run(_parser(), [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    settings = NetworkSettings(width=1 / 32, kernel_length=3, initialisation="linear")
    save_network(SepConv(settings), path, {})
    return path


def test_two_models_are_measured_compared_and_drawn(
    small_frames: Path, weights: Path, tmp_path: Path
) -> None:
    settings = ("--settings", '{"sequences": ["ride"], "pictures": ["ride:0"]}')
    out = {name: tmp_path / name for name in ("linear", "small", "table", "figures")}
    for model in ("linear", weights):
        name = Path(model).stem
        assert (
            command("evaluate", small_frames, "--model", model, "--out", out[name], *settings) == 0
        )
    evaluations = out["linear"], out["small"]
    assert command("tables", *evaluations, "--out", out["table"]) == 0
    text = (out["table"] / "table.md").read_text(encoding="utf-8")
    assert "| `standard` | linear |" in text
    assert "| `standard` | small |" in text
    assert command("figures", "--evaluation", *evaluations, "--out", out["figures"]) == 0
    assert (out["figures"] / "comparison-ride-00000.svg").is_file()


def test_a_video_and_a_pair_of_images_are_interpolated_by_a_network(
    bikes: NDArray[np.uint8], weights: Path, tmp_path: Path
) -> None:
    with av.open(tmp_path / "in.mkv", "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        for index, rgb in enumerate(bikes[:3, :48, :64]):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
            Image.fromarray(rgb).save(tmp_path / f"{index}.png")
        container.mux(stream.encode(None))
    model = ("--model", weights)
    video = tmp_path / "in.mkv", tmp_path / "out.mp4"
    assert command("interpolate", *video, *model, "--times", 4) == 0
    with av.open(tmp_path / "out.mp4") as container:
        assert len(list(container.decode(video=0))) == 9
    images = tmp_path / "0.png", tmp_path / "2.png", tmp_path / "middle.png"
    assert command("interpolate", *images, *model) == 0
    with Image.open(tmp_path / "middle.png") as middle:
        assert middle.size == (64, 48)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("evaluate", "NONE", "--model", "linear", "--out", "OUT"), "NONE: no such folder"),
        (("evaluate", "EMPTY", "--model", "linear", "--out", "OUT"), "EMPTY: holds neither videos"),
        (
            ("evaluate", "FRAMES", "--model", "linear", "--out", "OUT", "--settings", '{"crp": 4}'),
            "--settings: crp: unknown key 'crp'; did you mean 'crop'?",
        ),
        (("evaluate", "FRAMES", "--model", "NONE", "--out", "OUT"), "NONE: no such weights file"),
        (("tables", "EMPTY", "--out", "OUT"), "EMPTY: no manifest.json"),
        (("figures", "--out", "OUT"), "figures: give --training"),
        (("interpolate", "NONE", "OUT.mp4", "--model", "linear"), "NONE: no such video file"),
        (("interpolate", "TEXT.mp4", "OUT.mp4", "--model", "linear"), "TEXT.mp4: not a readable"),
        (("interpolate", "TEXT.mp4", "TEXT.mp4", "--model", "linear"), "is the input"),
        (("interpolate", "OUT.mp4", "--model", "linear"), "interpolate: give IN and OUT"),
        (
            ("interpolate", "A.png", "B.png", "OUT.png", "--model", "linear", "--times", "4"),
            "--times: for videos only; two images give one between them",
        ),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    arguments: tuple[str, ...],
    line: str,
    small_frames: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "TEXT.mp4").write_text("hello")
    places = {name: tmp_path / name for name in ("NONE", "EMPTY", "TEXT.mp4", "OUT", "OUT.mp4")}
    places["FRAMES"] = small_frames
    assert command(*(places.get(argument, argument) for argument in arguments)) == 1
    (error,) = (
        line for line in capsys.readouterr().err.splitlines() if not line.startswith("using ")
    )
    assert error.startswith("midframe: error: ")
    assert line in error
    assert {path.name for path in tmp_path.iterdir()} == {"EMPTY", "TEXT.mp4"}


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys, model.__main__, model.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
