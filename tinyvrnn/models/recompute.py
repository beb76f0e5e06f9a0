"""The exact gradient of a long sequence in memory that grows as the square root of its length.

The first pass runs the loop alone and stores its state at about sqrt(T) cuts. Each piece is run forward once more when
the backward pass reaches it, so that one piece of sqrt(T) steps is in memory. The noise is an argument, so the second
pass repeats the first, and all that a piece needs from later ones is the gradient of the state at the cut.
Source: Chen et al., 2016, arXiv:1604.06174; Gruslys et al., 2016, arXiv:1606.03401.
"""

import math

from tinyvrnn.arrays.backend import namespace


def cut(T):
    """slice objects of ceil(sqrt(T)) steps that cover range(T); the last may be shorter."""
    length = math.isqrt(T - 1) + 1
    return [slice(start, min(start + length, T)) for start in range(0, T, length)]


def terms_and_grads(model, batch, weight, objective):
    """log_p, kl (T, B), the flat gradient of the objective's loss, and the state after the last step.

    batch: a validated Batch, for a model with a state. weight (T, B): of each step in the loss.
    """
    xp, pieces, starts = namespace(batch.x), cut(len(batch.x)), [batch.state]
    for s in pieces[:-1]:
        starts.append(model._state_after(batch.steps(s)._replace(state=starts[-1])))
    log_p, kl, grads = xp.empty_like(batch.mask), xp.empty_like(batch.mask), xp.zeros_like(model.theta)
    last = dstate = None
    for s, start in zip(pieces[::-1], starts[::-1]):
        log_p[s], kl[s], cache = model._forward_terms(batch.steps(s)._replace(state=start))
        last = cache.loop.state[-1].copy() if last is None else last
        dstate, named = model._backward_terms(cache, -weight[s], objective.dkl(kl[s], weight[s]), dstate)
        del cache  # before the next piece is made
        grads += model._flat(named)
    return log_p, kl, grads, last
