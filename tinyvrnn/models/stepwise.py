"""The VRNN a step at a time, in the order in which the paper writes it: the readable reference for `schedule.py`.

Nothing is batched over time, nothing is fused: step t computes Eq. 5, 9, a draw of z_t, 6, both terms of Eq. 11, and 7.
"""

from tinyvrnn.backend import namespace
from tinyvrnn.distributions.gaussian import (
    gaussian_kl_backward,
    gaussian_kl_forward,
    reparameterise_backward,
    reparameterise_forward,
)
from tinyvrnn.models.equations import (
    features_backward,
    features_forward,
    generate_backward,
    generate_forward,
    infer_backward,
    infer_forward,
    prior_backward,
    prior_forward,
    recur_backward,
    recur_forward,
)


def step_forward(params, x, h, eps, likelihood):
    """One step. x (B, X), h = h_{t-1} (B, H), eps (B, Z). Returns (log_p (B,), kl (B,), h_t (B, H)), cache."""
    phi_x, phi_x_cache = features_forward(params["phi_x"], x)
    (mu_0, sigma_0), prior_cache = prior_forward(params["prior"], h)  # Eq. 5
    (mu_z, sigma_z), infer_cache = infer_forward(params["infer"], phi_x, h)  # Eq. 9
    z, z_cache = reparameterise_forward(mu_z, sigma_z, eps)
    phi_z, phi_z_cache = features_forward(params["phi_z"], z)
    outputs, generate_cache = generate_forward(params["generate"], phi_z, h, likelihood)  # Eq. 6
    log_p, log_p_cache = likelihood.log_density_forward(x, *outputs)  # Eq. 11, first term
    kl, kl_cache = gaussian_kl_forward(mu_z, sigma_z, mu_0, sigma_0)  # Eq. 11, second term
    h_t, recur_cache = recur_forward(params["recur"], phi_x, phi_z, h)  # Eq. 7
    caches = (phi_x_cache, prior_cache, infer_cache, z_cache, phi_z_cache)
    return (log_p, kl, h_t), (*caches, generate_cache, log_p_cache, kl_cache, recur_cache)


def step_backward(params, cache, dlog_p, dkl, dh_t, likelihood):
    """One step backward: dh (B, H) and this step's share of every gradient. dlog_p, dkl (B,), dh_t (B, H)."""
    phi_x_cache, prior_cache, infer_cache, z_cache, phi_z_cache = cache[:5]
    generate_cache, log_p_cache, kl_cache, recur_cache = cache[5:]
    grads = {}
    (dphi_x_recur, dphi_z_recur, dh_recur), grads["recur"] = recur_backward(params["recur"], recur_cache, dh_t)
    dmu_z_kl, dsigma_z_kl, dmu_0, dsigma_0 = gaussian_kl_backward(kl_cache, dkl)
    _, *doutputs = likelihood.log_density_backward(log_p_cache, dlog_p)
    (dphi_z, dh_generate), grads["generate"] = generate_backward(
        params["generate"], generate_cache, *doutputs, likelihood=likelihood
    )
    dz, grads["phi_z"] = features_backward(params["phi_z"], phi_z_cache, dphi_z + dphi_z_recur)
    dmu_z, dsigma_z, _ = reparameterise_backward(z_cache, dz)
    (dphi_x, dh_infer), grads["infer"] = infer_backward(
        params["infer"], infer_cache, dmu_z + dmu_z_kl, dsigma_z + dsigma_z_kl
    )
    dh_prior, grads["prior"] = prior_backward(params["prior"], prior_cache, dmu_0, dsigma_0)
    _, grads["phi_x"] = features_backward(params["phi_x"], phi_x_cache, dphi_x + dphi_x_recur)
    return dh_recur + dh_generate + dh_infer + dh_prior, grads


def sequence_forward(params, x, eps, likelihood):
    """As `schedule.sequence_forward`: log_p (T, B), kl (T, B) in nats, and the cache. x (T, B, X), eps (T, B, Z)."""
    xp = namespace(x)
    h = xp.zeros((x.shape[1], params["recur"]["U"].shape[0]), dtype=x.dtype)
    log_ps, kls, caches = [], [], []
    for t in range(x.shape[0]):
        (log_p, kl, h), cache = step_forward(params, x[t], h, eps[t], likelihood)
        log_ps.append(log_p)
        kls.append(kl)
        caches.append(cache)
    return xp.stack(log_ps), xp.stack(kls), caches


def sequence_backward(params, caches, dlog_p, dkl, likelihood):
    """As `schedule.sequence_backward`: the gradient of every parameter, summed over the steps."""
    dh = namespace(dkl).zeros((dkl.shape[1], params["recur"]["U"].shape[0]), dtype=dkl.dtype)
    total = None
    for t in reversed(range(len(caches))):
        dh, grads = step_backward(params, caches[t], dlog_p[t], dkl[t], dh, likelihood)
        total = grads if total is None else _add(total, grads)
    return total


def _add(a, b):
    return {group: {leaf: a[group][leaf] + b[group][leaf] for leaf in a[group]} for group in a}
