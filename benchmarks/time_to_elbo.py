"""Seconds of training until the validation ELBO reaches a value: tinyvrnn against the same model in PyTorch, eager.

    python benchmarks/time_to_elbo.py                      digits and vowels
    python benchmarks/time_to_elbo.py --sets vowels --target -30
    python benchmarks/time_to_elbo.py --backend cupy       all on one GPU
    python benchmarks/time_to_elbo.py --quick --size tiny

Both start from the same weights and use the same batches, noise, optimiser, learning rate and clipping. They take
turns, an epoch each, and validate after it. Only training and validation are timed, not the making of batches and
noise, which is the same for both.
"""

import sys
import time
from functools import partial
from statistics import median
from typing import NamedTuple

import numpy as np
import report
import verify
from rounds import QUICK_SECONDS, QUIET_SECONDS, Contender, faster, ratio, time_in_turns
from sizes import LAYERS, SIZES
from trainers import TinyTrainer, TorchTrainer, ready_workers, torch_settings

from tinyvrnn import VRNN, load_data
from tinyvrnn.arrays import noise
from tinyvrnn.data import batches

TARGET_RATIO = 2.5
SEED = 0
NEAR = 1e-3  # relative difference of the validation ELBOs after the first epoch; rounding grows later


class Task(NamedTuple):
    """A data set and its target. H and Z of the model are those of a size, by default course."""

    likelihood: str
    batch: int
    lr: float
    target: float  # nats per sequence of the validation split
    epochs: int  # limit
    best: float  # the final value of the same training, to show how close the target is to it


TASKS = {
    "digits": Task("bernoulli", 64, 2e-3, -82.0, 20, -74.0),
    "vowels": Task("gaussian", 16, 1e-3, -25.0, 60, 5.0),
}

# ----------------------------------------------------------------------------------------------------------------- data


def training_batches(data, task, z_dim, epoch, most):
    """[(x, eps, lengths)] of an epoch, the same for both libraries."""
    found = []
    for number, (x, lengths, _) in enumerate(batches(data.train, task.batch, seed=SEED, epoch=epoch)):
        if number == most:
            break
        eps = noise.standard_normal((*x.shape[:2], z_dim), "float32", SEED, f"time to elbo {epoch}", number)
        found.append((x, eps, lengths))
    return found


def validation_batches(data, z_dim):
    """[(x, eps, lengths)] of the validation split, with the same noise for every epoch."""
    found = []
    for number, (x, lengths, _) in enumerate(batches(data.valid, 128)):
        eps = noise.standard_normal((*x.shape[:2], z_dim), "float32", SEED, "time to elbo, valid", number)
        found.append((x, eps, lengths))
    return found


# ------------------------------------------------------------------------------------------------------------- training


class Course:
    """The training of one library: the seconds and the validation ELBO after each epoch."""

    def __init__(self, trainer, valid, prepare=lambda: None):
        self.trainer, self.prepare = trainer, prepare
        self.valid = [trainer.batch(*given) for given in valid]
        self.seconds, self.elbos = [], []

    def epoch(self, train):
        """Train on the batches and validate."""
        own = [self.trainer.batch(*given) for given in train]
        self.prepare()
        time.sleep(QUIET_SECONDS)
        start = time.perf_counter()
        for batch in own:
            self.trainer.step(*batch)
        elbos = np.concatenate([self.trainer.elbos(*batch) for batch in self.valid])
        self.seconds.append(time.perf_counter() - start)
        self.elbos.append(float(elbos.mean(dtype="float64")))

    def seconds_to(self, target):
        """Seconds until the end of the first epoch whose ELBO is at least `target`; None: not reached."""
        reached = [i for i, elbo in enumerate(self.elbos) if elbo >= target]
        return sum(self.seconds[: reached[0] + 1]) if reached else None


def new_model(data, task, args):
    size, options = SIZES[args.size], {"layers": LAYERS, "likelihood": task.likelihood, "seed": SEED}
    return VRNN(data.train.x_dim, size.H, size.Z, features=size.H, backend=args.backend, **options)


