"""Checks that two trainers compute the same, before anything is timed."""

from typing import NamedTuple

import numpy as np

TOLERANCES = {"loss": 1e-4, "gradient": 1e-3, "loss_after_3_steps": 1e-4}


class Results(NamedTuple):
    """The values to compare. Computing them trains for four steps."""

    loss: float
    grads: dict
    loss_after_3_steps: float


def results(trainer, batch):
    loss, grads = trainer.loss_and_grads(*batch)
    grads = {name: np.array(gradient) for name, gradient in grads.items()}  # a step may reuse their memory
    return Results(loss, grads, [trainer.step(*batch) for _ in range(4)][-1])


def compare(ours, theirs, peer):
    """Exit unless both agree. Returns the relative differences."""
    apart = {name: distance(ours.grads[name], theirs.grads[name]) for name in ours.grads}
    worst = max(apart, key=lambda name: np.nan_to_num(apart[name], nan=np.inf))
    found = {
        "loss": distance(ours.loss, theirs.loss),
        "gradient": apart[worst],
        "loss_after_3_steps": distance(ours.loss_after_3_steps, theirs.loss_after_3_steps),
    }
    for what, relative in found.items():
        check(f"{what} of {worst}" if what == "gradient" else what, relative, TOLERANCES[what], peer)
    return found


def distance(a, b):
    """|a - b| / |b| in the Euclidean norm; NaN never counts as close."""
    return float(np.linalg.norm(np.subtract(a, b, dtype=np.float64)) / (np.linalg.norm(b) + 1e-30))


def check(what, relative, tolerance, peer):
    if not relative <= tolerance:
        raise SystemExit(
            f"{peer} does not compute what tinyvrnn does and is not timed: the {what.replace('_', ' ')} differs by "
            f"{relative:.1e} relative, allowed is {tolerance:.0e}."
        )


def sentence(apart):
    return ", ".join(f"{what.replace('_', ' ')} {value:.0e}" for what, value in apart.items())
