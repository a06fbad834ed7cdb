"""Data frames and series: columns by blocks, labels by name or index, missing values left out. See test_containers."""

import re

import numpy as np
import pytest
from everyday import examples, exhaustive
from hypothesis import given
from hypothesis import strategies as st

import numbanorm as nbn
from numbanorm.tables.columns import blocks_of, columns_of

pd = pytest.importorskip("pandas")
NA = pd.NA


@pytest.fixture
def sites():
    """Measurements of sites, which a column names; of several types."""
    return pd.DataFrame(
        {
            "height": np.array([1.0, 3.0, 10.0, 30.0, 50.0]),
            "site": ["north", "north", "south", "south", "south"],
            "weight": np.array([5.0, 7.0, 1.0, 2.0, 6.0], np.float32),
            "age": [1, 3, 20, 40, 30],
        },
        index=pd.Index([7, 3, 9, 1, 5], name="who"),
    )


def by_site(sites):
    numbers = sites.drop(columns="site")
    return numbers.groupby(sites["site"]).transform(lambda v: (v - v.mean()) / v.std(ddof=0))


# labels ---------------------------------------------------------------------------------------------------------------


def test_a_column_of_labels_splits_the_others_and_stays_as_it_is(sites):
    before = sites.copy()
    y = nbn.normalize(sites, axis=0, labels="site", eps=0)
    assert list(y.columns) == list(sites.columns) and y.index.equals(sites.index) and y.index.name == "who"
    pd.testing.assert_series_equal(y["site"], sites["site"])
    pd.testing.assert_frame_equal(y.drop(columns="site"), by_site(sites), check_dtype=False, rtol=1e-6)
    assert y.dtypes.drop("site").to_dict() == {"height": "float64", "weight": "float32", "age": "float64"}
    pd.testing.assert_frame_equal(sites, before)


def test_moments_by_a_column_have_its_values_in_order(sites):
    m = nbn.moments(sites, axis=0, labels="site")
    expected = sites.groupby("site").mean()
    assert m.shape == (2, 3)
    np.testing.assert_allclose(m.mean, expected.to_numpy())
    np.testing.assert_allclose(m.std(1), sites.groupby("site").std().to_numpy())
    whole = nbn.moments(sites[["site", "height"]], labels="site")
    assert whole.shape == (2,) and whole.mean.tolist() == [2.0, 30.0]


@pytest.mark.parametrize("kind", ["integers", "dates", "truths", "categories", "nullable", "floats"])
def test_columns_of_any_kind_are_labels(kind, sites):
    labels = {
        "integers": [0, 0, 2, 2, 2],
        "dates": pd.to_datetime(["2020-01-01"] * 2 + ["2021-01-01"] * 3),
        "truths": [False, False, True, True, True],
        "categories": pd.Categorical(["a", "a", "c", "c", "c"], ["a", "b", "c"]),
        "nullable": pd.array([0, 0, 2, 2, None], "Int64"),
        "floats": [0.0, 0.0, 2.0, 2.0, np.nan],
    }[kind]
    x = sites.assign(site=labels)
    m = nbn.moments(x, axis=0, labels="site")
    last = 1 if kind in ("dates", "truths") else 2
    some = 2 if kind in ("nullable", "floats") else 3
    assert m.shape == (last + 1, 3) and m.count[last].tolist() == [some] * 3 and m.mean[0].tolist() == [2, 6, 2]
    y = nbn.normalize(x, axis=0, labels="site", eps=0)
    assert y["height"].iloc[:2].tolist() == [-1, 1]
    if some == 2:  # whose label is missing is copied, as with a negative one
        assert y["height"].iloc[4] == 50


