"""numbanorm.xarray: statistics by dims and by groups along them, equal to xarray's own, with the same labels."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import numbanorm as nbn

xr = pytest.importorskip("xarray", minversion="2024.6")
pd = pytest.importorskip("pandas")
nbx = pytest.importorskip("numbanorm.xarray")


@pytest.fixture(autouse=True)
def xarrays_own_warnings():
    """Those of what it is compared with, such as of groups of one value."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=RuntimeWarning)
        yield


@pytest.fixture
def t(rng):
    values = 280 + rng.standard_normal((24, 3, 4))
    values[rng.random(values.shape) < 0.1] = np.nan
    time = pd.date_range("2000-01-01", periods=24, freq="MS")
    coords = {"time": time, "lat": [10.0, 20.0, 30.0], "height": 2.0, "area": ("lat", [1.0, 2.0, 3.0])}
    coords |= {"age": ("time", np.arange(24)), "mask": (("lat", "lon"), np.ones((3, 4)))}
    return xr.DataArray(values, coords, ("time", "lat", "lon"), "t", {"units": "K"})


@pytest.fixture
def zone():
    zones = [["a", "a", "b", "b"], ["a", "b", "b", "c"], ["c", "c", "c", "c"]]
    return xr.DataArray(zones, {"lat": [10.0, 20.0, 30.0]}, ("lat", "lon"), "zone", {"long_name": "zone of land"})


@pytest.fixture
def ds(t):
    variables = {"t": t, "p": 2 * t.isel(lon=0, drop=True), "n": ("lon", [1, 2, 3, 4]), "flag": ("time", [True] * 24)}
    return xr.Dataset({**variables, "name": ("lat", ["x", "y", "z"]), "one": 1.5}, attrs={"title": "a test"})


def same(got, expected):
    """Values within rounding, and exactly the same dims, coords, names and attrs."""
    xr.testing.assert_allclose(got, expected, rtol=1e-12)
    arrays = [(got, expected)]
    if isinstance(got, xr.Dataset):
        assert set(got.data_vars) == set(expected.data_vars)
        assert got.attrs == expected.attrs
        arrays = [(got[name], expected[name]) for name in expected.data_vars]
    for a, b in arrays:
        assert (a.dims, a.name, a.attrs, list(a.coords)) == (b.dims, b.name, b.attrs, list(b.coords))
        for name in b.coords:
            assert a[name].attrs == b[name].attrs
        assert list(a.indexes) == list(b.indexes)


def same_members(m, obj, *arguments, counted=True, **given):
    same(m.mean, obj.mean(*arguments, **given))
    same(m.var(), obj.var(*arguments, **given))
    same(m.std(ddof=1), obj.std(*arguments, ddof=1, **given))
    if counted and "skipna" not in given:
        same(m.count, obj.count(*arguments, **given))


DIMS = ["time", "lat", ("time",), ["lat", "lon"], ("lon", "time"), ("time", "lat", "lon"), None, ..., ()]


# by dims --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", DIMS, ids=str)
def test_moments_over_dims_are_as_xarrays_own_reductions(t, dim):
    same_members(nbx.moments(t, dim=dim), t, dim, counted=dim != ())


@pytest.mark.parametrize("dim", ["time", ("lat", "lon"), None], ids=str)
def test_moments_of_a_data_set_are_as_xarrays_own_reductions(ds, dim):
    m = nbx.moments(ds, dim=dim)
    numbers = ds.drop_vars("name")
    same(m.mean, numbers.mean(dim))
    with_dims = ["t", "p"] if dim != "time" else ["t", "p", "flag"]  # what has none, xarray gives as its own variance
    same(m.var()[with_dims], numbers[with_dims].var(dim))
    same(m.count[with_dims], numbers[with_dims].count(dim))


