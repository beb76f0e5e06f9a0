"""Peak memory of training steps, for each size and library in a separate process.

    python benchmarks/memory.py                            the sizes course and music
    python benchmarks/memory.py --one tinyvrnn course      in this process: prints only the MiB

The result is the peak resident memory in MiB during three steps, minus the memory before the first. It excludes
imports, the model's weights and the batch; it includes gradients, the optimiser's moments and the activations.
"""

import os
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import report
from sizes import SIZES, make_batch
from trainers import LIBRARIES, new_model, new_trainer, ready_workers

from tinyvrnn.arrays.cpu import give_back_freed_memory

MIB, STEPS = 2**20, 3

SHOWN_AS = {
    "tinyvrnn": "tinyvrnn",
    "torch loop": "PyTorch",
    "torch batched": "PyTorch, batched",
    "jax loop": "JAX",
    "jax batched": "JAX",
}

# -------------------------------------------------------------------------------------------------------------- measure


def measure(library, name, workers):
    """The peak in MiB, measured in a fresh process."""
    command = [sys.executable, __file__, "--one", library, name, "--workers", str(workers)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def peak_of_steps(library, name, workers):
    """Bytes by which the peak grows over STEPS steps in this process."""
    run_steps(library, "tiny", workers)  # loads code and starts threads, which is not part of a step
    return run_steps(library, name, workers)


def run_steps(library, name, workers):
    """Build a model and a batch, and train. Returns the number of bytes by which training raised the peak."""
    size = SIZES[name]
    model = new_model(size)
    with ready_workers(model, size.B, workers) as pool:
        trainer = new_trainer(library, model, pool)
        batch = trainer.batch(*make_batch(size))
        if hasattr(trainer, "compile"):
            trainer.compile(*batch)  # exclude the compiler's memory
        give_back_freed_memory()  # else memory freed by building would hide some of the steps'
        before = [forget_and_peak(pid) for pid in (os.getpid(), *pool.pids)]
        for _ in range(STEPS):
            trainer.step(*batch)
        return sum(peak(pid) for pid in (os.getpid(), *pool.pids)) - sum(before)


def forget_and_peak(pid):
    """Reset the peak to the current memory, on Linux. Elsewhere a peak while building may hide some of the steps'."""
    with suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak(pid)


def peak(pid):
    """Peak resident memory of a process, in bytes; where there is no /proc, of this one, whatever is asked.

    Not ru_maxrss where there is a choice: on Linux a child inherits it from the process that started it.
    """
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


# ------------------------------------------------------------------------------------------------------------- printing


def benchmark(name, libraries, workers, rounds):
    """The greatest peak of each library over the rounds, since the overlap of tinyvrnn's slices varies."""
    found = {library: [measure(library, name, workers) for _ in range(rounds)] for library in libraries}
    return {"size": name, "workers": workers, "mib": {name: max(each) for name, each in found.items()}, "all": found}


def columns(result):
    yield "size", "", result["size"]
    yield "workers", "", str(result["workers"])
    for library, mib in result["mib"].items():
        yield library, "MiB", f"{mib:.1f}"
    least = min(mib for library, mib in result["mib"].items() if library.startswith("torch"))
    yield "tinyvrnn / least of torch", "", f"{result['mib']['tinyvrnn'] / max(least, 0.01):.2f}"


def draw(results, *panels):
    """A panel for each size, since their scales differ."""
    for axes, result in zip(panels, results):
        colours = [report.COLOUR_OF[SHOWN_AS[library]] for library in result["mib"]]
        bars = axes.barh(list(result["mib"]), list(result["mib"].values()), color=colours)
        axes.bar_label(bars, fmt="%.0f", padding=2, fontsize="small")
        axes.margins(x=0.15)
        axes.invert_yaxis()
        axes.set(title=result["size"], xlabel="peak memory of a step, MiB")


# -------------------------------------------------------------------------------------------------------------- command


def main(arguments=None):
    parser = report.parser(__doc__)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["course", "music", "speech"], metavar="SIZE")
    parser.add_argument("--rounds", type=report.positive, default=3, help="processes for each figure (default 3)")
    parser.add_argument("--one", nargs=2, metavar=("LIBRARY", "SIZE"), help=f"of {', '.join(LIBRARIES)}")
    args = parser.parse_args(arguments)
    if args.one:
        print(f"{peak_of_steps(*args.one, args.workers) / MIB:.2f}")
        return 0
    if report.is_missing("torch"):
        return 2
    there = [library for library in LIBRARIES if not library.startswith("jax")]
    libraries = there if report.is_missing("jax") else LIBRARIES
    about = report.begin()
    rounds = 1 if args.quick else args.rounds
    results = [benchmark(name, libraries, args.workers, rounds) for name in args.sizes]
    print(f"\nPeak memory of {STEPS} training steps, the greatest of {rounds} process{'es' * (rounds > 1)}.\n")
    print(report.table([list(columns(result)) for result in results]))
    made = report.figure(len(results), lambda *axes: draw(results, *axes), width=3.6, height=2.4)
    report.save(args.out, "memory", about, args, results, made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