def test_a_series_of_labels_is_put_in_the_order_of_the_index(sites):
    labels = pd.Series(["south", "north", "south", "north", "south", "west"], index=[9, 7, 1, 3, 5, 99])
    numbers = sites.drop(columns="site")
    y = nbn.normalize(numbers, axis=0, labels=labels, eps=0)
    pd.testing.assert_frame_equal(y, by_site(sites), check_dtype=False, rtol=1e-6)
    alone = nbn.normalize(numbers["height"], labels=labels, eps=0)
    pd.testing.assert_series_equal(alone, y["height"])
    twice = numbers.loc[[7, 7, 3]]  # x may have an index twice, labels not
    assert nbn.moments(twice, axis=0, labels=labels).mean[0, 0] == pytest.approx(5 / 3)
    by_place = nbn.moments(numbers, axis=0, labels=pd.Series([0, 1, 1, 1, 1]).to_numpy())
    assert by_place.count[:, 0].tolist() == [1, 4]


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (pd.Series([0, 1], index=[7, 3]), ValueError, r"lacks 3 of the 5 rows of x, such as 9; .*reindex"),
        (pd.Series([0] * 6, index=[7, 3, 9, 1, 5, 5]), ValueError, r"has 5 twice.*labels.to_numpy\(\)"),
        (pd.Series([0.5] * 5, index=[7, 3, 9, 1, 5]), TypeError, "labels must be integers.*got 0.5"),
        ("cite", ValueError, r"labels='cite' names a column, and x has no column .*'height', 'site'"),
        ("height", TypeError, None),
        ("weight", TypeError, "labels, the column 'weight' of x, must be integers"),
    ],
    ids=str,
)
def test_labels_that_do_not_fit_are_named(labels, error, message, sites):
    x = sites.assign(weight=sites["weight"] + 0.5)
    for call in (nbn.moments, nbn.normalize):
        if message is None:  # whole numbers are labels; then what is no number is named
            with pytest.raises(error, match=r"columns that are no numbers: \['site'"):
                call(x, axis=0, labels=labels)
        else:
            with pytest.raises(error, match=message):
                call(x, axis=0, labels=labels)


def test_labels_that_name_nothing_are_refused(sites):
    for call in (nbn.moments, nbn.normalize):
        with pytest.raises(ValueError, match="names a column, but x is a Series"):
            call(sites["height"], labels="site")
        with pytest.raises(ValueError, match="2 columns of that name"):
            call(pd.DataFrame(np.ones((2, 2)), columns=["a", "a"]), axis=0, labels="a")
        with pytest.raises(ValueError, match=r"one for each row, but .* keeps rows apart"):
            call(sites, axis=1, labels="site")
        with pytest.raises(TypeError, match="have no order, so they cannot be numbered"):
            call(sites["height"], labels=pd.Series([1, "a", (2,), 3, 4], index=sites.index, dtype=object))
        with pytest.raises(ValueError, match="num_labels=1"):
            call(sites, axis=0, labels="site", num_labels=1)
        with pytest.raises(TypeError, match="labels is text"):
            call(np.ones((5, 2)), axis=0, labels="site")


def test_columns_with_numbers_for_names_are_labels_too():
    x = pd.DataFrame({0: [1.0, 3.0, 5.0], 7: [0, 0, 1]})
    assert nbn.moments(x, axis=0, labels=7).mean.tolist() == [[2.0], [5.0]]
    deep = pd.DataFrame([[1.0, 0], [3.0, 0]], columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)]))
    assert nbn.moments(deep, axis=0, labels=("b", 2)).mean.tolist() == [[2.0]]


def test_labels_along_columns_and_of_each_element_are_by_place():
    x = pd.DataFrame([[1.0, 3.0, 5.0], [2.0, 4.0, 8.0]])
    assert nbn.moments(x, axis=1, labels=[0, 0, 1]).mean.tolist() == [[2.0, 3.0], [5.0, 8.0]]
    assert nbn.moments(x, labels=[[0, 0, 1], [1, 1, 1]]).mean.tolist() == [2.0, 4.75]


# missing values -------------------------------------------------------------------------------------------------------


def test_missing_values_of_nullable_types_are_left_out_and_stay_missing():
    x = pd.DataFrame({"n": pd.array([1, NA, 3], "Int64"), "f": pd.array([2, 4, NA], "Float32"), "plain": [1.0, 2, 6]})
    m = nbn.moments(x, axis=0)
    assert m.count.tolist() == [2, 2, 3] and m.mean.tolist() == [2, 3, 3]
    y = nbn.normalize(x, axis=0, eps=0)
    expected = {"n": pd.array([-1, NA, 1], "Float64"), "f": pd.array([-1, 1, NA], "Float32")}
    pd.testing.assert_frame_equal(y[["n", "f"]], pd.DataFrame(expected))
    assert y["plain"].dtype == np.float64
    assert nbn.moments(x).count == 7 and nbn.moments(x, axis=1).count.tolist() == [3, 2, 2]
    rows = nbn.normalize(x, axis=1, eps=0)
    assert rows.isna().to_numpy().tolist() == [[False] * 3, [True, False, False], [False, True, False]]
    assert rows.iloc[1, 1:].tolist() == [1, -1]