@pytest.mark.parametrize("skipna", [None, True, False])
@pytest.mark.parametrize("dtype", ["float64", "float32", "int16", "bool"])
def test_nan_is_skipped_where_xarray_skips_it(t, skipna, dtype):
    x = t if dtype.startswith("f") else t.fillna(0)
    x = x.astype(dtype)
    m = nbx.moments(x, dim="time", skipna=skipna)
    assert m.mean.dtype == "f8"
    same(m.mean, x.astype("f8").mean("time", skipna=skipna))
    same(m.var(), x.astype("f8").var("time", skipna=skipna))


@pytest.mark.parametrize("option", ["default", True, False])
@pytest.mark.parametrize("keep_attrs", [None, True, False])
def test_attrs_are_kept_where_xarray_keeps_them(t, ds, option, keep_attrs):
    with xr.set_options(keep_attrs=option):
        for obj in (t, ds.drop_vars("name")):
            same(nbx.moments(obj, dim="time", keep_attrs=keep_attrs).mean, obj.mean("time", keep_attrs=keep_attrs))
            own = obj.groupby("time.month").mean(keep_attrs=keep_attrs)
            same(nbx.groupby(obj, "time.month").mean(keep_attrs=keep_attrs), own)
            normalized = nbx.normalize(obj, dim="time", keep_attrs=keep_attrs)
            wanted = option is not False if keep_attrs is None else keep_attrs
            assert normalized.attrs == (obj.attrs if wanted else {})


@pytest.mark.parametrize(
    ("pattern", "dims"),
    [
        ("time lat lon -> lat lon", ("lat", "lon")),
        ("lon lat time -> lat", ("lat",)),
        ("lat lon time -> lon lat", ("lon", "lat")),
        ("... time -> ...", ("lat", "lon")),
        ("time ... -> time", ("time",)),
        ("time lat lon ->", ()),
    ],
)
def test_patterns_name_dims_in_any_order(t, pattern, dims):
    m = nbx.moments(t, pattern)
    gone = [dim for dim in t.dims if dim not in dims]
    same(m.mean, t.mean(gone).transpose(*dims))
    expected = (t - t.mean(gone)) / t.std(gone)
    same(nbx.normalize(t, pattern), expected.transpose(*t.dims).rename("t").assign_attrs(t.attrs))


def test_names_that_are_parameters_elsewhere_name_dims(rng):
    x = xr.DataArray(rng.standard_normal((3, 4, 5)), dims=("x", "weights", "layout"))
    same(nbx.moments(x, "weights layout x -> x").var(), x.var(("weights", "layout")))
    assert nbx.moments(x, "x (bias layout) weights -> weights bias", bias=5).mean.dims == ("weights", "bias")


def test_one_dim_may_be_split_by_a_pattern(t):
    m = nbx.moments(t, "(year month) lat lon -> month lat", month=12)
    expected = t.groupby("time.month").mean(("time", "lon")).drop_vars("month")
    assert m.mean.dims == ("month", "lat")
    xr.testing.assert_allclose(m.mean, expected)
    clipped = nbx.normalize(t, "(year month) lat lon -> month lat", month=12, moments=m)
    xr.testing.assert_allclose(clipped, nbx.groupby(t, "time.month").normalize(dim=("time", "lon")), rtol=1e-8)


# weights and masks ----------------------------------------------------------------------------------------------------


def test_weights_are_put_beside_by_their_dims(t):
    weights = xr.DataArray([[1.0, 2.0, 3.0], [0.0, 1.0, 1.0]] * 2, {"lat": t.lat}, ("lon", "lat"))
    for dim in (("lat", "lon"), "lat", None):
        m = nbx.moments(t, dim=dim, weights=weights)
        same(m.mean, t.weighted(weights).mean(dim))
        same(m.var(), t.weighted(weights).var(dim))
        expected = (t - t.weighted(weights).mean(dim)) / t.weighted(weights).std(dim)
        with_spread = t.weighted(weights).std(dim) > 0
        got = nbx.normalize(t, dim=dim, weights=weights).where(with_spread)
        xr.testing.assert_allclose(got, expected.where(with_spread), rtol=1e-9, atol=1e-12)
    lazy = nbx.moments(t, dim="lat", weights=weights, weights_are="reliability").count
    xr.testing.assert_allclose(
        lazy, (t.notnull() * weights).sum("lat") ** 2 / (t.notnull() * weights**2).sum("lat"), rtol=1e-12
    )


