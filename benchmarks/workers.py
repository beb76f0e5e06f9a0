"""Times a training step with other ways to use the cores: why training/worker.py exists.

    python benchmarks/workers.py                           course and music, idle and beside a busy process: 3 minutes
    python benchmarks/workers.py --quick --sizes tiny      check that it runs

All compute the same slices of a batch, with one BLAS thread each, and take turns: the package's worker processes,
threads, loky's processes with theta and the gradient pickled, the same with both in shared memory, and one process.
The machine should be idle: the second table adds a process that keeps one core busy.
"""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from multiprocessing import shared_memory
from statistics import median

import numpy as np
import report
from rounds import LEAST_ROUNDS, MIN_SECONDS, QUICK_SECONDS, Contender, ratio, time_in_turns
from sizes import SIZES, make_batch
from trainers import TinyTrainer, new_model

from tinyvrnn.arrays.cpu import available_cores, one_blas_thread
from tinyvrnn.models import MODELS
from tinyvrnn.runs.plots import COLOURS
from tinyvrnn.training.parallel import Split, Workers, combine, cut

SAME = 1e-4  # relative difference of the gradients: rounding can take one of a million ReLUs to its other side
OURS, NAMES = "worker processes", ("threads", "loky, pickled", "loky, shared memory", "one process")

# ----------------------------------------------------------------------------------------------------------- contenders


class Threads:
    """The slices in threads of this process."""

    def __init__(self, count):
        self.count, self.pool = count, ThreadPoolExecutor(count)

    def submit(self, model, part, objective):
        return self.pool.submit(model.gradient, part, objective)

    def gradient(self, model, batch, objective):
        slices = cut(batch.x.shape[1], self.count)
        with one_blas_thread():
            others = [self.submit(model, batch.sequences(s), objective) for s in slices[1:]]
            first = model.gradient(batch.sequences(slices[0]), objective)
            results = [first, *(other.result() for other in others)]
        return combine(results, [s.stop - s.start for s in slices])


class Loky(Threads):
    """The slices in processes of loky, with theta and the gradient pickled."""

    def __init__(self, count):
        from joblib.externals.loky import get_reusable_executor

        self.count, self.pool = count, get_reusable_executor(max(1, count - 1), timeout=600)

    def submit(self, model, part, objective):
        import workers  # by this name the other process finds the function, and not as __main__

        return self.pool.submit(
            workers.gradient_there, model.name, tuple(model.config.items()), model.theta, part, objective
        )


class LokyShared(Loky):
    """The slices in processes of loky, with theta and the gradients in shared memory."""

    def __init__(self, count, model):
        super().__init__(count)
        self.block = shared_memory.SharedMemory(create=True, size=(count + 1) * model.theta.nbytes)
        self.vectors = np.ndarray((count + 1, model.theta.size), model.dtype, self.block.buf)

    def gradient(self, model, batch, objective):
        self.vectors[0], self.next = model.theta, 0
        return super().gradient(model, batch, objective)

    def submit(self, model, part, objective):
        import workers

        self.next += 1
        given = self.block.name, self.vectors.shape, self.next
        there = workers.gradient_in_shared_memory, model.name, tuple(model.config.items()), given, part, objective
        return Answer(self.pool.submit(*there), self.vectors[self.next])

    def close(self):
        del self.vectors
        self.block.close()
        self.block.unlink()


class Answer:
    """A future Gradient whose grads are in shared memory."""

    def __init__(self, future, grads):
        self.future, self.grads = future, grads

    def result(self):
        return self.future.result()._replace(grads=self.grads)


@cache
def model_there(name, config):
    return MODELS[name](**dict(config))


@cache
def vectors_there(name, shape, dtype):
    block = shared_memory.SharedMemory(name)
    return block, np.ndarray(shape, dtype, block.buf)


def gradient_there(name, config, theta, part, objective):
    model = model_there(name, config)
    model.theta[...] = theta
    with one_blas_thread():
        return model.gradient(part, objective)


