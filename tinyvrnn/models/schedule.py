"""The VRNN over a whole sequence (Fig. 1e) in the batched schedule.

Only inference (Eq. 9) and recurrence (Eq. 7) are sequential. All else is done for all T steps at once:

    x --> phi_x --> [ loop over t: infer (9) -> z = mu_z + sigma_z * eps -> phi_z -> recur (7) ] --> h, z, q
                                                                                 |
          log p(x_t | ...)  <-- generate (6), all T at once <--------------------+
          KL(q || p)        <-- prior (5), all T at once    <--------------------+

Backward runs the same picture right to left: likelihood, generation, KL and prior for all T at once; one reverse loop that
carries dh and forms no weight gradient; then each weight gradient as one matrix product over T*B rows.
`stepwise.py` says the same thing literally, a step at a time; tests hold the two equal.
"""

from typing import NamedTuple

from tinyvrnn.backend import namespace
from tinyvrnn.distributions.gaussian import gaussian_kl_backward, gaussian_kl_forward, sigma_of, split
from tinyvrnn.models.equations import (
    generate_backward,
    generate_forward,
    prior_backward,
    prior_forward,
)
from tinyvrnn.nn.activations import relu_backward, sigmoid
from tinyvrnn.nn.gru import (
    GruCache,
    GruSlopes,
    gru_backward_params,
    gru_gates_backward,
    gru_gates_forward,
    gru_slopes,
)
from tinyvrnn.nn.linear import LinearCache, linear_backward_params, matmul
from tinyvrnn.nn.mlp import (
    MlpCache,
    mlp_backward_data,
    mlp_backward_params,
    mlp_forward,
    mlp_tail_forward,
)


class LoopCache(NamedTuple):
    """What the loop leaves behind, for all T steps."""

    phi_x: object  # (T, B, F)
    eps: object  # (T, B, Z)
    h: object  # (T + 1, B, H): h[t] is the state before step t
    ys: tuple  # hidden layers of the encoder, each (T, B, F)
    o: object  # the encoder's outputs [mu_z, s], (T, B, 2Z)
    z: object  # (T, B, Z)
    phi_z: object  # (T, B, F)
    ru: object  # gates r and u, (T, B, 2H)
    n: object  # candidate state, (T, B, H)
    h_side: object  # h [W1_h | U] + [0 | c], (T, B, F + 3H): what multiplies h in Eq. 9 and Eq. 7


class SequenceCache(NamedTuple):
    phi_x: MlpCache
    loop: LoopCache
    prior: NamedTuple
    generate: NamedTuple
    kl: NamedTuple
    log_p: tuple


def sequence_forward(params, x, eps, likelihood):
    """log p(x_t | z_<=t, x_<t) and KL(q(z_t | ...) || p(z_t | ...)) of every step: the terms of Eq. 11.

    x (T, B, X), eps (T, B, Z). Returns log_p (T, B) and kl (T, B) in nats, and the cache.
    """
    phi_x, phi_x_cache = mlp_forward(params["phi_x"], x)
    loop = loop_forward(params, phi_x, eps)
    mu_z, sigma_z = split(loop.o)[0], sigma_of(split(loop.o)[1])
    (mu_0, sigma_0), prior_cache = prior_forward(params["prior"], loop.h[:-1])
    outputs, generate_cache = generate_forward(params["generate"], loop.phi_z, loop.h[:-1], likelihood)
    kl, kl_cache = gaussian_kl_forward(mu_z, sigma_z, mu_0, sigma_0)
    log_p, log_p_cache = likelihood.log_density_forward(x, *outputs)
    return log_p, kl, SequenceCache(phi_x_cache, loop, prior_cache, generate_cache, kl_cache, log_p_cache)


def sequence_backward(params, cache, dlog_p, dkl, likelihood):
    """The gradient of every parameter, from dlog_p (T, B) and dkl (T, B). Returns grads, arranged as params."""
    _, *doutputs = likelihood.log_density_backward(cache.log_p, dlog_p)
    (dphi_z, dh), generate_grads = generate_backward(
        params["generate"], cache.generate, *doutputs, likelihood=likelihood
    )
    dmu_z, dsigma_z, dmu_0, dsigma_0 = gaussian_kl_backward(cache.kl, dkl)
    dh_prior, prior_grads = prior_backward(params["prior"], cache.prior, dmu_0, dsigma_0)
    dphi_x, grads = loop_backward(params, cache.loop, dphi_z, dh + dh_prior, dmu_z, dsigma_z)
    das = mlp_backward_data(params["phi_x"], cache.phi_x.ys, dphi_x)
    phi_x_grads = mlp_backward_params(cache.phi_x, das)
    return {"phi_x": phi_x_grads, "prior": prior_grads, "generate": generate_grads, **grads}


