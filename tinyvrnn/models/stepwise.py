"""The VRNN a step at a time, in the order of the paper: the readable reference for `schedule.py`.

Step t computes Eq. 5, 9, a draw of z_t, 6, both terms of Eq. 11, 7. Eq. 5, 6, 7 and 9 are an argument, `Equations`: the
networks of `equations.py` by default. `linear_gaussian.py` passes linear ones, for which log p(x) is known exactly.
"""

from typing import NamedTuple

from tinyvrnn.arrays.backend import namespace
from tinyvrnn.distributions.gaussian import (
    gaussian_kl_backward,
    gaussian_kl_forward,
    gaussian_log_ratio_backward,
    gaussian_log_ratio_forward,
    reparameterise_backward,
    reparameterise_forward,
)
from tinyvrnn.models import equations
from tinyvrnn.nn.cells import h_of, state_width


class Equations(NamedTuple):
    """The functions of a step. Without the backward ones, a model can be evaluated but not trained."""

    features_forward: object  # phi_x, phi_z: (p, v) -> phi, cache
    prior_forward: object  # Eq. 5: (p, h) -> (mu_0, sigma_0), cache
    infer_forward: object  # Eq. 9: (p, phi_x, h) -> (mu_z, sigma_z), cache
    generate_forward: object  # Eq. 6: (p, phi_z, h, likelihood) -> outputs, cache
    recur_forward: object  # Eq. 7: (p, phi_x, phi_z, h) -> h_t, cache
    state_dim: object  # (params) -> the width of a state
    h_of: object = lambda params, state: state  # (params, state) -> h, the part that Eq. 5, 6 and 9 read, a view
    at: object = lambda params, t: params  # (params, t) -> the parameters of step t
    features_backward: object = None
    prior_backward: object = None
    infer_backward: object = None
    generate_backward: object = None
    recur_backward: object = None


NETWORKS = Equations(
    state_dim=lambda params: state_width(params["recur"]),
    h_of=lambda params, state: h_of(params["recur"], state),
    **{name: getattr(equations, name) for name in Equations._fields if name.endswith(("_forward", "_backward"))},
)


def step_forward(params, x, state, eps, likelihood, f=NETWORKS, sampled=False, ahead=None, x_in=None):
    """One step. x (B, X), state (B, S H) with h_{t-1}, eps (B, Z). Returns (log_p (B,), kl (B,), state_t), cache.

    f: Equations. sampled: in place of the KL return log q(z_t) - log p(z_t) at the drawn z_t, whose mean is the KL:
    importance weights need it. ahead (B, F): b_t of a smoothing posterior, see lookahead.py. x_in (B, X):
    the networks' input, x with dropout; None: x.
    """
    h = f.h_of(params, state)  # all of it for a GRU
    phi_x, phi_x_cache = f.features_forward(params["phi_x"], x if x_in is None else x_in)
    (mu_0, sigma_0), prior_cache = f.prior_forward(params["prior"], h)  # Eq. 5
    (mu_z, sigma_z), infer_cache = f.infer_forward(params["infer"], phi_x if ahead is None else ahead, h)  # Eq. 9
    z, z_cache = reparameterise_forward(mu_z, sigma_z, eps)
    phi_z, phi_z_cache = f.features_forward(params["phi_z"], z)
    outputs, generate_cache = f.generate_forward(params["generate"], phi_z, h, likelihood)  # Eq. 6
    log_p, log_p_cache = likelihood.log_density_forward(x, *outputs)  # Eq. 11, first term
    if sampled:  # Eq. 11, second term
        kl, kl_cache = gaussian_log_ratio_forward(mu_z, sigma_z, mu_0, sigma_0, eps)
    else:
        kl, kl_cache = gaussian_kl_forward(mu_z, sigma_z, mu_0, sigma_0)
    state_t, recur_cache = f.recur_forward(params["recur"], phi_x, phi_z, state)  # Eq. 7
    caches = (phi_x_cache, prior_cache, infer_cache, z_cache, phi_z_cache)
    return (log_p, kl, state_t), (*caches, generate_cache, log_p_cache, kl_cache, recur_cache)


