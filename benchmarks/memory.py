"""Peak memory of training steps, for each size and library in a separate process.

    python benchmarks/memory.py                            the sizes course, music and speech
    python benchmarks/memory.py --backend cupy             device memory, all on one GPU
    python benchmarks/memory.py --one tinyvrnn course      in this process: prints only the MiB

The result is the peak memory in MiB during three steps, minus the memory before the first. It excludes imports, the
model's weights and the batch; it includes gradients, the optimiser's moments and the activations. On the host it is
resident memory; on a GPU the bytes of all arrays, as each library's own allocator counts them.
"""

import os
import resource
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import report
from machine import peer_device
from sizes import SIZES, make_batch
from trainers import LIBRARIES, new_model, new_trainer, ready_workers

from tinyvrnn.arrays.backend import get_backend
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


def measure(library, name, args):
    """The peak in MiB, measured in a fresh process; NaN if JAX fails in it."""
    options = ["--workers", str(args.workers), "--backend", args.backend]
    command = [sys.executable, __file__, "--one", library, name, *options]
    must_run = not library.startswith("jax")  # which may fail on a GPU
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=must_run).stdout or "nan")


def peak_of_steps(library, name, args):
    """Bytes by which the peak grows over STEPS steps in this process."""
    run_steps(library, "tiny", args)  # loads code and starts threads, which is not part of a step
    return run_steps(library, name, args)


def run_steps(library, name, args):
    """Build a model and a batch, and train. Returns the number of bytes by which training raised the peak."""
    size = SIZES[name]
    model = new_model(size, backend=args.backend)
    with ready_workers(model, size.B, args.workers) as pool:
        trainer = new_trainer(library, model, pool)
        batch = trainer.batch(*make_batch(size))
        if hasattr(trainer, "compile"):
            trainer.compile(*batch)  # exclude the compiler's memory
        kind = library.split()[0] if peer_device(args.backend) == "cuda" else "host"
        with GROWTH[kind](pool) as growth:
            for _ in range(STEPS):
                trainer.step(*batch)
            return growth()


@contextmanager
def resident_memory(pool):
    """Context: yields a function that returns the growth of the peak of this process and the workers, in bytes."""
    give_back_freed_memory()  # else memory freed by building would hide some of the steps'
    pids = (os.getpid(), *pool.pids)
    before = sum(map(forget_and_peak, pids))
    yield lambda: sum(map(peak, pids)) - before


@contextmanager
def memory_of_cupy(_):
    """As `resident_memory`, of arrays on a GPU. CuPy counts no peak, but calls a hook for each array."""

    class Growth(get_backend("cupy").xp.cuda.MemoryHook):
        name, now, most = "growth", 0, 0

        def malloc_postprocess(self, mem_size, **_):
            self.now += mem_size
            self.most = max(self.most, self.now)

        def free_postprocess(self, mem_size, **_):
            self.now -= mem_size

    with Growth() as hook:
        yield lambda: hook.most


@contextmanager
def memory_of_torch(_):
    """As `resident_memory`, of tensors on a GPU."""
    from torch import cuda

    cuda.reset_peak_memory_stats()
    before = cuda.memory_allocated()
    yield lambda: cuda.max_memory_allocated() - before


@contextmanager
def memory_of_jax(_):
    """As `resident_memory`, of arrays on a GPU. JAX's peak can't be reset: compiling counts if it takes more."""
    import jax

    statistics = jax.config.jax_default_device.memory_stats
    before = statistics()["bytes_in_use"]
    yield lambda: statistics()["peak_bytes_in_use"] - before


GROWTH = {"host": resident_memory, "tinyvrnn": memory_of_cupy, "torch": memory_of_torch, "jax": memory_of_jax}


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


def benchmark(name, libraries, args):
    """The greatest peak of each library over the rounds, since the overlap of tinyvrnn's slices varies."""
    found = {library: [measure(library, name, args) for _ in range(args.rounds)] for library in libraries}
    mib = {name: max(each) for name, each in found.items()}
    return {"size": name, "workers": args.workers, "backend": args.backend, "mib": mib, "all": found}


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
    parser = report.parser(__doc__, backends=("numpy", "cupy", "strict"))
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["course", "music", "speech"], metavar="SIZE")
    parser.add_argument("--rounds", type=report.positive, default=3, help="processes for each figure (default 3)")
    parser.add_argument("--one", nargs=2, metavar=("LIBRARY", "SIZE"), help=f"of {', '.join(LIBRARIES)}")
    args = parser.parse_args(arguments)
    if args.one:
        print(f"{peak_of_steps(*args.one, args) / MIB:.2f}")
        return 0
    if report.cannot_compare(args.backend):
        return 2
    there = [library for library in LIBRARIES if not library.startswith("jax")]
    libraries = LIBRARIES if report.has_jax(args.backend) else there
    about = report.begin(args.backend)
    args.rounds = 1 if args.quick else args.rounds
    results = [benchmark(name, libraries, args) for name in args.sizes]
    processes = f"{args.rounds} process{'es' * (args.rounds > 1)}"
    print(f"\nPeak memory of {STEPS} training steps, the greatest of {processes}.\n")
    print(report.table([list(columns(result)) for result in results]))
    made = report.figure(len(results), lambda *axes: draw(results, *axes), width=3.6, height=2.4)
    report.save(args.out, "memory", about, args, results, made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
