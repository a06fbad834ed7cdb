"""StandardScaler: scikit-learn's, by the kernels of this package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn import get_config
from sklearn.base import _fit_context
from sklearn.preprocessing import StandardScaler as ScikitLearns
from sklearn.utils.validation import FLOAT_DTYPES, check_array, check_is_fitted, validate_data

from ..normalization import normalize
from ..statistics import Moments
from .columns import as_it_was, checked_weights, moments_of_columns, moments_of_sparse, refuse_masked, scale_of


class StandardScaler(ScikitLearns):
    """Standardize features by removing the mean and scaling to unit variance: scikit-learn's, faster and exact.

    It takes and gives what `sklearn.preprocessing.StandardScaler` does, and is one: ``isinstance`` holds. X is read
    once to fit, and once to transform, by all threads, and no digits are lost to a large mean.

    Parameters
    ----------
    copy : bool
        False: `transform` and `inverse_transform` write into X, where X is an array of floating point numbers.
    with_mean : bool
        Subtract the mean. Sparse X is refused then, since it would become dense.
    with_std : bool
        Divide by the standard deviation.

    Attributes
    ----------
    mean_, var_, scale_ : ndarray of shape (n_features,), or None
        Mean, variance, and the standard deviation or, for constant features, 1. None where scikit-learn has None.
    n_samples_seen_ : int, float, or ndarray of shape (n_features,)
        How many rows were seen, by feature where NaN are missing; with weights their sum.
    moments_ : Moments
        Count, mean and sum of squared deviations of each feature, from which the others are made: to merge, to save.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of str
        Their names, where X is a data frame whose columns have names.

    See Also
    --------
    GroupStandardScaler : statistics within each user, batch or site.

    Notes
    -----
    NaN are missing values: `fit` leaves them out, `transform` keeps them. float64, float32 and float16 stay.

    Differences from scikit-learn's:

    - A feature is constant if its standard deviation is not above the rounding of its mean, ``eps * abs(mean)``.
      scikit-learn's bound grows with the number of rows, as its error may: half a million rows with a mean of 1e8 and a
      deviation of 0.01 are constant to it.
    - Negative weights are refused.
    - `n_samples_seen_` stays a float once there were weights, and is an integer for sparse X without weights.
    - Masked arrays are refused.
    - Where a fit is refused, the scaler stays as it was.

    Statistics of sparse X are made here, too; scaling it is scikit-learn's. So is all work on arrays of other libraries
    with ``sklearn.set_config(array_api_dispatch=True)``.

    Examples
    --------
    >>> import numpy as np
    >>> from numbanorm.sklearn import StandardScaler
    >>> table = np.array([[1.0, 50.0, 7.0], [2.0, np.nan, 7.0], [3.0, 70.0, 7.0]])
    >>> scaler = StandardScaler()
    >>> scaler.fit_transform(table).round(3)
    array([[-1.225, -1.   ,  0.   ],
           [ 0.   ,    nan,  0.   ],
           [ 1.225,  1.   ,  0.   ]])
    >>> scaler.mean_, scaler.n_samples_seen_
    (array([ 2., 60.,  7.]), array([3, 2, 3]))
    """

    def __init__(self, *, copy: bool = True, with_mean: bool = True, with_std: bool = True) -> None:
        self.with_mean = with_mean
        self.with_std = with_std
        self.copy = copy

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Compute mean and standard deviation of each feature.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The rows.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), optional
            How much each row counts; not negative.

        Returns
        -------
        StandardScaler
            Itself.

        Raises
        ------
        ValueError, TypeError
            If X is infinite somewhere, or not a table of numbers; if it is sparse and has to be centred; if a weight is
            negative or not finite. The scaler stays as it was.
        """
        return self._take_in(X, y, sample_weight, None)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Take further rows in.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The next rows.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), optional
            How much each row counts; not negative.

        Returns
        -------
        StandardScaler
            Itself.

        Raises
        ------
        ValueError, TypeError
            As in `fit`.
        """
        return self._take_in(X, y, sample_weight, self._moments_so_far())

    def _take_in(self, X: Any, y: Any, sample_weight: Any, before: Moments | None) -> Self:
        refuse_masked(X)
        first, accepted = before is None, {"accept_sparse": ("csr", "csc"), "dtype": FLOAT_DTYPES}
        if _is_foreign(X):
            return self._by_scikit_learn(X, y, sample_weight, first)
        with as_it_was(self):
            x = validate_data(self, X, ensure_all_finite=False, reset=first, **accepted)
            self._refuse_to_centre(x)
            with self._callbacks(x, y, sample_weight):
                weights = checked_weights(sample_weight, x)
                m = (moments_of_sparse if issparse(x) else moments_of_columns)(x, weights, self)
                weighted = weights is not None or not (first or np.asarray(self.n_samples_seen_).dtype.kind in "iu")
                self._set(m if before is None else before + m, weighted)
        return self

    def _set(self, m: Moments, weighted: bool) -> None:
        self.moments_ = m
        counts = m.count.copy() if weighted else m.count.astype(np.int64)
        self.n_samples_seen_ = counts[0] if counts.min() == counts.max() else counts
        self.mean_ = m.mean.copy() if self.with_mean or self.with_std else None
        self.var_ = m.var() if self.with_std else None
        self.scale_ = scale_of(m) if self.with_std else None

    def _moments_so_far(self) -> Moments | None:
        """The moments, or others that the attributes say: scikit-learn made them, or they were set by hand."""
        if not hasattr(self, "n_samples_seen_"):
            return None
        m = getattr(self, "moments_", None)
        if m is not None and self._says(m):
            return m
        mean = np.asarray(0.0 if self.mean_ is None else self.mean_, np.float64)
        var = np.asarray(0.0 if self.var_ is None else self.var_, np.float64)
        features = (self.n_features_in_,)
        count, mean, var = (np.broadcast_to(a, features) for a in (np.asarray(self.n_samples_seen_, float), mean, var))
        return Moments(count, mean, var * count)

    def _says(self, m: Moments) -> bool:
        """Whether the attributes are those of these moments."""
        told = ((self.mean_, m.mean), (self.var_, m.var()), (self.n_samples_seen_, m.count))
        return all(a is None or np.array_equal(np.broadcast_to(a, b.shape), b, equal_nan=True) for a, b in told)

    def _by_scikit_learn(self, X: Any, y: Any, sample_weight: Any, first: bool) -> Self:
        if first:
            self._reset()
        self.__dict__.pop("moments_", None)
        return super().partial_fit(X, y, sample_weight)

    @contextmanager
    def _callbacks(self, x: Any, y: Any, sample_weight: Any) -> Iterator[None]:
        """Tell those of `set_callbacks`, which scikit-learn has from 1.9 on, that a fit begins and ends."""
        if not hasattr(self, "_init_callback_context"):
            yield
            return
        context, given = self._init_callback_context(), {"X": x, "y": y, "metadata": {"sample_weight": sample_weight}}
        context.call_on_fit_task_begin(estimator=self, **given)
        yield
        context.call_on_fit_task_end(estimator=self, **given, reconstruction_attributes={})

    def transform(self, X: Any, copy: bool | None = None) -> Any:
        """Subtract the mean, and divide by the standard deviation.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            The rows.
        copy : bool, optional
            In place of the scaler's own `copy`.

        Returns
        -------
        {ndarray, sparse matrix, data frame} of shape (n_samples, n_features)
            The rows in units of the standard deviation, a data frame if `set_output` says so.

        Raises
        ------
        NotFittedError
            If there are no statistics yet.
        ValueError, TypeError
            If X is infinite somewhere, not a table of numbers of as many features, or sparse and has to be centred.
        """
        check_is_fitted(self)
        copy = self.copy if copy is None else copy
        refuse_masked(X)
        if _is_foreign(X):
            return super().transform(X, copy)
        x = validate_data(self, X, reset=False, **self._accepted(copy))
        self._refuse_to_centre(x)
        if issparse(x):
            return super().transform(X, copy)
        mean, scale = self._mean_and_scale(x.shape[1])
        rest = self._rest_of_mean(mean)
        return _moved(x, mean, 1.0 / scale, -rest / scale, copy)

    def inverse_transform(self, X: Any, copy: bool | None = None) -> Any:
        """Multiply by the standard deviation, and add the mean.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows as `transform` gives them.
        copy : bool, optional
            In place of the scaler's own `copy`.

        Returns
        -------
        {ndarray, sparse matrix} of shape (n_samples, n_features)
            The rows in their own units.

        Raises
        ------
        NotFittedError, ValueError, TypeError
            As in `transform`.
        """
        check_is_fitted(self)
        copy = self.copy if copy is None else copy
        refuse_masked(X)
        if _is_foreign(X):
            return super().inverse_transform(X, copy)
        x = check_array(X, estimator=self, input_name="X", **self._accepted(copy))
        expected = getattr(self, "n_features_in_", x.shape[1])
        if x.shape[1] != expected:
            raise ValueError(
                f"X has {x.shape[1]} features, but StandardScaler is expecting {expected} features as input"
            )
        self._refuse_to_centre(x)
        if issparse(x):
            return super().inverse_transform(X, copy)
        mean, scale = self._mean_and_scale(x.shape[1])
        return _moved(x, np.zeros_like(mean), scale, mean, copy)

    def _accepted(self, copy: bool) -> dict[str, Any]:
        finite = {"ensure_all_finite": "allow-nan"}
        return {"accept_sparse": "csr", "dtype": FLOAT_DTYPES, "copy": False, "force_writeable": not copy, **finite}

    def _refuse_to_centre(self, x: Any) -> None:
        if issparse(x) and self.with_mean:
            raise ValueError(
                "Cannot center sparse matrices, which would become dense: pass `with_mean=False` instead, or "
                "X.toarray(), if that fits in memory"
            )

    def _mean_and_scale(self, features: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """What is subtracted and what it is divided by: the attributes, which may have been set by hand."""
        mean = self.mean_ if self.with_mean else 0.0
        scale = self.scale_ if self.with_std else 1.0
        return tuple(np.broadcast_to(np.asarray(a, np.float64), (features,)) for a in (mean, scale))  # type: ignore[return-value]

    def _rest_of_mean(self, mean: NDArray[Any]) -> NDArray[Any]:
        """What rounding took from the mean, if it is the mean of the moments."""
        m = getattr(self, "moments_", None)
        if m is None or m._rest is None or not np.array_equal(m.mean, mean, equal_nan=True):
            return np.zeros_like(mean)
        return m._rest


def _is_foreign(X: Any) -> bool:
    """Whether this is an array of another library that scikit-learn is told to leave as it is."""
    dispatched = get_config()["array_api_dispatch"] and hasattr(X, "dtype")
    return dispatched and not isinstance(X, np.ndarray) and not issparse(X)


def _moved(x: NDArray[Any], mean: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any], copy: bool) -> NDArray[Any]:
    """(x - mean) * weight + bias, in place or not."""
    one = Moments(np.ones_like(mean), mean, np.ones_like(mean))
    return normalize(x, None, weight, bias, axis=0, eps=0, moments=one, out=None if copy else x)
