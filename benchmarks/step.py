"""Times one training step of tinyvrnn against PyTorch eager with everything in the loop over time.

    python benchmarks/step.py                              the sizes course and music
    python benchmarks/step.py --sizes speech --json out.json

First both are shown to compute the same loss and gradients from the same weights, data and noise; then they take turns.
benchmarks/README.md says what is measured, and how to read it.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

import machine
import memory
import numpy as np
from sizes import LAYERS, SIZES, make_batch
from threadpoolctl import ThreadpoolController
from trainers import TinyTrainer, TorchTrainer, new_model

from tinyvrnn.training.parallel import Workers, available_cores

MIN_SECONDS = 1.0  # one timing: steps on end for so long, as in training; the first after a turn finds cold caches
QUIET_SECONDS = 0.05  # between timings: threads of OpenMP and OpenBLAS spin a while for more work, and would disturb
LEAST_REPEATS = 7  # fewer make no median worth quoting
SGEMM_ROWS = 2048

# --------------------------------------------------------------------------------------------------------- same numbers


def verify(tiny, peer):
    """Stops the benchmark unless both compute the same. Returns how far apart they are, relative."""
    (loss, grads), (peer_loss, peer_grads) = tiny.loss_and_grads(), peer.loss_and_grads()
    apart = {name: distance(grads[name], peer_grads[name]) for name in grads}
    worst = max(apart, key=apart.get)
    check("loss", distance(loss, peer_loss), 1e-4)
    check(f"gradient of {worst}", apart[worst], 1e-3)
    after = [[trainer.step() for _ in range(4)][-1] for trainer in (tiny, peer)]
    check("loss after three steps", distance(*after), 1e-4)
    return {"loss": distance(loss, peer_loss), "gradient": apart[worst], "loss_after_3_steps": distance(*after)}


def distance(a, b):
    """|a - b| / |b| in the Euclidean norm; NaN never passes for near."""
    return float(np.linalg.norm(np.subtract(a, b, dtype=np.float64)) / (np.linalg.norm(b) + 1e-30))


def check(what, relative, tolerance):
    if not relative <= tolerance:
        raise SystemExit(
            f"tinyvrnn and PyTorch do not compute the same, so nothing is timed: the {what} differs by "
            f"{relative:.1e} relative, allowed is {tolerance:.0e}."
        )


# --------------------------------------------------------------------------------------------------------------- timing


class Contender(NamedTuple):
    """Something that is timed: `prepare` is called before each timing, outside it."""

    run: Callable
    prepare: Callable = lambda: None


def time_in_turns(contenders, repeats):
    """Seconds of each contender, {name: [one a round]}. They take turns, so that a slow spell strikes all alike."""
    for contender in contenders.values():
        seconds_of(contender)  # warm-up
    seconds = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, contender in contenders.items():
            seconds[name].append(seconds_of(contender))
    return seconds


def seconds_of(contender):
    """Mean seconds of a call, over as many as fill MIN_SECONDS."""
    contender.prepare()
    time.sleep(QUIET_SECONDS)
    calls, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < MIN_SECONDS:
        contender.run()
        calls += 1
    return elapsed / calls


def torch_contenders(peer):
    """PyTorch with its own choice of threads, and with one: small products can lose more by a second than they gain."""
    import torch

    # the number of threads is a setting of the whole process, so each timing sets its own
    return {
        f"torch, {n} thread{'s' * (n > 1)}": Contender(peer.step, prepare=partial(torch.set_num_threads, n))
        for n in sorted({torch_default_threads(), 1}, reverse=True)
    }


@cache
def torch_default_threads():
    """What PyTorch chose when it started; asked for once, before anything here changes it."""
    import torch

    return torch.get_num_threads()


def sgemm():
    """A large float32 product on all cores: the rate that no step can exceed."""
    a, b = np.random.default_rng(0).random((2, SGEMM_ROWS, SGEMM_ROWS), dtype=np.float32)
    out, controller = np.empty_like(a), ThreadpoolController()

    def run():
        with controller.limit(limits=available_cores(), user_api="blas"):
            np.matmul(a, b, out=out)

    return Contender(run)


def benchmark(name, repeats, workers):
    """All figures of one size as plain values: seconds, flop, MiB."""
    size = SIZES[name]
    memory_mib = {library: memory.measure(library, name, workers) for library in ("tinyvrnn", "torch")}
    differences, seconds = verify_and_time(size, repeats, workers)
    peaks = [2 * SGEMM_ROWS**3 / s for s in seconds.pop("sgemm")]
    return {
        "size": name,
        "dimensions": size._asdict() | {"F": size.H, "layers": LAYERS},
        "workers": workers,
        "relative_differences": differences,
        "flops": size.flops,
        "seconds": seconds,
        "peak_flops_per_second": peaks,
        "peak_memory_mib": memory_mib,
    } | summary(seconds, peaks, size.flops)


def verify_and_time(size, repeats, workers):
    """The relative differences between the two libraries, and the seconds of every contender and round."""
    model, batch = new_model(size), make_batch(size)
    with Workers(workers) as pool:
        tiny, peer = TinyTrainer(model, *batch, pool), TorchTrainer(size, *batch, params=model.params)
        contenders = {"tinyvrnn": Contender(tiny.step), **torch_contenders(peer), "sgemm": sgemm()}
        return verify(tiny, peer), time_in_turns(contenders, repeats)


def summary(seconds, peaks, work):
    """Medians; the ratio is taken round by round, against the faster of PyTorch's settings."""
    medians = {name: median(values) for name, values in seconds.items()}
    best = min((name for name in medians if name != "tinyvrnn"), key=medians.get)
    ratios = [theirs / ours for theirs, ours in zip(seconds[best], seconds["tinyvrnn"])]
    shares = {name: median(work / (s * peak) for s, peak in zip(seconds[name], peaks)) for name in seconds}
    low, _, high = quantiles(ratios, n=4, method="inclusive")
    return {
        "median_seconds": medians,
        "faster_torch": best,
        "ratio": median(ratios),
        "ratio_quartiles": [low, high],
        "share_of_peak": {"tinyvrnn": shares["tinyvrnn"], "torch": shares[best]},
    }


