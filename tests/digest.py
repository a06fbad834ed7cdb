"""A digest of the bits of results, to show that a change of the code changes none of them. Not a test by itself.

It makes many calls with fixed data, through the public interface only, and prints a SHA-256 of all that each gives or
updates. So it runs unchanged before and after a reorganisation:

    PYTHONPATH=<the old code> python tests/digest.py --out before.json
    python tests/digest.py --out after.json
    python tests/digest.py --compare before.json after.json

With ``--simulator``, arrays lie on the GPU of Numba's simulator. Compare what one machine gave: bits may depend on the
processor and on the versions of NumPy, Numba and torch. A case that lacks a package says "skipped".
"""

import argparse
import hashlib
import json
import os
import sys
from functools import partial
from inspect import signature
from pathlib import Path
from zlib import crc32

import numpy as np

# Numba reads both when it is imported. Threads may be more than processors: results must not depend on their number.
SIMULATOR = "--simulator" in sys.argv
os.environ["NUMBA_ENABLE_CUDASIM"] = str(int(SIMULATOR))
os.environ.setdefault("NUMBA_NUM_THREADS", str(max(4, os.cpu_count() or 1)))

# Output that does not fit the last-level cache is written in another way: with a small cache, the larger cases have it.
if hasattr(os, "sysconf"):
    asked = os.sysconf
    os.sysconf = lambda name: 1 << 20 if name == "SC_LEVEL3_CACHE_SIZE" else asked(name)

import numbanorm as nbn  # noqa: E402
from numbanorm import Layout  # noqa: E402

# What is grouped: by a pattern with these sizes, by axes, or by a Layout.
SIZES = {"g": 2, "p": 3, "q": 2}
SMALL = {
    (): [None],
    (5000,): [None, 0, (), "(g c) -> c"],
    (0, 5): [0, 1],
    (6, 100): [-1, 0, None, ()],
    (6, 2500): [1, 0],
    (300, 33): [0, (1,)],
    (24, 36): ["(h p) (w q) -> h w", "(h p) (w q) -> p q", "(p h) w -> p 1", "(h p q) w -> w h q"],
    (3, 4, 5): [(0, 2), 1, "a ... -> a", "... c -> ..."],
    (3, 1, 40): ["b 1 c -> b 1", "b 1 c -> c"],
    (2, 6, 5, 7): ["n c h w -> n c", "n c h w -> c", "n (g c) h w -> n g", "n (c g) h w -> n g", "a b c d -> (d a)"],
    (4, 6, 10, 7): [Layout.batch(), Layout.instance(), Layout.group(1), Layout.group(3), Layout.layer()],
    (3, 9, 10, 12): [Layout.batch(-1), Layout.instance(-1), Layout.group(4, -1), Layout.layer(2), "b ... c -> c b"],
    (2, 9, 20, 16): ["n h w (c g) -> n g", "n h w (g c) -> n g", "n (h p) (w q) c -> n h w c", "n (h p) ... -> n h"],
}
LARGE = {  # for several threads: long rows, many rows, parts, splits, tiles of columns
    (600_003,): [None],
    (2, 250_009): [1],
    (64, 4096): [1, 0],
    (20_000, 40): [0, "(t g) c -> c"],
    (80_000, 7): [0],
    (300, 2500): [0, 1],
    (8, 16, 64, 64): [Layout.batch(), Layout.group(4), (0, 2)],
    (8, 32, 64, 30): [Layout.batch(-1), Layout.instance(-1), "n h w (c g) -> n g", "n h w (g c) -> n g"],
    (3, 63, 64, 40): ["n (h p) (w q) c -> n h w c", "n (h p) (w q) c -> h w"],
}
TRIO = [((6, 100), -1), ((300, 33), 0), ((2, 6, 5, 7), "n (g c) h w -> n g")]
MORE = [((2, 6, 5, 7), "n c h w -> c"), ((24, 36), "(h p) (w q) -> h w"), ((2, 9, 20, 8), "n h w (g c) -> n g")]
ORDERS = ["F", "last", "swapped", "reversed", "gaps", "unaligned", "broadcast"]


class Skipped(Exception):
    """A package is missing."""


