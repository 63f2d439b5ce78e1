"""Losses over the epochs, from what a training leaves."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from model.network.architecture import SepConv
from model.network.checkpoints import save_network
from model.reporting.figures import make_figures
from model.reporting.loss_curve import TrainedStage, loss_curve, read_stage
from model.settings import FigureSettings, NetworkSettings
from pipeline.errors import MidframeError
from pipeline.provenance import write_manifest

METRICS = """epoch,training_loss,validation_loss,validation_l1,validation_psnr,validation_ssim
0,,0.03,0.03,28.0,0.85
1,0.028,0.027,0.027,28.9,0.87
2,0.026,0.026,0.026,29.4,0.88
"""


def stage(folder: Path, provenance: dict[str, Any]) -> Path:
    """What `train` leaves, as far as figures read it."""
    (folder / "weights").mkdir(parents=True)
    torch.manual_seed(0)
    network = SepConv(NetworkSettings(width=1 / 32, kernel_length=1))
    save_network(network, folder / "weights" / "epoch-0002.safetensors", provenance)
    (folder / "metrics.csv").write_text(METRICS, encoding="utf-8")
    write_manifest(folder, "model", 1, {}, linear_interpolation={"psnr": 29.0})
    return folder


def test_a_curve_has_a_line_for_each_stage_and_one_for_linear(tmp_path: Path) -> None:
    first = stage(tmp_path / "l1", {"parent": None, "epoch": 2})
    second = stage(tmp_path / "ssim", {"parent": {"parent": None, "epoch": 2}, "epoch": 2})
    loss, psnr = loss_curve([read_stage(first), read_stage(second)]).axes
    assert [list(line.get_xdata()) for line in loss.lines] == [[0, 1, 2], [2, 3, 4]]
    assert list(loss.lines[0].get_ydata()) == [0.03, 0.027, 0.026]
    assert list(psnr.lines[-1].get_ydata()) == [29.0, 29.0]


def test_a_stage_counts_on_from_the_epoch_it_started_from(tmp_path: Path) -> None:
    parent = {"epoch": 37, "parent": None}
    child = {"epoch": 50, "parent": parent}
    folder = stage(tmp_path / "third", {"epoch": 2, "parent": child})
    assert read_stage(folder).epochs_before == 87


def test_a_stage_after_imported_weights_counts_from_nought(tmp_path: Path) -> None:
    folder = stage(tmp_path / "tuned", {"epoch": 2, "parent": {"published": "network-l1"}})
    assert read_stage(folder).epochs_before == 0


def test_a_curve_of_one_epoch_is_drawn() -> None:
    row = {"epoch": [1], "validation_l1": [0.02], "validation_psnr": [30.0]}
    figure = loss_curve([TrainedStage("short", pd.DataFrame(row), 0, 29.0)])
    assert len(figure.axes) == 2


def test_the_figure_is_published_as_png_and_svg(tmp_path: Path) -> None:
    make_figures([stage(tmp_path / "l1", {})], [], [], FigureSettings(), tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"loss_curve.png", "loss_curve.svg", "manifest.json"}


def test_a_stage_without_weights_is_one_clear_line(tmp_path: Path) -> None:
    folder = stage(tmp_path / "l1", {})
    (folder / "weights" / "epoch-0002.safetensors").unlink()
    with pytest.raises(MidframeError, match="holds no weights"):
        read_stage(folder)
