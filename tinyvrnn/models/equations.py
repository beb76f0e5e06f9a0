"""The equations that networks compute, each as one forward/backward pair: those of the VRNN, the RNN and the VAE.

    Eq. 5   prior      p(z_t | x_<t, z_<t) = N(mu_0, sigma_0^2)      [mu_0, sigma_0] = phi_prior(h_{t-1})
    Eq. 6   generate   p(x_t | z_<=t, x_<t)                          outputs = phi_dec(phi_z(z_t), h_{t-1})
    Eq. 7   recur      h_t = f(phi_x(x_t), phi_z(z_t), h_{t-1})      f is a GRU or an LSTM
    Eq. 9   infer      q(z_t | x_<=t, z_<t) = N(mu_z, sigma_z^2)     [mu_z, sigma_z] = phi_enc(phi_x(x_t), h_{t-1})

    Eq. 1   remember   h_t = f(phi_x(x_t), h_{t-1})                  f is a GRU or an LSTM                the RNN
    Eq. 2   predict    p(x_t | x_<t)                                 outputs = g(h_{t-1})                 the RNN
    Eq. 3   encode     q(z | x) = N(mu_z, sigma_z^2)                 [mu_z, sigma_z] = phi_enc(x)         the VAE
    Eq. 3   decode     p(x | z)                                      outputs = phi_dec(z)                 the VAE

All arrays are one step (B, .) or all steps (T, B, .). h is always h_{t-1}, the state BEFORE step t.
Source: Chung et al., 2015, arXiv:1506.02216, sections 2 and 3.
"""

from typing import NamedTuple

from tinyvrnn.arrays.backend import namespace
from tinyvrnn.distributions.gaussian import gaussian_head_backward, gaussian_head_forward
from tinyvrnn.nn.cells import cell_of
from tinyvrnn.nn.mlp import MlpCache, mlp_backward, mlp_forward


class NetworkCache(NamedTuple):
    mlp: MlpCache
    head: NamedTuple


def prior_forward(p, h):
    """Eq. 5: mu_0, sigma_0 (..., Z) from h_{t-1} (..., H). Returns (mu_0, sigma_0), cache.

    Without parameters in p it is N(0, I) for every h; mu_0 and sigma_0 are then (..., 1), shared by all entries of z.
    """
    if not p:
        mu_0 = namespace(h).zeros((*h.shape[:-1], 1), dtype=h.dtype)
        return (mu_0, mu_0 + 1), h
    return _network_forward(p, gaussian_head_forward, h)


def prior_backward(p, cache, dmu_0, dsigma_0):
    """Eq. 5 backward: dh (..., H), grads. Without parameters nothing depends on h."""
    if not p:
        return namespace(cache).zeros_like(cache), {}
    return _network_backward(p, cache, gaussian_head_backward, dmu_0, dsigma_0)


def generate_forward(p, phi_z, h, likelihood):
    """Eq. 6: the outputs of the likelihood, (logits,) or (mu_x, sigma_x) or those of a mixture.

    phi_z (..., F), h_{t-1} (..., H). Returns outputs, cache.
    """
    return _network_forward(p, likelihood.head_forward, phi_z, h)


def generate_backward(p, cache, *doutputs, likelihood):
    """Eq. 6 backward: (dphi_z, dh), grads."""
    return _network_backward(p, cache, likelihood.head_backward, *doutputs)


def infer_forward(p, phi_x, h):
    """Eq. 9: mu_z, sigma_z (..., Z) from phi_x(x_t) (..., F) and h_{t-1} (..., H). Returns (mu_z, sigma_z), cache."""
    return _network_forward(p, gaussian_head_forward, phi_x, h)


def infer_backward(p, cache, dmu_z, dsigma_z):
    """Eq. 9 backward: (dphi_x, dh), grads."""
    return _network_backward(p, cache, gaussian_head_backward, dmu_z, dsigma_z)


def recur_forward(p, phi_x, phi_z, h):
    """Eq. 7: h_t (..., H) from phi_x(x_t), phi_z(z_t) (..., F) and h_{t-1} (..., H). Returns h_t, cache.

    For an LSTM, h is the whole state [h, m] (..., 2H), before and after the step.
    """
    return cell_of(p).forward(p, phi_x, phi_z, h)


def recur_backward(p, cache, dh_t):
    """Eq. 7 backward: (dphi_x, dphi_z, dh), grads."""
    return cell_of(p).backward(p, cache, dh_t)


def remember_forward(p, phi_x, h):
    """Eq. 1: h_t (..., H) from phi_x(x_t) (..., F) and h_{t-1} (..., H), as in `recur_forward`. Returns h_t, cache."""
    return cell_of(p).forward(p, phi_x, h)


def remember_backward(p, cache, dh_t):
    """Eq. 1 backward: (dphi_x, dh), grads."""
    return cell_of(p).backward(p, cache, dh_t)


def predict_forward(p, h, likelihood):
    """Eq. 2: the outputs of the likelihood from h_{t-1} (..., H). Returns outputs, cache."""
    return _network_forward(p, likelihood.head_forward, h)


def predict_backward(p, cache, *doutputs, likelihood):
    """Eq. 2 backward: dh, grads."""
    return _network_backward(p, cache, likelihood.head_backward, *doutputs)


def encode_forward(p, x):
    """Eq. 3, q(z | x): mu_z, sigma_z (..., Z) from x (..., X). Returns (mu_z, sigma_z), cache."""
    return _network_forward(p, gaussian_head_forward, x)


def encode_backward(p, cache, dmu_z, dsigma_z):
    """Eq. 3 backward, q(z | x): dx, grads."""
    return _network_backward(p, cache, gaussian_head_backward, dmu_z, dsigma_z)


def decode_forward(p, z, likelihood):
    """Eq. 3, p(x | z): the outputs of the likelihood from z (..., Z). Returns outputs, cache."""
    return _network_forward(p, likelihood.head_forward, z)


def decode_backward(p, cache, *doutputs, likelihood):
    """Eq. 3 backward, p(x | z): dz, grads."""
    return _network_backward(p, cache, likelihood.head_backward, *doutputs)


def features_forward(p, v):
    """phi_x(x_t) or phi_z(z_t): an MLP of p's layers on v (..., X or Z). Returns (..., F), cache."""
    return mlp_forward(p, v)


def features_backward(p, cache, dphi):
    """dv (..., X or Z), grads."""
    return mlp_backward(p, cache, dphi)


def _network_forward(p, head_forward, *inputs):
    y, mlp_cache = mlp_forward(p, *inputs)
    outputs, head_cache = head_forward(p, y)
    return outputs, NetworkCache(mlp_cache, head_cache)


def _network_backward(p, cache, head_backward, *doutputs):
    dy, head_grads = head_backward(p, cache.head, *doutputs)
    dinputs, mlp_grads = mlp_backward(p, cache.mlp, dy)
    return dinputs, mlp_grads | head_grads
