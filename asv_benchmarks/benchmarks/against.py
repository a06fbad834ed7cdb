"""numbanorm held against NumPy, torch, kernels of one's own and a copy of the same bytes, all in one run, and against
float64.

Each norm is measured once, in turn with the others, before its benchmarks are asked for what was found. Times have the
library as a parameter: on the pages of asv all are curves in one plot. Ratios are numbanorm's time over the other's:
lower is better, and unlike times they mean something from one machine to the next.
"""

from collections.abc import Callable

from harness.libraries import own

import numbanorm as nbn

from .choice import CHOICE, PARAMETERS, THREADS, cases, libraries, number_of, parameters

SECONDS = 0.0 if CHOICE == "tiny" else 0.5  # for each case and number of threads
LONGEST = 3600  # seconds for all cases of a norm
LIBRARIES = libraries()

Figures = dict[str, float | str]  # or why there is none
Found = dict[tuple[str, int | str], Figures | str]


def measured(norm: str) -> Found:
    """Measure all cases of a norm. One that fails takes no other with it; nothing is found of a norm that is not there.

    torch and rich are imported here, not by each process that asv starts to report one figure.
    """
    tiny = next(iter(cases(norm).values())).tiny()
    try:
        from harness.machine import set_threads
        from harness.measure import measure

        own.prepare(nbn, tiny, tiny.arrays(), None)
    except (ImportError, AttributeError) as error:  # an older numbanorm, which lacks what this is made of
        print(f"n/a: {error}")
        return {}
    found: Found = {}
    for label, case in cases(norm).items():
        for threads in THREADS:
            try:
                number = number_of(threads)
                set_threads(number)
                found[label, threads] = figures(measure(case, number, SECONDS, LIBRARIES))
            except Exception as error:
                found[label, threads] = f"{type(error).__name__}: {error}"
    return found


def figures(row) -> Figures | str:
    """Return what the benchmarks report of a case, or why numbanorm could not be measured."""
    if row.failed:
        return row.left_out["numbanorm"]
    got = {name: 1 / ratio.median for name, ratio in row.ratios.items()}
    got |= {"copy": 1 / row.of_copy, "error": row.units["numbanorm"]}
    got |= {f"ms, {name}": 1e3 * seconds for name, seconds in row.seconds.items()}
    rounded = {name: float(f"{figure:.4g}") for name, figure in got.items()}  # asv prints every digit
    return rounded | {f"ms, {name}": row.left_out[name] for name in row.broken if name not in row.seconds}


def figure(found: Found, label: str, threads: int | str, name: str) -> float:
    """Return one of the figures; NaN, which asv shows as n/a, if it is missing.

    Raises
    ------
    RuntimeError
        If it is missing because something failed.
    """
    got = found.get((label, threads), {})
    got = got if isinstance(got, str) else got.get(name, float("nan"))
    if isinstance(got, str):
        raise RuntimeError(got)
    return got


def tracked(name: str, unit: str) -> Callable:
    """Return the benchmark that reports one of the figures."""

    def track(self, found, label, threads):
        return figure(found, label, threads, name)

    track.unit = unit
    return track


def by_library(norm: str) -> Callable:
    """Return the benchmark that reports the time of a call of each library."""

    def track(self, found, label, threads, library):
        return figure(found, label, threads, f"ms, {library}")

    track.unit = "ms"
    track.params = (*parameters(norm), LIBRARIES)
    track.param_names = (*PARAMETERS, "library")
    return track


class _Norm:
    """Each norm has a `setup_cache` of its own, as asv keeps what it returns by the line on which it is written."""

    param_names = PARAMETERS
    timeout = 60

    track_over_numpy = tracked("NumPy", "times as long")
    track_over_torch = tracked("torch", "times as long")
    track_over_copy = tracked("copy", "times as long")
    track_error = tracked("error", "units of rounding")


class BatchNormTraining(_Norm):
    params = parameters("batch_norm")
    track_time = by_library("batch_norm")

    def setup_cache(self):
        return measured("batch_norm")

    setup_cache.timeout = LONGEST


class BatchNormEvaluation(_Norm):
    params = parameters("batch_norm_eval")
    track_time = by_library("batch_norm_eval")

    def setup_cache(self):
        return measured("batch_norm_eval")

    setup_cache.timeout = LONGEST


class LayerNorm(_Norm):
    params = parameters("layer_norm")
    track_time = by_library("layer_norm")

    def setup_cache(self):
        return measured("layer_norm")

    setup_cache.timeout = LONGEST


class RMSNorm(_Norm):
    params = parameters("rms_norm")
    track_time = by_library("rms_norm")

    def setup_cache(self):
        return measured("rms_norm")

    setup_cache.timeout = LONGEST


class GroupNorm(_Norm):
    params = parameters("group_norm")
    track_time = by_library("group_norm")

    def setup_cache(self):
        return measured("group_norm")

    setup_cache.timeout = LONGEST


class InstanceNorm(_Norm):
    params = parameters("instance_norm")
    track_time = by_library("instance_norm")

    def setup_cache(self):
        return measured("instance_norm")

    setup_cache.timeout = LONGEST


class Moments(_Norm):
    params = parameters("moments")
    track_time = by_library("moments")

    def setup_cache(self):
        return measured("moments")

    setup_cache.timeout = LONGEST


class Backward(_Norm):
    params = parameters("backward")
    track_time = by_library("backward")

    def setup_cache(self):
        return measured("backward")

    setup_cache.timeout = LONGEST