def verify_both(data, task, pool, args):
    """Exit unless both compute the same for the first batch. Returns the relative differences."""
    model = new_model(data, task, args)
    (first, *_) = training_batches(data, task, model.z_dim, 0, 1)
    peer, tiny = TorchTrainer(model, lr=task.lr), TinyTrainer(model, pool, task.lr)
    ours, theirs = (verify.results(trainer, trainer.batch(*first)) for trainer in (tiny, peer))
    return verify.compare(ours, theirs, "PyTorch")


def better_setting(data, task, args):
    """(name, function that sets it) of the faster number of PyTorch threads, from a short trial."""
    trainer, settings = TorchTrainer(new_model(data, task, args), lr=task.lr), torch_settings(args.backend)
    step = partial(trainer.step, *trainer.batch(*training_batches(data, task, SIZES[args.size].Z, 0, 1)[0]))
    contenders = {name: Contender(step, prepare) for name, prepare in settings.items()}
    seconds = time_in_turns(contenders, 3, args.min_seconds)
    best = faster(seconds, settings)
    return best, settings[best]


def train_both(data, task, pool, prepare, args):
    """One round, {library: Course}: alternating epochs until both reach the target or the limit."""
    model = new_model(data, task, args)
    valid = validation_batches(data, model.z_dim)
    pool.wait(model)
    torch_course = Course(TorchTrainer(model, lr=task.lr), valid, prepare)
    courses = {"tinyvrnn": Course(TinyTrainer(model, pool, task.lr), valid), "PyTorch": torch_course}
    for epoch in range(args.epochs or task.epochs):
        train = training_batches(data, task, model.z_dim, epoch, args.batches)
        for course in courses.values():
            course.epoch(train)
        if all(course.seconds_to(args.target or task.target) is not None for course in courses.values()):
            break
    return courses


# -------------------------------------------------------------------------------------------------------------- measure


def benchmark(name, args):
    """All figures of one set as plain values."""
    data, task, size = load_data(name), TASKS[name], SIZES[args.size]
    with ready_workers(new_model(data, task, args), task.batch, args.workers) as pool:
        apart = verify_both(data, task, pool, args)
        print(f"\n{name}: both compute the same (relative differences: {verify.sentence(apart)})", flush=True)
        setting, prepare = better_setting(data, task, args)
        rounds = [train_both(data, task, pool, prepare, args) for _ in range(args.rounds)]
    target = args.target or task.target
    runs = {library: [course_of(courses[library], target) for courses in rounds] for library in ("tinyvrnn", "PyTorch")}
    return {
        "set": name,
        "units": data.units,
        "task": task._asdict() | {"target": target},
        "model": {"X": data.train.x_dim, "H": size.H, "Z": size.Z, "layers": LAYERS},
        "workers": args.workers,
        "backend": args.backend,
        "torch_setting": setting,
        "relative_differences": apart,
        "runs": runs,
        **summary(runs, target),
    }


def course_of(course, target):
    return {"seconds": course.seconds, "elbos": course.elbos, "seconds_to_target": course.seconds_to(target)}


def summary(runs, target):
    """Ratios round by round; None if the target was not reached."""
    ours, theirs = ([run["seconds_to_target"] for run in runs[library]] for library in ("tinyvrnn", "PyTorch"))
    reached = None not in ours + theirs
    pairs = [(a, b) for mine, other in zip(*runs.values()) for a, b in zip(mine["elbos"], other["elbos"])]
    return {
        "ratio": ratio(theirs, ours)._asdict() if reached else None,
        "ratio_of_epochs": ratio(*(all_seconds(runs[library]) for library in ("PyTorch", "tinyvrnn")))._asdict(),
        "epochs": {library: len(run[0]["elbos"]) for library, run in runs.items()},
        "epochs_to_target": {library: epochs_to(run[0]["elbos"], target) for library, run in runs.items()},
        "difference_after_first_epoch": abs(pairs[0][0] - pairs[0][1]),
        "largest_difference_of_elbos": max(abs(a - b) for a, b in pairs),
    }


def all_seconds(runs):
    return [seconds for run in runs for seconds in run["seconds"]]


def epochs_to(elbos, target):
    return next((i for i, elbo in enumerate(elbos, start=1) if elbo >= target), None)


# ------------------------------------------------------------------------------------------------------------- printing


