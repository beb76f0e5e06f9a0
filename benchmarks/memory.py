"""The peak memory of training steps, for one library and size, in a process of its own.

    python benchmarks/memory.py tinyvrnn course --workers auto

prints the MiB by which the process's resident memory peaks, during three steps, above what it held before the first:
all that is imported, the model's weights and the batch are in already; gradients, the optimiser's moments and the
activations are not.
"""

import argparse
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from sizes import SIZES, make_batch
from trainers import TinyTrainer, TorchTrainer, new_model

from tinyvrnn.training.parallel import Workers, available_cores

MIB = 2**20


def measure(library, name, workers):
    """The peak in MiB, measured in a fresh process."""
    command = [sys.executable, __file__, library, name, "--workers", str(workers)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def peak_of_steps(library, name, workers, steps=3):
    """Bytes by which the peak grows over `steps` steps in this process."""
    run_steps(library, "tiny", workers, steps)  # loads code, starts threads: the price of a first step, not of a step
    return run_steps(library, name, workers, steps)


def run_steps(library, name, workers, steps):
    """Builds model and batch, trains, and returns by how many bytes the training raised the peak."""
    size = SIZES[name]
    with Workers(workers) as pool:
        batch = make_batch(size)
        trainer = TinyTrainer(new_model(size), *batch, pool) if library == "tinyvrnn" else TorchTrainer(size, *batch)
        forget_peak()
        before = peak()
        for _ in range(steps):
            trainer.step()
        return peak() - before


def forget_peak():
    """Linux can set the peak back to what is held now. Elsewhere a peak of building may hide some of the steps'."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak():
    """Peak resident memory of this process, in bytes.

    Not ru_maxrss where there is a choice: on Linux a child inherits it from the process that started it.
    """
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def worker_count(text):
    """The value of --workers: "auto", one for each core, or a whole number of at least 1."""
    if text == "auto":
        return available_cores()
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'expected "auto" or a whole number of at least 1, got {text!r}')
    return int(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", choices=["tinyvrnn", "torch"])
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("--workers", type=worker_count, default="auto")
    args = parser.parse_args()
    print(f"{peak_of_steps(args.library, args.size, args.workers) / MIB:.2f}")


if __name__ == "__main__":
    main()