def loop_forward(params, phi_x, eps):
    """Eq. 9, reparameterisation, phi_z and Eq. 7, step after step. phi_x (T, B, F), eps (T, B, Z). Returns LoopCache."""
    infer, recur = params["infer"], params["recur"]
    T, B, F = phi_x.shape
    W_z = recur["W"][F:]
    W_h = _all_that_multiplies_h(params)
    x_infer = matmul(phi_x, infer["W1"][:F]) + infer["b1"]
    x_recur = matmul(phi_x, recur["W"][:F]) + recur["b"]
    c = _empty_loop_cache(params, phi_x, eps)
    for t in range(T):
        h_side = matmul(c.h[t], W_h, out=c.h_side[t])
        h_side[:, F:] += recur["c"]
        ys = mlp_tail_forward(infer, x_infer[t] + h_side[:, :F], out=[y[t] for y in c.ys])
        o = matmul(ys[-1], infer["W_out"], out=c.o[t])
        o += infer["b_out"]
        mu_z, s = split(o)
        c.z[t] = mu_z + sigma_of(s) * eps[t]
        a_z = matmul(c.z[t], params["phi_z"]["W1"])
        (phi_z,) = mlp_tail_forward(params["phi_z"], a_z + params["phi_z"]["b1"], out=[c.phi_z[t]])
        a = matmul(phi_z, W_z)
        a += x_recur[t]
        gru_gates_forward(a, h_side[:, F:], c.h[t], out=(c.h[t + 1], c.ru[t], c.n[t]))
    return c


def loop_backward(params, c, dphi_z, dh, dmu_z, dsigma_z):
    """The reverse loop, then the weight gradients of Eq. 9, phi_z and Eq. 7.

    dphi_z (T, B, F), dh (T, B, H), dmu_z, dsigma_z (T, B, Z): what generation, prior and KL ask of the loop's results.
    Returns dphi_x (T, B, F) and {"infer": ..., "phi_z": ..., "recur": ...}.
    """
    xp = namespace(dh)
    infer, recur, phi_z_params = params["infer"], params["recur"], params["phi_z"]
    (T, B, F), H, Z = c.phi_x.shape, dh.shape[-1], c.eps.shape[-1]
    W_h_T = _all_that_multiplies_h(params).T.copy()
    W_z_T = recur["W"][F:].T
    recur_cache = GruCache((c.phi_x, c.phi_z), c.h[:-1], c.ru, c.n, c.h_side[..., F + 2 * H :])
    slopes = gru_slopes(recur_cache)
    ds_dsigma = sigmoid(split(c.o)[1])
    ds_dz, ds_kl = c.eps * ds_dsigma, dsigma_z * ds_dsigma
    # the gradients of all pre-activations, step by step in the loop, all at once after it
    d_h_side = xp.empty((T, B, F + 3 * H), dtype=dh.dtype)
    d_a, d_a_z, d_o = (xp.empty((T, B, width), dtype=dh.dtype) for width in (3 * H, F, 2 * Z))
    d_ys = (d_h_side[..., :F], *(xp.empty((T, B, F), dtype=dh.dtype) for _ in c.ys[1:]))
    dh_next = xp.zeros((B, H), dtype=dh.dtype)
    for t in reversed(range(T)):
        slopes_t = GruSlopes(*(slope[t] for slope in slopes))
        _, _, dh_direct = gru_gates_backward(slopes_t, dh_next, out=(d_a[t], d_h_side[t, :, F:]))
        dphi_z_t = matmul(d_a[t], W_z_T)
        dphi_z_t += dphi_z[t]
        relu_backward(c.phi_z[t], dphi_z_t, out=d_a_z[t])
        dz = matmul(d_a_z[t], phi_z_params["W1"].T)
        xp.add(dz, dmu_z[t], out=d_o[t, :, :Z])
        dz *= ds_dz[t]
        xp.add(dz, ds_kl[t], out=d_o[t, :, Z:])
        dy = matmul(d_o[t], infer["W_out"].T)
        mlp_backward_data(infer, [y[t] for y in c.ys], dy, out=[d_y[t] for d_y in d_ys])
        dh_next = matmul(d_h_side[t], W_h_T)
        dh_next += dh_direct
        dh_next += dh[t]
    out = linear_backward_params(LinearCache((c.ys[-1],)), d_o)
    infer_grads = mlp_backward_params(MlpCache((c.phi_x, c.h[:-1]), c.ys), d_ys)
    grads = {
        "infer": infer_grads | {"W_out": out["W"], "b_out": out["b"]},
        "phi_z": mlp_backward_params(MlpCache((c.z,), (c.phi_z,)), (d_a_z,)),
        "recur": gru_backward_params(recur_cache, d_a, d_h_side[..., F:]),
    }
    return matmul(d_ys[0], infer["W1"][:F].T) + matmul(d_a, recur["W"][:F].T), grads


def _all_that_multiplies_h(params):
    """[W1_h | U] (H, F + 3H): one product h W serves the encoder's first layer (Eq. 9) and the gates (Eq. 7)."""
    W1, U = params["infer"]["W1"], params["recur"]["U"]
    return namespace(U).concatenate([W1[-U.shape[0] :], U], axis=1)


def _empty_loop_cache(params, phi_x, eps):
    xp = namespace(phi_x)
    (T, B, F), H, Z = phi_x.shape, params["recur"]["U"].shape[0], eps.shape[-1]
    layers = sum(name.startswith("W") for name in params["infer"]) - 1

    def empty(width, steps=T):
        return xp.empty((steps, B, width), dtype=phi_x.dtype)

    h = empty(H, T + 1)
    h[0] = 0
    ys = tuple(empty(F) for _ in range(layers))
    z, phi_z, n = empty(Z), empty(F), empty(H)
    return LoopCache(phi_x, eps, h, ys, empty(2 * Z), z, phi_z, empty(2 * H), n, empty(F + 3 * H))
