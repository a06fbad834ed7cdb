"""Types that users see: what functions of this package take, and what they give back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, cast, overload

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray


class HasCudaInterface(Protocol):
    """An array of a library that has GPUs, such as a tensor of torch. It may lie on the host all the same."""

    @property
    def __cuda_array_interface__(self) -> Any: ...


HostArrayLike = npt.ArrayLike
ArrayLike = HostArrayLike | HasCudaInterface
AnyArray = NDArray[Any] | HasCudaInterface

# What comes out as it went in: an ndarray of floats with its shape and dtype, and an array of another library. All else
# gives an ndarray of a dtype that is not known here: integers give float64, lists what NumPy makes of them.
Sizes = TypeVar("Sizes", bound=tuple[int, ...])
Floats = TypeVar("Floats", bound=np.dtype[np.floating[Any]])
Tensor = TypeVar("Tensor", bound=HasCudaInterface)

if TYPE_CHECKING:  # a TypeVar has a default from Python 3.13 on; type checkers know of it before
    import typing_extensions

    Statistic = typing_extensions.TypeVar("Statistic", default=NDArray[np.float64])
else:
    Statistic = TypeVar("Statistic")

P = ParamSpec("P")


class Norm(Protocol[P]):
    """A function that gives back what its first argument is. The other arguments are those of its definition."""

    __name__: str

    @overload
    def __call__(
        self, x: np.ndarray[Sizes, Floats], *args: P.args, **kwargs: P.kwargs
    ) -> np.ndarray[Sizes, Floats]: ...
    @overload
    def __call__(self, x: Tensor, *args: P.args, **kwargs: P.kwargs) -> Tensor: ...
    @overload
    def __call__(self, x: HostArrayLike, *args: P.args, **kwargs: P.kwargs) -> NDArray[Any]: ...


def like_x(function: Callable[Concatenate[Any, P], Any]) -> Norm[P]:
    """Tell type checkers that a norm gives back what x is; at run time the function stays as it is."""
    return cast("Norm[P]", function)
