import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimp.data.columns import Coded, encode, join_columns, listed, obs_column
from fimp.errors import FIMPError

NOTHING = float("nan")


@pytest.mark.parametrize(
    ("column", "names", "codes", "kind"),
    [
        (pd.Series(["b", "a", "b"]), ["a", "b"], [1, 0, 1], "text"),
        (pd.Series(["b", None, "", "  ", NOTHING, pd.NA, "a"], dtype=object), ["a", "b"], [1, *[-1] * 5, 0], "text"),
        (pd.Series(["b", pd.NA], dtype="string"), ["b"], [0, -1], "text"),
        (pd.Series([10, 9, 10]), ["9", "10"], [1, 0, 1], "integer"),
        (pd.Series([10, None, 9], dtype="Int64"), ["9", "10"], [1, -1, 0], "integer"),
        # An integer column becomes one of floats by a missing value; its names stay.
        (pd.Series([10, NOTHING, 9]), ["9", "10"], [1, -1, 0], "integer"),
        (pd.Series([0.5, NOTHING, 0.25]), ["0.25", "0.5"], [1, -1, 0], "measure"),
        (pd.Series([np.inf, 1.0]), ["1.0", "inf"], [1, 0], "measure"),
        (pd.Series([True, False]), ["False", "True"], [1, 0], "text"),
        (pd.Series([True, None], dtype="boolean"), ["True"], [0, -1], "text"),
        (pd.Series([b"two", b"one", b""]), ["one", "two"], [1, 0, -1], "text"),
        (pd.Series([1, "1", "a", None], dtype=object), ["1", "a"], [0, 0, 1, -1], "text"),
        (pd.Series([["a"], ["b"]]), ["['a']", "['b']"], [0, 1], "text"),
        (pd.Series([None, None], dtype=object), [], [-1, -1], "text"),
        # What .astype(str) makes of a missing value.
        (pd.Series(["b", "nan", "NaN", "None", "<NA>", "NaT", "none"]), ["b", "none"], [0, *[-1] * 5, 1], "text"),
        (pd.Series(["nan", "nan"]), [], [-1, -1], "text"),
    ],
)
def test_a_column_of_any_type(column, names, codes, kind):
    coded = encode(column)
    assert (coded.names, coded.codes.tolist(), coded.kind) == (names, codes, kind)
    assert coded.codes.dtype == np.int64
    assert coded.missing == codes.count(-1)


@pytest.mark.parametrize(
    ("categories", "names"), [(["low", "high", "none"], ["low", "high", "none"]), ([3, 1, 2], ["3", "1", "2"])]
)
def test_categories_keep_their_order_and_unused_ones_go_on_request(categories, names):
    values = [categories[1], categories[0], None, categories[1]]
    coded = encode(pd.Series(pd.Categorical(values, categories=categories)))
    assert (coded.names, coded.codes.tolist(), coded.kind) == (names, [1, 0, -1, 1], "categorical")
    assert coded.used().names == names[:2]
    last = coded.take(np.array([0, 2])).used()
    assert (last.names, last.codes.tolist()) == ([names[1]], [0, -1])


@pytest.mark.parametrize("nothing", ["", "nan", "<NA>"])
def test_a_category_of_empty_text_is_missing(nothing):
    coded = encode(pd.Series(pd.Categorical([nothing, "b", "a"], categories=[nothing, "b", "a"])))
    assert (coded.names, coded.codes.tolist()) == (["b", "a"], [-1, 0, 1])


texts = st.lists(st.sampled_from(["a", "b", "c", "", None]), min_size=1, max_size=20)


@given(st.lists(texts, min_size=1, max_size=3))
def test_joined_columns_are_the_column_of_all(columns):
    joined = join_columns([encode(pd.Series(column, dtype=object)) for column in columns])
    whole = encode(pd.Series([value for column in columns for value in column], dtype=object))
    assert joined.names == whole.names
    assert joined.codes.tolist() == whole.codes.tolist()


def test_joined_numbers_are_sorted_by_size_and_joined_categories_keep_their_order():
    assert join_columns([encode(pd.Series([10, 2])), encode(pd.Series([9]))]).names == ["2", "9", "10"]
    first = Coded(np.array([0]), ["low", "high"], "categorical")
    second = Coded(np.array([0, 1]), ["all", "low"], "categorical")
    joined = join_columns([first, second])
    assert (joined.names, joined.codes.tolist()) == (["low", "high", "all"], [0, 2, 0])


def test_columns_of_one_name_are_refused():
    table = pd.DataFrame([[1, 2]], columns=["a", "a"])
    with pytest.raises(FIMPError, match=r"x\.h5ad: obs has 2 columns named 'a'"):
        obs_column(table, "a", "x.h5ad")


def test_long_lists_are_cut():
    assert listed("abc") == "a, b, c"
    assert listed(range(1200), 2) == "0, 1, and 1,198 more"
