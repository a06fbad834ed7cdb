"""What is asked of a library whose arrays lie on GPUs."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .memory import DeviceArray, Shape


class Library(Protocol):
    """What is asked of a library."""

    def take(self, x: Any, name: str) -> DeviceArray:
        """Where one of its arrays lies, on the stream that is current for the caller."""

    def form(self, x: Any) -> tuple[Any, int] | None:
        """What describes one of its arrays, in any terms, and its address; None if `take` would have to look closer."""

    def stream(self, x: Any, device: int) -> int:
        """The stream that is current for the caller, who works with this array on this device."""

    def maker(self, shape: Shape, dtype: np.dtype, strides: Shape) -> Callable[[DeviceArray], tuple[Any, int]]:
        """A function make(like): a new array where `like` lies, and its address."""

    def fill(self, owner: Any, array: NDArray[Any], like: DeviceArray) -> None:
        """Copy from the host to one of its arrays, on the stream of `like`."""

    def to_host(self, x: Any) -> Any:
        """A copy of one of its arrays on the host."""