def step_backward(params, cache, dlog_p, dkl, dstate_t, likelihood, f=NETWORKS, sampled=False):
    """One step backward: dstate (B, S H), this step's share of every gradient. dlog_p, dkl (B,), dstate_t (B, S H).

    With a smoothing posterior it is (dstate, dahead), and the gradients.
    """
    phi_x_cache, prior_cache, infer_cache, z_cache, phi_z_cache = cache[:5]
    generate_cache, log_p_cache, kl_cache, recur_cache = cache[5:]
    grads = {}
    (dphi_x_recur, dphi_z_recur, dstate), grads["recur"] = f.recur_backward(params["recur"], recur_cache, dstate_t)
    kl_backward = gaussian_log_ratio_backward if sampled else gaussian_kl_backward
    dmu_z_kl, dsigma_z_kl, dmu_0, dsigma_0, *_ = kl_backward(kl_cache, dkl)
    _, *doutputs = likelihood.log_density_backward(log_p_cache, dlog_p)
    (dphi_z, dh_generate), grads["generate"] = f.generate_backward(
        params["generate"], generate_cache, *doutputs, likelihood=likelihood
    )
    dz, grads["phi_z"] = f.features_backward(params["phi_z"], phi_z_cache, dphi_z + dphi_z_recur)
    dmu_z, dsigma_z, _ = reparameterise_backward(z_cache, dz)
    (dinfer_in, dh_infer), grads["infer"] = f.infer_backward(
        params["infer"], infer_cache, dmu_z + dmu_z_kl, dsigma_z + dsigma_z_kl
    )
    dh_prior, grads["prior"] = f.prior_backward(params["prior"], prior_cache, dmu_0, dsigma_0)
    dphi_x = dphi_x_recur if "backward" in params else dinfer_in + dphi_x_recur
    _, grads["phi_x"] = f.features_backward(params["phi_x"], phi_x_cache, dphi_x)
    dh = f.h_of(params, dstate)
    dh += dh_generate + dh_infer + dh_prior
    return (dstate, dinfer_in) if "backward" in params else dstate, grads


def sequence_forward(params, x, eps, likelihood, f=NETWORKS, sampled=False, mask=None):
    """As `schedule.sequence_forward`: log_p (T, B), kl (T, B) in nats, and the cache. x (T, B, X), eps (T, B, Z)."""
    xp = namespace(x)
    state = xp.zeros((x.shape[1], f.state_dim(params)), dtype=x.dtype)
    aheads, ahead_caches = ahead_forward(params, x, mask) if "backward" in params else ([None] * len(x), None)
    log_ps, kls, caches = [], [], []
    for t, ahead in enumerate(aheads):
        (log_p, kl, state), cache = step_forward(f.at(params, t), x[t], state, eps[t], likelihood, f, sampled, ahead)
        log_ps.append(log_p)
        kls.append(kl)
        caches.append(cache)
    return xp.stack(log_ps), xp.stack(kls), caches if ahead_caches is None else (caches, ahead_caches, mask)


def sequence_backward(params, caches, dlog_p, dkl, likelihood, f=NETWORKS, sampled=False):
    """As `schedule.sequence_backward`: the gradient of every parameter, summed over the steps."""
    dstate = namespace(dkl).zeros((dkl.shape[1], f.state_dim(params)), dtype=dkl.dtype)
    caches, *of_ahead = caches if "backward" in params else (caches,)
    total, daheads = None, []
    for t in reversed(range(len(caches))):
        dstate, grads = step_backward(params, caches[t], dlog_p[t], dkl[t], dstate, likelihood, f, sampled)
        if of_ahead:
            dstate, dahead = dstate
            daheads.insert(0, dahead)
        total = grads if total is None else add(total, grads)
    return total if not of_ahead else ahead_backward(params, *of_ahead, daheads, total)


def ahead_forward(params, x, mask):
    """b_t of a smoothing posterior, from the last step to the first: b_t = f(phi_x(x_t), b_{t+1}), and 0 after the end.

    x (T, B, X), mask (T, B) or None. Returns [b_1, ..., b_T], (B, F) each, and caches.
    """
    p = params["backward"]
    state = namespace(x).zeros((x.shape[1], state_width(p)), dtype=x.dtype)
    aheads, caches = [None] * len(x), [None] * len(x)
    for t in reversed(range(len(x))):
        phi_x, phi_x_cache = equations.features_forward(params["phi_x"], x[t])
        state, recur_cache = equations.remember_forward(p, phi_x, state)
        state = state if mask is None else state * mask[t][:, None]
        aheads[t], caches[t] = h_of(p, state), (phi_x_cache, recur_cache)
    return aheads, caches


def ahead_backward(params, caches, mask, daheads, grads):
    """`grads` with what reaches phi_x and the second recurrence through b_t, from the first step to the last."""
    p, dstate = params["backward"], None
    backward = {leaf: 0 for leaf in p}
    grads = grads | {"phi_x": dict(grads["phi_x"])}
    for t, (phi_x_cache, recur_cache) in enumerate(caches):
        if dstate is None:
            dstate = namespace(daheads[t]).zeros((len(daheads[t]), state_width(p)), dtype=daheads[t].dtype)
        h_of(p, dstate)[...] += daheads[t]
        dstate = dstate if mask is None else dstate * mask[t][:, None]
        (dphi_x, dstate), recur_grads = equations.remember_backward(p, recur_cache, dstate)
        _, phi_x_grads = equations.features_backward(params["phi_x"], phi_x_cache, dphi_x)
        backward = {leaf: backward[leaf] + g for leaf, g in recur_grads.items()}
        grads["phi_x"] = {leaf: grads["phi_x"][leaf] + g for leaf, g in phi_x_grads.items()}
    return grads | {"backward": backward}


def add(a, b):
    """The sum of two gradients that are arranged as params."""
    return {group: {leaf: a[group][leaf] + b[group][leaf] for leaf in a[group]} for group in a}