def gradient_in_shared_memory(name, config, given, part, objective):
    block, shape, own = given
    _, vectors = vectors_there(block, shape, model_there(name, config).dtype)
    found = gradient_there(name, config, vectors[0], part, objective)
    vectors[own] = found.grads
    return found._replace(grads=None)


# -------------------------------------------------------------------------------------------------------------- measure


@contextmanager
def one_busy_core():
    """Context: another process computes without end."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            yield
        finally:
            busy.kill()


def benchmark(name, args):
    """All figures of one size as plain values."""
    size, cores = SIZES[name], available_cores()
    model, count = new_model(size), max(2, cores)
    ours, shared = Workers(Split(count)), LokyShared(count, model)
    pools = dict(zip((OURS, *NAMES), (ours, Threads(count), Loky(count), shared, Workers(Split(1)))))
    with ours:
        contenders, seconds = {label: Contender(step_of(pool, size, model)) for label, pool in pools.items()}, {}
        for load, context in (("idle", nullcontext), ("beside a busy process", one_busy_core)):
            with context():
                seconds[load] = time_in_turns(contenders, args.rounds, args.min_seconds)
    shared.close()
    return {"size": name, "slices": count, "cores": cores, "seconds": seconds}


def step_of(pool, size, model):
    """A function that takes one step; exits if its gradient differs from that of one process."""
    trainer = TinyTrainer(new_model(size), pool)
    batch = trainer.batch(*make_batch(size))
    if isinstance(pool, Workers):
        pool.wait(trainer.model)
    found = trainer.loss_and_grads(*batch)[1]
    expected = TinyTrainer(model, Workers(Split(1))).loss_and_grads(*batch)[1]
    flat, expected = (np.concatenate([own[leaf].ravel() for leaf in expected]) for own in (found, expected))
    difference = np.linalg.norm(flat - expected) / np.linalg.norm(expected)
    if difference > SAME:
        sys.exit(f"{type(pool).__name__} computes another gradient: relative difference {difference:.1e}.")
    return partial(trainer.step, *batch)


# ------------------------------------------------------------------------------------------------------------- printing


def rows(result):
    for load, seconds in result["seconds"].items():
        row = [("", "", load), (OURS, "ms", f"{1e3 * median(seconds[OURS]):.1f}")]
        for label in NAMES:
            found = ratio(seconds[label], seconds[OURS])
            row.append((label, "times", f"{found.median:.2f} ({found.low:.2f} to {found.high:.2f})"))
        yield row


def draw(results, *panels):
    for axes, result in zip(panels, results):
        ratios = {
            load: [ratio(seconds[label], seconds[OURS]).median for label in NAMES]
            for load, seconds in result["seconds"].items()
        }
        report.grouped_bars(axes, [name.replace(", ", ",\n") for name in NAMES], ratios)
        axes.axhline(1, color=COLOURS[0])
        axes.set(title=result["size"], ylabel=f"time of a step over that with {OURS}")
        axes.legend()


# -------------------------------------------------------------------------------------------------------------- command


def main(arguments=None):
    parser = report.parser(__doc__, workers=False)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["course", "music"])
    parser.add_argument("--rounds", type=report.positive, help=f"at least {LEAST_ROUNDS} (default 11; --quick: 2)")
    args = parser.parse_args(arguments)
    report.check_rounds(parser, args, LEAST_ROUNDS, 11)
    args.min_seconds = QUICK_SECONDS if args.quick else MIN_SECONDS / 2
    if report.is_missing("joblib"):
        return 2
    about, results = report.begin(), []
    for name in args.sizes:
        results.append(benchmark(name, args))
        print(f"\n{name}, {results[-1]['slices']} slices, median of {args.rounds} rounds (quartiles).\n")
        print(report.table(list(rows(results[-1]))), flush=True)
    figure = report.figure(len(results), lambda *axes: draw(results, *axes))
    report.save(args.out, "workers", about, args, results, figure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
