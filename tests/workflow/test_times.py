"""The time of each step, as Snakemake has noted it."""

import os
from pathlib import Path

import pytest

from pipeline.errors import MidframeError
from workflow.times import report, step_times


def test_steps_are_listed_in_the_order_in_which_they_ended(tmp_path: Path) -> None:
    for number, (name, seconds) in enumerate([("score/bikes", "12.5"), ("fetch/clips", "3.25")]):
        file = tmp_path / "benchmarks" / f"{name}.tsv"
        file.parent.mkdir(parents=True)
        file.write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:00:12\t-\n")
        os.utime(file, (0, 100 - number))
    assert list(step_times(tmp_path).items()) == [("fetch/clips", 3.25), ("score/bikes", 12.5)]
    assert report(step_times(tmp_path)).splitlines()[-1].split() == ["all", "steps", "15.8", "s"]


def test_an_experiment_that_has_not_run_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(MidframeError, match="no times of steps; run the experiment first"):
        step_times(tmp_path)
