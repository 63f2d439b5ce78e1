"""What docs/scaling.md predicts is computed from what was measured."""

import json
from typing import Any

import pytest

from benchmarks.scaling_prediction import (
    DATASETS,
    MEASURED,
    PAGE,
    Machine,
    seconds,
    slope,
    with_tables,
)


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(MEASURED.read_text())
    return content


def test_the_tables_of_the_page_are_those_of_the_measurements(measured: dict[str, Any]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_tables(page, measured), "run `benchmarks/scaling_prediction.py --write`"


def test_a_slope_leaves_out_what_a_run_costs_once() -> None:
    few = {"cpu_s": 5 + 2 * 10, "read": 10, "written": 70, "units": 10}
    many = {"cpu_s": 5 + 2 * 40, "read": 40, "written": 100, "units": 40}
    cost = slope({"few": few, "many": many})
    assert (cost.cpu, cost.read, cost.written) == (2, 1, 1)
    quick = slope({"few": few, "many": many | {"cpu_s": 20}})
    assert quick.at_most
    assert quick.cpu == 0.5


def test_a_million_triplets_were_handed_out(measured: dict[str, Any]) -> None:
    assert max(row["triplets"] for row in measured["driver"]) == 1_000_000


def test_more_nodes_help_until_something_shared_is_the_bound(measured: dict[str, Any]) -> None:
    film = DATASETS[2]
    slow_storage = Machine(storage=1.0)
    for name, (time, bound) in seconds(film, 1, Machine(), measured).items():
        more, _ = seconds(film, 10, Machine(), measured)[name]
        assert more <= time
        if bound == "CPU":
            assert more >= time / 10.0001
        assert (
            seconds(film, 10, slow_storage, measured)[name]
            == (seconds(film, 100, slow_storage, measured)[name])
        )
        assert bound in ("CPU", "network", "storage", "driver")
