"""Small data and small models, for the tests of runs."""

import numpy as np

import tinyvrnn as tv
from tinyvrnn.models import MODELS

OPTIONS = {"epochs": 4, "batch": 8, "progress": False}


def small_data(likelihood, seed=0):
    """30 ragged sequences in three splits, with three numbers in each step that suit the likelihood."""
    rng = np.random.default_rng(seed)

    def sequence():
        T = rng.integers(1, 7)
        if likelihood == "categorical":
            return np.eye(3)[rng.integers(0, 3, T)]
        binary = (rng.random((T, 3)) < 0.4).astype(float)
        if likelihood == "bernoulli":
            return binary
        return rng.standard_normal((T, 3)) if likelihood != "pen" else np.c_[rng.standard_normal((T, 2)), binary[:, 2]]

    splits = [[sequence() for _ in range(n)] for n in (22, 5, 5)]
    return tv.Data.from_sequences("small", *splits, kind="pen" if likelihood == "pen" else None, standardise=False)


def small_model(name="vrnn", likelihood="gaussian", **options):
    sizes = {"x_dim": 3, "h_dim": 5, "z_dim": 2, "features": 6, "layers": 1}
    kind = MODELS[name]
    return kind(**{size: sizes[size] for size in kind.sizes}, likelihood=likelihood, components=2, **options)


def record_of(epoch):
    """The record of an epoch."""
    bound = {"elbo": float(epoch), "kl": 0.0, "log_likelihood": float(epoch)}
    return {"epoch": epoch, "step": 3 * epoch, "seconds": 0.1, "train": bound, "valid": bound}
