"""Columns are ordered as pandas orders them, in both directions."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.browse.columnar import descending, order

FEW = st.sampled_from([np.nan, -np.inf, -1.5, -0.0, 0.0, 5e-324, 2.0, np.inf])


@settings(deadline=None, derandomize=True)
@given(
    arrays(np.float64, st.integers(0, 40), elements=FEW | st.floats())
    | arrays(np.int64, st.integers(0, 40), elements=st.integers(-3, 3) | st.integers(-(2**63), 9))
)
def test_equal_values_stay_as_they_stand_and_unknown_ones_come_last(values: np.ndarray) -> None:
    places = order(values)
    table = pd.Series(values)
    assert places.tolist() == table.sort_values(kind="stable").index.tolist()
    # pandas turns descending stable sorts over by negation, which int64's least does not have.
    ranks = table.rank(method="dense", ascending=False, na_option="bottom")
    assert descending(values, places).tolist() == ranks.sort_values(kind="stable").index.tolist()


@pytest.mark.parametrize("values", [np.arange(5000) % 7, np.arange(5000)[::-1] / 3])
def test_long_columns_are_ordered_too(values: np.ndarray) -> None:
    places = order(values)
    assert places.tolist() == np.argsort(values, kind="stable").tolist()
    assert descending(values, places).tolist() == np.argsort(-values, kind="stable").tolist()
