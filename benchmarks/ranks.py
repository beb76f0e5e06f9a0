"""Scaling over ranks of mpiexec on this machine, and a model that predicts it for many machines.

    python benchmarks/ranks.py                             all three sizes: some ten minutes
    python benchmarks/ranks.py --quick --sizes tiny        check that it runs

Strong scaling divides the size's batch among the ranks, weak scaling gives each rank a batch of that size. The workers
of one process are timed next to them. The model of a step on N ranks, each with b sequences, is

    seconds(N, b) = slice(b) + sum(N, bytes)
    slice(b)      = a + c b                                            fitted to steps of one process with b sequences
    sum(N, bytes) = ceil(log2 N) latency + 2 (N - 1) / N bytes / bandwidth     of a reduce-scatter and an all-gather

latency and bandwidth are fitted to the measured sums of two ranks for this machine, and assumed for a network (below).
It also assumes that each rank has a core of its own, that all slices take the same time, that nothing overlaps with the
sum, and that reading data, validation and saving take no time. Ranks beyond the cores of this machine share them, which
the prediction counts as so many times slice(b).
"""

import json
import math
import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import report
from rounds import MIN_SECONDS, QUICK_SECONDS, Contender, seconds_of
from sizes import SIZES, make_batch
from trainers import LR, MAX_NORM, new_model, ready_workers

from tinyvrnn.arrays.cpu import available_cores, one_blas_thread
from tinyvrnn.arrays.ranks import shared_out, world
from tinyvrnn.models.batch import Batch, Objective
from tinyvrnn.runs.plots import COLOURS
from tinyvrnn.training.optim import Adam, clip_by_global_norm
from tinyvrnn.training.parallel import Split, Workers, total

NETWORK = {"latency": 5e-6, "bandwidth": 10e9}  # seconds, bytes per second: an InfiniBand of 100 Gbit/s, as assumed
MANY = (8, 64, 1024)
FEW = (1, 2, 4)
BYTES = tuple(4**k for k in range(5, 13))  # 1 KiB to 16 MiB
TIMINGS = 5
PARTS = (1, 2, 4, 8)  # of the size's batch, as slices of one process

# -------------------------------------------------------------------------------------------------------- in the ranks


def in_ranks(task, name, B, min_seconds):
    """Print, from rank 0, the figures of a task as JSON; each of its processes calls this under mpiexec."""
    ranks = world()
    with shared_out(ranks), one_blas_thread():
        found = TASKS[task](ranks, name, int(B), float(min_seconds))
    if ranks.rank == 0:
        print(json.dumps(found))


def seconds_of_a_step(ranks, name, B, min_seconds):
    """Seconds of a training step, B sequences in each rank: the median of several timings."""
    step = step_of(SIZES[name]._replace(B=B), Workers(Split(1)))
    first = timed(ranks, step, 2) / 2  # also a warm-up
    repeats = math.ceil(min_seconds / TIMINGS / first)
    return median(timed(ranks, step, repeats) / repeats for _ in range(TIMINGS))


def timed(ranks, step, repeats):
    """Seconds of so many steps, the mean over the ranks, which start together."""
    ranks.sum(np.zeros(1))
    start = time.perf_counter()
    for _ in range(repeats):
        step()
    return float(ranks.sum(np.array([time.perf_counter() - start]))[0]) / ranks.size


def step_of(size, pool):
    """A function that takes a training step with the gradient of all ranks."""
    model, (x, eps) = new_model(size), make_batch(size)
    batch, optimiser = Batch(x, np.full(size.B, size.T), eps), Adam(model.theta, lr=LR)

    def step():
        grads = total(model, pool.gradient(model, batch, Objective()), size.B).grads
        clip_by_global_norm(grads, MAX_NORM)
        optimiser.step(model.theta, grads)

    return step


