"""Locate the first non-finite number of a batch: its equation, step, leaf and sequence.

This runs once, before a run stops, so it may compute everything again, slowly and plainly.
"""

import numpy as np

from tinyvrnn.arrays.backend import to_host
from tinyvrnn.arrays.params import leaves, views
from tinyvrnn.models.batch import validate
from tinyvrnn.models.equations import encode_forward, prior_forward

NAMED = 5  # sequences that a sentence names
MOST_STEPS = 2**20  # of all sequences together: larger batches are not computed again
EQUATIONS = {  # of each group of weights, in the order of the backward pass
    "decode": "Eq. 3",
    "generate": "Eq. 6",
    "predict": "Eq. 2",
    "prior": "Eq. 5",
    "recur": "Eq. 1 or 7",
    "phi_z": "the features of z",
    "infer": "Eq. 9",
    "encode": "Eq. 3",
    "backward": "the look ahead",
    "phi_x": "the features of x",
}


def diagnose(model, batch, objective, index):
    """What went wrong, as part of a sentence. index (B,): each sequence's number in the training split."""
    T, B, _ = batch.x.shape
    if T * B > MOST_STEPS:
        return f"somewhere in {B} sequences of {T} steps, too many to compute again at once"
    with np.errstate(all="ignore"):
        if bad := _bad_leaves(model, model.theta):
            return f"the weights {bad[0]} already contain it"
        return _in_forward(model, batch, objective, index) or _in_gradient(model, batch, objective, index)


def quantities(model, cache, x_in):
    """Name -> arrays (T, B, ...) of a forward pass, in the order in which a step computes them."""
    outputs = model._outputs(cache)
    if model.name == "vae":
        q, _ = encode_forward(model.params["encode"], x_in)
        return {"mu_z, sigma_z of Eq. 3": q, "z of Eq. 4": (cache.z,), "p(x | z) of Eq. 3": outputs}
    loop = cache.loop
    phi_x, h = {"phi_x": (loop.phi_x,)}, (loop.state[1:],)
    if model.name == "rnn":
        return phi_x | {"p(x_t | ...) of Eq. 2": outputs, "h of Eq. 1": h}
    prior, _ = prior_forward(model.params["prior"], loop.h[:-1])
    of_z = {"mu_z, sigma_z of Eq. 9": (loop.o,), "z": (loop.z,), "phi_z": (loop.phi_z,)}
    return phi_x | of_z | {"mu_0, sigma_0 of Eq. 5": prior, "p(x_t | ...) of Eq. 6": outputs, "h of Eq. 7": h}


def _in_forward(model, batch, objective, index):
    batch = validate(model, batch, objective)
    if objective.bound != "elbo":
        index = np.repeat(index, batch.eps.shape[2])
        batch = batch.widened()
    log_p, kl, cache = model.scoring(batch)._forward_terms(batch)
    made = quantities(model, cache, batch.x_in) | {"log p(x_t | ...)": (log_p,), "the KL of Eq. 11": (kl,)}
    real = to_host(batch.mask) > 0
    bad = np.stack([_bad_columns(arrays) for arrays in made.values()], axis=1) & real[:, None]  # (T, names, B)
    if not bad.any():
        return None
    t, name, _ = np.argwhere(bad)[0]
    return f"{list(made)[name]} at step t = {t} of {_sequences(index[bad[t, name]])}"


def _in_gradient(model, batch, objective, index):
    """The first bad leaf and the sequences whose own gradients are bad, or the leaf that makes the norm overflow."""
    alone = [model.gradient(batch.sequences(slice(b, b + 1)), objective).grads for b in range(len(index))]
    bad = [_bad_leaves(model, grads) for grads in alone]
    if any(bad):
        own = sorted({leaf for leaves_of_one in bad for leaf in leaves_of_one}, key=_backwards)
        return f"the gradient of {_with_equation(own[0])}, for {_sequences(index[[len(b) > 0 for b in bad]])}"
    whole = np.abs(to_host(model.gradient(batch.sequences(slice(None)), objective).grads))
    if np.isfinite(np.linalg.norm(whole)):
        return "a number that does not recur when the batch is recomputed"
    greatest, leaf = max((g.max(), name) for name, g in leaves(views(whole, model.shapes)))
    return f"the norm of the gradient, whose greatest number is {greatest:.3g} in {_with_equation(leaf)}"


def _backwards(leaf):
    group, name = leaf.split(".")
    return list(EQUATIONS).index(group), not name.endswith("_out"), leaf


def _with_equation(leaf):
    return f"{leaf} ({EQUATIONS[leaf.split('.')[0]]})"


def _bad_columns(arrays):
    """(T, B) bool: where one of several (T, B, ...) is not finite."""
    return ~np.logical_and.reduce([np.isfinite(to_host(a)).reshape(*a.shape[:2], -1).all(axis=2) for a in arrays])


def _bad_leaves(model, vector):
    """The names of the leaves of a flat vector, like theta, that are not finite."""
    named = leaves(views(to_host(vector), model.shapes))
    return [name for name, leaf in named if not np.isfinite(leaf).all()]


def _sequences(index):
    index = sorted(set(index.tolist()))
    more = f" and {len(index) - NAMED} more" * (len(index) > NAMED)
    plural = "sequences" if len(index) > 1 else "sequence"
    return f"{plural} {', '.join(map(str, index[:NAMED]))}{more} of the training split"