def columns(result):
    yield "set", "", result["set"]
    yield "target", "nats", f"{result['task']['target']:g}"
    for library, runs in result["runs"].items():
        seconds = [run["seconds_to_target"] for run in runs]
        yield f"{library} epochs", "", str(result["epochs_to_target"][library] or "-")
        yield library, "s", "-" if None in seconds else f"{median(seconds):.2f}"
    found = result["ratio"]
    yield "ratio", "x", "not reached" if found is None else f"{found['median']:.2f}"
    yield "quartiles", "x", "-" if found is None else f"{found['low']:.2f} - {found['high']:.2f}"
    yield "wanted", "x", f"{TARGET_RATIO:.1f}" if result["backend"] == "numpy" else "-"
    yield "of an epoch", "x", f"{result['ratio_of_epochs']['median']:.2f}"


def notes(result):
    """Sentences on the difference between the two trainings, and on the target relative to the final value."""
    task, best = result["task"], result["task"]["best"]
    first, ours, theirs = result["runs"]["tinyvrnn"][0]["elbos"][0], *result["epochs_to_target"].values()
    apart, later = result["difference_after_first_epoch"], result["largest_difference_of_elbos"]
    near = "the same training" if apart <= NEAR * abs(first) else "NOT the same training: don't compare seconds"
    when = "in the same epoch" if ours == theirs else "in different epochs, so that the ratio of an epoch says more"
    reached = "The target is not reached" if None in (ours, theirs) else f"They reach the target {when}"
    share = (task["target"] - first) / (best - first)
    return (
        f"{result['set']}: PyTorch, {result['torch_setting']}. After the first epoch the two validation ELBOs are "
        f"{apart:.1g} nats apart, {near}; later, as rounding grows, at most {later:.2g}. {reached}.\n"
        f"The target is {100 * share:.0f}% of the way from the ELBO after the first epoch, {first:.1f}, to {best:g}, "
        "about the best that this training reaches."
    )


def draw(results, *panels):
    """ELBO against seconds, every round."""
    for axes, result in zip(panels, results):
        for library, runs in result["runs"].items():
            for i, run in enumerate(runs):
                label, colour = library if i == 0 else None, report.COLOUR_OF[library]
                axes.plot(np.cumsum(run["seconds"]), run["elbos"], ".-", color=colour, label=label, linewidth=1)
        axes.axhline(result["task"]["target"], color="black", linestyle="--", linewidth=1, label="target")
        axes.set(title=result["set"], xlabel="seconds of training", ylabel="validation ELBO, nats per sequence")
    panels[0].legend()


# -------------------------------------------------------------------------------------------------------------- command


def parse(arguments):
    parser = report.parser(__doc__, backends=("numpy", "cupy", "strict"))
    parser.add_argument("--sets", nargs="+", choices=TASKS, default=list(TASKS), metavar="SET")
    parser.add_argument(
        "--size", choices=SIZES, default="course", help="whose H and Z the models have (default course)"
    )
    parser.add_argument("--target", type=float, help="validation ELBO to reach, nats per sequence (default: by set)")
    parser.add_argument("--epochs", type=report.positive, help="at most (default: by set; --quick: 2 of 3 batches)")
    parser.add_argument("--rounds", type=report.positive, help="trainings of each library (default 3; --quick: 2)")
    args = parser.parse_args(arguments)
    report.check_rounds(parser, args, 1, 3)
    args.epochs = args.epochs or (2 if args.quick else None)
    args.batches, args.min_seconds = (3, QUICK_SECONDS) if args.quick else (None, 0.5)
    return args


def main(arguments=None):
    args = parse(arguments)
    if report.cannot_compare(args.backend):
        return 2
    about = report.begin(args.backend)
    results = [benchmark(name, args) for name in args.sets]
    print(f"\nMedian of {args.rounds} trainings; the ratio is PyTorch's seconds over tinyvrnn's.\n")
    print(report.table([list(columns(result)) for result in results]) + "\n")
    print("\n".join(notes(result) for result in results))
    made = report.figure(len(results), lambda *axes: draw(results, *axes))
    report.save(args.out, "time_to_elbo", about, args, results, made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
