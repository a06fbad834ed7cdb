"""A small launch table: the simulator runs one Python thread for each of the GPU's."""

from numbanorm.cuda.shapes import Shapes, Team

SMALL = Shapes(
    rows=(
        Team(threads=4, values=8, block=16, registers=128),
        Team(threads=8, values=16, block=16, registers=128),
        Team(threads=64, values=8, block=64, registers=128),
    ),
    loop=Team(threads=16, values=8, block=16, registers=128),
    columns=(Team(threads=8, values=16, block=16, registers=128), Team(threads=2, values=16, block=16, registers=128)),
    chosen=(Team(threads=4, values=8, block=16, registers=128), Team(threads=64, values=8, block=64, registers=128)),
    backward=(
        Team(threads=4, values=8, block=16, registers=128),
        Team(threads=16, values=8, block=16, registers=128),
        Team(threads=64, values=8, block=64, registers=128),
    ),
    backward_columns=(
        Team(threads=8, values=16, block=16, registers=128),
        Team(threads=2, values=16, block=16, registers=128),
    ),
    cell=16,
    members=24,
    turns=2,
    states=32,
    blocks=6,
    parts=12,
    part=64,
    rounds=2,
    shared=2560,
    shared_columns=2304,
)