def test_a_series_with_missing_values():
    x = pd.Series(pd.array([1, NA, 3, 8], "Int64"), index=list("abcd"), name="n")
    x.attrs["unit"] = "m"
    assert nbn.moments(x, where=[True, True, True, False]).count == 2
    y, m = nbn.normalize(x, eps=0, return_moments=True, where=[True, True, True, False])
    assert m.mean == 2 and (y.name, str(y.dtype), y.attrs) == ("n", "Float64", {"unit": "m"})
    pd.testing.assert_series_equal(y, pd.Series(pd.array([-1, NA, 1, 6], "Float64"), x.index, name="n"))
    again = nbn.normalize(x, moments=m, eps=0)
    pd.testing.assert_series_equal(again, y)


def test_nan_of_other_types_count_unless_they_are_skipped():
    x = pd.DataFrame({"a": [1.0, np.nan, 3.0], "b": np.array([1, 2, 3], np.float32)})
    assert np.isnan(nbn.moments(x, axis=0).mean).tolist() == [True, False]
    assert nbn.moments(x, axis=0, skipna=True).mean.tolist() == [2.0, 2.0]
    assert nbn.normalize(x, axis=0, skipna=True, eps=0)["a"].isna().tolist() == [False, True, False]


def test_nullable_columns_without_missing_values_keep_their_type():
    x = pd.DataFrame({"n": pd.array([1, 3], "Int64"), "b": pd.array([True, False], "boolean")})
    y = nbn.normalize(x, axis=0, eps=0)
    assert [str(t) for t in y.dtypes] == ["Float64", "Float64"]
    assert y.to_numpy(dtype=float).tolist() == [[-1, 1], [1, -1]]


def test_a_mask_beside_missing_values_must_be_one():
    x = pd.DataFrame({"n": pd.array([1, NA], "Int64"), "f": [1.0, 2.0]})
    with pytest.raises(TypeError, match="where must be boolean"):
        nbn.moments(x, axis=0, where=[[1], [0]])
    with pytest.raises(ValueError, match=r"where of shape \(3,\) does not broadcast to the columns of x.*\(2, 2\)"):
        nbn.moments(x, axis=0, where=[True] * 3)


# blocks ---------------------------------------------------------------------------------------------------------------


def columns_at_hand(x):
    return [(block.first, block.last) for block in blocks_of(columns_of(x))]


def test_columns_of_a_block_are_read_together_where_they_lie():
    x = pd.DataFrame({"a": [1.0, 2], "b": [3.0, 4], "n": [5, 6], "m": [7, 8], "c": [9.0, 1]})
    blocks = blocks_of(columns_of(x))
    assert sum(block.values.shape[1] for block in blocks) == 5 and len(blocks) <= 4
    wide = pd.DataFrame(np.arange(12.0).reshape(3, 4))
    (only,) = blocks_of(columns_of(wide))
    assert np.shares_memory(only.values, wide.to_numpy()) and only.values.tolist() == wide.to_numpy().tolist()
    assert columns_at_hand(wide.iloc[:, ::-2]) == [(0, 2)]
    assert columns_at_hand(wide.iloc[:0]) == [(0, 1), (1, 2), (2, 3), (3, 4)]


TYPES = ["float64", "Int64"]


ALL = pytest.param([*TYPES, "float32", "Float32", "int16", "bool"], marks=exhaustive)