def test_weights_of_a_data_set_count_for_variables_without_their_dims(ds):
    weights = xr.DataArray(np.arange(1.0, 25), {"time": ds.time})
    numbers = ds[["t", "p", "one"]]
    m = nbx.moments(numbers, dim="time", weights=weights)
    xr.testing.assert_allclose(m.mean, numbers.weighted(weights).mean("time"))
    assert nbx.normalize(ds, dim="time", weights=weights).n.equals(ds.n)
    halves = xr.DataArray(np.arange(24) // 12, {"time": ds.time}, name="half")
    by_lon = xr.DataArray([1.0, 2.0, 0.0, 1.0], dims="lon")
    got = nbx.groupby(numbers, halves).mean(("time", "lon"), weights=by_lon)
    first = numbers.isel(time=slice(12))
    xr.testing.assert_allclose(got.t.isel(half=0, drop=True), first.t.weighted(by_lon).mean(("time", "lon")))
    xr.testing.assert_allclose(got.p.isel(half=0, drop=True), first.p.mean("time"))


def test_a_mask_is_put_beside_by_its_dims(t):
    mask = xr.DataArray(np.arange(4) % 2 == 0, dims="lon")
    same(nbx.moments(t, dim=("lon", "time"), where=mask).mean, t.where(mask).mean(("lon", "time")))
    by_group = nbx.groupby(t, "time.month").mean(dim=..., where=mask)
    same(by_group, t.where(mask).groupby("time.month").mean(...))


def test_what_does_not_align_is_refused_by_name(t):
    shifted = t.area.assign_coords(lat=t.lat + 1.0)
    for call, error, said in [
        (
            lambda: nbx.moments(t, dim="lat", weights=shifted),
            ValueError,
            "weights .*coordinates along 'lat'.*11.0.*10.0",
        ),
        (lambda: nbx.moments(t, dim="lat", weights=t.lat[::-1]), ValueError, "'lat'.*30.0.*reindex_like"),
        (lambda: nbx.moments(t, dim="lat", weights=t.lat[:2]), ValueError, "2 elements along 'lat'.*3"),
        (lambda: nbx.moments(t, dim="lat", where=xr.DataArray([True], dims="z")), ValueError, "where has a dim 'z'"),
        (lambda: nbx.moments(t, dim="lat", weights=np.ones(3)), TypeError, "weights must be a DataArray"),
        (lambda: nbx.normalize(t, dim="lat", weight=shifted), ValueError, "weight .*along 'lat'"),
        (lambda: nbx.normalize(t, dim="lat", bias=[1.0]), TypeError, "bias must be a DataArray"),
        (lambda: nbx.groupby(t, t.time.dt.month[1:]), ValueError, "group has 23 elements along 'time'"),
        (lambda: nbx.groupby(t, t.time.dt.month.shift(time=1).assign_coords(time=t.time[::-1])), ValueError, "'time'"),
        (lambda: nbx.groupby(t, xr.DataArray([1, 2], dims="z")), ValueError, "group has a dim 'z'"),
    ]:
        with pytest.raises(error, match=said):
            call()


# normalized -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", ["time", ("lat", "lon"), None], ids=str)
@pytest.mark.parametrize("ddof", [0, 1])
def test_normalized_arrays_keep_dims_coords_name_and_attrs(t, dim, ddof):
    got, m = nbx.normalize(t, dim=dim, ddof=ddof, return_moments=True)
    same(got, ((t - t.mean(dim)) / t.std(dim, ddof=ddof)).rename("t").assign_attrs(t.attrs))
    same_members(m, t, dim)
    same(nbx.normalize(t, moments=m, ddof=ddof), got)
    same(nbx.normalize(t, dim=dim, moments=m.core, ddof=ddof), got)


def test_scale_and_shift_are_put_beside_by_their_dims(t):
    weight, bias = xr.DataArray([1.0, 2.0, 3.0], dims="lat"), t.area
    got = nbx.normalize(t, "time lon lat -> lat", weight, bias, eps=1e-3)
    expected = (t - t.mean(("time", "lon"))) / np.sqrt(t.var(("time", "lon")) + 1e-3) * weight + bias
    xr.testing.assert_allclose(got, expected.transpose(*t.dims), rtol=1e-9)


def test_a_data_set_comes_back_whole(ds):
    got = nbx.normalize(ds, dim="time")
    assert list(got) == list(ds) and got.attrs == ds.attrs
    for name in ("t", "p"):
        assert got[name].dims == ds[name].dims and got[name].attrs == ds[name].attrs
        xr.testing.assert_allclose(got[name], (ds[name] - ds[name].mean("time")) / ds[name].std("time"), rtol=1e-9)
    for name in ("n", "name", "one"):
        assert got[name].identical(ds[name])


def test_a_small_variance_is_not_drowned_by_eps():
    humidity = xr.DataArray([1e-6, 2e-6, 3e-6], dims="time")
    np.testing.assert_allclose(nbx.normalize(humidity).std(), 1, rtol=1e-12)


def test_packing_is_not_kept(t):
    t.encoding = {"dtype": "int16", "scale_factor": 0.01, "add_offset": 280.0}
    assert nbx.normalize(t, dim="time").encoding == {}
    assert nbx.groupby(t, "time.month").normalize().encoding == {}
    assert nbx.moments(t, dim="time").mean.encoding == {}


# groups ---------------------------------------------------------------------------------------------------------------


ORDERS = [("time", "lat", "lon"), ("lat", "time", "lon"), ("lat", "lon", "time")]


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("dim", [None, "time", ("time", "lat"), ...], ids=str)
@pytest.mark.parametrize("group", ["time.month", "time.season", "age"])
def test_groups_along_a_dim_are_as_xarrays_own(t, order, dim, group):
    x = t.transpose(*order)
    own = x.groupby(group)
    m = nbx.groupby(x, group).moments(dim)
    same_members(m, own, dim)
    same(nbx.groupby(x, group).var(dim, ddof=1), own.var(dim, ddof=1))


def test_groups_by_a_dim_itself_are_as_xarrays_own(t):
    x = t.assign_coords(time=np.arange(24) // 3)
    same_members(nbx.groupby(x, "time").moments(), x.groupby("time"))
    got = nbx.groupby(x, "time").normalize(moments=nbx.groupby(x, "time").moments())
    xr.testing.assert_allclose(got, nbx.groupby(x, "time").normalize(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("dim", [None, ...], ids=str)
def test_zones_of_a_raster_are_as_xarrays_own(t, zone, order, dim):
    x = t.transpose(*order)
    m = nbx.groupby(x, zone.transpose("lon", "lat")).moments(dim)
    same_members(m, x.groupby(zone), dim)


@pytest.mark.parametrize("group", ["time.month", "age"])
def test_groups_of_a_data_set_are_as_xarrays_own(ds, group):
    numbers = ds.drop_vars(["name", "flag"])
    m = nbx.groupby(numbers, group).moments()
    same(m.mean, numbers.groupby(group).mean())
    same(m.var()[["t", "p"]], numbers[["t", "p"]].groupby(group).var())
    assert "name" not in nbx.groupby(ds, group).mean()


def test_zones_of_a_data_set_are_as_xarrays_own(ds, zone):
    numbers = ds.drop_vars(["name", "flag"])
    expected = numbers.groupby(zone).mean().transpose("time", "zone", ...)  # which it has first without flox
    same(nbx.groupby(numbers, zone).mean(), expected)
    with_zone = numbers.assign(zone=zone)
    same(nbx.groupby(with_zone, "zone").mean(), expected)
    assert nbx.groupby(with_zone, "zone").normalize().zone.identical(with_zone.zone)


def test_dims_of_several_levels_stay_so(t):
    x = t.stack(place=("lat", "lon"))
    for obj in (x, x.to_dataset()):
        same(nbx.moments(obj, dim="time").mean, obj.mean("time"))
        with xr.set_options(use_flox=False):  # which warns of its own use of such dims
            same(nbx.groupby(obj, "time.month").mean(), obj.groupby("time.month").mean())
        assert nbx.groupby(obj, "time.month").normalize().indexes["place"].equals(x.indexes["place"])
    same(nbx.groupby(x, "lat").mean(), x.groupby("lat").mean())
    with pytest.raises(ValueError, match=r"'place' has several levels.*'lat', 'lon'"):
        nbx.groupby(x, "place")


def test_groups_without_a_name_are_called_group(t):
    halves = xr.DataArray(np.arange(24) // 12, dims="time")
    same(nbx.groupby(t, halves).mean(), t.groupby(halves).mean())
    assert repr(nbx.groupby(t, halves)) == "GroupBy('group', 2 groups along time)"


def test_anomalies_by_month_are_standardized(t):
    got = nbx.groupby(t, "time.month").normalize()
    expected = t.groupby("time.month").map(lambda x: (x - x.mean("time")) / x.std("time"))
    assert (got.dims, got.name, got.attrs) == (t.dims, t.name, t.attrs)
    assert set(got.coords) == set(t.coords)
    both = got.notnull() & expected.notnull()  # a group of one value is 0 here, and 0 / 0 there
    xr.testing.assert_allclose(got.where(both), expected.where(both).transpose(*t.dims), rtol=1e-8, atol=1e-9)


def test_what_belongs_to_no_group_is_nan(t, zone):
    holes = zone.where(zone != "b")
    got = nbx.groupby(t, holes).normalize()
    assert got.dims == t.dims
    assert got.where(zone == "b").isnull().all()
    for name in ("a", "c"):
        own = t.where(zone == name)
        expected = (own - own.mean(("lat", "lon"))) / own.std(("lat", "lon"))
        xr.testing.assert_allclose(got.where(zone == name), expected.transpose(*t.dims), rtol=1e-9, atol=1e-12)
    assert list(nbx.groupby(t, holes).mean().zone.values) == ["a", "c"]


def test_anomalies_from_a_period_of_reference(t, ds):
    early, late = t.isel(time=slice(0, 12)), t.isel(time=slice(15, 20)).transpose("lat", "time", "lon")
    climatology = nbx.groupby(early, "time.month").moments(("time", "lon"))
    got = nbx.groupby(late, "time.month").normalize(moments=climatology)
    month = late.time.dt.month
    expected = (late - climatology.mean.sel(month=month)) / climatology.std().sel(month=month)
    assert got.dims == late.dims
    xr.testing.assert_allclose(got, expected.transpose(*late.dims).drop_vars("month"), rtol=1e-9)
    of_all = nbx.groupby(ds, "time.month").moments()
    again = nbx.groupby(ds.isel(time=slice(3, 9)), "time.month").normalize(moments=of_all)
    xr.testing.assert_allclose(again.t, nbx.groupby(ds, "time.month").normalize().t.isel(time=slice(3, 9)))
    few = nbx.groupby(t.isel(time=slice(0, 3)), "time.month").moments()
    with pytest.raises(ValueError, match="no statistics of 'month' 4, 5, 6"):
        nbx.groupby(t, "time.month").normalize(moments=few)


# lazy -----------------------------------------------------------------------------------------------------------------


def fails(block):
    raise AssertionError("it was computed")


def test_dask_arrays_stay_lazy(t, ds, zone):
    dask = pytest.importorskip("dask")
    da = pytest.importorskip("dask.array")
    trap = t.copy(
        data=da.from_array(t.values, chunks=(5, 2, 2)).map_blocks(fails, dtype=float, meta=np.empty((0,) * 3))
    )
    for m in (
        nbx.moments(trap, dim="time"),
        nbx.groupby(trap, "time.month").moments(),
        nbx.groupby(trap, zone).moments(),
    ):
        repr(m), m.std(), m.to_dataset(), m + m
    nbx.normalize(trap, dim="time"), nbx.groupby(trap, zone).normalize()
    weights = xr.DataArray([1.0, 2.0, 3.0], {"lat": t.lat})
    for obj in (t, ds):
        lazy = obj.chunk(time=5, lat=2)
        for call in (
            lambda x: nbx.moments(x, dim=("time", "lat")),
            lambda x: nbx.groupby(x, "time.month").moments(),
            lambda x: nbx.groupby(x, zone).moments(),
        ):
            m, expected = call(lazy), call(obj)
            assert dask.is_dask_collection(m.std()["t"] if obj is ds else m.std())
            for computed in (m.compute(), m):
                xr.testing.assert_allclose(computed.mean, expected.mean, rtol=1e-13)
                xr.testing.assert_allclose(computed.var(ddof=1), expected.var(ddof=1), rtol=1e-10)
        by_month = nbx.groupby(lazy, "time.month")
        for got, own in (
            (nbx.normalize(lazy, dim="time"), nbx.normalize(obj, dim="time")),
            (by_month.normalize(), nbx.groupby(obj, "time.month").normalize()),
            (by_month.normalize(moments=by_month.moments()), nbx.groupby(obj, "time.month").normalize()),
            (
                nbx.groupby(lazy, zone.where(zone != "b")).normalize(),
                nbx.groupby(obj, zone.where(zone != "b")).normalize(),
            ),
        ):
            assert dask.is_dask_collection(got)
            xr.testing.assert_allclose(got, own, rtol=1e-9, atol=1e-9)
    got = nbx.moments(t.chunk(time=5), dim="lat", weights=weights)
    xr.testing.assert_allclose(got.mean, t.weighted(weights).mean("lat"), rtol=1e-12)


@pytest.mark.parametrize("chunks", [None, 100, 37])
def test_every_digit_of_noise_beside_a_large_mean(chunks):
    """What is reported of flox: uniform noise / 100 + 1e6 by month, in chunks."""
    time = pd.date_range("2000-01-01", "2003-12-31", freq="D")
    values = np.random.default_rng(0).uniform(size=(len(time), 6)) / 100 + 1e6
    x = xr.DataArray(values, {"time": time}, ("time", "x"))
    if chunks:
        pytest.importorskip("dask")
        x = x.chunk(time=chunks)
    got = nbx.groupby(x, "time.month").std().compute()
    noise = xr.DataArray(values - 1e6, {"time": time}, ("time", "x"))  # exact
    xr.testing.assert_allclose(got, noise.groupby("time.month").std(), rtol=1e-13)
    z = nbx.groupby(x, "time.month").normalize().compute()
    expected = (noise.groupby("time.month") - noise.groupby("time.month").mean()).groupby("time.month") / got
    xr.testing.assert_allclose(z, expected.drop_vars("month"), rtol=0, atol=2 * np.spacing(1e6) / 0.0028)


@given(st.data())
@settings(max_examples=15)
def test_any_dims_and_groups_are_as_xarrays_own(data):
    sizes = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    names = list("abcd")[: len(sizes)]
    x = xr.DataArray(rng.standard_normal(sizes), {"a": np.arange(sizes[0])}, names)
    dims = data.draw(st.lists(st.sampled_from(names), unique=True, min_size=1))
    xr.testing.assert_allclose(nbx.moments(x, dim=dims).var(), x.var(dims), rtol=1e-12, atol=1e-300)
    along = data.draw(st.sampled_from(names))
    group = xr.DataArray(rng.integers(0, 3, x.sizes[along]), dims=along, name="g")
    dim = [along, *(name for name in dims if name != along)]
    xr.testing.assert_allclose(nbx.groupby(x, group).mean(dim), x.groupby(group).mean(dim), rtol=1e-12, atol=1e-14)


# Moments --------------------------------------------------------------------------------------------------------------


def test_moments_of_parts_add_up(t, ds):
    for obj in (t, ds):
        parts = [nbx.moments(obj.isel(time=slice(i, i + 5)), dim="time") for i in range(0, 24, 5)]
        xr.testing.assert_allclose(sum(parts).std(), nbx.moments(obj, dim="time").std(), rtol=1e-12)
    early, late = (nbx.groupby(t.isel(time=slice(i, i + 12)), "time.month").moments() for i in (0, 12))
    xr.testing.assert_allclose((early + late).var(), t.groupby("time.month").var(), rtol=1e-10)
    for other, said in [
        (nbx.moments(t, dim="lat"), "dims"),
        (nbx.moments(t.isel(lon=slice(2)), dim="time"), "'lon', the other Moments are of 2 elements, and these of 4"),
        (nbx.moments(t.assign_coords(lat=[1, 2, 3]), dim="time"), "coordinates along 'lat'"),
    ]:
        with pytest.raises(ValueError, match=said):
            nbx.moments(t, dim="time").merge(other)


def test_groups_merge_along_dims(t, ds):
    of_months = nbx.groupby(t, "time.month").moments()
    same(of_months.merge_dim("month").mean, t.mean("time").transpose("lat", "lon"))
    xr.testing.assert_allclose(nbx.moments(ds, dim="time").merge_dim(["lat", "lon"]).mean.t, ds.t.mean(...))
    with pytest.raises(ValueError, match=r"no dim 'mont'.*did you mean month"):
        of_months.merge_dim("mont")


def test_all_members_make_a_data_set(t, ds):
    made = nbx.moments(t, dim="time").to_dataset(ddof=1)
    assert list(made) == ["count", "mean", "var", "std"]
    xr.testing.assert_allclose(made["std"], t.std("time", ddof=1).rename("std"))
    assert {"t_mean", "t_std", "p_count"} < set(nbx.moments(ds, dim="time").to_dataset())


def test_the_core_is_beneath(t, ds, tmp_path):
    m = nbx.moments(t, dim="time")
    assert m.core == nbn.moments(t.values, axis=0, skipna=True)
    m.core.save(tmp_path / "m.npz")
    assert set(nbx.moments(ds, dim="time").core) == {"t", "p", "n", "flag", "one"}


def test_members_have_the_names_of_functions(t):
    xr.testing.assert_identical(t.nbn.moments(dim="time").mean, nbx.moments(t, dim="time").mean)
    xr.testing.assert_identical(t.nbn.normalize(dim="time"), nbx.normalize(t, dim="time"))
    xr.testing.assert_identical(t.nbn.groupby("age").mean(), nbx.groupby(t, "age").mean())
    assert t.to_dataset().nbn.moments(dim="time").mean.t.dims == ("lat", "lon")


# refused --------------------------------------------------------------------------------------------------------------


def test_wrong_arguments_are_refused_with_their_mend(t, ds):
    month = nbx.groupby(t, "time.month")
    for call, error, said in [
        (lambda: nbx.moments(t, dim="tim"), ValueError, "no dim 'tim'.*'time', 'lat', 'lon'.*did you mean time"),
        (lambda: nbx.moments(ds, dim=["time", "z"]), ValueError, "no dim 'z'"),
        (lambda: nbx.normalize(t, dim=["lat", "lat"]), ValueError, "names a dim twice"),
        (lambda: nbx.moments(t, "time"), ValueError, "pass dim='time'"),
        (lambda: nbx.moments(t, "time lat -> lat"), ValueError, r"does not name \('lon'\)"),
        (lambda: nbx.moments(t, "time lat z -> lat"), ValueError, "no dim 'z'"),
        (lambda: nbx.moments(t, "time lat lon -> (lat lon)"), ValueError, r"\(lat lon\) on the right"),
        (lambda: nbx.moments(t, "time lat lon -> lat 1"), ValueError, "1 on the right"),
        (lambda: nbx.moments(t, "(a b) (c d) lon -> a", a=2), ValueError, "splits 2"),
        (lambda: nbx.moments(t, "(a b) lat lon -> a", a=5), ValueError, "5.*24|24.*5"),
        (lambda: nbx.moments(t, "time lat lon -> lat", dim="time"), TypeError, "not both"),
        (lambda: nbx.moments(t, nbn.Layout.axes(0)), TypeError, "pass dim="),
        (lambda: nbx.moments(t, dim="time", axis=0), TypeError, "axis: no such parameter"),
        (lambda: nbx.moments(t.values, dim="time"), TypeError, "DataArray or a Dataset, got ndarray"),
        (lambda: nbx.moments(t.astype(str), dim="time"), TypeError, "numbers"),
        (lambda: nbx.moments(t.time), TypeError, "datetime"),
        (lambda: nbx.moments(t, dim="time", skipna="yes"), TypeError, "skipna"),
        (lambda: nbx.moments(t, dim="time", keep_attrs="yes"), TypeError, "keep_attrs"),
        (lambda: nbx.normalize(t, dim="time", eps=-1), ValueError, "eps"),
        (lambda: nbx.normalize(t, dim="time", moments=3), TypeError, "must be Moments"),
        (lambda: nbx.normalize(t, dim="lat", moments=nbx.moments(t, dim="time")), ValueError, "dims"),
        (lambda: nbx.normalize(t, moments=month.moments()), ValueError, "'month'.*groupby"),
        (lambda: nbx.normalize(ds, moments=nbx.moments(t, dim="time")), TypeError, "a DataArray.*a Dataset"),
        (
            lambda: nbx.normalize(t[:, :2], moments=nbx.moments(t, dim="time")),
            ValueError,
            "'lat', moments are of 3 elements, and obj of 2",
        ),
        (lambda: nbx.groupby(t, "moth"), ValueError, "no coordinate 'moth'"),
        (lambda: nbx.groupby(t, "time.mont"), ValueError, "no coordinate 'time.mont'"),
        (lambda: nbx.groupby(t, "height"), ValueError, "has no dim"),
        (lambda: nbx.groupby(t, np.arange(24)), TypeError, "group must be a DataArray"),
        (lambda: nbx.groupby(t, t.age * np.nan), ValueError, "not missing"),
        (lambda: nbx.groupby(t, t.age.rename("lat")).mean(), ValueError, "named 'lat'"),
        (lambda: month.mean("lat"), ValueError, "leaves out 'time'"),
        (lambda: month.mean("z"), ValueError, "no dim 'z'"),
        (lambda: month.normalize(moments=nbx.moments(t, dim="time")), ValueError, "no groups 'month'"),
    ]:
        with pytest.raises(error, match=said):
            call()


def test_an_error_says_which_variable_it_is_about(ds):
    wrong = ds.assign(z=ds.t * 1j)
    with pytest.raises(TypeError, match="complex") as caught:
        nbx.moments(wrong, dim="time")
    assert "this is about variable 'z'" in caught.value.__notes__


class WithUnits:
    """An array of another library's, as xarray takes them."""

    shape, ndim, dtype = (2,), 1, np.dtype(float)

    def __array__(self, *arguments, **given):
        raise AssertionError("its units would be lost")

    def __array_function__(self, *arguments):
        return NotImplemented

    def __array_ufunc__(self, *arguments, **given):
        return NotImplemented

    def __getitem__(self, index):
        return self


def test_an_array_that_would_lose_something_is_refused():
    x = xr.DataArray(WithUnits(), dims="time")
    for call in (lambda: nbx.moments(x), lambda: nbx.normalize(x), lambda: nbx.groupby(x, x.time % 2).mean()):
        with pytest.raises(TypeError, match=r"obj wraps a WithUnits.*obj.as_numpy\(\)"):
            call()


def test_numbanorm_does_not_import_xarray():
    code = "import sys, numbanorm; numbanorm.moments; sys.exit(any(m in sys.modules for m in ('xarray', 'pandas')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
