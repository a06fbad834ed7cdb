"""Data frames and labelled arrays come back as what they were; columns that are no numbers are named."""

from collections.abc import Mapping

import numpy as np
import pytest

import numbanorm as nbn

pytestmark = pytest.mark.usefixtures("numpy_engine")

VALUES = np.array([[1.0, 10.0], [2.0, 60.0], [6.0, 20.0]])
BY_COLUMN = (VALUES - VALUES.mean(0)) / VALUES.std(0)


def test_a_pandas_frame_keeps_its_index_columns_and_attrs():
    pandas = pytest.importorskip("pandas")
    columns = pandas.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["letter", "number"])
    x = pandas.DataFrame(VALUES, index=pandas.Index(["p", "q", "r"], name="row"), columns=columns)
    x.attrs["source"] = "a sensor"
    y = nbn.normalize(x, axis=0, eps=0)
    pandas.testing.assert_frame_equal(y, pandas.DataFrame(BY_COLUMN, x.index, x.columns))
    assert y.attrs == x.attrs
    np.testing.assert_array_equal(x, VALUES)
    narrow = nbn.layer_norm(x.astype("float32"), 2)
    assert (type(narrow), set(narrow.dtypes)) == (type(x), {np.dtype("float32")})


def test_a_pandas_frame_of_integers_booleans_and_floats_gives_one_of_floats():
    pandas = pytest.importorskip("pandas")
    x = pandas.DataFrame({"whole": [1, 2, 6], "real": VALUES[:, 1]})
    pandas.testing.assert_frame_equal(
        nbn.normalize(x, axis=0, eps=0), pandas.DataFrame(BY_COLUMN, columns=["whole", "real"])
    )
    assert nbn.normalize(x[:0], axis=1).shape == (0, 2)


def test_a_pandas_series_keeps_its_index_and_name():
    pandas = pytest.importorskip("pandas")
    x = pandas.Series(VALUES[:, 0], index=[10, 20, 30], name="height")
    x.attrs["unit"] = "m"
    y = nbn.normalize(x, eps=0)
    pandas.testing.assert_series_equal(y, pandas.Series(BY_COLUMN[:, 0], x.index, name="height"))
    assert y.attrs == {"unit": "m"}
    standardized = nbn.weight_standardize(pandas.DataFrame(VALUES, columns=["a", "b"]))
    assert list(standardized.columns) == ["a", "b"]


def test_polars_frames_and_series_keep_their_names():
    polars = pytest.importorskip("polars")
    x = polars.DataFrame(VALUES, ["a", "b"])
    y = nbn.normalize(x, axis=0, eps=0)
    assert (type(y), y.columns) == (type(x), ["a", "b"])
    np.testing.assert_allclose(y.to_numpy(), BY_COLUMN)
    wide = nbn.normalize(polars.DataFrame(VALUES.T, ["p", "q", "r"]), axis=1, eps=0)
    np.testing.assert_allclose(wide.to_numpy(), BY_COLUMN.T)
    height = nbn.normalize(x["a"].rename("height"), eps=0)
    assert (type(height), height.name) == (polars.Series, "height")
    np.testing.assert_allclose(height.to_numpy(), BY_COLUMN[:, 0])


def test_xarrays_arrays_keep_dimensions_coordinates_name_and_attrs():
    xarray = pytest.importorskip("xarray")
    coords = {"time": [2001, 2002, 2003], "site": ["x", "y"], "height": ("site", [1.0, 2.0])}
    x = xarray.DataArray(VALUES, coords, ["time", "site"], "temperature", {"unit": "K"})
    expected = x.copy(data=BY_COLUMN)
    xarray.testing.assert_allclose(nbn.normalize(x, axis=0, eps=0), expected)
    y = nbn.normalize(x, axis=0, eps=0)
    assert (y.name, y.attrs, set(y.coords)) == ("temperature", {"unit": "K"}, {"time", "site", "height"})
    np.testing.assert_array_equal(x, VALUES)
    assert type(nbn.normalize(x.variable, axis=0)) is xarray.Variable


def test_a_result_asked_for_elsewhere_goes_there():
    pandas = pytest.importorskip("pandas")
    out = np.empty_like(VALUES)
    assert nbn.normalize(pandas.DataFrame(VALUES), axis=0, eps=0, out=out) is out
    np.testing.assert_allclose(out, BY_COLUMN)


# what is refused ------------------------------------------------------------------------------------------------------


def test_columns_of_pandas_that_are_no_numbers_are_named():
    pandas = pytest.importorskip("pandas")
    numbers = [1.0, 2.0]
    refused = {
        "text": (pandas.DataFrame({"age": numbers, "name": ["x", "y"]}), r"'name' \(.*[xw]\[\['age'\]\]"),
        "objects": (pandas.DataFrame({"a": numbers, 7: [None, "y"]}), r"7 \("),
        "categories": (pandas.DataFrame({"a": numbers, "grade": pandas.Categorical([1, 2])}), r"'grade' \(category\)"),
        "categories alone": (pandas.DataFrame({"grade": pandas.Categorical([1, 2])}), r"'grade' \(category\)"),
        "dates": (pandas.DataFrame({"a": numbers, "day": pandas.date_range("2020", periods=2)}), r"'day' \(datetime64"),
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
    with pytest.raises(TypeError, match=r"^x .*Int64, float64.*to_numpy\(dtype=float\), with na_value"):
        nbn.layer_norm(x, 2)  # norms by name leave nothing out
    assert nbn.layer_norm(x.to_numpy(dtype=float, na_value=float("nan"))[:1], 2).tolist() == [[0.0, 0.0]]
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
