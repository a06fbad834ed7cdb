"""Arrays of libraries that nobody knows: the CUDA array interface over the host's memory, and nothing else."""


class Exported:
    """What an unknown library gives: the interface over some memory, and nothing else."""

    def __init__(self, array, **changes):
        self.array = array
        strides = None if array.flags.c_contiguous else array.strides
        about = {"shape": array.shape, "typestr": array.dtype.str, "strides": strides, "version": 3}
        self.__cuda_array_interface__ = {**about, "data": (array.ctypes.data, False), **changes}


class Typed(Exported):
    """The same, of a library that names its dtypes."""

    def __init__(self, array, dtype, **changes):
        super().__init__(array, **changes)
        self.dtype = dtype


class Shaped(Exported):
    """One that knows its shape."""

    @property
    def shape(self):
        return self.array.shape