def package(name):
    try:
        return __import__(name)
    except ImportError as error:
        raise Skipped from error


class Data:
    """Makes the arrays of a case, the same for each of its calls."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def __call__(self, shape, dtype="f4", order="C", values="centred"):
        """An array where it is wanted; in any order it is a view of one without gaps, as only those are sent."""
        dtype = dtype.split()[0]  # weight and bias may have others
        dtype = np.dtype(package("ml_dtypes").bfloat16 if dtype == "bf" else dtype)
        x, axes = self.values(shape, dtype, values).astype(dtype), list(range(len(shape)))
        if order == "broadcast":  # no stride along the first axis
            return np.broadcast_to(x[:1], shape)
        if order == "unaligned":
            view = np.zeros(x.nbytes + 1, np.uint8)[1:].view(dtype).reshape(shape)
            view[...] = x
            return view
        if order in ("gaps", "reversed"):
            index = (..., *[slice(1, None, 2) if order == "gaps" else slice(None, None, -1)] * x.ndim)
            home = np.zeros([2 * n + 1 if order == "gaps" else n for n in shape], dtype)
            home[index] = x
            return send(home)[index]
        axes = {"C": axes, "F": axes[::-1], "last": [*axes[:1], *axes[2:], 1], "swapped": [1, 0, *axes[2:]]}[order]
        return send(np.array(x.transpose(axes), order="C")).transpose([int(i) for i in np.argsort(axes)])

    def values(self, shape, dtype, values):
        if dtype.kind in "iu":
            return self.rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype.newbyteorder("="))
        x = np.asarray(self.rng.standard_normal(shape))
        if values in ("constant", "offset"):
            x = x * (values == "offset") + 10.0 ** (2 + dtype.itemsize // 2)
        if values in ("tiny", "huge"):
            x *= float(np.finfo(dtype).tiny if values == "tiny" else np.finfo(dtype).max / 100)
        if values in ("outlier", "nan", "inf"):
            x.flat[0] = 1000.0 if values == "outlier" else float(values)
        return x > 0 if dtype.kind == "b" else x

    def pair(self, dtypes, shape, exact=True):
        """Weight and bias of a shape, or of any that broadcasts to it; None where there is no dtype, or "-"."""
        made = []
        for dtype in [*dtypes.split(), "-", "-"][1:3]:
            near = [n if self.rng.random() < 0.7 else 1 for n in shape[self.rng.integers(len(shape) + 1) :]]
            given = (shape, dtype) if exact else (near, dtype, self.rng.choice(["C", "gaps"]))
            made.append(None if dtype == "-" else self(*given))
        return made


# what is called -------------------------------------------------------------------------------------------------------


def sizes_of(layout):
    return {name: size for name, size in SIZES.items() if name in layout} if isinstance(layout, str) else {}


def ids(shape, layout, make):
    """What a layout says of itself."""
    if not isinstance(layout, Layout):
        layout = Layout(layout, **sizes_of(layout)) if isinstance(layout, str) else Layout.axes(layout)
    return layout.group_ids(shape), np.array(layout.group_shape(shape))


def general(what, dtypes, shape, layout, make, order="C", values="centred", eps=1e-5):
    """`moments`, or `normalize` in one of its ways."""
    keywords = {"axis" if isinstance(layout, int | tuple) else "layout": layout, **sizes_of(layout)}
    x, other = make(shape, dtypes, order, values), nbn.moments(make(shape), **keywords)
    if what == "moments":
        made = nbn.moments(x, **keywords)
        return made, made.var(), made.std(1), made + other, x
    weight, bias = make.pair(dtypes, shape, exact=False)
    call = partial(nbn.normalize, x, weight=weight, bias=bias, eps=eps, **keywords)
    ways = {"both": {"return_moments": True}, "given": {"moments": other}, "inside": {"out": x}}
    return call(out=make(shape, dtypes, "gaps")) if what == "out" else call(**ways.get(what, {})), x


def by_channel(norm, dtypes, shape, axis, make, stats=None, order="C", steps="C", **keywords):
    """A norm with weight and bias by channel. The second call finds running statistics that the first has updated."""
    x, channels = make(shape, dtypes, order), (shape[axis],)
    running = [] if stats is None else [make(channels, stats, steps), make(channels, stats, steps, "offset")]
    own = {"group_norm": [2], "batch_instance_norm": [send(np.linspace(0, 1, shape[axis]))]}.get(norm, [None, None])
    pair = make.pair(dtypes, channels)
    if (
        "momentum" in keywords and "num_batches_tracked" in signature(getattr(nbn, norm)).parameters
    ):  # else it is hidden
        keywords = keywords | {"num_batches_tracked": send(np.zeros((), np.int64))}
    return [getattr(nbn, norm)(x, *(running or own), *pair, channel_axis=axis, **keywords) for _ in "12"], running


def last_axes(norm, dtypes, shape, axes, make, order="C"):
    given = make.pair(dtypes, shape[-axes:])[: 1 if norm == "rms_norm" else 2]
    return getattr(nbn, norm)(make(shape, dtypes, order), shape[-axes:], *given)


def of_weights(dtype, shape, axis, make):
    v, slices = make(shape, dtype), (shape[axis],)
    first = nbn.spectral_norm(v, axis=axis)
    second = nbn.spectral_norm(v, first[2], axis=axis, num_iterations=3)
    lengths = nbn.weight_norm(v, make(slices, dtype), axis=axis), nbn.weight_norm(v, 2.5, axis=None)
    standard = nbn.weight_standardize(v, axis=axis), nbn.weight_standardize(v, axis=axis, eps=0.0, ddof=1)
    return first, second, lengths, standard


def numbers(make):
    """Numbers and lists in place of arrays, and Moments of nothing."""
    x, start = make((6, 100), "f8"), nbn.Moments.empty(6)
    made = nbn.normalize(x, axis=1, weight=2.0, bias=np.float64(-1)), nbn.normalize(7.0), nbn.rms_norm([[3.0, 4]], [2])
    return *made, start + nbn.moments(x, axis=1), (start + start).var()


def tensors(dtype, make):
    """Of torch, on the host."""
    torch = package("torch")
    x, inside = (torch.from_numpy(make((2, 6, 5, 7))).to(getattr(torch, dtype)) for _ in "xy")
    last, rows, weight = x.contiguous(memory_format=torch.channels_last), x.reshape(12, 35), x[0, :, 0, 0].clone()
    mean, var = torch.zeros(6), torch.ones(6)
    made = [nbn.batch_norm(a, mean, var, weight, weight, training=t) for a in (x, last) for t in (True, False)]
    made += [nbn.layer_norm(rows, 35), nbn.rms_norm(rows.T, (12,)), nbn.group_norm(last, 2, weight, weight)]
    made += [nbn.normalize(inside, "n c h w -> n c", out=inside), inside, nbn.moments(last, "n c h w -> c")]
    return made, mean, var, nbn.weight_norm(x, weight, axis=1), nbn.spectral_norm(x)


# cases: (name, numbers of threads, function of Data) ------------------------------------------------------------------


def case(function, *arguments, threads=(2,), **keywords):
    words = [function.__name__, *arguments, *(f"{name}={value}" for name, value in keywords.items())]
    return " ".join(map(str, words)), threads, partial(function, *arguments, **keywords)


def every(groupings, *ways, **keywords):
    """Cases of all groupings in all ways: "what dtype", or "what dtype dtype-of-weight dtype-of-bias"."""
    return [case(general, *way.split(" ", 1), *group, **keywords) for group in groupings for way in ways]


def on_host():
    """Each set of dtypes is compiled for every kind of walk: few are used everywhere, the others with few layouts."""
    small, large = ([(shape, layout) for shape in of for layout in of[shape]] for of in (SMALL, LARGE))
    made = [case(ids, *grouping) for grouping in small]
    weighted = "normalize f4 f4 f4", "given f4 f4 f4"
    plain = "moments f4", "moments f8", "both f4", "both f8"
    made += every(small, *plain, *weighted, "normalize f8 f8 f8")
    for order in ORDERS:
        written = ["inside f4 f4 f4", "out f8"] if order != "broadcast" else []
        made += every([*TRIO, *MORE], "moments f8", "both f4", "normalize f8", *weighted, *written, order=order)
        made += every([((500, 600), 1)], "both f4", *weighted, *written, order=order, threads=(1, 3))
        made += [case(by_channel, "batch_norm", "f4 f4 f4", (4, 6, 5, 7), 1, stats="f4", order=order, training=True)]
        made += [case(last_axes, "layer_norm", "f4 f4 f4", (6, 9, 35), 2, order=order)]
    for values in ("offset", "constant", "outlier", "nan", "inf", "tiny", "huge"):
        made += every(TRIO, *plain, *weighted, values=values)
        made += every(TRIO[:1], "moments f2", "normalize f2 f4 f4", values=values)
    for eps in (0, 1e-12, 0.5):
        made += every(TRIO, "normalize f8", *weighted, eps=eps)
    for dtype in "f2 bf i1 u1 i8 ? >f4 >i4".split():
        made += every([TRIO[0], ((6, 2500), 1), TRIO[2]], f"moments {dtype}", f"normalize {dtype}")
    made += every([TRIO[1], MORE[1]], "moments i1", "normalize >f4", "normalize f2 f4 f4", "normalize bf bf bf")
    mixed = "normalize f4 f8 f8", "normalize f4 f4 -", "normalize f4 - f4", "normalize i4 f8 f8"
    made += every([TRIO[0], TRIO[2]], *mixed)
    made += every(large, "both f4", "normalize f4 f4 f4", threads=(1, 2, 3))
    offset = "moments f4", "both f8", "given f4 f4 f4", "inside f4 f4 f4"
    made += every(large, *offset, values="offset", threads=(1, 2, 3))
    made += every(large[1:2], "normalize f2 f4 f4", threads=(1, 2, 3))
    for settings in ({"training": True}, {"training": True, "steps": "gaps"}, {"training": False}):
        batches = "f4 f4 f4", (16, 32, 30, 40), 1
        made += [case(by_channel, "batch_norm", *batches, stats="f4", threads=(1, 2, 3), **settings)]
    shapes = ((4, 6, 5, 7), 1), ((4, 5, 7, 20), -1), ((40, 6), 1), ((3, 16, 300), 1), ((2, 6, 3, 4, 5), 1)
    made += norms(shapes, ("f4 f4 f4", "f4"), ("f4", "f8"), ("f8 f8 f8", "f8"))
    made += [case(of_weights, dtype, *of) for of in shapes[:3] for dtype in ("f4", "f8")]
    return [*made, case(numbers), *(case(tensors, kind) for kind in ("float32", "float64", "float16", "bfloat16"))]


def on_device():
    """Few, with few groups, as the simulator is slow; some groups are large enough to be cut into parts."""
    small = [(), None], [(0, 5), 1], [(5, 80), -1], [(70, 5), 0], [(40, 9), 1], [(3, 4, 5), "a ... -> a"]
    windows = [(3, 4), "(h p) (w q) -> h w"], [(1, 6, 4), "n (h p) c -> n c h"], [(3, 5, 7, 4), Layout.batch(-1)]
    made = every([*small, *windows, *TRIO[2:]], "moments f4", "both f4 f4 f4", "inside f8")
    made += every([((1, 20_000), 1), ((9000, 2), 0), ((2, 3, 30, 8), "n h w (g c) -> n g")], "both f4")
    made += every([small[2], small[3], windows[0]], "given f4 f4 f4", "normalize f8 f4 -")
    made += every(TRIO[2:], *(f"both {dtype}" for dtype in "f2 bf i1 i8 ?".split()))
    for order in ("F", "last", "swapped", "reversed", "gaps"):
        made += every(TRIO[2:], "both f4 f4 f4", order=order)
    made += every(small[2:3], "both f4", values="offset") + every(small[2:3], "both f4", values="nan")
    return made + norms([((3, 4, 5), 1)], ("f4 f4 f4", "f4")) + [case(of_weights, "f4", (2, 2), 1)]


def norms(shapes, *dtypes):
    """All named norms, for (dtypes of x, weight and bias; that of running statistics)."""
    made = []
    for shape, axis in shapes:
        more = ["instance_norm", "batch_instance_norm"] if len(shape) > 2 else []
        for given, stats in dtypes:
            of = given, shape, axis
            for norm in ["batch_norm", "batch_renorm", *more[:1]]:
                own = "use_input_stats" if norm in more else "training"
                for settings in ({own: True}, {own: True, "momentum": None, "steps": "gaps"}, {own: False}):
                    made.append(case(by_channel, norm, *of, stats=stats, **settings))
            made.append(case(by_channel, "batch_norm", *of, training=True))
            made += [case(by_channel, norm, *of) for norm in ["group_norm", *more[1:]]]
            made.append(case(last_axes, "layer_norm", given, shape, 1))
            made.append(case(last_axes, "rms_norm", given, shape, len(shape) - 1))
    return made


# running --------------------------------------------------------------------------------------------------------------


def send(array):
    """An array to where it is wanted."""
    if not SIMULATOR:
        return array
    from numba import cuda

    half = array.dtype.name == "bfloat16"  # Numba copies what has a buffer
    return cuda.to_device(array.view(np.uint16)).view(array.dtype) if half else cuda.to_device(array)


def to_host(result):
    """An ndarray; of a tensor of bfloat16, its bits."""
    half = str(getattr(result, "dtype", "")).endswith("bfloat16")
    if hasattr(result, "detach"):
        return (result.view(package("torch").int16) if half else result).numpy()
    if not hasattr(result, "copy_to_host"):
        return np.asarray(result)
    return result.view(np.uint16).copy_to_host().view(result.dtype) if half else result.copy_to_host()


def digest(result):
    """SHA-256 of types, shapes and bits; every NaN counts as the same."""
    if isinstance(result, nbn.Moments):
        result = [result.count, result.mean, result.m2]
    if isinstance(result, list | tuple):
        return hashlib.sha256(" ".join(map(digest, result)).encode()).hexdigest()
    array = np.array(to_host(result), order="C")
    if array.dtype.kind not in "iub":
        array[np.isnan(array)] = np.nan
    kind = f"{type(result).__name__} {array.dtype} {array.shape} "
    return hashlib.sha256(kind.encode() + array.tobytes()).hexdigest()


def run(data, threads, call):
    """The digest of a case. The second of two calls takes a shorter way, and must give the same."""
    nbn.set_num_threads(threads)
    try:
        first, again = (digest(call(make=Data(crc32(data.encode())))) for _ in range(2))
    except Skipped:
        return "skipped"
    except Exception as error:
        return f"raised {type(error).__name__}: {error}"
    return first if first == again else f"{first} and, called again, {again}"


def compare(before, after):
    """Print the names of cases that differ, or that only one file has; return whether there are any."""
    old, new = (json.loads(Path(path).read_text(encoding="utf-8")) for path in (before, after))
    names = [name for name in old | new if old.get(name) != new.get(name)]
    print(*names, f"{len(names)} of {len(old | new)} cases differ", sep="\n")
    return bool(names)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--simulator", action="store_true", help="arrays on the GPU of Numba's simulator")
    parser.add_argument("--out", help="write {name: digest} to this file, in JSON")
    parser.add_argument("--compare", nargs=2, metavar="FILE", help="compare two such files; exit with 1 if they differ")
    chosen = parser.parse_args()
    if chosen.compare:
        sys.exit(compare(*chosen.compare))
    if SIMULATOR:
        sys.path.append(str(Path(__file__).parent / "cuda"))
        package("simulator").make_fast()
    made = {}
    for data, counts, call in on_device() if SIMULATOR else on_host():
        for threads in counts:
            name = f"{data} threads={threads}"
            assert name not in made, name
            made[name] = run(data, threads, call)
            print(name, made[name], flush=True)
    if chosen.out:
        Path(chosen.out).write_text(json.dumps(made, indent=1), encoding="utf-8")
    skipped = sum(value == "skipped" for value in made.values())
    print(f"{len(made)} cases, {skipped} skipped:", hashlib.sha256(json.dumps(made).encode()).hexdigest())


if __name__ == "__main__":
    main()
