"""Statistics of the columns of X, dense or sparse, as scikit-learn's scalers mean them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import assert_all_finite
from sklearn.utils.validation import _check_sample_weight

from ..statistics import Moments, moments

EPSILON = np.finfo(np.float64).eps


def refuse_masked(value: Any, name: str = "X") -> None:
    """Refuse a mask, which scikit-learn would ignore."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{name} is a masked array, whose mask would be ignored; pass {name}.filled() of what stands for a missing "
            "value, np.nan in X and 0 in weights"
        )


@contextmanager
def as_it_was(estimator: Any) -> Iterator[None]:
    """Keep what an estimator knows of its columns if a fit is refused."""
    known = ("n_features_in_", "feature_names_in_")
    before = {name: estimator.__dict__[name] for name in known if name in estimator.__dict__}
    try:
        yield
    except BaseException:
        for name in known:
            estimator.__dict__.pop(name, None)
        estimator.__dict__.update(before)
        raise


def checked_weights(sample_weight: Any, X: Any) -> NDArray[Any] | None:
    """The weight of each row, in float64, if there are any."""
    refuse_masked(sample_weight, "sample_weight")
    return None if sample_weight is None else _check_sample_weight(sample_weight, X, dtype=np.float64)


def moments_of_columns(x: NDArray[Any], weights: NDArray[Any] | None, of: object, **labels: Any) -> Moments:
    """Moments of each column without its NaN, by label if there are labels.

    Parameters
    ----------
    x : ndarray
        Rows, or the values of a single column.
    weights : ndarray, optional
        Of the rows.
    of : estimator
        For messages.
    **labels
        `labels` and `num_labels`.

    Raises
    ------
    ValueError
        If a value is infinite.

    Notes
    -----
    x is read once where it has neither NaN nor infinities, which would show in a mean: nobody looks for them first.
    """
    how: dict[str, Any] = {"axis": 0, **labels}
    if weights is not None:
        how["weights"] = weights.reshape(-1, *[1] * (x.ndim - 1))
    m = moments(x, **how)
    if not _all_finite(m):
        m = moments(x, skipna=True, **how)
        if not _all_finite(m):  # infinities, or finite numbers whose sum is none
            assert_all_finite(x, allow_nan=True, estimator_name=type(of).__name__, input_name="X")
    return m


def _all_finite(m: Moments) -> bool:
    return bool(np.isfinite(m.mean[m.count > 0]).all())


def moments_of_sparse(x: Any, weights: NDArray[Any] | None, of: object) -> Moments:
    """The same of a CSR or CSC matrix: of what it stores, and of as many zeros as it does not."""
    number, columns = x.shape
    if not x.has_canonical_format:  # an element that is stored in pieces
        x = x.copy()
        x.sum_duplicates()
    entries = x.tocoo()
    own = None if weights is None else weights[entries.row]
    stored = moments_of_columns(entries.data, own, of, labels=entries.col, num_labels=columns)
    counted = np.bincount(entries.col, own, columns)
    whole = float(number) if weights is None else weights.sum()
    full = np.bincount(entries.col, minlength=columns) == number
    zeros = np.where(full, 0.0, np.maximum(whole - counted, 0.0))
    return stored + Moments(zeros, np.where(zeros > 0, 0.0, np.nan), np.zeros(columns))


def scale_of(m: Moments) -> NDArray[Any]:
    """What to divide by: the standard deviations, and 1 where there is no spread beyond the rounding of the mean."""
    std = m.std()
    with np.errstate(invalid="ignore"):
        return np.where(std <= EPSILON * np.abs(m.mean), 1.0, std)