@pytest.mark.parametrize("types", [TYPES, ALL], ids=["everyday", "all"])
@given(data=st.data())
@examples(100)
def test_frames_of_any_blocks_are_as_their_columns_alone(types, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    rows, parts = data.draw(st.integers(1, 20)), []
    for i in range(data.draw(st.integers(1, 4))):
        dtype = data.draw(st.sampled_from(types))
        values = rng.integers(0, 2 if dtype == "bool" else 50, (rows, data.draw(st.integers(1, 3))))
        part = pd.DataFrame(values, columns=[f"{i}.{j}" for j in range(values.shape[1])]).astype(dtype)
        if dtype[0] in "IF":
            part = part.mask(rng.random(part.shape) < 0.2)
        parts.append(part)
    x = pd.concat(parts, axis=1)
    x = x[list(rng.permutation(x.columns))]
    weights = rng.integers(1, 4, x.shape) / 2
    labels = data.draw(st.sampled_from([None, rng.integers(0, 3, rows)]))
    given = {"labels": labels, "num_labels": 3} if labels is not None else {}
    m, w = nbn.moments(x, axis=0, **given), nbn.moments(x, axis=0, weights=weights)
    y = nbn.normalize(x, axis=0, weight=np.arange(1.0, x.shape[1] + 1), eps=0, **given)
    for j, name in enumerate(x.columns):
        some = x[name].to_numpy(dtype=float, na_value=np.nan)
        alone = nbn.moments(some, skipna=True, **given)
        np.testing.assert_allclose(m.mean[..., j], alone.mean, rtol=1e-12)
        np.testing.assert_allclose(m.m2[..., j], alone.m2, rtol=1e-10, atol=1e-10)
        weighted = nbn.moments(some, skipna=True, weights=weights[:, j])
        np.testing.assert_allclose(w.var()[..., j], weighted.var(), rtol=1e-10, atol=1e-10)
        expected = nbn.normalize(some, skipna=True, eps=0, **given) * (j + 1)
        np.testing.assert_allclose(y[name].to_numpy(dtype=float, na_value=np.nan), expected, rtol=1e-4, atol=1e-4)


def test_given_statistics_go_to_their_columns(sites):
    numbers = sites.drop(columns="site")
    m = nbn.moments(numbers, axis=0)
    pd.testing.assert_frame_equal(nbn.normalize(numbers, axis=0, moments=m), nbn.normalize(numbers, axis=0))
    back, kept = nbn.normalize(numbers, axis=0, moments=m, return_moments=True)
    assert kept is m and type(back) is pd.DataFrame
    with pytest.raises(ValueError, match=r"Moments of the 3 columns of x, but they have group shape \(2,\)"):
        nbn.normalize(numbers, axis=0, moments=m[:2])
    with pytest.raises(TypeError, match="must be Moments"):
        nbn.normalize(numbers, axis=0, moments=3.0)


def test_chunks_of_a_reader_are_summed_up(sites, tmp_path):
    sites.to_csv(tmp_path / "sites.csv")
    chunks = pd.read_csv(tmp_path / "sites.csv", index_col="who", usecols=["who", "height", "age"], chunksize=2)
    m = nbn.stream(chunks, axis=0)
    np.testing.assert_allclose(m.std(1), sites[["height", "age"]].std())
    whole = nbn.Moments.empty((2, 3)).update(sites, axis=0, labels="site")
    assert whole == nbn.moments(sites, axis=0, labels="site")


def test_what_broadcasts_must_fit_the_columns(sites):
    numbers = sites.drop(columns="site")
    scaled = nbn.normalize(numbers, axis=0, weight=[2.0, 2.0, 2.0], bias=1.0, eps=0)
    np.testing.assert_allclose(scaled, 2 * nbn.normalize(numbers, axis=0, eps=0) + 1, rtol=1e-6)
    for name in ("weight", "bias", "weights"):
        with pytest.raises(ValueError, match=rf"{name} of shape \(5,\) does not broadcast to the columns.*\(5, 3\)"):
            nbn.normalize(numbers, axis=0, **{name: np.ones(5)})


# polars ---------------------------------------------------------------------------------------------------------------


def test_polars_frames_by_a_column_without_their_missing_values(sites):
    pl = pytest.importorskip("polars")
    x = pl.DataFrame(
        {"h": [1.0, 3.0, 10.0, None, 50.0], "site": ["n", "n", "s", "s", None], "ok": [True, False, True, True, None]}
    )
    m = nbn.moments(x, axis=0, labels="site")
    assert m.count.tolist() == [[2, 2], [1, 2]] and m.mean.tolist() == [[2, 0.5], [10, 1]]
    y = nbn.normalize(x, axis=0, labels="site", eps=0)
    assert type(y) is pl.DataFrame and y.columns == x.columns and y["site"].to_list() == x["site"].to_list()
    assert y["h"].to_list() == [-1.0, 1.0, 0.0, None, 50.0] and y["ok"].to_list() == [1.0, -1.0, 0.0, 0.0, None]
    height = nbn.normalize(x["h"], eps=0)
    assert height.name == "h" and height.to_list()[3] is None and abs(height.mean()) < 1e-12
    assert nbn.moments(x["h"], labels=pl.Series([1, 1, 0, 0, None])).mean.tolist() == [10, 2]
    assert nbn.moments(x["h"], labels=pl.Series([1.0, 1.0, 0.0, 0.0, None])).mean.tolist() == [10, 2]
    with pytest.raises(ValueError, match=re.escape("no column of that name, but ['h', 'site', 'ok']")):
        nbn.moments(x, axis=0, labels="who")


def test_polars_nan_are_numbers():
    pl = pytest.importorskip("polars")
    x = pl.DataFrame({"a": [1.0, float("nan")], "b": [1.0, None]})
    assert np.isnan(nbn.moments(x, axis=0).mean).tolist() == [True, False]
    assert nbn.moments(x, axis=0, skipna=True).mean.tolist() == [1, 1]
