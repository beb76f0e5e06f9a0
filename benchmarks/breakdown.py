"""The time of each part of a training step of tinyvrnn, and how long its matrix products would take at the peak.

    python benchmarks/breakdown.py                         the sizes course, music and speech
    python benchmarks/breakdown.py --quick --sizes tiny

It times the work of one worker: forward and backward on its slice of the batch, with its BLAS threads, in one process
on an otherwise idle machine. It needs no peer.
"""

import sys
import time
from contextlib import contextmanager
from functools import partial
from statistics import median

import numpy as np
import report
from rounds import LEAST_ROUNDS, SGEMM_FLOP, sgemm
from sizes import SIZES, make_batch
from trainers import new_model

from tinyvrnn.arrays.cpu import blas_threads
from tinyvrnn.runs.plots import COLOURS
from tinyvrnn.training.parallel import cut, split_for

PRODUCTS = ("products in the loops", "products over all T", "weight gradients")
PARTS = (*PRODUCTS, "all else")

# -------------------------------------------------------------------------------------------------------------- measure


@contextmanager
def products_timed(T, B):
    """Context: {part: [(seconds, flop) of each product]} for T steps of B sequences."""
    found, matmul = {part: [] for part in PRODUCTS}, np.matmul

    def part_of(a):
        """A product in a loop has the rows of one step; a weight's gradient is a sum over all of them."""
        return PRODUCTS[0 if len(a) == B else 2 if a.shape[-1] == T * B else 1]

    def timed(a, b, *others, **options):
        start = time.perf_counter()
        product = matmul(a, b, *others, **options)
        seconds = time.perf_counter() - start
        found[part_of(a)].append((seconds, 2 * product.size * a.shape[-1]))
        return product

    np.matmul = timed
    try:
        yield found
    finally:
        np.matmul = matmul


def benchmark(name, args):
    """All figures of one size as plain values."""
    size, model = SIZES[name], new_model(SIZES[name])
    split = split_for(model, size.B, "auto")
    x, eps = (np.ascontiguousarray(a[:, cut(size.B, split.slices)[0]]) for a in make_batch(size))
    step, one = (partial(model.loss_and_grads, a, None, b) for a, b in ((x, eps), (x[:, :1], eps[:, :1])))
    with blas_threads(split.blas_threads):
        large = sgemm(split.blas_threads)
        rounds = [measured(step, one, large, *x.shape[:2]) for _ in range(args.rounds)]
    return {
        "size": name,
        "slices": split.slices,
        "blas_threads": split.blas_threads,
        "sequences": x.shape[1],
        "rounds": rounds,
        "median": {key: median(found[key] for found in rounds) for key in rounds[0]},
    }


def seconds_of_second(call):
    """Seconds of the second of two calls, with warm caches."""
    call()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measured(step, one, large, T, B):
    """Seconds of the step and of its parts; those of the products at the peak; those of the step with one sequence."""
    step()
    with products_timed(T, B) as found:
        start = time.perf_counter()
        step()
        whole = time.perf_counter() - start
    peak = SGEMM_FLOP / seconds_of_second(large)
    seconds = {part: sum(s for s, _ in products) for part, products in found.items()}
    at_peak = {f"{part}, at the peak": sum(f for _, f in products) / peak for part, products in found.items()}
    rest = {PARTS[-1]: whole - sum(seconds.values()), "step with one sequence": seconds_of_second(one)}
    return {"step": whole, "peak_flops_per_second": peak} | seconds | at_peak | rest


# ------------------------------------------------------------------------------------------------------------- printing


def rows(result):
    found = result["median"]
    for part in PARTS:
        at_peak = found.get(f"{part}, at the peak")
        yield [
            ("size", "", result["size"]),
            ("part", "", part),
            ("took", "ms", f"{1e3 * found[part]:.1f}"),
            ("at the peak", "ms", "-" if at_peak is None else f"{1e3 * at_peak:.1f}"),
            ("share of the step", "%", f"{100 * found[part] / found['step']:.0f}"),
        ]


def sentence(result):
    found = result["median"]
    return (
        f"{result['size']}: one slice of {result['slices']}, {result['sequences']} sequences, {result['blas_threads']} "
        f"BLAS threads: {1e3 * found['step']:.1f} ms. With one sequence, mostly calls and the reading of weights: "
        f"{1e3 * found['step with one sequence']:.1f} ms. Peak {found['peak_flops_per_second'] / 1e9:.0f} GFLOP/s."
    )


def draw(results, axes):
    """Bars of 100 % for each size: the parts, with the time beyond that at the peak paler."""
    left = np.zeros(len(results))
    for part, colour in zip(PARTS, COLOURS):
        shares = [result["median"][part] / result["median"]["step"] for result in results]
        at_peak = [result["median"].get(f"{part}, at the peak", 0) / result["median"]["step"] for result in results]
        names = [f"{result['size']}\n{1e3 * result['median']['step']:.0f} ms" for result in results]
        axes.barh(names, shares, left=left, color=colour, alpha=0.45, height=0.6)
        axes.barh(names, at_peak, left=left, color=colour, height=0.6)
        axes.barh([names[0]], [0], color=colour, label=part)
        left += shares
    axes.invert_yaxis()
    axes.set(title="Where a slice's time goes; the full colour: at the peak", xlabel="share of the step", xlim=(0, 1))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3, fontsize="small")


# -------------------------------------------------------------------------------------------------------------- command


def main(arguments=None):
    parser = report.parser(__doc__, workers=False)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["course", "music", "speech"], metavar="SIZE")
    parser.add_argument("--rounds", type=report.positive, help=f"at least {LEAST_ROUNDS} (default 15; --quick: 2)")
    args = parser.parse_args(arguments)
    report.check_rounds(parser, args, LEAST_ROUNDS, 15)
    about, results = report.begin(), []
    for name in args.sizes:
        results.append(benchmark(name, args))
        print(f"\n{sentence(results[-1])}\n\n{report.table(list(rows(results[-1])))}", flush=True)
    report.save(args.out, "breakdown", about, args, results, report.figure(1, lambda axes: draw(results, axes), 7, 3))
    return 0


if __name__ == "__main__":
    sys.exit(main())
