"""Seconds of a training step of tinyvrnn as a function of the number of steps T, and of the number of sequences B.

    python benchmarks/scaling.py                           under two minutes
    python benchmarks/scaling.py --quick

The work is T B times a constant, so the exponent of the fitted power law should be 1. It needs no peer.
"""

import sys
from contextlib import ExitStack
from functools import partial
from statistics import median

import numpy as np
import report
from rounds import QUICK_SECONDS, Contender, time_in_turns
from sizes import SIZES, Size, make_batch
from trainers import TinyTrainer, new_model, ready_workers

from tinyvrnn.runs.plots import COLOURS

MOST = 1.05  # the project's limit for the exponent
SMALL = Size(X=28, H=64, Z=16, B=32, T=32)  # the fixed B while T grows, and the fixed T while B grows
SWEEPS = {"T": (32, 64, 128, 256, 512, 1024, 2048), "B": (32, 64, 128, 256, 512, 1024, 2048)}
QUICK_SWEEPS = {"T": (2, 4, 8), "B": (2, 4, 8)}

# -------------------------------------------------------------------------------------------------------------- measure


def benchmark(variable, values, base, args):
    """All figures of one sweep as plain values."""
    with ExitStack() as stack:
        sizes = [base._replace(**{variable: value}) for value in values]
        contenders = {value: contender(size, args.workers, stack) for value, size in zip(values, sizes)}
        seconds = time_in_turns(contenders, args.rounds, args.min_seconds)
    medians = [median(seconds[value]) for value in values]
    return {
        "variable": variable,
        "base": base._asdict(),
        "workers": args.workers,
        "values": list(values),
        "seconds": list(seconds.values()),
        "median_seconds": medians,
        "exponent": exponent(values, medians),
        "exponent_of_upper_half": exponent(values[len(values) // 2 :], medians[len(values) // 2 :]),
    }


def contender(size, workers, stack):
    model = new_model(size)
    trainer = TinyTrainer(model, stack.enter_context(ready_workers(model, size.B, workers)))
    return Contender(partial(trainer.step, *trainer.batch(*make_batch(size))))


def exponent(values, seconds):
    """k of seconds = c values^k: the slope of a line fitted to the logarithms."""
    return float(np.polyfit(np.log(values), np.log(seconds), 1)[0])


# ------------------------------------------------------------------------------------------------------------- printing


def rows(result):
    B_or_T = {"T": "B", "B": "T"}[result["variable"]]
    for value, seconds in zip(result["values"], result["median_seconds"]):
        yield [
            (result["variable"], "", str(value)),
            ("step", "ms", f"{1e3 * seconds:.2f}"),
            (f"over {result['variable']} {B_or_T}", "us", f"{1e6 * seconds / value / result['base'][B_or_T]:.3f}"),
        ]


def sentence(result):
    verdict = "under" if result["exponent"] < MOST else "NOT under"
    return (
        f"seconds ~ {result['variable']}^{result['exponent']:.3f}, {verdict} {MOST}; "
        f"over the upper half alone {result['exponent_of_upper_half']:.3f}"
    )


def draw(results, *panels):
    for axes, result in zip(panels, results):
        values, seconds = np.array(result["values"]), result["median_seconds"]
        axes.loglog(values, seconds, "o-", base=2, color=COLOURS[0], label="measured")
        axes.loglog(values, seconds[0] * values / values[0], "--", base=2, color="grey", label="proportional")
        name = result["variable"]
        axes.set(title=f"seconds ~ {name}^{result['exponent']:.3f}", xlabel=name, ylabel="seconds of a training step")
    panels[0].legend()


# -------------------------------------------------------------------------------------------------------------- command


def main(arguments=None):
    parser = report.parser(__doc__)
    parser.set_defaults(workers=1)  # auto would vary with B
    parser.add_argument("--size", choices=SIZES, help="the size of which T or B grows (default: a small one)")
    parser.add_argument("--rounds", type=report.positive, help="at least 3 (default 3; --quick: 2)")
    args = parser.parse_args(arguments)
    report.check_rounds(parser, args, 3, 3)
    args.min_seconds = QUICK_SECONDS if args.quick else 0.5
    base, sweeps = SIZES[args.size] if args.size else SMALL, QUICK_SWEEPS if args.quick else SWEEPS
    about = report.begin()
    results = [benchmark(variable, values, base, args) for variable, values in sweeps.items()]
    for result in results:
        held = ", ".join(f"{name} = {value}" for name, value in base._asdict().items() if name != result["variable"])
        print(f"\n{held}, {args.workers} workers, median of {args.rounds} rounds.\n")
        print(f"{report.table(list(rows(result)))}\n\n{sentence(result)}", flush=True)
    report.save(args.out, "scaling", about, args, results, report.figure(2, lambda *axes: draw(results, *axes)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
