import os
import signal
from pathlib import Path

import pytest
import torch

from model.training.resume import Progress, stop_request
from pipeline.errors import MidframeError


def test_newest_state_is_taken_up(tmp_path: Path) -> None:
    with Progress(tmp_path / "model", {}) as progress:
        for step in (5, 40, 100):
            progress.save(step, {"step": step, "weights": torch.ones(step)})
        state = progress.load()
    assert state is not None
    assert state["step"] == 100
    assert torch.equal(state["weights"], torch.ones(100))


def test_only_the_newest_states_are_kept(tmp_path: Path) -> None:
    with Progress(tmp_path / "model", {}) as progress:
        for step in (1, 2, 3, 4):
            progress.save(step, {})
        names = sorted(path.name for path in progress.directory.glob("state-*"))
    assert names == ["state-000000003.pt", "state-000000004.pt"]


def test_damaged_state_gives_way_to_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress(tmp_path / "model", {}) as progress:
        progress.save(1, {"step": 1})
        progress.save(2, {"step": 2})
        newest = progress.directory / "state-000000002.pt"
        newest.write_bytes(newest.read_bytes()[:200])
        assert progress.load() == {"step": 1}
    assert "state-000000002.pt: damaged" in capsys.readouterr().err


def test_nothing_is_taken_up_where_nothing_was_saved(tmp_path: Path) -> None:
    with Progress(tmp_path / "model", {}) as progress:
        assert progress.load() is None


def test_another_experiment_has_another_directory(tmp_path: Path) -> None:
    out = tmp_path / "model"
    with Progress(out, {"seed": 0}) as one, Progress(out, {"seed": 1}) as two:
        one.save(1, {})
        assert two.load() is None


def test_two_processes_cannot_train_the_same_stage(tmp_path: Path) -> None:
    with (
        Progress(tmp_path / "model", {}),
        pytest.raises(MidframeError, match="another process is training"),
    ):
        Progress(tmp_path / "model", {})


def test_results_are_published_and_kept_until_removed(tmp_path: Path) -> None:
    with Progress(tmp_path / "model", {}) as progress:
        (progress.results("weights") / "epoch-0001").write_text("weights")
        (progress.results("weights") / ".epoch-0002.partial-7").write_text("half")
        (tmp_path / "partial").mkdir()
        progress.publish(tmp_path / "partial")
        published = list((tmp_path / "partial" / "weights").iterdir())
        assert [(path.name, path.read_text()) for path in published] == [("epoch-0001", "weights")]
        assert (progress.results("weights") / "epoch-0001").exists()
        progress.remove()
        assert not progress.directory.exists()


def test_publishing_removes_what_other_settings_have_left_unless_they_still_train(
    tmp_path: Path,
) -> None:
    out = tmp_path / "model"
    with Progress(out, {"seed": 0}) as abandoned:
        abandoned.save(1, {})
    with Progress(tmp_path / "other", {"seed": 0}) as other:
        other.save(1, {})
    with Progress(out, {"seed": 1}) as running, Progress(out, {"seed": 2}) as published:
        published.remove()
        assert sorted(tmp_path.iterdir()) == sorted([running.directory, other.directory])


def test_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MidframeError, match="cannot write here"):
        Progress(tmp_path / "file" / "model", {})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_request_to_stop_is_noted(number: signal.Signals) -> None:
    with stop_request() as stop:
        assert stop.signal is None
        os.kill(os.getpid(), number)
        assert stop.signal is number


def test_second_request_is_not_held_back() -> None:
    with stop_request():
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_restored() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_request():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
