"""The backward recurrence of a smoothing posterior, which summarises x_t and all later steps.

    b_t = f(phi_x(x_t), b_{t+1}),   b_{T+1} = 0          q(z_t | x_<=T, z_<t):  Eq. 9 with b_t in place of phi_x(x_t)

The features of each sequence are reversed within its length, the loop of nn/recurrence.py runs over them, and its
states are reversed back. Reversing twice is the identity, so `turned` is its own inverse and its own backward pass.
A smoothing posterior is one whose parameters have a group "backward". Derivation: docs/derivations/smoothing.md.
"""

from typing import NamedTuple

from tinyvrnn.arrays.backend import namespace
from tinyvrnn.models.equations import features_forward
from tinyvrnn.nn import recurrence
from tinyvrnn.nn.cells import h_of, state_width


class LookAheadCache(NamedTuple):
    loop: recurrence.LoopCache
    order: object  # (T, B) int, see `reversed_order`


def look_ahead_forward(p, phi_x, mask=None):
    """b (T, B, F), cache from phi_x (T, B, F). mask (T, B): 1 in real steps; None: all are real."""
    order = reversed_order(phi_x, mask)
    loop = recurrence.loop_forward(p, turned(phi_x, order))
    return turned(loop.h[1:], order), LookAheadCache(loop, order)


def look_ahead_backward(p, cache, db):
    """dphi_x (T, B, F), grads, from db (T, B, F)."""
    xp, dh = namespace(db), turned(db, cache.order)
    dstate = xp.zeros((db.shape[1], state_width(p)), dtype=db.dtype)
    h_of(p, dstate)[...] = dh[-1]
    dh_before = xp.concatenate([xp.zeros_like(dh[:1]), dh[:-1]])
    (dphi_x, _), grads = recurrence.loop_backward(p, cache.loop, dh_before, dstate)
    return turned(dphi_x, cache.order), grads


def of_sequence(params, x, mask=None):
    """b (T, B, F) from x (T, B, X), computing phi_x for all steps; None for a filtering posterior."""
    if "backward" not in params:
        return None
    return look_ahead_forward(params["backward"], features_forward(params["phi_x"], x)[0], mask)[0]


def reversed_order(phi_x, mask):
    """(T, B) int: step t of a sequence of n steps maps to n - 1 - t, and padding to itself."""
    xp, (T, B, _) = namespace(phi_x), phi_x.shape
    t = xp.arange(T)[:, None]
    n = xp.full((B,), T) if mask is None else mask.sum(axis=0).astype("int64")
    return xp.where(t < n, n - 1 - t, t)


def turned(a, order):
    """a (T, B, ...) with step t of sequence b taken from step order[t, b]."""
    return a[order, namespace(a).arange(a.shape[1])[None]]
