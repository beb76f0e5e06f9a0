"""Interleaved timing and its statistics: contenders, rounds, medians, ratios."""

import time
from collections.abc import Callable
from statistics import median, quantiles
from typing import NamedTuple

import numpy as np
from machine import peer_device
from threadpoolctl import ThreadpoolController

from tinyvrnn.arrays.cpu import available_cores

MIN_SECONDS = 1.0  # length of one timing, which repeats the step as training does; its first step has cold caches
QUICK_SECONDS = 0.05  # with --quick, which only shows that everything runs; not for quoting
QUIET_SECONDS = 0.05  # pause between timings, because threads of OpenMP and OpenBLAS spin for a while
LEAST_ROUNDS = 7  # for a median worth quoting
SGEMM_ROWS = 2048
SGEMM_FLOP = 2 * SGEMM_ROWS**3
SGEMMS_ON_A_GPU = 20  # in one call, as one is so short that waiting for its end would count


class Contender(NamedTuple):
    """Something to time; `prepare` is called before each timing and not timed."""

    run: Callable
    prepare: Callable = lambda: None


class Ratio(NamedTuple):
    """The ratio of two contenders' seconds over the rounds."""

    median: float
    low: float  # first quartile
    high: float  # third quartile


def time_in_turns(contenders, rounds, min_seconds=MIN_SECONDS):
    """Seconds of each contender, {name: [one per round]}. They take turns, so a slow spell affects all of them."""
    for contender in contenders.values():
        seconds_of(contender, min_seconds)  # warm-up
    seconds = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            seconds[name].append(seconds_of(contender, min_seconds))
    return seconds


def seconds_of(contender, min_seconds):
    """Mean seconds of a call, over as many calls as take `min_seconds`."""
    contender.prepare()
    time.sleep(QUIET_SECONDS)
    calls, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < min_seconds:
        contender.run()
        calls += 1
    return elapsed / calls


def sgemm(threads):
    """A function that multiplies two large float32 matrices, whose speed bounds that of a step."""
    a, b = np.random.default_rng(0).random((2, SGEMM_ROWS, SGEMM_ROWS), dtype=np.float32)
    out, controller = np.empty_like(a), ThreadpoolController()

    def run():
        with controller.limit(limits=threads, user_api="blas"):
            np.matmul(a, b, out=out)

    return run


def large_products(backend):
    """A function that multiplies large float32 matrices on a Backend and waits for the end, and its arithmetic."""
    if backend.name == "numpy":
        return sgemm(available_cores()), SGEMM_FLOP
    a, b = backend.asarray(np.random.default_rng(0).random((2, SGEMM_ROWS, SGEMM_ROWS), dtype=np.float32))
    out, count = backend.xp.empty_like(a), SGEMMS_ON_A_GPU if peer_device(backend.name) == "cuda" else 1

    def run():
        for _ in range(count):
            backend.xp.matmul(a, b, out=out)
        float(out[0, 0])

    return run, count * SGEMM_FLOP


def faster(seconds, names):
    """The name with the smallest median."""
    return min(names, key=lambda name: median(seconds[name]))


def ratio(theirs, ours):
    """The median over rounds of theirs / ours, since a slow spell affects both times of a round."""
    ratios = [a / b for a, b in zip(theirs, ours)]
    low, _, high = quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else [ratios[0]] * 3
    return Ratio(median(ratios), low, high)
