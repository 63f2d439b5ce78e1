"""Columns are ordered as pandas orders them, in both directions."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.browse.columnar import order, spread

FEW = st.sampled_from([np.nan, -np.inf, -1.5, -0.0, 0.0, 5e-324, 2.0, np.inf])


@settings(deadline=None, derandomize=True)
@given(
    arrays(np.float64, st.integers(0, 40), elements=FEW | st.floats())
    | arrays(np.int64, st.integers(0, 40), elements=st.integers(-3, 3) | st.integers(-(2**63), 9))
)
def test_equal_values_stay_as_they_stand_and_unknown_ones_come_last(values: np.ndarray) -> None:
    table = pd.Series(values)
    assert order(values).tolist() == table.sort_values(kind="stable").index.tolist()
    # pandas turns descending stable sorts over by negation, which int64's least does not have.
    ranks = table.rank(method="dense", ascending=False, na_option="bottom")
    expected = ranks.sort_values(kind="stable").index.tolist()
    assert order(values, descending=True).tolist() == expected


@pytest.mark.parametrize("values", [np.arange(5000) % 7, np.arange(5000)[::-1] / 3])
def test_long_columns_are_ordered_too(values: np.ndarray) -> None:
    assert order(values).tolist() == np.argsort(values, kind="stable").tolist()
    turned = order(values, descending=True)
    assert turned.tolist() == np.argsort(-values, kind="stable").tolist()


def test_values_are_spread_as_numpy_spreads_them() -> None:
    values = np.random.default_rng(0).normal(size=1000)
    counts, low, high = spread(np.append(values, [np.nan, np.inf]), 40)
    assert (low, high) == (values.min(), values.max())
    # A value on a border may fall to either side of it.
    assert np.abs(counts - np.histogram(values, 40)[0]).sum() <= 2
    assert counts.sum() == len(values)
