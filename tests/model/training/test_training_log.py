from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from model.training import training_log
from model.training.training_log import ProgressLine, Scalars, write_metrics


def test_metrics_are_one_row_an_epoch(tmp_path: Path) -> None:
    scores = {"validation_loss": 0.25, "validation_l1": 0.5}
    scores |= {"validation_psnr": 30.0, "validation_ssim": 0.75}
    rows = [
        {"epoch": 0, "training_loss": None, **scores},
        {"epoch": 1, "training_loss": 0.1, **scores},
    ]
    write_metrics(tmp_path / "metrics.csv", rows)
    assert (tmp_path / "metrics.csv").read_text() == (
        "epoch,training_loss,validation_loss,validation_l1,validation_psnr,validation_ssim\n"
        "0,,0.25,0.5,30.0,0.75\n"
        "1,0.1,0.25,0.5,30.0,0.75\n"
    )


def test_resumed_run_hides_what_was_written_after_the_state(tmp_path: Path) -> None:
    for first, values in ((0, {0: 1.0, 1: 2.0, 2: 3.0}), (1, {1: 7.0})):
        scalars = Scalars(tmp_path, first)
        for step, value in values.items():
            scalars.add({"step/loss": value, "step/none": None}, step)
        scalars.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Tags()["scalars"] == ["step/loss"]
    assert [(e.step, e.value) for e in events.Scalars("step/loss")] == [(0, 1.0), (1, 7.0)]


def test_progress_in_a_log_tells_loss_rate_waiting_and_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([100.0, 110.0, 120.0])
    monkeypatch.setattr(training_log.time, "monotonic", lambda: next(clock))
    line = ProgressLine(steps=40, done=20, label="training stage")
    line.step(21, 0.5, samples=8, waited=1.0)  # too soon after the start for a line
    line.step(25, 0.125, samples=32, waited=1.0)
    line.close()
    assert capsys.readouterr().err == (
        "training stage: step 25/40, loss 0.125, 2 samples/s, 5.0 % waiting for data, 60 s left\n"
    )
