"""How memory is walked: a layout, a shape and strides become loops, and loops a table that kernels read."""
