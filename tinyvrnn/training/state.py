"""The state of a run between two batches: everything that determines its continuation.

Noise and the order of batches are not part of it, since they depend on seed, epoch and step only. So a run resumed from
a saved state gives the same bits as an uninterrupted one.
"""

import math

from tinyvrnn.arrays.backend import to_host

MOST = 2**53  # the integers up to it are exact in JSON and in float64
VECTORS = ("theta", "m", "v", "best_theta")
COUNTS = {  # name -> type
    **dict.fromkeys(("step", "epoch", "batch", "seen", "best_step", "stale", "skipped", "fall_step"), int),
    **{"best": float, "seconds": float, "fall_from": float, "records": list},
}
NEW_COUNTS = {"fall_step": 0, "fall_from": 0.0}  # a run saved without them had not begun its final fall


def are_counts(counts):
    """Whether counts have the types and values that `State.saved` returns, so that later code can rely on them."""
    counts = NEW_COUNTS | counts
    return (
        all(type(counts[name]) is kind for name, kind in (COUNTS | {"k": int, "totals": list}).items())
        and all(0 <= counts[name] <= MOST for name, kind in (COUNTS | {"k": int}).items() if kind is int)
        and max(counts[name] for name in ("best_step", "skipped", "batch", "fall_step")) <= counts["step"]
        and 0 <= counts["fall_from"] <= 1
        and counts["stale"] <= counts["epoch"] == len(counts["records"]) <= counts["step"]
        and [type(total) for total in counts["totals"]] == [float] * 3
        and all(map(math.isfinite, (counts["seconds"], *counts["totals"])))
        and (counts["best"] == -math.inf or math.isfinite(counts["best"]))
        and all(_is_record(record) for record in counts["records"])
    )


def _is_record(record):
    groups = [record, record["train"], record["valid"]]
    numbers = [value for group in groups for name, value in group.items() if name not in ("train", "valid")]
    are_numbers = all(n is None or type(n) in (int, float) and math.isfinite(n) for n in numbers)
    return are_numbers and {"epoch", "step", "seconds"} <= set(record)


class State:
    """The model's weights `theta` (P,), Adam's moments, the best weights so far, and counts.

    step: batches in total.
    epoch: completed epochs.
    batch, seen: batches and sequences of the current epoch.
    totals: sums of their ELBO, KL and log-likelihood in nats.
    best, best_step: the best validation bound, and the step at which it was reached (0: none yet).
    stale: epochs since then. skipped: batches with numbers that are not finite. seconds: of training.
    fall_step, fall_from: the step (0: none yet) and the progress at which patience ran out, see `_Clock.progress`.
    records: one dict for each epoch.
    """

    def __init__(self, model, optimiser):
        self.backend, self.optimiser = model.backend, optimiser
        self.vectors = {"theta": model.theta, "m": optimiser.m, "v": optimiser.v, "best_theta": model.theta.copy()}
        self.step = self.epoch = self.best_step = self.stale = self.skipped = self.fall_step = 0
        self.best, self.seconds, self.fall_from, self.records = -math.inf, 0.0, 0.0, []
        self.begin_epoch()

    def begin_epoch(self):
        """Reset the counts of the current epoch."""
        self.batch = self.seen = 0
        self.totals = self.backend.xp.zeros(3)

    def score(self, value):
        """Record the validation bound of an epoch. Returns whether it is the best so far; if so, save the weights."""
        self.stale += 1
        if not value > self.best:
            return False
        self.vectors["best_theta"][...] = self.vectors["theta"]
        self.best, self.best_step, self.stale = value, self.step, 0
        return True

    def saved(self):
        """(arrays, counts) for `restore`: vectors on the host, and plain values."""
        counts = {name: getattr(self, name) for name in COUNTS}
        counts |= {"k": self.optimiser.k, "totals": to_host(self.totals).tolist()}
        return {name: to_host(vector) for name, vector in self.vectors.items()}, counts

    def restore(self, arrays, counts):
        """Set the state to (arrays, counts) from `saved`."""
        for name, vector in self.vectors.items():
            vector[...] = self.backend.asarray(arrays[name])
        for name in COUNTS:
            setattr(self, name, (NEW_COUNTS | counts)[name])
        self.optimiser.k = counts["k"]
        self.totals = self.backend.asarray(counts["totals"])
