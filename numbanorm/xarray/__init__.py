"""Statistics of xarray's arrays and data sets by dims, and of groups along them: climatologies, zones of rasters.

>>> import numbanorm.xarray as nbx
>>> import xarray as xr
>>> t = xr.DataArray([[281.0, 290.0], [283.0, 294.0]], {"lat": [60, 40]}, ["time", "lat"])
>>> nbx.moments(t, dim="time").std().values
array([1., 2.])
>>> t.nbn.normalize(dim="time").values
array([[-1., -1.],
       [ 1.,  1.]])
"""

from . import accessor as accessor
from .calls import moments, normalize
from .groups import GroupBy, groupby
from .labelled import Moments

__all__ = ["GroupBy", "Moments", "groupby", "moments", "normalize"]
