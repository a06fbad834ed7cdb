"""Data frames and labelled arrays: columns that are no numbers are named."""

from collections.abc import Mapping

import pytest

import numbanorm as nbn

pytestmark = pytest.mark.usefixtures("numpy_engine")


def test_columns_of_pandas_that_are_no_numbers_are_named():
    pandas = pytest.importorskip("pandas")
    numbers = [1.0, 2.0]
    refused = {
        "text": (pandas.DataFrame({"age": numbers, "name": ["x", "y"]}), r"'name' \(.*[xw]\[\['age'\]\]"),
        "objects": (pandas.DataFrame({"a": numbers, 7: [None, "y"]}), r"7 \("),
        "categories": (pandas.DataFrame({"a": numbers, "grade": pandas.Categorical([1, 2])}), r"'grade' \(category\)"),
        "categories alone": (pandas.DataFrame({"grade": pandas.Categorical([1, 2])}), r"'grade' \(category\)"),
        "dates": (pandas.DataFrame({"a": numbers, "day": pandas.date_range("2020", periods=2)}), r"'day' \(datetime64"),
        "missing": (
            pandas.DataFrame({"a": numbers, "n": pandas.array([1, None], dtype="Int64")}),
            r"Int64, float64.*to_numpy\(dtype=float\), with na_value",
        ),
        "booleans": (pandas.DataFrame({"a": numbers, "b": [True, False]}), r"bool, float64.*to_numpy\(dtype=float\)"),
        "series of text": (pandas.Series(["a", "b"], name="who"), "Series named 'who'.*str"),
        "series of categories": (pandas.Series([1, 2], dtype="category", name="grade"), "'grade' of categories"),
        "series of dates": (pandas.Series(pandas.date_range("2020", periods=2)), "datetime64.*spans of time|dates"),
    }
    for x, said in refused.values():
        for call in (nbn.moments, nbn.normalize, nbn.weight_standardize):
            with pytest.raises(TypeError, match=f"^[xw] .*{said}"):
                call(x)


def test_a_frame_follows_the_advice_of_its_error():
    pandas = pytest.importorskip("pandas")
    x = pandas.DataFrame({"a": [1.0, 2.0], "n": pandas.array([1, None], dtype="Int64")})
    assert nbn.moments(x.to_numpy(dtype=float, na_value=float("nan"))[:1]).mean == 1
    many = pandas.DataFrame({f"c{i}": ["x"] for i in range(50)})
    with pytest.raises(TypeError, match=r"'c0' .*\.\.\.") as caught:
        nbn.moments(many)
    assert len(str(caught.value)) < 500


def test_columns_of_polars_that_are_no_numbers_are_named():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"age": [1.0, 2.0], "name": ["x", "y"], "ok": [True, False]})
    with pytest.raises(TypeError, match=r"^x .*'name' \(String\).*\['age', 'ok'\]"):
        nbn.normalize(frame)
    assert nbn.normalize(frame[["age", "ok"]]).shape == (2, 2)
    with pytest.raises(TypeError, match=r"^x .*collect\(\)"):
        nbn.normalize(polars.LazyFrame({"a": [1.0]}))
    with pytest.raises(TypeError, match=r"^x .*Series named 'who'|^x .*<U"):
        nbn.normalize(polars.Series("who", ["a", "b"]))


def test_a_dataset_of_xarray_is_refused_with_the_mend():
    xarray = pytest.importorskip("xarray")
    data = xarray.Dataset({"a": ("x", [1.0, 2.0])})
    assert isinstance(data, Mapping)
    with pytest.raises(TypeError, match=r"^x is a Dataset.*x\[key\]"):
        nbn.normalize(data)