# ------------------------------------------------------------------------------------------------------------- printing


def columns(result):
    """(title, unit, text) of each column of a size's row."""
    low, high = result["ratio_quartiles"]
    yield "size", "", result["size"]
    yield "workers", "", str(result["workers"])
    for name, seconds in result["median_seconds"].items():
        yield name, "ms", f"{1e3 * seconds:.1f}"
    yield "ratio", "x", f"{result['ratio']:.2f}"
    yield "quartiles", "x", f"{low:.2f} - {high:.2f}"
    yield "products", "GFLOP", f"{result['flops'] / 1e9:.3g}"
    yield "sgemm peak", "GFLOP/s", f"{median(result['peak_flops_per_second']) / 1e9:.0f}"
    for library, share in result["share_of_peak"].items():
        yield f"{library} of peak", "%", f"{100 * share:.0f}"
    for library, mib in result["peak_memory_mib"].items():
        yield f"{library} memory", "MiB", f"{mib:.1f}"


def table(results):
    """The results as lines of right-aligned columns, below two lines of titles and units."""
    rows = [list(columns(result)) for result in results]
    lines = [[title for title, _, _ in rows[0]], [unit for _, unit, _ in rows[0]]]
    lines += [[text for _, _, text in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths)) for line in lines)


def report_sameness(result):
    apart = ", ".join(f"{what.replace('_', ' ')} {value:.0e}" for what, value in result["relative_differences"].items())
    print(f"{result['size']}: both compute the same (relative differences: {apart})", flush=True)


# -------------------------------------------------------------------------------------------------------------- command


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["course", "music"], metavar="SIZE")
    parser.add_argument("--repeats", type=int, help=f"rounds, at least {LEAST_REPEATS} (default 11)")
    parser.add_argument("--quick", action="store_true", help="allow fewer rounds (default then 3); not for quoting")
    parser.add_argument("--workers", type=memory.worker_count, default="auto", help='slices of a batch: "auto" or N')
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure of every round there")
    args = parser.parse_args(arguments)
    args.repeats = args.repeats or (3 if args.quick else 11)
    if args.repeats < (2 if args.quick else LEAST_REPEATS):
        parser.error(f"--repeats must be at least {LEAST_REPEATS}, or 2 with --quick, got {args.repeats}.")
    if args.json and not args.json.parent.is_dir():
        parser.error(f"--json: there is no folder {args.json.parent}.")
    return args


def main(arguments=None):
    args = parse(arguments)
    if find_spec("torch") is None:
        print('This benchmark needs PyTorch as the peer: pip install "tinyvrnn[bench]"', file=sys.stderr)
        return 2
    about = machine.describe()
    print("\n".join(f"{what}: {value}" for what, value in about.items()), flush=True)
    results = []
    for name in args.sizes:
        results.append(benchmark(name, args.repeats, args.workers))
        report_sameness(results[-1])
    print(f"\nOne training step, median of {args.repeats} rounds; the ratio is PyTorch's faster setting over tinyvrnn.")
    print(table(results))
    if args.json:
        args.json.write_text(json.dumps({"machine": about, "repeats": args.repeats, "results": results}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