def seconds_of_sums(ranks, name, B, min_seconds):
    """{bytes: seconds of a sum}, the median of several."""
    found = {}
    for size in BYTES:
        a, seconds = np.zeros(size // 4, np.float32), []
        for _ in range(5 if min_seconds < MIN_SECONDS / 2 else 31):
            ranks.sum(np.zeros(1))
            start = time.perf_counter()
            ranks.sum(a)
            seconds.append(time.perf_counter() - start)
        found[size] = median(seconds)
    return found


TASKS = {"step": seconds_of_a_step, "sums": seconds_of_sums}

# -------------------------------------------------------------------------------------------------------------- measure


def measured(task, ranks, name="tiny", B=1, min_seconds=MIN_SECONDS):
    """The figures of a task in so many ranks."""
    mpiexec = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    told = [mpiexec, "-n", str(ranks), sys.executable, __file__, "--in-ranks", task, name, str(B), str(min_seconds)]
    done = subprocess.run(told, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(told)} ended with {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def benchmark(name, sums, args):
    """All figures of one size as plain values."""
    size, few = SIZES[name], [n for n in FEW if n <= SIZES[name].B]
    slices = {size.B // n: measured("step", 1, name, size.B // n, args.min_seconds) for n in PARTS if n <= size.B}
    strong = {n: measured("step", n, name, size.B // n, args.min_seconds) for n in few}
    weak = {n: measured("step", n, name, size.B, args.min_seconds) for n in few}
    here, bytes_ = fitted_sum(sums[2]), new_model(size).theta.nbytes
    slice_of, cores = fitted_slice(slices), available_cores()
    share = {n: max(1, n / cores) for n in few}
    return {
        "size": name,
        "B": size.B,
        "bytes": bytes_,
        "slices": slices,
        "slice": slice_of,
        "machine": here,
        "strong": strong,
        "weak": weak,
        "workers": {n: with_workers(size, n, args) for n in few if n <= cores},
        "predicted strong": {n: share[n] * seconds(slice_of, size.B / n) + sum_of(here, n, bytes_) for n in few},
        "predicted weak": {n: share[n] * seconds(slice_of, size.B) + sum_of(here, n, bytes_) for n in few},
        "many": {n: efficiencies(slice_of, size.B, n, bytes_) for n in MANY},
    }


def with_workers(size, count, args):
    """Seconds of a step with the workers of one process."""
    model_size = new_model(size)
    with ready_workers(model_size, size.B, count) as pool:
        pool.wait(model_size)
        return seconds_of(Contender(step_of(size, pool)), args.min_seconds)


def fitted_slice(slices):
    """(a, c) of slice(b) = a + c b, by least squares of relative errors."""
    b, t = np.array(list(slices), float), np.array(list(slices.values()))
    return np.linalg.lstsq(np.stack([1 / t, b / t], axis=1), np.ones(len(t)), rcond=None)[0].clip(0).tolist()


def seconds(slice_of, b):
    return slice_of[0] + slice_of[1] * b


def fitted_sum(found):
    """latency and bandwidth of this machine, from the seconds of a sum of two ranks by bytes."""
    size, t = np.array([float(size) for size in found]), np.array(list(found.values()))
    latency, per_byte = np.linalg.lstsq(np.stack([1 / t, size / t], axis=1), np.ones(len(t)), rcond=None)[0]
    return {"latency": max(float(latency), 0.0), "bandwidth": 1 / max(float(per_byte), 1e-12)}


def sum_of(network, n, bytes_):
    """Seconds to add vectors of so many bytes over n ranks."""
    return math.ceil(math.log2(n)) * network["latency"] + 2 * (n - 1) / n * bytes_ / network["bandwidth"]


def efficiencies(slice_of, B, n, bytes_):
    """The share of the step that is not lost: weak, and strong where each rank has a sequence (else None)."""
    adding, whole = sum_of(NETWORK, n, bytes_), seconds(slice_of, B)
    strong = whole / n / (seconds(slice_of, B / n) + adding) if n <= B else None
    return {"weak": whole / (whole + adding), "strong": strong}


# ------------------------------------------------------------------------------------------------------------- printing


def rows(result):
    for n in result["strong"]:
        row = [("ranks", "", str(n))]
        for kind in ("strong", "weak"):
            found, predicted = result[kind][n], result[f"predicted {kind}"][n]
            row.append((kind, "ms", f"{1e3 * found:.1f}"))
            row.append(("predicted", "ms", f"{1e3 * predicted:.1f} ({predicted / found - 1:+.0%})"))
        workers = result["workers"].get(n)
        yield [*row, ("workers", "ms", f"{1e3 * workers:.1f}" if workers else "-")]


def rows_of_many(results):
    for result in results:
        row = [("size", "", result["size"])]
        for n, found in result["many"].items():
            row.append((f"{n:,} ranks", "weak, strong", ", ".join(percent(found[kind]) for kind in ("weak", "strong"))))
        yield row


def percent(share):
    return "-" if share is None else f"{share:.0%}"


def rows_of_sums(sums):
    for size in BYTES:
        yield [
            ("sum of", "KiB", f"{size // 1024:,}"),
            *((f"{n} ranks", "us", f"{1e6 * sums[n][size]:.0f}") for n in sums),
        ]


def draw(results, *panels):
    for axes, result in zip(panels, results):
        for kind, colour in (("strong", COLOURS[0]), ("weak", COLOURS[1])):
            n = list(result[kind])
            axes.plot(n, [1e3 * t for t in result[kind].values()], "o", color=colour, label=kind)
            axes.plot(n, [1e3 * t for t in result[f"predicted {kind}"].values()], "--", color=colour, label="predicted")
        axes.plot(
            list(result["workers"]), [1e3 * t for t in result["workers"].values()], "x", color="black", label="workers"
        )
        axes.set(title=result["size"], xlabel="ranks on this machine", ylabel="ms of a training step")
        axes.legend()


# -------------------------------------------------------------------------------------------------------------- command


def main(arguments=None):
    parser = report.parser(__doc__, workers=False)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["course", "music", "speech"])
    args = parser.parse_args(arguments)
    args.min_seconds = QUICK_SECONDS if args.quick else 3 * MIN_SECONDS
    if report.is_missing("mpi4py"):
        return 2
    about = report.begin()
    sums = {n: {int(k): t for k, t in measured("sums", n, min_seconds=args.min_seconds).items()} for n in FEW[1:]}
    print(f"\n{report.table(list(rows_of_sums(sums)))}", flush=True)
    results = []
    for name in args.sizes:
        results.append(benchmark(name, sums, args))
        print(f"\n{name}: batch {results[-1]['B']}, {results[-1]['bytes'] / 2**20:.1f} MiB to add.\n")
        print(report.table(list(rows(results[-1]))), flush=True)
    latency, bandwidth = 1e6 * NETWORK["latency"], NETWORK["bandwidth"] / 1e9
    print(f"\nPredicted efficiency for a network of {latency:g} us and {bandwidth:g} GB/s, one core for each rank.\n")
    print(report.table(list(rows_of_many(results))))
    figure = report.figure(len(results), partial(draw, results))
    report.save(args.out, "ranks", about, args, {"sums": sums, "sizes": results, "network": NETWORK}, figure)
    return 0


if __name__ == "__main__":
    sys.exit(in_ranks(*sys.argv[2:]) if sys.argv[1:2] == ["--in-ranks"] else main())
