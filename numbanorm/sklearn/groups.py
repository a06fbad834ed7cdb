"""GroupStandardScaler: every group of rows by its own mean and standard deviation."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from numbers import Integral
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, _fit_context
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import FLOAT_DTYPES, check_array, check_is_fitted, validate_data

from ..normalization import normalize
from ..statistics import Moments
from .columns import as_it_was, checked_weights, moments_of_columns, refuse_masked, scale_of
from .numbering import NOBODY, as_array, as_list, columns_of, in_order, is_frame, numbered, positions

BLOCK = 4096  # rows that are scaled back at once
Column = int | str


class GroupStandardScaler(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Standardize features within each group of rows: each user, batch or site by its own mean and deviation.

    A column of X says which group a row belongs to. So groups go wherever rows go: through pipelines, splits of
    cross-validation and grid searches, and into `predict`, which metadata routing would not bring them to.

    Parameters
    ----------
    groups : int, str, or list of them
        The column that names groups, by its place or, in a data frame, by its name; of several columns all
        combinations are groups. Values may be numbers, texts, dates: whatever can be compared. These columns are no
        features, and are not in the output.
    handle_unknown : {"error", "global"}
        What becomes of rows whose group was not seen in `fit`, or is missing (NaN, None). "error": they are refused, in
        `fit` too if it is missing. "global": the statistics of all rows of `fit` together are theirs. With "global" a
        feature of which a group had no value takes those, too; with "error" it becomes NaN.
    with_mean : bool
        Subtract the mean of the group.
    with_std : bool
        Divide by the standard deviation of the group.

    Attributes
    ----------
    groups_ : ndarray of shape (n_groups,)
        The groups seen, sorted if they can be; of several columns tuples.
    mean_, var_, scale_ : ndarray of shape (n_groups, n_features_out)
        Mean, variance, and standard deviation of each group and feature; scale_ is 1 where a group is constant, as one
        of a single row is.
    n_samples_seen_ : ndarray of shape (n_groups, n_features_out)
        How many values, or the sum of their weights.
    moments_ : Moments
        Of each group and feature: the others are made of them.
    global_moments_ : Moments
        Of each feature, whatever the group; those of missing groups included.
    n_features_in_ : int
        Number of columns, those of groups included.
    feature_names_in_ : ndarray of str
        Their names, where X is a data frame whose columns have names.

    See Also
    --------
    StandardScaler : statistics of all rows.

    Notes
    -----
    NaN are missing values: `fit` leaves them out, `transform` keeps them. float64, float32 and float16 stay. Statistics
    are those of ``numbanorm.moments(x, axis=0, labels=...)``, in one read of X however many groups there are.

    Examples
    --------
    >>> import numpy as np
    >>> from numbanorm.sklearn import GroupStandardScaler
    >>> user_and_pulse = np.array([[7, 60.0], [7, 80.0], [8, 100.0], [8, 180.0]])
    >>> scaler = GroupStandardScaler(groups=0, handle_unknown="global").fit(user_and_pulse)
    >>> scaler.transform(user_and_pulse)
    array([[-1.],
           [ 1.],
           [-1.],
           [ 1.]])
    >>> scaler.groups_, scaler.mean_
    (array([7., 8.]), array([[ 70.],
           [140.]]))
    >>> scaler.transform([[9, 105.0]])  # nobody has seen user 9: the mean of all is 105
    array([[0.]])
    """

    _parameter_constraints: dict[str, Any] = {  # noqa: RUF012  # scikit-learn's name and form
        "groups": [Integral, str, list, tuple],
        "handle_unknown": [str],
        "with_mean": ["boolean"],
        "with_std": ["boolean"],
    }

    moments_: Moments
    global_moments_: Moments
    _places: dict[Hashable, int]  # of the groups, in the first axis of moments_

    def __init__(
        self,
        groups: Column | Sequence[Column],
        *,
        handle_unknown: Literal["error", "global"] = "error",
        with_mean: bool = True,
        with_std: bool = True,
    ) -> None:
        self.groups = groups
        self.handle_unknown = handle_unknown
        self.with_mean = with_mean
        self.with_std = with_std

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Compute mean and standard deviation of each group and feature.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows, with their groups in the column or columns that `groups` names.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), optional
            How much each row counts; not negative.

        Returns
        -------
        GroupStandardScaler
            Itself.

        Raises
        ------
        ValueError, TypeError
            If X has no such column, or no other; if a feature is infinite somewhere, or no number; if a group is
            missing and `handle_unknown` is "error". The scaler stays as it was.
        """
        return self._take_in(X, sample_weight, first=True)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Take further rows in, of groups seen before or not.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The next rows.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), optional
            How much each row counts; not negative.

        Returns
        -------
        GroupStandardScaler
            Itself.

        Raises
        ------
        ValueError, TypeError
            As in `fit`.
        """
        return self._take_in(X, sample_weight, first=not hasattr(self, "moments_"))

    def _take_in(self, X: Any, sample_weight: Any, first: bool) -> Self:
        with as_it_was(self):
            columns, x = self._parted(X, reset=first, finite=False)
            weights = checked_weights(sample_weight, x)
            keys, codes = numbered(columns)
            missing = codes < 0
            if missing.any() and self.handle_unknown == "error":
                raise ValueError(f"X has {_rows(missing)} without a group; {_mend('fill or drop them')}")
            before = {} if first else self._places
            places = {key: place for place, key in enumerate(in_order(dict.fromkeys([*before, *keys])))}
            labels = _looked_up(places, keys, codes)
            m = moments_of_columns(x, weights, self, labels=labels, num_labels=len(places))
            whole = m.merge_axis(0)
            if missing.any():
                own = None if weights is None else weights[missing]
                whole += moments_of_columns(x[missing], own, self)
        if not first:
            m = _spread(self.moments_, [places[key] for key in before], len(places)) + m
            whole = self.global_moments_ + whole
        self.moments_, self.global_moments_ = m, whole
        self._places, self.groups_ = places, as_array(list(places))
        return self

    @property
    def mean_(self) -> NDArray[Any]:
        """Mean of each group and feature."""
        return self.moments_.mean

    @property
    def var_(self) -> NDArray[Any]:
        """Variance of each group and feature."""
        return self.moments_.var()

    @property
    def scale_(self) -> NDArray[Any]:
        """Standard deviation of each group and feature, or 1 where there is no spread."""
        return scale_of(self.moments_)

    @property
    def n_samples_seen_(self) -> NDArray[Any]:
        """How many values each group has of each feature, or the sum of their weights."""
        return self.moments_.count

    def transform(self, X: Any) -> Any:
        """Subtract the mean of each row's group, and divide by its standard deviation.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows, with their groups in the same columns as in `fit`.

        Returns
        -------
        {ndarray, data frame} of shape (n_samples, n_features_out)
            The features of the rows, without the columns of groups.

        Raises
        ------
        NotFittedError
            If there are no statistics yet.
        ValueError, TypeError
            If a group is unknown or missing and `handle_unknown` is "error"; if X is infinite somewhere, or not a table
            of as many columns.
        """
        check_is_fitted(self)
        columns, x = self._parted(X, reset=False, finite="allow-nan")
        keys, codes = numbered(columns)
        m, labels = self._statistics(keys, codes)
        mean, rest = self._shift(m)
        made = Moments._of(np.ones(m.shape), mean, self._divisor(m) ** 2, rest)
        return normalize(x, axis=0, labels=labels, num_labels=len(made), moments=made, eps=0)

    def inverse_transform(self, X: Any, groups: Any) -> NDArray[Any]:
        """Multiply by the standard deviation of each row's group, and add its mean.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features_out)
            Rows as `transform` gives them.
        groups : array-like of shape (n_samples,) or (n_samples, n_columns)
            The group of each row, in as many columns as `groups` of the scaler names.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
            The features in their own units.

        Raises
        ------
        NotFittedError, ValueError, TypeError
            As in `transform`.
        """
        check_is_fitted(self)
        refuse_masked(X)
        refuse_masked(groups, "groups")
        x = check_array(X, dtype=FLOAT_DTYPES, ensure_all_finite="allow-nan", estimator=self, input_name="X")
        if x.shape[1] != self.moments_.shape[1]:
            raise ValueError(
                f"X has {x.shape[1]} features, but {type(self).__name__} is expecting {self.moments_.shape[1]}: what "
                "transform gives, without the columns of groups"
            )
        columns = columns_of(groups)
        if len(columns) != len(as_list(self.groups)) or any(len(column) != len(x) for column in columns):
            raise ValueError(
                f"groups must have a row for each of the {len(x)} rows of X, and a column for each of groups="
                f"{self.groups!r}; got {len(columns)} columns of {sorted({len(column) for column in columns})} rows"
            )
        m, labels = self._statistics(*numbered(columns))
        (mean, _), divisor, out = self._shift(m), self._divisor(m), np.empty_like(x)
        for i in range(0, len(x), BLOCK):
            own = labels[i : i + BLOCK]
            out[i : i + BLOCK] = x[i : i + BLOCK] * divisor[own] + mean[own]
        return out

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Names of the features, without those of the columns of groups.

        Parameters
        ----------
        input_features : array-like of str, optional
            Names of all columns. By default those of `fit`, or x0, x1, and so on.

        Returns
        -------
        ndarray of str
            The names.
        """
        names = super().get_feature_names_out(input_features)
        return np.delete(names, self._positions())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _parted(self, X: Any, reset: bool, finite: Literal[False, "allow-nan"]) -> tuple[list[Any], NDArray[Any]]:
        """The columns of groups, and the table of features."""
        if self.handle_unknown not in ("error", "global"):
            raise ValueError(f"handle_unknown must be 'error' or 'global', got {self.handle_unknown!r}")
        refuse_masked(X)
        if not is_frame(X):
            given, X = X, check_array(X, dtype=None, ensure_all_finite=False, estimator=self, input_name="X")
            if X.dtype.kind in "US" and not isinstance(given, np.ndarray):
                X = np.array(given, object)  # numbers beside texts stay numbers
        validate_data(self, X, reset=reset, skip_check_array=True)
        groups = self._positions()
        features = [i for i in range(self.n_features_in_) if i not in groups]
        if not features:
            raise ValueError(
                f"groups={self.groups!r} are all columns of X, n_features={self.n_features_in_}; pass features, too"
            )
        columns = [_safe_indexing(X, i, axis=1) for i in groups]
        neighbours = features == list(range(features[0], features[-1] + 1))
        rest = _safe_indexing(X, slice(features[0], features[-1] + 1) if neighbours else features, axis=1)
        return columns, check_array(rest, dtype=FLOAT_DTYPES, ensure_all_finite=finite, estimator=self, input_name="X")

    def _positions(self) -> list[int]:
        """Where in X the columns of groups are."""
        return positions(self.groups, self.n_features_in_, getattr(self, "feature_names_in_", None))

    def _statistics(self, keys: list[Hashable], codes: NDArray[np.intp]) -> tuple[Moments, NDArray[np.intp]]:
        """Moments of each of the groups at hand, at the end those of all rows, and for each row its place there."""
        places = np.array([*(self._places.get(key, NOBODY) for key in keys), NOBODY])
        unknown = places[codes] == NOBODY
        if self.handle_unknown == "error" and unknown.any():
            new = [key for key, place in zip(keys, places[:-1], strict=True) if place == NOBODY]
            told = f"of groups that were not seen in fit, {_some(new)}" if new else "without a group"
            raise ValueError(f"X has {_rows(unknown)} {told}; {_mend('fit on them, too')}")
        states, known = [], places != NOBODY
        for own, whole in zip(self.moments_._on_host, self.global_moments_._on_host, strict=True):
            state = np.repeat(whole[None], len(places), 0)
            state[known] = own[places[known]]
            states.append(state)
        if self.handle_unknown == "global":
            empty = states[0] == 0
            whole_states = self.global_moments_._on_host
            states = [np.where(empty, whole, state) for state, whole in zip(states, whole_states, strict=True)]
        return Moments._of(*states), np.where(codes < 0, len(keys), codes)

    def _shift(self, m: Moments) -> tuple[NDArray[Any], NDArray[Any]]:
        """What is subtracted, in two parts."""
        _, mean, _, rest = m._on_host
        return (mean, rest) if self.with_mean else (np.zeros_like(mean), np.zeros_like(mean))

    def _divisor(self, m: Moments) -> NDArray[Any]:
        return scale_of(m) if self.with_std else np.ones(m.shape)


def _looked_up(places: dict[Hashable, int], keys: list[Hashable], codes: NDArray[np.intp]) -> NDArray[np.intp]:
    return np.array([*(places[key] for key in keys), NOBODY])[codes]


def _spread(m: Moments, rows: list[int], number: int) -> Moments:
    """Moments of so many groups: of those of `m` at these rows, and elsewhere of no values."""
    states = []
    for state, of_none in zip(m._on_host, (0.0, np.nan, 0.0, 0.0), strict=True):
        wide = np.full((number, *state.shape[1:]), of_none)
        wide[rows] = state
        states.append(wide)
    return Moments._of(*states)


def _rows(chosen: NDArray[Any]) -> str:
    number, first = int(chosen.sum()), int(chosen.argmax())
    return f"{number} rows, from row {first} on," if number > 1 else f"row {first}"


def _some(keys: list[Hashable]) -> str:
    shown = ", ".join(str(as_array([key])[0]) for key in keys[:5])
    return shown if len(keys) <= 5 else f"{shown} and {len(keys) - 5} more"


def _mend(otherwise: str) -> str:
    return f"{otherwise}, or pass handle_unknown='global', by which they take the statistics of all rows"
